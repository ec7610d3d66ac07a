"""Calendars for a process that stays: built by one that does not, nor what it imports for it."""

from collections.abc import Mapping
from functools import cache
from threading import Thread

from prometheus_nt.domain.calendar import MARKETS, MarketCalendar, build_calendar
from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs.elsewhere import found_elsewhere


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
    except PrometheusError:
        return build_calendar(market_id)


@cache
def _all_built_elsewhere() -> Mapping[str, MarketCalendar]:
    return found_elsewhere(_all)


def _all() -> dict[str, MarketCalendar]:
    return {market_id: build_calendar(market_id) for market_id in MARKETS}
