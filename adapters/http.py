"""JSON answers of a vendor over HTTP: paced, retried, bounded, and silent about the key.

1. `RateLimiter.wait` gives every thread its turn; a 429 holds all of them back.
2. `KeyedTransport` adds the key below everything that logs a request or keeps one in an error.
3. `VendorClient.get_json` retries what may pass: lost connections, timeouts, 5xx, 429, answers
   that were cut off or are not JSON. It waits longer each time, with jitter, or as long as the
   vendor asks.
4. What will not pass is an error at once: `SourceError` for one question, `VendorRefusal` when
   no question will be answered any more (key, plan, daily budget, a vendor that is down).
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, quote_plus

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from prometheus_nt.domain.errors import ConfigError, SourceError, VendorRefusal

BURST = 10
"""Requests that may leave at once before the pace holds them back."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MOST_EXCERPT = 120

_WIRE_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


class Unanswered(SourceError):
    """The vendor gave no usable answer to one question, however often it was asked."""


class NotServed(SourceError):
    """The vendor does not have what was asked for, or does not give it out this way."""


class AnswerTooLarge(SourceError):
    """An answer was longer than anything this endpoint should send."""


class SchemaChanged(SourceError):
    """An answer is JSON, but not of the form that its endpoint is known to have."""

    def __init__(self, where: str, field_name: str, value: object, expected: str) -> None:
        found = _excerpt(repr(value))
        super().__init__(
            where,
            f"field {field_name!r}: expected {expected}, found {found}",
            "the vendor may have changed its answers: compare with its documentation, and"
            " upgrade prometheus-nt",
        )
        self.field_name, self.value = field_name, found


class BudgetSpent(VendorRefusal):
    """The calls that the plan allows a day are used up."""


class KeyRefused(VendorRefusal):
    """The key is wrong, or the plan behind it does not include the endpoint."""


class VendorDown(VendorRefusal):
    """Several questions in a row got no answer."""


class Secret:
    """A text that no repr, log or traceback shows."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret(***)"

    def reveal(self) -> str:
        return self._text

    def redact(self, text: str) -> str:
        """Return `text` without the secret, as written or as a URL writes it."""
        for spelling in (self._text, quote(self._text, safe=""), quote_plus(self._text)):
            text = text.replace(spelling, "***") if spelling else text
        return text


@dataclass(frozen=True)
class Vendor:
    """Who is asked, and what its answers of refusal look like.

    Attributes
    ----------
    key_parameter : str
        Query parameter that carries the key.
    key_variable, url_variable : str
        Environment variables that a remedy may name.
    budget_phrase : str
        Part of the text by which the vendor says that the daily budget is spent, lower case.
    """

    name: str
    base_url: str
    key: Secret
    key_parameter: str
    key_variable: str
    url_variable: str
    budget_phrase: str


@dataclass(frozen=True)
class Limits:
    """How patient the client is, and how much it takes; seconds and bytes.

    Attributes
    ----------
    total_seconds : float
        For one answer: a vendor that sends a byte now and then would otherwise never time out.
    failures_before_outage : int
        Questions in a row without an answer after which the vendor counts as down.
    """

    requests_per_minute: int = 600
    attempts: int = 5
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0
    longest_retry_after_seconds: float = 300.0
    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    total_seconds: float = 300.0
    most_bytes: int = 64 * 1024 * 1024
    failures_before_outage: int = 5


@dataclass(frozen=True)
class Clock:
    """Time as the client sees it; a test passes its own."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


class RateLimiter:
    """A token bucket that all threads share: `per_minute` requests, `BURST` of them at once."""

    def __init__(self, per_minute: int, clock: Clock, burst: int = BURST) -> None:
        if per_minute < 1:
            raise ConfigError(f"requests per minute: expected at least 1, found {per_minute}")
        self._interval = 60.0 / per_minute
        self._slack = self._interval * (min(burst, per_minute) - 1)
        self._clock = clock
        self._lock = Lock()
        self._due = float("-inf")

    def wait(self) -> None:
        """Sleep until the caller's turn."""
        with self._lock:
            now = self._clock.monotonic()
            turn = max(self._due, now)
            self._due = turn + self._interval
        # Slept outside the lock, so that others can take their turn meanwhile.
        pause = turn - self._slack - now
        if pause > 0:
            self._clock.sleep(pause)

    def hold(self, seconds: float) -> None:
        """Let nobody go on for `seconds`."""
        with self._lock:
            until = self._clock.monotonic() + seconds
            self._due = max(self._due, until + self._slack)


class KeyedTransport(httpx.BaseTransport):
    """Adds the key to a request just before it leaves.

    The client above, its log lines and the requests that its errors keep know nothing of it.
    """

    def __init__(self, inner: httpx.BaseTransport, parameter: str, key: Secret) -> None:
        self._inner, self._parameter, self._key = inner, parameter, key

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.copy_merge_params({self._parameter: self._key.reveal()})
        keyed = httpx.Request(
            request.method, url, headers=request.headers, extensions=request.extensions
        )
        return self._inner.handle_request(keyed)

    def close(self) -> None:
        self._inner.close()


class VendorClient:
    """Asks one vendor; may be used by several threads, which share its pace.

    Raises
    ------
    ConfigError
        If the key is missing, or would travel unencrypted to another machine.
    """

    def __init__(
        self,
        vendor: Vendor,
        limits: Limits | None = None,
        clock: Clock | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        _require_usable(vendor)
        self.vendor = vendor
        self._limits, self._clock = limits or Limits(), clock or Clock()
        self._limiter = RateLimiter(self._limits.requests_per_minute, self._clock)
        self._failures, self._counting = 0, Lock()
        self._client = httpx.Client(
            base_url=vendor.base_url,
            transport=KeyedTransport(
                transport or httpx.HTTPTransport(), vendor.key_parameter, vendor.key
            ),
            timeout=httpx.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
            follow_redirects=False,
            headers={"Accept": "application/json"},
        )
        self._filter = _Redacting(vendor.key)
        for name in _WIRE_LOGGERS:
            logging.getLogger(name).addFilter(self._filter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VendorClient({self.vendor.name!r})"

    def close(self) -> None:
        self._client.close()
        for name in _WIRE_LOGGERS:
            logging.getLogger(name).removeFilter(self._filter)

    def get_json(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return the JSON document at `path`, a path relative to the vendor's address.

        Raises
        ------
        SourceError
            If this question gets no usable answer; others are not affected.
        VendorRefusal
            If no question would.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self._limits.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(_Passing),
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            document = retrying(self._ask, path, dict(params or {}))
        except _Passing as failure:
            raise self._given_up(self.where(path), str(failure)) from None
        with self._counting:
            self._failures = 0
        return document

    def where(self, path: str) -> str:
        """Return how a message names an endpoint: no parameter, no key."""
        return f"{self.vendor.name} /{path}"

    def _ask(self, path: str, params: Mapping[str, str]) -> Any:
        self._limiter.wait()
        with _translated(self._limits), self._client.stream("GET", path, params=params) as answer:
            body = self._body(path, answer)
        self._require_served(path, answer, body)
        try:
            return json.loads(body, parse_constant=_no_number)
        except (ValueError, RecursionError):
            self._require_budget(path, body)
            raise _Passing(f"the answer is not JSON: {self._text(body)!r}") from None

    def _body(self, path: str, answer: httpx.Response) -> bytes:
        parts, size = [], 0
        until = self._clock.monotonic() + self._limits.total_seconds
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > self._limits.most_bytes:
                raise AnswerTooLarge(
                    self.where(path),
                    f"the answer is longer than {self._limits.most_bytes:,} bytes",
                    "ask for less, or check the address of the vendor",
                )
            if self._clock.monotonic() > until:
                raise _Passing(f"the answer took longer than {self._limits.total_seconds:g} s")
        return b"".join(parts)

    def _require_served(self, path: str, answer: httpx.Response, body: bytes) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        self._require_budget(path, body, spent=status == 402)
        if status in (401, 403):
            raise KeyRefused(
                self.where(path),
                f"HTTP {status}: {self._text(body)!r}",
                f"check {self.vendor.key_variable}, and whether your plan includes this endpoint",
            )
        if status == 429 or status in (408, 425) or status >= 500:
            asked = self._retry_after(answer.headers.get("Retry-After"))
            if status == 429:
                self._limiter.hold(asked or 0.0)
            raise _Passing(f"HTTP {status}: {self._text(body)!r}", asked)
        raise NotServed(self.where(path), *self._why_not(answer, body))

    def _why_not(self, answer: httpx.Response, body: bytes) -> tuple[str, str]:
        problem = f"HTTP {answer.status_code}: {self._text(body)!r}"
        if answer.is_redirect:
            return (
                f"HTTP {answer.status_code}: it points to another address",
                f"the key is not sent there; correct {self.vendor.url_variable}",
            )
        if answer.status_code == 404:
            return problem, "check the spelling of the symbol, or leave it out"
        return problem, "check the request against the vendor's documentation"

    def _require_budget(self, path: str, body: bytes, *, spent: bool = False) -> None:
        text = self._text(body)
        if spent or self.vendor.budget_phrase in text.lower():
            raise BudgetSpent(
                self.where(path),
                f"the daily budget of calls is spent: {text!r}",
                "run the command again after it is renewed; what is stored stays stored",
            )

    def _retry_after(self, text: str | None) -> float | None:
        """Return the seconds that a Retry-After header asks for, at most what we wait at all."""
        if text is None:
            return None
        if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
            seconds = float(text)
        else:
            try:
                moment = parsedate_to_datetime(text)
            except ValueError:
                return None
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (aware - self._clock.now()).total_seconds()
        return min(max(seconds, 0.0), self._limits.longest_retry_after_seconds)

    def _pause(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        if isinstance(failure, _Passing) and failure.asked_seconds is not None:
            return failure.asked_seconds
        first, longest = self._limits.first_wait_seconds, self._limits.longest_wait_seconds
        return (wait_exponential(multiplier=first, max=longest) + wait_random(0, first))(state)

    def _given_up(self, where: str, problem: str) -> SourceError | VendorRefusal:
        with self._counting:
            self._failures += 1
            failures = self._failures
        if failures >= self._limits.failures_before_outage:
            return VendorDown(
                where,
                f"{problem} ({failures} questions in a row without an answer)",
                "run the command again when the vendor is back; what is stored stays stored",
            )
        return Unanswered(
            where,
            f"{problem} (asked {self._limits.attempts} times)",
            "try again later, and check the network and the vendor's status page",
        )

    def _text(self, body: bytes) -> str:
        return _excerpt(self.vendor.key.redact(body[:10_000].decode(errors="replace")))


class _Passing(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, problem: str, asked_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.asked_seconds = asked_seconds


class _Redacting(logging.Filter):
    """Keeps the key out of what the HTTP libraries log, response headers for example."""

    def __init__(self, key: Secret) -> None:
        super().__init__()
        self._key = key

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._key.redact(record.getMessage()), ()
        return True


@contextmanager
def _translated(limits: Limits) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectTimeout:
        raise _Passing(f"no connection within {limits.connect_seconds:g} s") from None
    except httpx.TimeoutException:
        raise _Passing(f"no answer within {limits.read_seconds:g} s") from None
    except httpx.RequestError as failure:
        raise _Passing(f"{type(failure).__name__}: {failure}") from None


def _require_usable(vendor: Vendor) -> None:
    if not vendor.key.reveal():
        raise ConfigError(
            f"{vendor.name}: no API key; set the environment variable {vendor.key_variable}"
        )
    try:
        url = httpx.URL(vendor.base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme != "https" and not (url.scheme == "http" and url.host in LOOPBACK):
        raise ConfigError(
            f"{vendor.url_variable}: expected an https:// address, so that the key travels"
            f" encrypted, found scheme {url.scheme!r} and host {url.host!r}"
        )


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_EXCERPT else f"{line[:MOST_EXCERPT]}..."
