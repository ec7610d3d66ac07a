"""Choosing the sessions that a job is about."""

from datetime import date

import numpy as np

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores
from strategies.schedule import Rebalance, period

EVERY: dict[str, Rebalance] = {
    "session": "daily",
    "week": "weekly",
    "month": "monthly",
    "quarter": "quarterly",
}
"""How often, in the words of the command line."""


def view_of(stores: Stores, dataset_id: str, as_of: date | None) -> MarketPanel:
    """Return the panel of a dataset as it ended at `as_of`; None is the dataset's last session.

    Raises
    ------
    NonSession
        If the market did not trade on that day; the error names the sessions around it.
    LookAheadError
        If the dataset ends before it.
    """
    panel = panel_of(stores, dataset_id)
    if as_of is None:
        return panel
    market_id = stores.historical.dataset(dataset_id)["market_id"]
    return panel.until(MarketCalendar.of(market_id).require_session(as_of))


def first_of_each(panel: MarketPanel, every: str, start: date, end: date) -> list[date]:
    """Return the first session of each period that begins from `start` to `end`.

    As sleeves rebalance: the first session of a month is known when it comes, its last is not.

    Raises
    ------
    DataError
        If the panel has none of them.
    """
    rebalance = EVERY[every]
    sessions: list[date] = panel.sessions.astype(object).tolist()
    periods = [period(session, rebalance) for session in sessions]
    # The panel may begin in the middle of a period: its first row is nobody's first session.
    firsts = [
        session
        for session, before, now in zip(sessions[1:], periods[:-1], periods[1:], strict=True)
        if before != now and start <= session <= end
    ]
    if not firsts:
        first, last = np.datetime_as_string(panel.sessions[[0, -1]])
        raise DataError(
            f"no {every} begins from {start} to {end} in this dataset, {first} to {last}"
        )
    return firsts
