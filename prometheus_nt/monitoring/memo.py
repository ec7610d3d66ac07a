"""What was computed once and is kept for who asks again: for good, for some seconds, or later."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

from prometheus_nt.domain.errors import PrometheusError

MOST_KEPT = 64
MOST_UNDER_WAY = 8

Found = TypeVar("Found")


class Memo:
    """The newest results by key; of any number who ask for one at once, one computes it.

    A key must name everything that its result depends on. What fails is not kept.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[Lock, list[Any]]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """Return what was kept under a key, else what `compute` returns."""
        with self._lock:
            lock, found = self._kept.setdefault(key, (Lock(), []))
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with lock:
            if not found:
                found.append(compute())
            result: Found = found[0]
            return result


class Brief:
    """Results that may be some seconds old; of any number who ask for one at once, one computes it.

    The keys are few and fixed: none is forgotten. What fails is not kept.

    Parameters
    ----------
    seconds : after which a result is computed again, from when it was there
    """

    def __init__(self, seconds: float, now: Callable[[], float] = monotonic) -> None:
        self._seconds, self._now = seconds, now
        self._kept: dict[Hashable, tuple[Lock, list[tuple[float, Any]]]] = {}
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """Return what was kept under a key if it is young enough, else what `compute` returns."""
        with self._lock:
            lock, kept = self._kept.setdefault(key, (Lock(), []))
        with lock:
            if not kept or self._now() - kept[0][0] >= self._seconds:
                kept.clear()
                found = compute()
                kept.append((self._now(), found))
            result: Found = kept[0][1]
            return result


class Later:
    """Results that take seconds: nobody waits for one, it is there for who asks again.

    They are found one after the other: each may need much of the machine. What fails is told once,
    to who asks next, and then tried again.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._found: OrderedDict[Hashable, Callable[[], Any]] = OrderedDict()
        self._under_way: set[Hashable] = set()
        self._lock, self._turn = Lock(), Lock()

    def get(self, key: Hashable, compute: Callable[[], Found]) -> Found | None:
        """Return what was found under a key; None while `compute` looks for it, from now on.

        Raises
        ------
        PrometheusError
            If `compute` did.
        """
        with self._lock:
            found = self._found.get(key)
            if found is None:
                self._begin(key, compute)
                return None
            self._found.move_to_end(key)
        try:
            result: Found = found()
        except PrometheusError:
            self._forget(key)
            raise
        return result

    def _begin(self, key: Hashable, compute: Callable[[], Any]) -> None:
        # Who is not begun now is when he asks again: a queue need not be long.
        if key in self._under_way or len(self._under_way) >= MOST_UNDER_WAY:
            return
        self._under_way.add(key)
        # A server that ends does not wait for it.
        Thread(target=self._compute, args=(key, compute), daemon=True).start()

    def _compute(self, key: Hashable, compute: Callable[[], Any]) -> None:
        try:
            with self._turn:
                found = _outcome(compute)
            with self._lock:
                self._found[key] = found
                while len(self._found) > self._most:
                    self._found.popitem(last=False)
        finally:
            self._under_way.discard(key)

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._found.pop(key, None)


def _outcome(compute: Callable[[], Found]) -> Callable[[], Found]:
    """Return a function that returns what was computed, or raises what was raised."""
    try:
        found = compute()
    except PrometheusError as refused:
        reason = refused

        def fail() -> Found:
            raise reason

        return fail
    return lambda: found
