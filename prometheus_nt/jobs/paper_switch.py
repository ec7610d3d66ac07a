"""The kill switch as a paper node sees it: asked before orders leave, and remembered for replays.

A restarted node runs its sessions again, and must be stopped again where it was stopped. So what
stopped it goes to a spool before anybody acts on it; a phase without an entry was armed.

A session is stopped if the switch stands so when it is traded, or stood so at its own time: a node
that catches up after `arm` does not trade the days on which it was halted.
"""

import json
import logging
from datetime import UTC, date, datetime

from persistence.live_mirror import PhaseName
from persistence.spool import Spool
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import StoreUnavailable
from prometheus_nt.domain.safety import SwitchState, TradingState, current, state_at, worst
from prometheus_nt.jobs.safety import brakes, moves
from prometheus_nt.jobs.stores import Stores

log = logging.getLogger(__name__)


class PaperSwitch:
    """What may leave a paper node in the phase that it is in.

    Parameters
    ----------
    stores : Stores
    sleeve_id : str
    calendar : MarketCalendar
    spool : Spool
        Held by this process alone: what stopped each phase.
    read_only : bool
        A rehearsal remembers and pulls nothing.
    """

    def __init__(
        self,
        stores: Stores,
        sleeve_id: str,
        calendar: MarketCalendar,
        spool: Spool,
        *,
        read_only: bool = False,
    ) -> None:
        self._stores, self._sleeve_id, self._calendar = stores, sleeve_id, calendar
        self._spool, self.read_only = spool, read_only
        self._stopped = {
            (found["session"], found["phase"]): TradingState(found["state"])
            for found in map(json.loads, spool.records())
        }
        self._told: str | None = None
        self._known: dict[str, list[SwitchState]] = {}
        self._phase: tuple[str, PhaseName] | None = None
        self._moment = datetime.now(UTC)
        self._state: TradingState | None = TradingState.ARMED

    @property
    def stopped(self) -> frozenset[tuple[str, str]]:
        """The phases in which it held something back: session and OPEN or CLOSE."""
        return frozenset(self._stopped)

    def enter(self, session: date, phase: PhaseName, *, replayed: bool) -> None:
        """Begin a phase; one that was recorded before is what it was then."""
        self._phase = (session.isoformat(), phase)
        self._moment = self._time_of(session, phase)
        self._state = self._stopped.get(self._phase)
        if self._state is None and replayed:
            self._state = TradingState.ARMED

    def __call__(self) -> TradingState:
        """Return what may leave in this phase; the first question decides all of it.

        Raises
        ------
        TradingHalted
            If what stops the phase cannot be written down, or a switch's record is not whole.
        """
        if self._state is None:
            self._state = self._ask()
        if self._state is TradingState.ARMED:
            self._told = None
        return self._state

    def at_this_moment(self) -> TradingState:
        """Return what may leave now, whatever phase it is; nothing is remembered."""
        return worst([*self._standing(), *brakes(self._stores, self._sleeve_id)]).state

    def _ask(self) -> TradingState:
        found = worst([*self._standing(), *brakes(self._stores, self._sleeve_id)])
        if found.state is not TradingState.ARMED:
            self._remember(found)
        return found.state

    def _standing(self) -> list[SwitchState]:
        try:
            self._known = moves(self._stores, self._sleeve_id)
        except StoreUnavailable as outage:
            # Nobody can move a switch either; the brake file still works.
            log.warning("sleeve=%s the kill switch is as last known: %s", self._sleeve_id, outage)
        none = [SwitchState(self._sleeve_id, TradingState.ARMED)]
        then = [state_at(name, known, self._moment) for name, known in self._known.items()]
        now = [current(name, known) for name, known in self._known.items()]
        return [*none, *now, *then]

    def _remember(self, found: SwitchState) -> None:
        assert self._phase is not None
        session, phase = self._phase
        if str(found) != self._told:
            # Once for what stops it, not for every session that it stops.
            log.warning("session=%s phase=%s from here on: %s", session, phase, found)
            self._told = str(found)
        self._stopped[self._phase] = found.state
        said = {"session": session, "phase": phase, "state": found.state, "by": str(found)}
        self._spool.append(json.dumps(said).encode())

    def _time_of(self, session: date, phase: PhaseName) -> datetime:
        if phase == "CLOSE":
            return self._calendar.close_time(session)
        return datetime.fromtimestamp(self._calendar.open_ns(session) / 1e9, UTC)
