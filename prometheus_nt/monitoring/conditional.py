"""What a client has already is not sent again: an ETag over the bytes of each JSON answer."""

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Conditional:
    """ASGI middleware: gives JSON answers an ETag, and answers 304 to who has it.

    Streams pass through untouched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Held(send, Headers(scope=scope).get("if-none-match")).send)


class _Held:
    """Holds a JSON answer back until its bytes are known."""

    def __init__(self, send: Send, known: str | None) -> None:
        self._send, self._known = send, known
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._start)

    async def _finish(self, start: Message) -> None:
        tag = f'"{hashlib.blake2b(self._body, digest_size=16).hexdigest()}"'
        headers = MutableHeaders(scope=start)
        headers["etag"], headers["cache-control"] = tag, "no-cache"
        if self._known is not None and tag in self._known:
            start["status"], self._body = 304, b""
            del headers["content-length"]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})


def _is_json(start: Message) -> bool:
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return bool(start["status"] == 200) and kind.startswith("application/json")
