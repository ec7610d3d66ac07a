"""How fast the gateway may be asked: messages in a second, history in ten minutes.

Every object takes the time from its caller's clock, so that a test needs no waiting.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

Monotonic = Callable[[], float]


@dataclass
class Window:
    """At most `count` events in any stretch of `seconds`, which is what a gateway counts."""

    count: int
    seconds: float
    _times: deque[float] = field(default_factory=deque)

    def wait(self, now: float) -> float:
        """Return the seconds until one more event fits; 0 if it does now."""
        while self._times and now - self._times[0] >= self.seconds:
            self._times.popleft()
        if len(self._times) < self.count:
            return 0.0
        # The event that has to leave the window: the budget may have shrunk below what is in it.
        return self._times[len(self._times) - self.count] + self.seconds - now

    def take(self, now: float) -> None:
        """Count an event of `now`."""
        self._times.append(now)


class MessageBudget:
    """A token bucket of messages, halved for a while after the gateway said that it was too much.

    Full, it lets `burst` messages pass at once, then `rate` a second: never more than `per_second`
    in any second. A plain count of the last second would send its second's worth in one burst, and
    two bursts that a busy gateway reads late are twice the limit to it.
    """

    def __init__(self, per_second: int, monotonic: Monotonic) -> None:
        self.per_second, self._monotonic = per_second, monotonic
        self.burst = max(1, per_second // 8)
        self.rate = max(1.0, float(per_second - self.burst))
        self._tokens, self._counted = float(self.burst), monotonic()
        self._slow_until = float("-inf")

    def wait(self) -> float:
        """Return the seconds until a message may be sent; 0 if it may be now."""
        rate = self._fill()
        # A billionth short of a token is a rounding error, and its wait could be too short to pass.
        return 0.0 if self._tokens >= 1.0 - 1e-9 else (1.0 - self._tokens) / rate

    def take(self) -> None:
        """Count a message that is sent now."""
        self._fill()
        self._tokens -= 1.0

    def slow_down(self, seconds: float) -> None:
        """Halve the pace for `seconds` from now, and let nothing pass at once."""
        self._fill()
        self._slow_until, self._tokens = self._monotonic() + seconds, 0.0

    def _fill(self) -> float:
        now = self._monotonic()
        rate = self.rate / 2 if now < self._slow_until else self.rate
        self._tokens = min(float(self.burst), self._tokens + (now - self._counted) * rate)
        self._counted = now
        return rate


@dataclass
class HistoryBudget:
    """Requests for history, kept below three rules of the gateway at once.

    Attributes
    ----------
    most : requests in ten minutes; the rule is 60
    of_one : requests of one contract in two seconds; the rule is 6
    apart_seconds : between identical requests; the rule is 15
    """

    monotonic: Monotonic
    most: int = 55
    of_one: int = 5
    apart_seconds: float = 16.0
    _all: Window = field(init=False)
    _contracts: dict[Hashable, Window] = field(default_factory=dict)
    _requests: dict[Hashable, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._all = Window(self.most, 600.0)

    def wait(self, contract: Hashable, request: Hashable) -> float:
        """Return the seconds until a request may be sent; 0 if it may be now."""
        now = self.monotonic()
        again = self._requests.get(request, float("-inf")) + self.apart_seconds - now
        return max(0.0, again, self._all.wait(now), self._of(contract).wait(now))

    def take(self, contract: Hashable, request: Hashable) -> None:
        """Count a request that is sent now."""
        now = self.monotonic()
        self._all.take(now)
        self._of(contract).take(now)
        self._requests = {
            asked: at for asked, at in self._requests.items() if now - at < self.apart_seconds
        } | {request: now}

    def _of(self, contract: Hashable) -> Window:
        return self._contracts.setdefault(contract, Window(self.of_one, 2.0))
