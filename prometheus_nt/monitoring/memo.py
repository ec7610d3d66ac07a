"""What was computed once from records that never change, kept for who asks again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
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
