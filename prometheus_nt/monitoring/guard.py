"""What every request passes before a route sees it, and every answer on its way out.

1. Names: a request for a host that the server does not go by is refused (DNS rebinding).
2. Size: a body above the limit is refused, declared or streamed.
3. Rate: each caller has a bucket of readings and one of control calls, to which what is refused to
   strangers counts as well.
4. Who: the token gives the caller; a control call needs its role, and its origin must be our own.
5. Record: each control call, done or refused, and each reading refused to a stranger, is an entry
   of the sealed stream `control`. What the rate puts off is none: a flood cannot fill the record.
6. Out: headers that keep a browser from doing what nobody asked for.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prometheus_nt.monitoring.access import Access, Caller, is_loopback

MOST_BODY_BYTES = 1_000_000
READINGS_PER_SECOND, READINGS_AT_ONCE = 100.0, 600.0
CONTROLS_PER_SECOND, CONTROLS_AT_ONCE = 1.0, 30.0
MOST_CALLERS = 10_000
LONGEST_PATH = 200
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
WITHOUT_TOKEN = ("/health", "/ready", "/api/docs", "/api/redoc")
"""Paths that a supervisor asks, and pages without data: they say no more than that it lives."""
TO_STRANGERS = (401, 403, 421)
"""Refusals that are recorded of readings too: somebody tried what was not his."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class ControlCall:
    """A call that would change something, or was refused to a stranger: who, what, how it ended.

    status : HTTP status of the answer; None if the server failed before there was one.
    """

    caller: str
    client: str
    method: str
    path: str
    status: int | None
    reason: str | None = None


class Buckets:
    """Of each caller: how many calls are left, refilled with time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[tuple[str, bool], tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, who: str, *, control: bool) -> bool:
        """Return whether a caller has a call left, and take it."""
        rate, most = (
            (CONTROLS_PER_SECOND, CONTROLS_AT_ONCE)
            if control
            else (READINGS_PER_SECOND, READINGS_AT_ONCE)
        )
        now = self._clock()
        with self._lock:
            if len(self._left) > MOST_CALLERS:
                self._left.clear()
            left, since = self._left.get((who, control), (most, now))
            left = min(most, left + (now - since) * rate)
            self._left[who, control] = (max(left - 1.0, 0.0), now) if left >= 1.0 else (left, now)
            return left >= 1.0


class Refused(HTTPException):
    """A request that goes no further: the status of the answer, and why.

    Of a kind that routes let pass, so that a body may be refused while one is reading it.
    """

    @property
    def reason(self) -> str:
        """Why, in words."""
        return str(self.detail)


Writer = Callable[[int | None, str | None], Awaitable[None]]


class _Outgoing:
    """An answer on its way out: given safe headers, and recorded before anybody hears it."""

    def __init__(self, send: Send, write: Writer) -> None:
        self._send, self._write = send, write
        self.status: int | None = None
        self.reason: str | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            await self._record()
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    async def ended(self) -> None:
        """Record a call that failed before it had an answer."""
        if self.status is None:
            await self._record()

    async def _record(self) -> None:
        await self._write(self.status, self.reason)


class Guard:
    """ASGI middleware: the door of the server.

    Parameters
    ----------
    app : what answers
    access : who is known
    record : takes each control call; runs in the event loop's thread pool, so it may block
    """

    def __init__(self, app: ASGIApp, access: Access, record: Callable[[ControlCall], None]) -> None:
        self._app, self._access, self._record = app, access, record
        self._buckets = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = self._access.caller(headers.get("authorization"))
        outgoing = _Outgoing(send, self._writer(scope, caller))
        try:
            if (refusal := self._refusal(scope, headers, caller)) is not None:
                raise refusal
            scope.setdefault("state", {})["caller"] = caller
            await self._app(scope, _bounded(receive), outgoing.send)
        except Refused as refusal:
            if outgoing.status is not None:
                raise
            outgoing.reason = refusal.reason
            body = {"error": {"type": "Refused", "message": refusal.reason}}
            await JSONResponse(body, refusal.status_code)(scope, receive, outgoing.send)
        finally:
            await outgoing.ended()

    def _writer(self, scope: Scope, caller: Caller | None) -> Writer:
        """Return what records a call, if it is one to record."""
        who, client = caller.name if caller else "unknown", _client(scope)
        control = scope["method"] not in SAFE_METHODS

        async def write(status: int | None, reason: str | None) -> None:
            if status not in TO_STRANGERS and (not control or status == 429):
                return
            path = scope["path"][:LONGEST_PATH]
            call = ControlCall(who, client, scope["method"], path, status, reason)
            await run_in_threadpool(self._record, call)

        return write

    def _refusal(self, scope: Scope, headers: Headers, caller: Caller | None) -> Refused | None:
        control = scope["method"] not in SAFE_METHODS
        refusal = self._to_stranger(scope, headers, caller)
        who = caller.name if caller else _client(scope)
        if not self._buckets.take(who, control=control or refusal is not None):
            return Refused(429, "too many calls; try again in a moment")
        length = headers.get("content-length", "0")
        too_large = not length.isdecimal() or int(length) > MOST_BODY_BYTES
        return refusal or (_too_large() if too_large else None)

    def _to_stranger(self, scope: Scope, headers: Headers, caller: Caller | None) -> Refused | None:
        """Return why whoever asks may not, whatever it is that he asks."""
        path = scope["path"]
        if not self._is_our_name(headers.get("host", "")):
            return Refused(421, "this server does not go by the host of the request")
        if caller is None and path not in WITHOUT_TOKEN and _is_api(path):
            return Refused(401, "a token is needed: send `Authorization: Bearer TOKEN`")
        if scope["method"] not in SAFE_METHODS and not _is_same_origin(headers):
            return Refused(403, "control calls are taken from this server's own pages only")
        return None

    def _is_our_name(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        return not self._access.open_to_all or is_loopback(name)


def _is_api(path: str) -> bool:
    # The pages themselves hold no data; they ask for the token and then for everything else.
    return path.startswith("/api") or path == "/metrics"


def _is_same_origin(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _too_large() -> Refused:
    return Refused(413, f"a body has at most {MOST_BODY_BYTES:,} bytes")


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"


def _bounded(receive: Receive) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY_BYTES:
            raise _too_large()
        return message

    return bounded
