"""Run one sleeve's sessions: the open, its record, the close, its record.

1. `PaperTrader` runs the sessions of its tape again; each event must be the one that was recorded,
   and the books that the stored rows add up to must be those of the node that was run again.
2. `see` puts new sessions on the tape before anybody acts on them; `trade` runs them.
3. Before orders leave, at an open and at a close, the kill switch is asked (`PaperSwitch`).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

import numpy as np

from persistence.answer_tape import AnswerTape
from persistence.live_mirror import Phase
from persistence.rebuild import books_of, rebuild_books, require_equal
from persistence.tape import SeenSession, SessionTape
from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import StoreError, TradingHalted
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.domain.runs import TradingIdentity
from prometheus_nt.domain.safety import HaltCause, TradingState
from prometheus_nt.jobs.collector import calm_collector
from prometheus_nt.jobs.loss_watch import LossWatch
from prometheus_nt.jobs.paper_request import PaperSummary, SessionStatus, Tell
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.safety import halt
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue
from prometheus_nt.jobs.wiring import PaperNode, PaperRecord, Recorded, wire_paper
from prometheus_nt.venue.carry import Delistings
from prometheus_nt.venue.router import OpenRouter
from strategies.catalog import SleeveParams


class Record(Protocol):
    """What a trader asks of the record of its run; `RunRecorder` is the one that lasts."""

    @property
    def verifying(self) -> bool: ...

    @property
    def waiting_bytes(self) -> int: ...

    def commit(self, phase: Phase) -> None: ...

    def idle(self) -> None: ...

    def drain(self) -> bool: ...


@dataclass(frozen=True)
class TraderFiles:
    """What a trader writes to: its record, what it saw, what stopped it, what a broker answered."""

    recorder: Record
    tape: SessionTape
    switch: PaperSwitch
    answers: AnswerTape


class PaperTrader:
    """One sleeve's node, its tape and its record."""

    def __init__(
        self,
        config: NodeConfig,
        sleeve: SleeveParams,
        stores: Stores,
        identity: TradingIdentity,
        files: TraderFiles,
        venue: PaperVenue,
    ) -> None:
        self.sleeve, self.identity = sleeve, identity
        self.recorder, self.tape, self.switch = files.recorder, files.tape, files.switch
        self.answers, self._venue = files.answers, venue
        self._stores, self._new, self._row = stores, 0, self.tape.first_row
        self._first = self._row
        self._limits = LossWatch(config.gate_of(sleeve))
        row = stores.runtime.run(identity.run_id) or {"created_at": datetime.now(UTC)}
        recorded = Recorded(_delistings(self.tape), guard=self.switch)
        record = PaperRecord(row["created_at"], venue.account_id)
        self._node: PaperNode = wire_paper(
            config, sleeve, self.tape.panel(), identity, recorded, record
        )
        self._node.mirror.attach(self._node.engine.kernel.msgbus)
        self._node.feed.begin()
        if not self.recorder.verifying:
            self._require_rebuilt()

    @property
    def node(self) -> PaperNode:
        """The node whose sessions it runs."""
        return self._node

    @property
    def last(self) -> date | None:
        """The newest session on the tape, traded or about to be."""
        return self.tape.sessions[-1] if self.tape.sessions else None

    @property
    def ledger(self) -> Ledger:
        """The books, as its fills and cash flows make them."""
        return self._node.mirror.ledger

    @property
    def router(self) -> OpenRouter:
        """Where its orders wait for the next open."""
        return self._node.router

    def may_send(self) -> TradingState:
        """Return what the kill switch lets go to a broker at this moment."""
        return self.switch.at_this_moment()

    def trade(self, stop: Stop, tell: Tell | None) -> None:
        """Run the sessions of the tape that were not run yet; stop between two of them."""
        with calm_collector():
            for session in self.tape.sessions[self._row - self._first :]:
                if stop.is_set():
                    return
                replayed = self.recorder.verifying
                if not self._venue.before_open(self, session, stop):
                    return
                self._trade_session(session)
                self._new += not replayed
                if tell is not None:
                    tell(self._status(session, replayed))

    def _trade_session(self, session: date) -> None:
        feed, mirror = self._node.feed, self._node.mirror
        replayed = self.recorder.verifying
        self.switch.enter(session, "OPEN", replayed=replayed)
        feed.open_session(self._row)
        self._commit(mirror.phase(session, "OPEN"))
        self.switch.enter(session, "CLOSE", replayed=self.recorder.verifying)
        feed.close_session(self._row)
        mirror.require_same_books()
        self._require_nothing_past_the_gate()
        self._commit(mirror.phase(session, "CLOSE"))
        self._row += 1
        self._watch(session, replayed=replayed)

    def _require_nothing_past_the_gate(self) -> None:
        passed, received = (
            self._node.sleeve.parts.gate.passed_orders,
            self._node.feed.router.received,
        )
        if received > passed:
            raise TradingHalted(
                f"{self.identity.run_id}: {received} orders reached the router and {passed} passed "
                "the gate; trading halts and positions stay, somebody has to look"
            )

    def _watch(self, session: date, *, replayed: bool) -> None:
        """Pull the kill switch if a hard limit was crossed, or a sleeve was wound down."""
        found = self._limits.after_close(self._node.mirror)
        if replayed or self.switch.read_only:
            return
        state = self.switch()
        if found is not None and state is TradingState.ARMED:
            self.pull(*found, by=f"paper node at {session}")
        if state is TradingState.FLATTENING and self._is_flat():
            reason = f"wound down: nothing is held after {session}"
            self.pull(HaltCause.OPERATOR, reason, by="paper node")

    def _is_flat(self) -> bool:
        mirror = self._node.mirror
        return not mirror.ledger.shares.any() and not mirror.open_orders()

    def pull(self, cause: HaltCause, reason: str, by: str) -> None:
        """Pull the kill switch of the sleeve."""
        # Without the database the brake file holds this node until it is told.
        with suppress(StoreError):
            halt(self._stores, self.sleeve.sleeve_id, reason, by, cause)

    def see(self, sessions: list[SeenSession]) -> None:
        """Put sessions on the tape, and let the node have them."""
        if sessions:
            self.tape.extend(sessions)
            self._node.extend(self.tape.panel(), _delistings(self.tape))

    def close(self) -> None:
        """Release what Nautilus holds."""
        self._node.close()

    def summary(self) -> PaperSummary:
        """Return where the sleeve stands."""
        mirror = self._node.mirror
        return PaperSummary(
            run_id=self.identity.run_id,
            sleeve_id=self.sleeve.sleeve_id,
            strategy_id=self.identity.strategy_id,
            start=self.identity.started,
            last=mirror.holdings[-1].as_of if mirror.holdings else None,
            sessions=len(mirror.holdings),
            new_sessions=self._new,
            equity=mirror.ledger.equity,
            cash=mirror.ledger.cash,
            positions=int(np.count_nonzero(mirror.ledger.shares)),
            orders=len(mirror.orders),
            fills=len(mirror.fills),
        )

    def _commit(self, phase: Phase) -> None:
        verifying = self.recorder.verifying
        self.recorder.commit(phase)
        if verifying and not self.recorder.verifying:
            self._require_rebuilt()

    def _require_rebuilt(self) -> None:
        if self.switch.read_only:
            return
        run_id, database = self.identity.run_id, self._stores.runtime.database
        stored = rebuild_books(database, run_id, self.sleeve.capital_usd)
        require_equal(run_id, stored, books_of(self._node.mirror))

    def _status(self, session: date, replayed: bool) -> SessionStatus:
        mirror = self._node.mirror
        held = mirror.holdings[-1]
        return SessionStatus(
            session=session,
            sleeve_id=self.sleeve.sleeve_id,
            equity=held.equity,
            cash=held.cash,
            positions=len(held.columns),
            fills=len(mirror.fills),
            waiting_orders=len(mirror.open_orders()),
            replayed=replayed,
        )


def _delistings(tape: SessionTape) -> Delistings:
    on, returns = tape.delisted()
    return Delistings(on, returns, final=False)
