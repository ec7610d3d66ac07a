"""What every market is doing, for a person or a program."""

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.market_state import DEFAULT_CLOCK, ClockParams, MarketView, market_views

COLUMNS = (
    *("market_id", "state", "local_time", "session", "half_day", "lunch_break"),
    *("next_state", "next_at", "next_in"),
)


def list_markets(
    at: str | None = None, params: ClockParams = DEFAULT_CLOCK
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return one row per market at an instant: ISO 8601 with an offset, by default now.

    Raises
    ------
    ConfigError
        If `at` is no time, or has no offset.
    DataError
        If it is outside a market's calendar.
    """
    now = datetime.now(UTC) if at is None else _instant(at)
    return COLUMNS, [_row(view, now) for view in market_views(now, params).values()]


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--at: {text!r} is no time; write it as 2024-03-28T15:00:00Z or with another offset"
        ) from None


def _row(view: MarketView, now: datetime) -> tuple[Any, ...]:
    seconds = round((view.next_at - now) / timedelta(seconds=1))
    hours, minutes = divmod(-(-seconds // 60), 60)
    return (
        view.market_id,
        view.state.value,
        view.local.isoformat(timespec="seconds"),
        None if view.session is None else view.session.isoformat(),
        view.half_day,
        view.on_break,
        view.next_state.value,
        view.next_at.isoformat(timespec="seconds"),
        f"{hours}h {minutes:02d}m",
    )
