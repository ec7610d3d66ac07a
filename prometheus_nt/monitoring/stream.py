"""What moves in the stores, told to whoever listens: one poller for all of them.

1. While somebody listens, `Hub` looks every `POLL_SECONDS` whether anybody has committed, and then
   reads what moved, by index. It goes back a little: writers take their time before they commit.
2. What is new by its content becomes an event, numbered, kept for a while, and put into the queue
   of each listener who asked for its topic. A queue that is full has lost its listener.
3. An event's id says where to go on: by number while this server still has what followed, else by
   time from the stores; then something may come twice, and nothing is missed.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from persistence.news import OVERLAP, Moved
from prometheus_nt.domain.errors import PrometheusError, StoreError

POLL_SECONDS = 0.4
HEARTBEAT_SECONDS = 10.0
THE_END = b": the end\n\n"
MOST_LISTENERS = 100
MOST_WAITING = 500
"""Events that a listener may be behind."""
MOST_KEPT = 2_000
LONGEST_PAUSE = timedelta(minutes=10)
"""Without listeners, after which what was kept is forgotten."""

EVENTS = {"jobs": "job", "runs": "run", "fills": "fill", "alerts": "alert", "steps": "step"}
"""Topic -> the name of its events."""

_log = logging.getLogger(__name__)

Read = Callable[[datetime, Collection[str]], list[Moved]]


class TooManyListeners(PrometheusError):
    """The server has as many listeners as it serves."""


@dataclass(frozen=True)
class Event:
    """Something that moved, ready to be sent."""

    number: int
    topic: str
    text: bytes


@dataclass(eq=False)
class Listener:
    """Somebody who listens. lost : was too slow, or the server ends; nothing more comes."""

    topics: frozenset[str]
    queue: "asyncio.Queue[Event | None]" = field(
        default_factory=lambda: asyncio.Queue(MOST_WAITING)
    )
    lost: bool = False

    def tell(self, event: Event) -> None:
        """Put an event into the queue, or give the listener up."""
        if self.lost or event.topic not in self.topics:
            return
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.give_up()

    def give_up(self) -> None:
        """Forget what waits, and end."""
        self.lost = True
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Hub:
    """Tells listeners what moves; used in one event loop alone.

    Parameters
    ----------
    read : function of a moment and topics
        Returns what moved since; it is called in a thread.
    mark : function
        Returns what differs once anybody has committed; it is called in a thread. Without one
        everybody may have at any time.
    """

    def __init__(
        self,
        read: Read,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        mark: Callable[[], object] = object,
    ):
        self._read, self._clock, self._mark = read, clock, mark
        self._marked: object = None
        self._listeners: set[Listener] = set()
        # Those as well who are about to join: the poller must not stop under them.
        self._here = 0
        self._poller: asyncio.Task[None] | None = None
        self._ready = asyncio.Lock()
        self._closed = False
        self._boot, self._number = _new_boot(), 0
        self._kept: deque[Event] = deque(maxlen=MOST_KEPT)
        self._seen: dict[tuple[str, str], tuple[object, ...]] = {}
        self._read_at: datetime | None = None

    async def listen(self, topics: Iterable[str], last_id: str | None) -> AsyncIterator[bytes]:
        """Yield server-sent events until the server ends or the listener is too slow.

        Parameters
        ----------
        last_id : of the last event that the listener has had; None begins with what comes next
        """
        listener = Listener(frozenset(topics))
        self._here += 1
        try:
            missed = await self._join(listener, last_id)
            yield _opening(self._id())
            for text in missed:
                yield text
            while not listener.lost:
                yield await _next(listener)
            yield THE_END
        finally:
            self._leave(listener)

    def require_place(self) -> None:
        """Refuse another listener when there are too many, or the server ends."""
        if self._closed or self._here >= MOST_LISTENERS:
            raise TooManyListeners(f"{self._here} listen already; end one, or try again in a while")

    def close(self) -> None:
        """End all listening, so that the server can end."""
        self._closed = True
        for listener in self._listeners:
            listener.give_up()
        self._stop()

    async def _join(self, listener: Listener, last_id: str | None) -> list[bytes]:
        """Return what a listener has missed; from then on its queue gets what comes."""
        async with self._ready:
            if self._poller is None or self._poller.done():
                await self._begin()
            missed = await self._missed(listener.topics, last_id)
            self._listeners.add(listener)
            return missed

    async def _begin(self) -> None:
        """Go on polling where it was left; after a long pause anew, without what was before."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > LONGEST_PAUSE:
            self._boot, self._number = _new_boot(), 0
            self._kept.clear()
            found = await self._moved(now - OVERLAP)
            self._seen = {(moved.topic, moved.key): moved.content for moved in found}
            self._read_at = now
        else:
            await self._poll()
        self._poller = asyncio.create_task(self._poll_on())

    async def _missed(self, topics: Collection[str], last_id: str | None) -> list[bytes]:
        if last_id is None:
            return []
        boot, number, moment = _parsed(last_id)
        first = self._kept[0].number if self._kept else self._number + 1
        if boot == self._boot and number + 1 >= first:
            return [one.text for one in self._kept if one.number > number and one.topic in topics]
        found = await asyncio.to_thread(self._read, moment - OVERLAP, topics)
        since = [moved for moved in found if moved.at > moment - OVERLAP]
        return [self._text(moved, self._id()) for moved in since]

    async def _poll_on(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._poll()
            except StoreError as away:
                _log.warning("stream: the database is away: %s", away)

    async def _poll(self) -> None:
        """Tell what is new since the last reading, if anybody has committed since."""
        now, mark = self._clock(), await asyncio.to_thread(self._mark)
        before = now if self._read_at is None else self._read_at
        if mark == self._marked:
            self._read_at = now
            return
        found = await self._moved(before - OVERLAP)
        self._marked = mark
        seen, self._seen = self._seen, {}
        self._read_at = now
        for moved in found:
            named = (moved.topic, moved.key)
            self._seen[named] = moved.content
            if seen.get(named) != moved.content:
                self._tell(moved)

    def _tell(self, moved: Moved) -> None:
        self._number += 1
        event = Event(self._number, moved.topic, self._text(moved, self._id()))
        self._kept.append(event)
        for listener in self._listeners:
            listener.tell(event)

    async def _moved(self, since: datetime) -> list[Moved]:
        return await asyncio.to_thread(self._read, since, tuple(EVENTS))

    def _leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        self._here -= 1
        if self._here == 0:
            self._stop()

    def _stop(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def _id(self) -> str:
        at = self._read_at or self._clock()
        return f"{self._boot}-{self._number}-{int(at.timestamp() * 1000)}"

    def _text(self, moved: Moved, name: str) -> bytes:
        data = json.dumps(dict(moved.row), default=_plain)
        return f"id: {name}\nevent: {EVENTS[moved.topic]}\ndata: {data}\n\n".encode()


def _new_boot() -> str:
    return uuid4().hex[:8]


def valid_id(text: str) -> bool:
    """Return whether a text may be the id of an event of this or another server."""
    try:
        _parsed(text)
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _parsed(text: str) -> tuple[str, int, datetime]:
    boot, number, moment = text.split("-")
    return boot, int(number), datetime.fromtimestamp(int(moment) / 1000, UTC)


def _opening(name: str) -> bytes:
    """Return what a listener hears first: when to come back, and from where."""
    return f"retry: 1000\nid: {name}\n\n: listening\n\n".encode()


async def _next(listener: Listener) -> bytes:
    try:
        event = await asyncio.wait_for(listener.queue.get(), HEARTBEAT_SECONDS)
    except TimeoutError:
        return b": heartbeat\n\n"
    return b"" if event is None else event.text


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
