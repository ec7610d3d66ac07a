"""Running the server until it is asked to end."""

from collections.abc import Callable

import uvicorn

from prometheus_nt.config import Settings
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.stores import upgrade_schemas
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.app import create_app


def serve(settings: Settings, access: Access, tell: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; running answers are finished first.

    Parameters
    ----------
    tell : takes the address once the server listens

    Raises
    ------
    ConfigError
        If the port is taken.
    """
    upgrade_schemas(settings)
    config = uvicorn.Config(
        create_app(settings, access),
        host=access.host,
        port=access.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=200,
        h11_max_incomplete_event_size=65_536,
    )
    try:
        socket = config.bind_socket()
    except SystemExit as refused:
        raise ConfigError(
            f"--port: {access.port} on {access.host} cannot be listened on; choose another"
        ) from refused
    host, port = socket.getsockname()[:2]
    tell(f"http://{host}:{port}")
    uvicorn.Server(config).run(sockets=[socket])
