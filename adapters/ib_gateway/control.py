"""A line of text in, a line of JSON out: how another process moves the replay and injects faults.

Commands: `status`, `advance [night|open|closed] [times]`, `fault RULE`, `stop`.
"""

import asyncio
import json
from typing import Any

from adapters.ib_gateway.faults import read_rule
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import LOOPBACK, Server
from prometheus_nt.domain.errors import ConfigError, PrometheusError

STAGES = {stage.name.lower(): stage for stage in Stage}


class Control:
    """The control port of a server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on loopback, and return the port."""
        self._listener = await asyncio.start_server(self._serve, LOOPBACK, port)
        found: int = self._listener.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def command(self, line: str) -> dict[str, Any]:
        """Do one command; return where the replay stands then.

        Raises
        ------
        ConfigError
            If the command cannot be read.
        """
        words = line.split()
        match words:
            case ["status"]:
                pass
            case ["advance", *rest]:
                self._advance(rest)
            case ["fault", *rest]:
                self._server.gateway.faults.add(read_rule(" ".join(rest)))
                self._server.perform(self._server.gateway.drain())
            case ["stop"]:
                self._server.stop("stopped by command")
            case _:
                raise ConfigError(
                    f"control: unknown command {line!r}; known: status, advance [night|open|"
                    "closed] [times], fault RULE, stop"
                )
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return where the replay stands, and what is open."""
        gateway = self._server.gateway
        return {
            "session": gateway.clock.session.isoformat(),
            "stage": gateway.clock.stage.name.lower(),
            "at_end": gateway.clock.upcoming() is None,
            "clients": sorted(gateway.sessions),
            "open_orders": len(gateway.book.open_orders()),
            "fills": len(gateway.book.fills),
        }

    def _advance(self, words: list[str]) -> None:
        named = [word for word in words if word in STAGES]
        counts = [word for word in words if word.isdigit()]
        if len(named) + len(counts) != len(words) or len(named) > 1 or len(counts) > 1:
            raise ConfigError(f"control: advance: expected a stage and a count, found {words}")
        stage = STAGES[named[0]] if named else None
        self._server.advance(stage, int(counts[0]) if counts else 1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := (await reader.readline()).decode("utf-8", "replace").strip():
                writer.write((json.dumps(self._answer(line)) + "\n").encode())
                await writer.drain()
        except ConnectionError:
            return
        finally:
            writer.close()

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            return self.command(line)
        except PrometheusError as refused:
            return {"error": str(refused)}
