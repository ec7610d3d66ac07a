"""Watch the dataset of a paper session: which sessions are closed and complete, what was revised.

1. `take` gives a trader the sessions after its tape's that have closed and are complete, up to the
   first that is not; they go to its tape before anybody acts on them.
2. What the dataset no longer says as the node saw it raises an alert: the tape stays as it is.
3. `arrives` says whether a session is complete; with `data.collect` it is asked for first.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from adapters.gates.health import ALIVE_WITHIN, bar_coverage
from persistence.alerts import Alert, raise_alert, resolve
from persistence.tape import SeenSession, seen_session
from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, StoreUnavailable
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray
from prometheus_nt.jobs.metadata import read_metadata
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.venue.carry import Delistings

if TYPE_CHECKING:
    from prometheus_nt.jobs.ib_collect import IbCollector

REVISED = "history_revised"
"""The rule of the alert of a changed history."""

log = logging.getLogger(__name__)


class DataWatch:
    """What a node's dataset has for its traders until a session; None is without end."""

    def __init__(
        self,
        config: NodeConfig,
        stores: Stores,
        until: date | None,
        now: Callable[[], datetime],
    ) -> None:
        self._config, self._stores, self._until, self._now = config, stores, until, now
        self._calendar = MarketCalendar.of(config.market)
        self._collector: IbCollector | None = None

    def panel(self) -> MarketPanel:
        """Return the dataset as it is stored now."""
        return paper_panel(self._config, self._stores)

    def take(self, trader: PaperTrader, panel: MarketPanel) -> None:
        """Let a trader see what is new, and somebody know what was revised."""
        own = panel.select(trader.tape.instruments)
        self._watch_revisions(trader, own)
        trader.see(list(self._new_sessions(trader, own)))

    def _new_sessions(self, trader: PaperTrader, panel: MarketPanel) -> Iterator[SeenSession]:
        """Yield the sessions after the tape's that are closed and complete, up to the first gap."""
        known = self._delistings(panel)
        paid = ~np.isnat(trader.tape.delisted()[0])
        for row in self._rows(trader, panel):
            session: date = panel.sessions[row].astype(object)
            if self._now() < self._calendar.close_time(session):
                return
            if not self._covered(panel, row, known):
                return
            traded = (panel.close[: row + 1] > 0).any(axis=0)
            over = (known.on <= panel.sessions[row]) & ~(panel.close[row] > 0)
            delisted = over & traded & ~paid
            paid = paid | delisted
            yield seen_session(panel, row, delisted, known.returns)

    def _rows(self, trader: PaperTrader, panel: MarketPanel) -> range:
        last, until = trader.last, self._until
        if last is None:
            first = int(
                np.searchsorted(panel.sessions, np.datetime64(trader.identity.started, "D"))
            )
        else:
            first = _row_after(panel, last)
        return range(first, len(panel) if until is None else _row_after(panel, until))

    def _delistings(self, panel: MarketPanel) -> Delistings:
        return read_metadata(self._stores, panel).delistings

    def _covered(self, panel: MarketPanel, row: int, known: Delistings) -> bool:
        received, expected = self._coverage(panel, row, known)
        return received > 0 and received >= self._config.day.min_data_coverage * expected

    def _coverage(self, panel: MarketPanel, row: int, known: Delistings) -> tuple[int, int]:
        rows = panel.derived(newest_rows)
        begun = rows[row] >= 0
        # Whose first bar is a later one is not listed yet.
        listed = begun | (rows[-1] < 0)
        newest = panel.sessions[rows[row].astype(np.int64)]
        newest = np.where(begun, newest, np.datetime64("NaT", "D"))
        gone = known.on <= panel.sessions[row]
        session = panel.sessions[row].item()
        return bar_coverage(newest[listed], gone[listed], session, self._calendar)

    def require_no_gap(self, trader: PaperTrader, panel: MarketPanel) -> None:
        """Raise `DataError` if a trader's next session is stored, and too little of it."""
        left = self._rows(trader, panel)
        if not left or self._now() < self._calendar.close_time(panel.sessions[left[0]].item()):
            return
        session = panel.sessions[left[0]].item()
        received, expected = self._coverage(panel, left[0], self._delistings(panel))
        raise DataError(
            f"{session}: {received} of {expected} instruments have their bar, "
            f"day.min_data_coverage is {self._config.day.min_data_coverage:.0%}; everything before "
            "is traded and recorded, ingest the rest and start again"
        )

    def is_complete(self, session: date, traders: list[PaperTrader]) -> bool:
        """Return whether enough of every trader's instruments have their bar of a session."""
        try:
            panel = self.panel()
        except StoreUnavailable as outage:
            log.warning("session=%s the dataset cannot be read: %s", session, outage)
            return False
        row = int(np.searchsorted(panel.sessions, np.datetime64(session, "D")))
        if row == len(panel):
            return False
        owns = [panel.select(own) for own in {trader.tape.instruments for trader in traders}]
        return all(self._covered(own, row, self._delistings(own)) for own in owns)

    def arrives(
        self, session: date, traders: list[PaperTrader], stop: Stop, chore: Callable[[], None]
    ) -> bool:
        """Return whether a closed session is complete, after the broker was asked if it is to be.

        Parameters
        ----------
        stop, chore : what ends the asking, and what is done meanwhile
        """
        complete = self.is_complete(session, traders)
        if self._config.data.collect is None:
            return complete
        if not complete:
            self._asked().bring(session, stop, chore)
            complete = self.is_complete(session, traders)
        if complete:
            self._asked().arrived()
        return complete

    def _asked(self) -> "IbCollector":
        if self._collector is None:
            # It brings the broker's client and Nautilus: only where the broker is asked.
            from prometheus_nt.jobs.ib_collect import IbCollector

            self._collector = IbCollector(self._config, self._stores, self._now)
        return self._collector

    def _watch_revisions(self, trader: PaperTrader, panel: MarketPanel) -> None:
        """Raise an alert if the dataset no longer says what the node saw; its tape stays as it is.

        A split that was recorded late is the case to look at: the books do not have it.
        """
        if trader.switch.read_only:
            return
        differing = _revisions(trader.tape.panel(), panel)
        run_id, database = trader.identity.run_id, self._stores.runtime.database
        with suppress(StoreUnavailable), database.writer() as connection:
            if not differing:
                resolve(connection, REVISED, run_id)
                return
            text = f"the dataset has changed {sum(differing.values())} values that were traded on"
            log.warning("run=%s %s", run_id, text)
            alert = Alert(REVISED, "WARNING", run_id, text, differing, datetime.now(UTC))
            raise_alert(connection, alert)


def paper_panel(config: NodeConfig, stores: Stores) -> MarketPanel:
    """Return the panel that a node trades session by session, with its own instruments."""
    panel = panel_of(stores, config.data.dataset)
    return panel if config.instruments == "all" else panel.select(config.instruments)


def require_collectable(config: NodeConfig, stores: Stores) -> None:
    """Raise `ConfigError` if a node is to bring bars itself, and cannot."""
    if config.data.collect is not None:
        from prometheus_nt.jobs.ib_collect import require_collectable as require

        require(config, stores)


def _row_after(panel: MarketPanel, session: date) -> int:
    return int(np.searchsorted(panel.sessions, np.datetime64(session, "D"), side="right"))


def missing_bars(panel: MarketPanel, delisted: SessionArray) -> IntArray:
    """Return how many instruments each session lacked, whose newest bar was not old, (T,).

    Parameters
    ----------
    delisted : (N,) array of the first day without a listing; NaT where there is none.
    """
    rows, newest = np.arange(len(panel))[:, None], panel.derived(newest_rows)
    alive = (newest >= 0) & (newest > rows - ALIVE_WITHIN)
    gone = delisted[None, :] <= panel.sessions[:, None]
    missing: IntArray = (alive & (newest < rows) & ~gone).sum(axis=1)
    return missing


def newest_rows(panel: MarketPanel) -> FloatArray:
    """Return the row of the newest bar until each session, (T, N); -1 before the first."""
    rows = np.arange(float(len(panel)))[:, None]
    newest: FloatArray = np.maximum.accumulate(np.where(panel.close > 0, rows, -1.0), axis=0)
    return newest


def _revisions(seen: MarketPanel, stored: MarketPanel) -> dict[str, int]:
    """Return how many values of each field differ on the sessions that both have."""
    rows = np.searchsorted(stored.sessions, seen.sessions)
    both = rows < len(stored)
    both[both] = stored.sessions[rows[both]] == seen.sessions[both]
    found = {}
    for name in PANEL_FIELDS:
        before, after = getattr(seen, name)[both], getattr(stored, name)[rows[both]]
        count = int(((before != after) & ~(np.isnan(before) & np.isnan(after))).sum())
        if count:
            found[name] = count
    return found
