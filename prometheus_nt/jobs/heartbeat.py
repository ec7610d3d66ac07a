"""Keeping a lease while long work is done: a thread renews it until the work ends or it is lost."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from uuid import uuid4

from prometheus_nt.domain.errors import PhaseError, StoreUnavailable

log = logging.getLogger(__name__)


def worker_name() -> str:
    """Return a name that no other worker has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


class Heartbeat:
    """Whether the lease is still held, as far as the last beat could tell."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._lost = Event()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def require_held(self) -> None:
        """Raise `PhaseError` if the lease was lost: whoever holds it now writes."""
        if self.lost:
            raise PhaseError(
                f"{self.what}: its lease was lost while it was worked on; nothing more is written"
            )

    def beat(self, renew: Callable[[], bool], every: timedelta, ended: Event) -> None:
        """Renew until `ended`, or until `renew` says that the lease is lost."""
        while not ended.wait(every.total_seconds()):
            try:
                held = renew()
            except StoreUnavailable as away:
                # The lease is longer than several beats: the database may be back for the next.
                log.warning("lease=%s not renewed: %s", self.what, away)
                continue
            if not held:
                log.warning("lease=%s lost", self.what)
                self._lost.set()
                return


@contextmanager
def renewed(what: str, renew: Callable[[], bool], every: timedelta) -> Iterator[Heartbeat]:
    """Renew a lease in the background while the block runs; yield what knows if it is held."""
    heart, ended = Heartbeat(what), Event()
    thread = Thread(target=heart.beat, args=(renew, every, ended), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield heart
    finally:
        ended.set()
        thread.join()
