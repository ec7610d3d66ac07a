"""Calendars for a process that stays: built by one that does not, nor what it imports for it."""

import pickle
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from threading import Thread

from prometheus_nt.domain.calendar import MARKETS, MarketCalendar, build_calendar

PATIENCE_SECONDS = 120.0


def build_calendars_elsewhere() -> None:
    """Have all calendars built by another process, so that this one never has pandas.

    It begins at once; who asks for one before it is there waits.
    """
    MarketCalendar.build_by(_built_elsewhere)
    Thread(target=MarketCalendar.of, args=(next(iter(MARKETS)),), daemon=True).start()


def _built_elsewhere(market_id: str) -> MarketCalendar:
    """Return a calendar that another process built; built here where that one fails."""
    try:
        return _all_built_elsewhere()[market_id]
    except (OSError, subprocess.SubprocessError):
        return build_calendar(market_id)


@cache
def _all_built_elsewhere() -> Mapping[str, MarketCalendar]:
    command = [sys.executable, "-m", __name__]
    built = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    calendars: Mapping[str, MarketCalendar] = pickle.loads(built.stdout)
    return calendars


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps({name: build_calendar(name) for name in MARKETS}))
