"""How several runs stand as one book: their equity together, and what it gained since when.

1. Runs whose record ends earlier than the newest of them are left out: they hold nothing any more.
2. Equity is summed on the sessions that the others share.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from persistence.database import Database
from persistence.desk_books import book_curve, last_sessions
from persistence.standing import Record


@dataclass(frozen=True)
class Book:
    """A book at the close of a session; None is not known.

    runs : that are part of it.
    pnl_* : since the close before, before the month's first and before the year's first session,
        as fractions of the equity then. Exposures : fractions of equity.
    """

    runs: tuple[str, ...] = ()
    as_of_date: date | None = None
    equity: float | None = None
    pnl_today: float | None = None
    pnl_mtd: float | None = None
    pnl_ytd: float | None = None
    net_exposure: float | None = None
    gross_exposure: float | None = None
    leverage: float | None = None


def book_of(database: Database, runs: Sequence[Record], as_of: date | None) -> Book:
    """Return how runs stand together at the newest session that any has, up to `as_of`."""
    ended = last_sessions(database, [run["run_id"] for run in runs], as_of)
    if not ended:
        return Book()
    last = max(ended.values())
    current = sorted(run_id for run_id, day in ended.items() if day == last)
    curve = book_curve(database, current, last)
    now, equity = curve[-1], [row["equity"] for row in curve]
    days = [row["date"] for row in curve]
    gross = _share(now["gross"], now["equity"])
    return Book(
        as_of_date=last,
        equity=now["equity"],
        pnl_today=_since(days, equity, last),
        pnl_mtd=_since(days, equity, last.replace(day=1)),
        pnl_ytd=_since(days, equity, last.replace(month=1, day=1)),
        runs=tuple(current),
        net_exposure=_share(now["net"], now["equity"]),
        gross_exposure=gross,
        leverage=gross,
    )


def _since(days: Sequence[date], equity: Sequence[float], first: date) -> float | None:
    """Return the change since the last session before `first`; None without one."""
    before = bisect_left(days, first) - 1
    return _change(equity[-1], equity[before]) if before >= 0 else None


def _change(now: float, before: float) -> float | None:
    return now / before - 1.0 if before > 0 else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
