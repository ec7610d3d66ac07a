"""The simulator's sockets: asyncio, loopback only, several clients, and an end of its own.

A connection goes through these steps:

1. `_offer`: the client says `API` and the versions it speaks; the server answers the one agreed on;
2. `_begin`: the client names its id; an id in use gets error 326 and the end of the connection;
3. `_converse`: every further frame is a request.

All state is touched by one event loop only. What the gateway queues is done by `perform`.
"""

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from adapters.ib_gateway import messages
from adapters.ib_gateway.actions import Action, Close, Later, Mode, Raw, Restart, Send
from adapters.ib_gateway.gateway import Gateway, client_of
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.wire import Frames, WireError, agreed_version, frame
from prometheus_nt.domain.errors import VenueError

LOOPBACK = "127.0.0.1"
LOWEST_VERSION, HIGHEST_VERSION = 157, 187

FIVE_SECONDS, THREE_MINUTES = 5.0, 180.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How the replay moves on.

    Attributes
    ----------
    kind : `command` waits to be told, `wall` runs at the speed of life, `sessions` takes
        `seconds` of wall time for each session
    """

    kind: Literal["command", "wall", "sessions"] = "command"
    seconds: float = 0.0


@dataclass(frozen=True)
class Limits:
    """When the server ends by itself; None is never.

    Attributes
    ----------
    run_seconds : since its start
    idle_seconds : without a client
    """

    run_seconds: float | None = None
    idle_seconds: float | None = None


@dataclass
class _Connection:
    """A socket whose client has begun, and how it misbehaves."""

    writer: asyncio.StreamWriter
    version: int
    modes: dict[str, float] = field(default_factory=dict)
    deaf: asyncio.Event = field(default_factory=asyncio.Event)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    _ready: float = 0.0

    def send(self, payload: bytes) -> None:
        self.write(frame(payload))

    def write(self, data: bytes) -> None:
        if self.deaf.is_set() or self.writer.is_closing():
            return
        wait = self._wait()
        if wait is None:
            self._write_now(data)
            return
        loop = asyncio.get_running_loop()
        # Strictly later than the message before it: the order of messages is part of the protocol.
        self._ready = max(self._ready + 1e-6, loop.time() + wait)
        loop.call_at(self._ready, self._write_now, data)

    def _wait(self) -> float | None:
        loop = asyncio.get_running_loop()
        if self.modes.get("jitter"):
            return self.rng.random() * self.modes["jitter"]
        if self.modes.get("burst"):
            return self.modes["burst"] - loop.time() % self.modes["burst"]
        return 0.0 if self._ready > loop.time() else None

    def _write_now(self, data: bytes) -> None:
        if self.writer.is_closing():
            return
        if not self.modes.get("bytewise"):
            self.writer.write(data)
            return
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])

    def close(self, *, reset: bool = False) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            raw: socket.socket = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.writer.transport.abort()
        else:
            self.writer.close()


class Server:
    """Serves one gateway to any number of clients.

    Parameters
    ----------
    gateway : Gateway
    port : int
        0 takes any that is free.
    version_cap : int
        Newest version of the protocol that is agreed to, 157 to 187.
    """

    def __init__(
        self,
        gateway: Gateway,
        port: int = 0,
        version_cap: int = HIGHEST_VERSION,
        pace: Pace | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not LOWEST_VERSION <= version_cap <= HIGHEST_VERSION:
            raise VenueError(
                f"gateway: version cap {version_cap}: expected {LOWEST_VERSION} to "
                f"{HIGHEST_VERSION}"
            )
        self.gateway, self.port = gateway, port
        self._cap, self._pace, self._limits = version_cap, pace or Pace(), limits or Limits()
        self._connections: dict[int, _Connection] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: asyncio.Server | None = None
        self._ended: asyncio.Future[str] | None = None
        self._idle_since: float | None = None

    async def start(self) -> int:
        """Listen, and return the port."""
        loop = asyncio.get_running_loop()
        self._ended, self._idle_since = loop.create_future(), loop.time()
        await self._listen()
        jobs: Sequence[Callable[[], Awaitable[None]]] = (
            self._move,
            self._watch,
            lambda: self._repeat(FIVE_SECONDS, self.gateway.five_seconds),
            lambda: self._repeat(THREE_MINUTES, self.gateway.three_minutes),
        )
        self._tasks = [asyncio.ensure_future(job()) for job in jobs]
        self._flush()
        return self.port

    async def wait(self) -> str:
        """Wait for the end; return why it came."""
        assert self._ended is not None
        return await self._ended

    def stop(self, reason: str = "stopped") -> None:
        """End the server, whoever is connected."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    async def close(self) -> None:
        """Close every socket and timer."""
        for task in (*self._tasks, *self._handlers):
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*self._tasks, *self._handlers, return_exceptions=True)
        self.gateway.close()

    async def run(self) -> str:
        """Start, wait and close; return why it ended."""
        try:
            await self.start()
            return await self.wait()
        finally:
            await self.close()

    def advance(self, stage: Stage | None = None, times: int = 1) -> bool:
        """Move the replay on by stages, or to a stage; return False at the end of the data."""
        moved = True
        for _ in range(times):
            moved = self.gateway.advance() if stage is None else self.gateway.advance_to(stage)
            self._flush()
        return moved

    def perform(self, actions: Sequence[Action]) -> None:
        """Do what the gateway wants done."""
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case Later(seconds, make):
                self._later(seconds, make)
            case Restart(seconds, keep):
                self._keep(asyncio.ensure_future(self._restart(seconds, keep)))
            case _:
                connection = self._connections.get(action.client_id)
                if connection is not None:
                    self._to(connection, action)

    def _to(self, connection: _Connection, action: Send | Raw | Close | Mode) -> None:
        match action:
            case Send(_, name, values):
                connection.send(messages.encode(name, values, connection.version))
            case Raw(_, data, half_of):
                if half_of is not None:
                    whole = frame(messages.encode(half_of.name, half_of.values, connection.version))
                    data = whole[: len(whole) // 2]
                connection.write(data)
            case Mode(_, "deaf", value):
                connection.deaf.set() if value else connection.deaf.clear()
            case Mode(_, name, value):
                connection.modes[name] = value
            case Close(client_id, reset):
                self._drop(client_id, connection)
                connection.close(reset=reset)

    def _flush(self) -> None:
        while queued := self.gateway.drain():
            self.perform(queued)

    def _later(self, seconds: float, make: Callable[[], list[Action]]) -> None:
        def fire() -> None:
            self._timers.discard(timer)
            self.perform(make())
            self._flush()

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._timers.add(timer)

    def _keep(self, task: "asyncio.Future[None]") -> None:
        assert isinstance(task, asyncio.Task)
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(
            self._serve, LOOPBACK, self.port, reuse_address=True
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _restart(self, seconds: float, keep: bool) -> None:
        assert self._listener is not None
        self._listener.close()
        if not keep:
            for client_id, connection in list(self._connections.items()):
                self._drop(client_id, connection)
                connection.close()
        await asyncio.sleep(seconds)
        await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        try:
            await self._talk(reader, writer)
        except (WireError, ConnectionError, asyncio.IncompleteReadError) as broken:
            log.info("connection ended: %s", broken)
        except asyncio.CancelledError:
            # Only `close` cancels us; asyncio 3.11 would report a handler that ends cancelled.
            log.info("connection ended: the server closes")
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fate = self.gateway.faults.handshake()
        if fate == "hang":
            await asyncio.Event().wait()
        frames = _Incoming(reader)
        version = await self._offer(reader, writer, frames)
        if version is None:
            return
        client_id = client_of(await frames.next())
        connection = _Connection(writer, version)
        if fate == "duplicate" or client_id in self._connections:
            self._turn_away(connection)
            return
        self._connections[client_id] = connection
        self.gateway.connect(client_id, version)
        self._flush()
        try:
            await self._converse(client_id, connection, frames)
        finally:
            self._drop(client_id, connection)

    async def _offer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: "_Incoming"
    ) -> int | None:
        if await reader.readexactly(4) != b"API\0":
            raise WireError("handshake: expected API")
        offer = (await frames.next()).decode("ascii", "replace")
        version = agreed_version(offer, self._cap, LOWEST_VERSION)
        if version is not None:
            now = self.gateway.clock.local()
            writer.write(frame(f"{version}\0{now:%Y%m%d %H:%M:%S %Z}\0".encode()))
        return version

    def _turn_away(self, connection: _Connection) -> None:
        text = (
            "Unable to connect as the client id is already in use. Retry with a unique client id."
        )
        values = {"reqId": -1, "code": 326, "errorText": text}
        connection.send(messages.encode("error", values, connection.version))

    async def _converse(self, client_id: int, connection: _Connection, frames: "_Incoming") -> None:
        while self._connections.get(client_id) is connection:
            payload = await frames.next()
            if connection.deaf.is_set():
                await asyncio.Event().wait()
            if self._connections.get(client_id) is connection:
                self.gateway.receive(client_id, payload)
                self._flush()

    def _drop(self, client_id: int, connection: _Connection) -> None:
        if self._connections.get(client_id) is connection:
            del self._connections[client_id]
            self.gateway.disconnect(client_id)
            if not self._connections:
                self._idle_since = asyncio.get_running_loop().time()

    async def _move(self) -> None:
        if self._pace.kind == "command":
            return
        while (remaining := self.gateway.clock.seconds_to_next()) is not None:
            each = self._pace.seconds / len(Stage)
            await asyncio.sleep(remaining if self._pace.kind == "wall" else each)
            self.advance()
        await asyncio.sleep(0 if self._pace.kind == "wall" else self._pace.seconds / len(Stage))
        self.stop("the data end here")

    async def _repeat(self, seconds: float, tell: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(seconds)
            tell()
            self._flush()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        began, tick = loop.time(), 0.05
        while True:
            now, limits = loop.time(), self._limits
            if limits.run_seconds is not None and now - began >= limits.run_seconds:
                self.stop(f"{limits.run_seconds:g} seconds are over")
            idle = limits.idle_seconds
            quiet = not self._connections and self._idle_since is not None
            if idle is not None and quiet and now - (self._idle_since or now) >= idle:
                self.stop(f"no client for {idle:g} seconds")
            await asyncio.sleep(tick)


class _Incoming:
    """The frames of a connection, one after the other."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader, self._frames = reader, Frames()
        self._waiting: list[bytes] = []

    async def next(self) -> bytes:
        """Return the next payload; ConnectionError at the end of the stream."""
        while not self._waiting:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("the client has gone")
            self._waiting += self._frames.feed(data)
        return self._waiting.pop(0)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    """Yield a server that listens, and close it."""
    try:
        await server.start()
        yield server
    finally:
        await server.close()
