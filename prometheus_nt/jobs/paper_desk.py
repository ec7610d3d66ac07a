"""Trade all sleeves of a node by the clock: what is stored, then session after session as it comes.

While it waits, the desk keeps the runs' leases and halts the sleeves if their data stay away.
"""

import logging
from collections.abc import Callable
from datetime import date, datetime, timedelta
from time import sleep

from prometheus_nt.actors.session_clock import SessionClock, Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import StoreUnavailable
from prometheus_nt.domain.safety import HaltCause
from prometheus_nt.jobs.paper_data import DataWatch
from prometheus_nt.jobs.paper_request import PaperRequest, Tell
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue

log = logging.getLogger(__name__)


class Desk:
    """All traders of a node, and the data they wait for.

    `when_idle` is called between two looks for a session's data.
    """

    def __init__(
        self,
        config: NodeConfig,
        stores: Stores,
        request: PaperRequest,
        traders: list[PaperTrader],
        venue: PaperVenue,
        now: Callable[[], datetime],
    ) -> None:
        self._config, self._request = config, request
        self._traders, self._venue, self._now = traders, venue, now
        self._stale: date | None = None
        self.when_idle: Callable[[], None] = lambda: None
        venue.chore = self._keep_leases
        self._until = request.until or config.sessions.end
        self._calendar = MarketCalendar.of(config.market)
        self._data = DataWatch(config, stores, self._until, now)

    def trade_stored(self, stop: Stop, tell: Tell | None) -> None:
        """Trade what is on the tapes, then what the dataset has.

        Raises
        ------
        DataError
            With `fast`: if a session is stored, and too little of it.
        """
        for trader in self._traders:
            trader.trade(stop, tell)
        if stop.is_set():
            return
        panel = self._data.panel()
        for trader in self._traders:
            self._data.take(trader, panel)
            trader.trade(stop, tell)
            if self._request.fast and not stop.is_set():
                self._data.require_no_gap(trader, panel)
        self._venue.after_close(list(self._traders), stop)

    def trade_on(self, stop: Stop, tell: Tell | None) -> None:
        """Trade one session after the other as their data arrive, until stopped or done."""
        clock = SessionClock(
            self._calendar,
            lambda session: self._data.arrives(session, self._traders, stop, self._idle),
            stop,
            self._idle,
            self._config.paper.poll_seconds,
            self._now,
        )
        while (session := self._next_session()) is not None and clock.wait_for(session):
            try:
                self.trade_stored(stop, tell)
            except StoreUnavailable as outage:
                # What happened is in the spool; only the dataset could not be read.
                log.warning("session=%s waits for the database: %s", session, outage)

    def settle(self) -> None:
        """Wait for what is still in a spool to be written.

        Raises
        ------
        StoreUnavailable
            If the database does not come back in time; nothing is lost.
        """
        deadline = self._now().timestamp() + self._config.paper.wait_for_database_seconds
        for trader in self._traders:
            while not trader.recorder.drain():
                if self._now().timestamp() > deadline:
                    raise StoreUnavailable(
                        f"{trader.identity.run_id}: the database does not answer; "
                        f"{trader.recorder.waiting_bytes} bytes wait in the spool and are written "
                        "when the node starts again"
                    )
                sleep(0.1)

    def _next_session(self) -> date | None:
        """Return the next session to trade, or None if there is none to wait for."""
        newest = min(trader.last or date.min for trader in self._traders)
        if newest == date.min:
            return min(trader.identity.started for trader in self._traders)
        session = self._calendar.next_session(newest)
        return session if self._until is None or session <= self._until else None

    def _idle(self) -> None:
        self._venue.look()
        self.when_idle()
        self._keep_leases()

    def _keep_leases(self) -> None:
        for trader in self._traders:
            trader.recorder.idle()
        self._halt_if_stale()

    def _halt_if_stale(self) -> None:
        """Halt the sleeves, once for a session, if its data are too long in coming."""
        session, most = self._next_session(), self._config.paper.halt_stale_hours
        if most is None or session is None or session == self._stale:
            return
        late = self._now() - self._calendar.close_time(session)
        if late <= timedelta(hours=most):
            return
        self._stale = session
        reason = f"the data of {session} are not here {most:g} hours after its close"
        for trader in self._traders:
            trader.pull(HaltCause.STALE_DATA, reason, by="paper node")
