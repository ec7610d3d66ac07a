"""What several ask at once is answered once, and what nothing has changed is not computed again.

1. `_mark` tells what both databases hold by something that moves with every commit. An answer that
   was begun under the same mark is as good as a new one: nobody is told less than was committed
   when he asked.
2. Not everything is in the databases: the clock is not. So an answer is given again for
   `KEPT_SECONDS` alone, and what is read from files of a run (`OF_FILES`) never.
3. Of any number who ask for one that is being computed, one computes it (`_lead`), the others wait
   (`_follow`); if it turns out to be none that can be given twice, each computes his own.
4. A call that may have changed something makes all answers old that were begun before it ended.

A key holds who asks, with his role: nobody is given what was computed for somebody else.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from time import monotonic

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persistence.database import Database
from prometheus_nt.domain.errors import StoreError

KEPT_SECONDS = 1.0
OF_FILES = "/api/runs/"
MOST_KEPT = 256
LARGEST_KEPT = 1_000_000
"""Bytes of an answer that is kept for who asks later."""

Messages = list[Message]


@dataclass
class _Answer:
    """An answer under way, or there. messages : None if it cannot be given twice."""

    mark: Hashable
    messages: "asyncio.Future[Messages | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    finished: float | None = None


class Kept:
    """ASGI middleware: gives JSON answers again while they are as good as new ones.

    Parameters
    ----------
    databases : function of the application's scope
        Returns those that answers are made of.
    """

    def __init__(
        self,
        app: ASGIApp,
        databases: Callable[[Scope], tuple[Database, ...]],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._app, self._databases, self._now = app, databases, now
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._changes = 0
        # Threads of their own: what asks whether it must wait should not wait for that.
        self._marking = CapacityLimiter(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
        elif scope["method"] == "GET" and not scope["path"].startswith(OF_FILES):
            await self._answer(scope, receive, send)
        elif scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            finally:
                self._changes += 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        mark = await self._mark(scope)
        if mark is None:
            await self._app(scope, receive, send)
            return
        key = (scope["path"], scope["query_string"], scope["state"]["caller"])
        known = self._answers.get(key)
        if known is not None and known.mark == mark and not self._is_old(known):
            await self._follow(known, scope, receive, send)
        else:
            await self._lead(key, _Answer(mark), (scope, receive, send))

    async def _mark(self, scope: Scope) -> Hashable | None:
        """Return what moves with every commit; None while a database is away."""
        databases = self._databases(scope)

        def read() -> Hashable:
            return (*(database.commit_mark() for database in databases),)

        try:
            return self._changes, await to_thread.run_sync(read, limiter=self._marking)
        except StoreError:
            return None

    def _is_old(self, answer: _Answer) -> bool:
        return answer.finished is not None and self._now() - answer.finished >= KEPT_SECONDS

    async def _follow(self, known: _Answer, scope: Scope, receive: Receive, send: Send) -> None:
        # Shielded: who goes away does not take the answer from the others.
        messages = await asyncio.shield(known.messages)
        if messages is None:
            await self._app(scope, receive, send)
            return
        for message in messages:
            await send(_copied(message))

    async def _lead(
        self, key: Hashable, answer: _Answer, asked: tuple[Scope, Receive, Send]
    ) -> None:
        scope, receive, send = asked
        self._keep(key, answer)
        recorder = _Recorder(send, answer.messages)
        try:
            await self._app(scope, receive, recorder.send)
        finally:
            recorder.end()
            answer.finished = self._now()
            if recorder.size > LARGEST_KEPT or answer.messages.result() is None:
                self._forget(key, answer)

    def _keep(self, key: Hashable, answer: _Answer) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while self._answers:
            oldest, first = next(iter(self._answers.items()))
            if len(self._answers) <= MOST_KEPT and not self._is_old(first):
                return
            self._forget(oldest, first)

    def _forget(self, key: Hashable, answer: _Answer) -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]


class _Recorder:
    """Sends an answer on, and notes it if it can be given twice: a whole JSON answer."""

    def __init__(self, send: Send, noted: "asyncio.Future[Messages | None]") -> None:
        self._send, self._noted = send, noted
        self._messages: Messages = []
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not _is_whole(message):
            self.end()
        if not self._noted.done():
            # Headers are changed on their way out: by each who is answered, his own.
            self._messages.append(_copied(message))
            self.size += len(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._noted.set_result(self._messages)
        await self._send(message)

    def end(self) -> None:
        """Say that nothing more is noted, if the answer is not there."""
        if not self._noted.done():
            self._noted.set_result(None)


def _is_whole(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return bool(start["status"] == 200) and kind.startswith("application/json")


def _copied(message: Message) -> Message:
    copied = dict(message)
    if "headers" in copied:
        copied["headers"] = list(copied["headers"])
    return copied
