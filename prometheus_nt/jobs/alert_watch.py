"""Judging the rules of alerts again and again, beside whatever else a process does."""

import logging
import threading
from datetime import UTC, datetime

from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs.alerting import AlertParams, check, deliver
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

EVERY_SECONDS = 30.0
PATIENCE_SECONDS = 20.0
"""For a delivery that is under way when the watch ends; the thread dies with the process."""

log = logging.getLogger(__name__)


class AlertWatch:
    """A thread that checks the rules and delivers what they find, until it is stopped.

    A check that fails is logged and made again at its next time.

    Parameters
    ----------
    every_seconds : from the end of a check to the next
    """

    def __init__(self, settings: Settings, every_seconds: float = EVERY_SECONDS) -> None:
        self._settings, self._every = settings, every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)

    def start(self) -> None:
        """Begin; the first check is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the check that is under way."""
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        with open_stores(self._settings) as stores:
            while not self._stop.is_set():
                self._check(stores)
                self._stop.wait(self._every)

    def _check(self, stores: Stores) -> None:
        now = datetime.now(UTC)
        try:
            check(stores, AlertParams(), now)
            deliver(self._settings, stores, now)
        except PrometheusError:
            log.exception("alerts: not checked at %s", now)
