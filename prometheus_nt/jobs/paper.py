"""Trade a node session by session, on the simulated venue or at a broker, recorded exactly once.

1. `run_paper` opens a `PaperTrader` for each sleeve: it becomes the only one who trades the run,
   and runs the sessions of its tape again; each event must be the one that was recorded.
2. The books that the stored rows add up to must be those of the node that was run again.
3. `_new_sessions` takes from the dataset the sessions that have closed and are complete; they go to
   the tape before anybody acts on them.
4. `PaperTrader.trade` runs them: the open, its record, the close, its record; before orders leave
   in either, the kill switch is asked (`PaperSwitch`). Then the venue gets the orders that were
   decided (`jobs.venues`).
5. With `fast` that is all; else the `SessionClock` waits for the next session, until stopped.
"""

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import sleep
from typing import Protocol
from uuid import uuid4

import numpy as np

from persistence.alerts import Alert, raise_alert, resolve
from persistence.answer_tape import AnswerTape
from persistence.leases import Lease
from persistence.live_mirror import Phase
from persistence.rebuild import books_of, rebuild_books, require_equal
from persistence.recorder import RunRecorder
from persistence.spool import Spool
from persistence.tape import SeenSession, SessionTape, seen_session
from prometheus_nt.actors.session_clock import SessionClock, Stop, wall_clock
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    PrometheusError,
    RecordUnwritable,
    StoreError,
    StoreUnavailable,
    TradingHalted,
)
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.runs import Mode, TradingIdentity
from prometheus_nt.domain.safety import HaltCause, TradingState
from prometheus_nt.jobs.backtest import calm_collector, require_fitting
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.loss_watch import LossWatch
from prometheus_nt.jobs.metadata import read_metadata
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.safety import halt
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue, SandboxVenue
from prometheus_nt.jobs.wiring import PaperNode, PaperRecord, Recorded, wire_paper
from prometheus_nt.venue.carry import Delistings
from prometheus_nt.venue.router import OpenRouter
from strategies.catalog import SleeveParams, family

OUTBOX, TAPE, SWITCH = "outbox.spool", "tape.spool", "switch.spool"
ANSWERS = "answers.spool"
HALTED, REVISED = "trading_halted", "history_revised"
"""Rules of alerts."""

log = logging.getLogger(__name__)


ALIVE_WITHIN = 10
"""Sessions within which an instrument must have had a bar to be expected on the day."""


@dataclass(frozen=True)
class PaperRequest:
    """How far to trade.

    fast : stop where the stored data end, instead of waiting for the next session.
    start : first session of a run; None goes on with the run of this configuration, or begins at
        the node's first session.
    until : last session to trade; None is the node's.
    acknowledge : who has looked at the halts of the broker's account, so that it may go on.
    """

    fast: bool = False
    start: date | None = None
    until: date | None = None
    acknowledge: str | None = None


@dataclass(frozen=True)
class SessionStatus:
    """Where a sleeve stands after a session; `replayed` if it had been recorded before."""

    session: date
    sleeve_id: str
    equity: float
    cash: float
    positions: int
    fills: int
    waiting_orders: int
    replayed: bool


@dataclass(frozen=True)
class PaperSummary:
    """What a paper run amounts to when it stops."""

    run_id: str
    sleeve_id: str
    strategy_id: str
    start: date
    last: date | None
    sessions: int
    new_sessions: int
    equity: float
    cash: float
    positions: int
    orders: int
    fills: int


Tell = Callable[[SessionStatus], None]


def run_paper(
    config: NodeConfig,
    stores: Stores,
    request: PaperRequest,
    stop: Stop,
    tell: Tell | None = None,
    now: Callable[[], datetime] = wall_clock,
) -> list[PaperSummary]:
    """Trade every sleeve of a node, on paper or live; return where they stand in the end.

    Raises
    ------
    PrometheusError
        If trading halts: positions stay, and an alert says why.
    """
    _require_possible(config, request)
    panel = _market(config, stores)
    require_fitting(config, stores.historical.dataset(config.data.dataset), panel)
    with ExitStack() as opened:
        venue = _venue(config, stores, request, panel, now)
        opened.callback(venue.close)
        traders = [
            opened.enter_context(_trading(config, sleeve, stores, request, panel, venue))
            for sleeve in config.sleeves
        ]
        desk = _Desk(config, stores, request, traders, venue, now)
        desk.trade_stored(stop, tell)
        if not request.fast:
            desk.trade_on(stop, tell)
        desk.settle()
        return [trader.summary() for trader in traders]


def _require_possible(config: NodeConfig, request: PaperRequest) -> None:
    """Refuse what a paper run would silently do without."""
    if request.fast and config.venue != "sandbox":
        raise ConfigError(
            "--fast: a broker trades at the speed of life; rehearse it with `prometheus rehearse`"
        )
    for sleeve in config.sleeves:
        if config.engines_of(sleeve).fragility.scenario_set is not None:
            raise ConfigError(
                "engines.fragility.scenario_set: a paper run has no stored scenarios; set it to "
                "null, or backtest the node"
            )
    if config.data.revision is not None:
        raise ConfigError(
            "data.revision: a paper run follows the newest data; leave it out, or backtest the node"
        )


class Record(Protocol):
    """What a trader asks of the record of its run; `RunRecorder` is the one that lasts."""

    @property
    def verifying(self) -> bool: ...

    @property
    def waiting_bytes(self) -> int: ...

    def commit(self, phase: Phase) -> None: ...

    def idle(self) -> None: ...

    def drain(self) -> bool: ...


def _venue(
    config: NodeConfig,
    stores: Stores,
    request: PaperRequest,
    panel: MarketPanel,
    now: Callable[[], datetime],
) -> PaperVenue:
    if config.venue == "sandbox":
        return SandboxVenue()
    from prometheus_nt.jobs.ib_venue import open_ib_venue

    return open_ib_venue(config, stores, panel.instruments, now, request.acknowledge)


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


class _Desk:
    """All traders of a node, and the data they wait for."""

    def __init__(
        self,
        config: NodeConfig,
        stores: Stores,
        request: PaperRequest,
        traders: list[PaperTrader],
        venue: PaperVenue,
        now: Callable[[], datetime],
    ) -> None:
        self._config, self._stores, self._request = config, stores, request
        self._traders, self._venue, self._now = traders, venue, now
        self._stale: date | None = None
        venue.chore = self._keep_leases
        self._until = request.until or config.sessions.end
        self._calendar = MarketCalendar.of(config.market)

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
        panel = _market(self._config, self._stores)
        for trader in self._traders:
            self._take(trader, panel)
            trader.trade(stop, tell)
            if self._request.fast and not stop.is_set():
                self._require_no_gap(trader, panel)
        self._venue.after_close(list(self._traders), stop)

    def trade_on(self, stop: Stop, tell: Tell | None) -> None:
        """Trade one session after the other as their data arrive, until stopped or done."""
        clock = SessionClock(
            self._calendar,
            self._is_complete,
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

    def _take(self, trader: PaperTrader, panel: MarketPanel) -> None:
        own = panel.select(trader.tape.instruments)
        self._watch_revisions(trader, own)
        trader.see(list(self._new_sessions(trader, own)))

    def _new_sessions(self, trader: PaperTrader, panel: MarketPanel) -> Iterator[SeenSession]:
        """Yield the sessions after the tape's that are closed and complete, up to the first gap."""
        known = read_metadata(self._stores, panel).delistings
        paid = ~np.isnat(trader.tape.delisted()[0])
        for row in self._rows(trader, panel):
            session: date = panel.sessions[row].astype(object)
            if self._now() < self._calendar.close_time(session) or not self._covered(panel, row):
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

    def _covered(self, panel: MarketPanel, row: int) -> bool:
        received, expected = bar_coverage(panel.until(panel.sessions[row].astype(object)))
        return received > 0 and received >= self._config.day.min_data_coverage * expected

    def _require_no_gap(self, trader: PaperTrader, panel: MarketPanel) -> None:
        left = self._rows(trader, panel)
        if not left or self._now() < self._calendar.close_time(panel.sessions[left[0]].item()):
            return
        session = panel.sessions[left[0]].item()
        received, expected = bar_coverage(panel.until(session))
        raise DataError(
            f"{session}: {received} of {expected} instruments have their bar, "
            f"day.min_data_coverage is {self._config.day.min_data_coverage:.0%}; everything before "
            "is traded and recorded, ingest the rest and start again"
        )

    def _is_complete(self, session: date) -> bool:
        try:
            panel = _market(self._config, self._stores)
        except StoreUnavailable as outage:
            log.warning("session=%s the dataset cannot be read: %s", session, outage)
            return False
        row = int(np.searchsorted(panel.sessions, np.datetime64(session, "D")))
        owns = {trader.tape.instruments for trader in self._traders}
        return row < len(panel) and all(self._covered(panel.select(own), row) for own in owns)

    def _idle(self) -> None:
        self._venue.look()
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


def _row_after(panel: MarketPanel, session: date) -> int:
    return int(np.searchsorted(panel.sessions, np.datetime64(session, "D"), side="right"))


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


@contextmanager
def _trading(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    request: PaperRequest,
    panel: MarketPanel,
    venue: PaperVenue,
) -> Iterator[PaperTrader]:
    """Yield the trader of a sleeve; afterwards the run is STOPPED, or HALTED with an alert."""
    started = _started(config, sleeve, stores, request, panel, venue)
    identity = _identity(config, sleeve, panel, started)
    folder = stores.settings.home / config.mode / identity.run_id
    with ExitStack() as files:
        names = (OUTBOX, TAPE, SWITCH, ANSWERS)
        outbox, tape_file, moves, answers = (Spool(folder / name) for name in names)
        for spool in (outbox, tape_file, moves, answers):
            files.callback(spool.close)
        recorder = RunRecorder(stores.runtime.database, outbox, _lease(identity, folder))
        recorder.open()
        _begin(config, sleeve, stores, identity)
        tape = SessionTape(tape_file)
        if not tape.begun:
            tape.begin(_history(panel, identity.started))
        switch = PaperSwitch(stores, sleeve.sleeve_id, MarketCalendar.of(config.market), moves)
        written = TraderFiles(recorder, tape, switch, AnswerTape(answers))
        try:
            trader = PaperTrader(config, sleeve, stores, identity, written, venue)
            files.callback(trader.close)
            yield trader
        except PrometheusError as failure:
            _halt(stores, identity, failure)
            raise
        with suppress(StoreUnavailable):
            stores.runtime.set_status(identity.run_id, "STOPPED")
            recorder.close()


class _Rehearsed:
    """A record that keeps nothing: two phases for each session that was recorded, then new ones."""

    waiting_bytes = 0

    def __init__(self, sessions: int) -> None:
        self._left = 2 * sessions

    @property
    def verifying(self) -> bool:
        return self._left > 0

    def commit(self, _phase: Phase) -> None:
        self._left -= 1

    def idle(self) -> None:
        pass

    def drain(self) -> bool:
        return True


@contextmanager
def rehearsal(
    config: NodeConfig, sleeve: SleeveParams, stores: Stores, start: date | None
) -> Iterator[PaperTrader]:
    """Yield the trader of a paper run on a copy of its files, before its first session.

    It asks for no lease and writes to no database. Without a run it begins one at `start`, or at
    the newest session of the dataset.

    Raises
    ------
    ConfigError
        If the node trades at a broker, who cannot be rehearsed with.
    """
    if config.venue != "sandbox":
        raise ConfigError(
            f"venue: {config.venue} fills at the broker, so nothing can be tried without it; "
            "--set venue=sandbox shows what would be sent, `prometheus rehearse` what becomes of it"
        )
    panel = _market(config, stores)
    known = stores.runtime.trading_runs(
        sleeve.sleeve_id, Mode.PAPER.value, config.trading_hash(sleeve)
    )
    begin = start if start is not None or known else panel.as_of
    venue = SandboxVenue()
    started = _started(config, sleeve, stores, PaperRequest(start=begin), panel, venue)
    identity = _identity(config, sleeve, panel, started)
    with ExitStack() as files:
        folder = Path(files.enter_context(TemporaryDirectory(prefix="prometheus-rehearsal-")))
        kept = stores.settings.home / "paper" / identity.run_id
        names = (TAPE, SWITCH, ANSWERS)
        tape_file, moves, answers = (_copied(kept / name, folder / name) for name in names)
        for spool in (tape_file, moves, answers):
            files.callback(spool.close)
        tape = SessionTape(tape_file)
        if not tape.begun:
            tape.begin(_history(panel, identity.started))
        calendar = MarketCalendar.of(config.market)
        switch = PaperSwitch(stores, sleeve.sleeve_id, calendar, moves, read_only=True)
        copies = TraderFiles(_Rehearsed(len(tape.sessions)), tape, switch, AnswerTape(answers))
        trader = PaperTrader(config, sleeve, stores, identity, copies, venue)
        files.callback(trader.close)
        yield trader


def rehearse_stored(
    config: NodeConfig, stores: Stores, trader: PaperTrader, now: Callable[[], datetime]
) -> None:
    """Run a rehearsal through its tape, and then through what the dataset has besides."""
    _Desk(config, stores, PaperRequest(), [trader], SandboxVenue(), now).trade_stored(Event(), None)


def _copied(kept: Path, copy: Path) -> Spool:
    if kept.exists():
        shutil.copyfile(kept, copy)
    return Spool(copy)


def _market(config: NodeConfig, stores: Stores) -> MarketPanel:
    panel = panel_of(stores, config.data.dataset)
    return panel if config.instruments == "all" else panel.select(config.instruments)


def _identity(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, started: date
) -> TradingIdentity:
    return TradingIdentity(
        strategy_id=family(sleeve).strategy_id,
        sleeve_id=sleeve.sleeve_id,
        mode=Mode[config.mode.upper()],
        code_hash=code_hash(),
        config_hash=config.trading_hash(sleeve),
        data_fingerprint=panel.fingerprint,
        seed=config.seed,
        started=started,
    )


def _started(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    request: PaperRequest,
    panel: MarketPanel,
    venue: PaperVenue,
) -> date:
    """Return the first session of the run that is asked for."""
    calendar = MarketCalendar.of(config.market)
    asked = request.start
    if asked is None:
        known = stores.runtime.trading_runs(
            sleeve.sleeve_id, Mode[config.mode.upper()].value, config.trading_hash(sleeve)
        )
        if len(known) > 1:
            listed = ", ".join(f"{run['start_date']} ({run['run_id']})" for run in known)
            raise ConfigError(
                f"--from: {sleeve.sleeve_id} has {len(known)} {config.mode} runs of this "
                f"configuration, begun on {listed}; say which one goes on with --from"
            )
        asked = known[0]["start_date"] if known else venue.begins(config)
    started = asked if calendar.is_session(asked) else calendar.next_session(asked)
    begins = panel.sessions[0].astype(object)
    if started < begins or started > calendar.next_session(panel.as_of):
        raise DataError(
            f"--from: {started} does not follow on dataset {config.data.dataset!r}, which has "
            f"{begins} to {panel.as_of}; ingest what is missing, or begin on another day"
        )
    return started


def _history(panel: MarketPanel, started: date) -> MarketPanel:
    row = int(np.searchsorted(panel.sessions, np.datetime64(started, "D")))
    if row == 0:
        return panel.last(0)
    return panel.until(panel.sessions[row - 1].astype(object))


def _begin(
    config: NodeConfig, sleeve: SleeveParams, stores: Stores, identity: TradingIdentity
) -> None:
    if stores.runtime.run(identity.run_id) is not None:
        stores.runtime.set_status(identity.run_id, "RUNNING")
        return
    facts = {
        "portfolio_id": sleeve.portfolio_id,
        "market_id": config.market,
        "start_date": identity.started,
        "end_date": identity.started,
        "universe_id": config.engines_of(sleeve).universe.universe_id,
        "dataset_id": config.data.dataset,
        "config_json": config.resolved(sleeve),
    }
    stores.runtime.begin_run(identity, facts)


def _lease(identity: TradingIdentity, folder: Path) -> Lease:
    host = socket.gethostname()
    owner = f"{host}:{os.getpid()}:{uuid4().hex[:8]}"
    return Lease(identity.run_id, owner, f"{host}:{folder.absolute()}")


def _halt(stores: Stores, identity: TradingIdentity, failure: PrometheusError) -> None:
    run_id = identity.run_id
    reason = f"{type(failure).__name__}: {failure}"
    log.error("run=%s trading halts, positions stay: %s", run_id, reason)
    alert = Alert(HALTED, "CRITICAL", run_id, reason, {}, datetime.now(UTC))
    if isinstance(failure, RecordUnwritable):
        with suppress(StoreError):
            halt(stores, identity.sleeve_id, reason, "paper node", HaltCause.RECORD)
    # What halts a run may be the very database that should hear of it.
    with suppress(StoreError):
        stores.runtime.set_status(run_id, "HALTED")
        with stores.runtime.database.writer() as connection:
            raise_alert(connection, alert)


def _delistings(tape: SessionTape) -> Delistings:
    on, returns = tape.delisted()
    return Delistings(on, returns, final=False)


def bar_coverage(panel: MarketPanel) -> tuple[int, int]:
    """Return how many instruments have a bar of the panel's last session, and how many should.

    Those with a bar within the newest `ALIVE_WITHIN` sessions should.
    """
    closes = panel.last(ALIVE_WITHIN).close
    return int((closes[-1] > 0).sum()), int((closes > 0).any(axis=0).sum())
