"""What jobs do, as lines of JSON in `$PROMETHEUS_HOME/logs`: one event a line, never a secret."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.settings import Settings

LOGGED = ("prometheus_nt", "strategies", "adapters", "persistence")
FORMATS = ("json",)

_run_id: ContextVar[str | None] = ContextVar("run_id", default=None)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, and the run it is about.

    Parameters
    ----------
    secrets : texts that are never written, whatever a message holds
    """

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._without_secrets(record.getMessage()),
            "run_id": _run_id.get(),
        }
        if record.exc_info is not None:
            line["error"] = self._without_secrets(self.formatException(record.exc_info))
        return json.dumps({name: value for name, value in line.items() if value is not None})

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


@contextmanager
def about_run(run_id: str) -> Iterator[None]:
    """Let every line that is logged within name the run it is about."""
    token = _run_id.set(run_id)
    try:
        yield
    finally:
        _run_id.reset(token)


def start_logging(settings: Settings, form: str) -> Path:
    """Write what our packages log to the file of the day; return the file. Twice is as once.

    Raises
    ------
    ConfigError
        If there is no such form of log.
    """
    if form not in FORMATS:
        raise ConfigError(f"--log or PROMETHEUS_LOG: expected {', '.join(FORMATS)}, found {form!r}")
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"prometheus-{datetime.now(UTC):%Y%m%d}.jsonl"
    stop_logging()
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines(settings.secrets))
    handler.set_name(HANDLER)
    for name in LOGGED:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    return path


HANDLER = "prometheus-json-lines"


def stop_logging() -> None:
    """Close the file that `start_logging` opened, if it did."""
    for name in LOGGED:
        logger = logging.getLogger(name)
        for handler in [each for each in logger.handlers if each.get_name() == HANDLER]:
            logger.removeHandler(handler)
            handler.close()
