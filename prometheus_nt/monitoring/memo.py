"""What was computed once and is kept for who asks again: for good, or for some seconds."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from time import monotonic
from typing import Any, TypeVar

MOST_KEPT = 64

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
