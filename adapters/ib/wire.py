"""The wire of `ib_async`: its client and decoder alone, without its picture of orders and data.

That picture marks live orders as cancelled, forgets everything on a disconnect and adds corrected
executions up. So every decoded message is handed on as it came, and whoever listens keeps its own.

1. `Wire.open` connects; a refusal or a hang-up during the handshake ends the attempt at once.
2. `Outbox` sends at the allowed pace, orders before questions, and says what was never sent.
3. `_Decoder` reads each message; one that it cannot read is reported, not swallowed.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from ib_async.client import Client
from ib_async.decoder import Decoder

from adapters.ib.pacing import MessageBudget
from prometheus_nt.domain.errors import SourceError

Direction = Literal["in", "out"]
Tap = Callable[[Direction, Sequence[str]], None]
"""Sees the fields of every message: ("in" or "out", number of the message and its fields)."""

PLACE, CANCEL, GLOBAL_CANCEL, CURRENT_TIME, START = "3", "4", "58", "49", "71"
URGENT = frozenset({PLACE, CANCEL, GLOBAL_CANCEL, CURRENT_TIME, START})
"""Messages that overtake questions. Among themselves they keep their order: a cancel that came
before its order would be refused, and the order would live."""

UNREADABLE = "unreadable"

EXECUTION_TIME = 15
"""Where the time of an execution is among the fields of its message."""


class Message(NamedTuple):
    """A message of the gateway: its name in the client's interface, and its values."""

    name: str
    args: tuple[Any, ...]


class Outbox:
    """Messages that wait for their turn.

    Parameters
    ----------
    budget : MessageBudget
    write : function that puts a message on the socket
    """

    def __init__(self, budget: MessageBudget, write: Callable[[str], None]) -> None:
        self._budget, self._write = budget, write
        self._urgent: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._others: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.latest: asyncio.Future[bool] = self._loop.create_future()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def put(self, text: str) -> None:
        """Send a message as soon as it may be; `latest` becomes whether it was.

        The future is True once it is written, and False if the connection ended before: then it
        surely never left.
        """
        self.latest = self._loop.create_future()
        kind = text.partition("\0")[0]
        queue = self._urgent if kind in URGENT else self._others
        # A heartbeat behind two hundred orders would come too late, and end a healthy socket.
        (queue.appendleft if kind == CURRENT_TIME else queue.append)((text, self.latest))
        self._pump()

    def close(self) -> None:
        """Drop what waits, and say so."""
        if self._timer is not None:
            self._timer.cancel()
        for queue in (self._urgent, self._others):
            while queue:
                _settle(queue.popleft()[1], False)

    def _pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self):
            wait = self._budget.wait()
            if wait > 0:
                self._timer = self._loop.call_later(wait, self._pump)
                return
            text, sent = (self._urgent or self._others).popleft()
            self._budget.take()
            self._write(text)
            _settle(sent, True)


class Wire(Client):
    """One socket to the gateway, from its opening to its end; it is not used again.

    Parameters
    ----------
    budget : MessageBudget
    deliver : function that is given every decoded message, in order
    tap : Tap
    time_zone : str
        Of times that come without one.
    """

    def __init__(
        self,
        budget: MessageBudget,
        deliver: Callable[[Message], None],
        tap: Tap,
        time_zone: str,
    ) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        super().__init__(_Mouth(deliver, self._finish))
        self.decoder = _Decoder(self.wrapper, tap, time_zone)
        self._logger = _library_log()
        self._tap, self._outgoing = tap, Outbox(budget, self._transmit)

    @property
    def latest(self) -> "asyncio.Future[bool]":
        """Whether the message that was handed over last has been written."""
        return self._outgoing.latest

    @property
    def has_ended(self) -> bool:
        """Whether the socket is gone."""
        return self.ended.done()

    @property
    def waiting(self) -> int:
        """Messages that are not written yet."""
        return len(self._outgoing)

    async def open(self, host: str, port: int, client_id: int, seconds: float) -> str | None:
        """Connect and shake hands; return None, or why the gateway turned us away.

        Raises
        ------
        OSError
            If nobody listens there.
        TimeoutError
            If the gateway does not answer.
        """
        shake = asyncio.ensure_future(self.connectAsync(host, port, client_id, seconds))
        await asyncio.wait({shake, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            shake.cancel()
            await asyncio.gather(shake, return_exceptions=True)
            return self.ended.result()
        await shake
        return None

    def turn_away(self, reason: str) -> None:
        """End the connection because of what the gateway said."""
        self._finish(reason)

    def drop(self, reason: str) -> None:
        """End the connection at once, with what still waits to be sent or read."""
        self._finish(reason)
        self.wrapper.deliver = None
        self._outgoing.close()
        transport = self.conn.transport
        if transport is not None:
            # A peer that does not read would keep a polite close waiting for ever.
            transport.abort()
        self.reset()

    def sendMsg(self, msg: str) -> None:  # noqa: N802
        """Take a message of the library's own making, which knows no pace but its own."""
        self._outgoing.put(msg)

    def _transmit(self, text: str) -> None:
        self.conn.sendMsg(self._prefix(text.encode()))
        self._tap("out", text.split("\0")[:-1])

    def _finish(self, reason: str) -> None:
        _settle(self.ended, reason)


class _Mouth:
    """Stands where the library expects the object that acts on messages: it hands them on."""

    TimezoneTWS = "UTC"
    defaultTimezone = UTC  # noqa: N815

    def __init__(self, deliver: Callable[[Message], None], ended: Callable[[str], None]) -> None:
        self.deliver: Callable[[Message], None] | None = deliver
        self.ib, self._ended = self, ended

    def connectAck(self) -> None:  # noqa: N802
        """Nothing is to be done before the first id is known."""

    def setEventsDone(self) -> None:  # noqa: N802
        """The socket has ended."""
        self._ended("the gateway closed the connection")

    def connectionClosed(self) -> None:  # noqa: N802
        """Said once more, after `setEventsDone`."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        # The client asks for these two before every packet, if they exist.
        if name.startswith(("tcpData", "_")):
            raise AttributeError(name)

        def hand_on(*args: Any) -> None:
            if self.deliver is not None:
                self.deliver(Message(name, args))

        return hand_on


class _Decoder(Decoder):
    """The library's decoder, tapped, with times that mean the same on every machine."""

    def __init__(self, mouth: _Mouth, tap: Tap, time_zone: str) -> None:
        super().__init__(mouth, 0)  # type: ignore[arg-type]
        self._tap, self._zone, self._read = tap, time_zone, True
        self.logger = self  # type: ignore[assignment]

    def interpret(self, fields: list[str]) -> None:
        """Tap and decode a message; hand on one that cannot be read as `unreadable`."""
        self._tap("in", fields)
        self._read = True
        super().interpret(list(fields))
        if not self._read:
            log.error("message %s of %d fields cannot be read", fields[:1], len(fields))
            getattr(self.wrapper, UNREADABLE)(tuple(fields))

    def exception(self, _: str) -> None:
        """Take note that the message cannot be read: the library tells its log, and nobody else."""
        self._read = False

    def execDetails(self, fields: list[str]) -> None:  # noqa: N802
        """Decode an execution, its time first put into UTC."""
        moment = moment_of(fields[EXECUTION_TIME], self._zone)
        fields[EXECUTION_TIME] = f"{moment:%Y%m%d %H:%M:%S} UTC"
        super().execDetails(fields)


def moment_of(text: str, time_zone: str) -> datetime:
    """Return the moment that a time of the gateway means, in UTC.

    `20240102 09:30:00 America/New_York` names its clock, `20240102-14:30:00` is in UTC, and
    `20240102 09:30:00` is on the gateway's own clock, which is `time_zone`.
    """
    words = text.split()
    try:
        if len(words) == 1:
            return datetime.strptime(text, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        zone = ZoneInfo(words[2] if len(words) > 2 else time_zone)
        naive = datetime.strptime(" ".join(words[:2]), "%Y%m%d %H:%M:%S")  # noqa: DTZ007
        return naive.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, KeyError) as unreadable:
        raise SourceError(
            f"ib: time {text!r}",
            "it is in none of the three forms that a gateway writes",
            "set the gateway's time zone in its settings and restart it",
        ) from unreadable


log = logging.getLogger(__name__)


def _library_log() -> logging.Logger:
    """Return a log that stays silent: the library would write whole messages into it."""
    silent = logging.Logger("ib_async")
    silent.disabled = True
    return silent


def _settle(future: "asyncio.Future[Any]", value: Any) -> None:
    if not future.done():
        future.set_result(value)
