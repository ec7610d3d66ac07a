"""When a sleeve rebalances: on the first decision of each period, which is always knowable."""

from datetime import date
from typing import Literal

Rebalance = Literal["daily", "weekly", "monthly", "quarterly"]


def period(session: date, rebalance: Rebalance) -> tuple[int, int]:
    """Return the period a session belongs to; a new value means that a rebalance is due.

    The first session of a period is known when it comes. Its last one is not: markets have
    closed without notice, so "rebalance on the last session" would need the future.
    """
    match rebalance:
        case "daily":
            return session.year, session.toordinal()
        case "weekly":
            year, week, _ = session.isocalendar()
            return year, week
        case "monthly":
            return session.year, session.month
        case "quarterly":
            return session.year, (session.month - 1) // 3
