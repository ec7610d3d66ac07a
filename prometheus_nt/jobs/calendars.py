"""Calendars for a process that stays: built by one that does not, nor what it imports for it."""

import pickle
import subprocess
import sys

from prometheus_nt.domain.calendar import MarketCalendar, build_calendar

PATIENCE_SECONDS = 120.0


def build_calendars_elsewhere() -> None:
    """From now on have calendars built by other processes, so that this one never has pandas."""
    MarketCalendar.build_by(_built_elsewhere)


def _built_elsewhere(market_id: str) -> MarketCalendar:
    """Return a calendar that another process built; built here where that one fails."""
    command = [sys.executable, "-m", __name__, market_id]
    try:
        built = subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return build_calendar(market_id)
    calendar: MarketCalendar = pickle.loads(built.stdout)
    return calendar


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(build_calendar(sys.argv[1])))
