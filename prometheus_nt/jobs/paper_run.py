"""Open the run that a sleeve trades session by session: whose it is, its files, its lease.

1. `run_begins` says which session the run of a configuration began on, `trading_identity` names it.
2. `trading` makes this process the only one who trades it, and yields its trader; afterwards the
   run is STOPPED, or HALTED with an alert.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np

from persistence.alerts import Alert, raise_alert
from persistence.answer_tape import AnswerTape
from persistence.leases import Lease
from persistence.recorder import RunRecorder
from persistence.spool import Spool
from persistence.tape import SessionTape
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    PrometheusError,
    RecordUnwritable,
    StoreError,
    StoreUnavailable,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import Mode, TradingIdentity
from prometheus_nt.domain.safety import HaltCause
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.paper_trader import PaperTrader, TraderFiles
from prometheus_nt.jobs.safety import halt
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue
from strategies.catalog import SleeveParams, family

OUTBOX, TAPE, SWITCH, ANSWERS = "outbox.spool", "tape.spool", "switch.spool", "answers.spool"

HALTED = "trading_halted"
"""The rule of the alert of a halted run."""

log = logging.getLogger(__name__)


@contextmanager
def trading(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    request: PaperRequest,
    panel: MarketPanel,
    venue: PaperVenue,
) -> Iterator[PaperTrader]:
    """Yield the trader of a sleeve; afterwards the run is STOPPED, or HALTED with an alert."""
    started = run_begins(config, sleeve, stores, request, panel, venue)
    identity = trading_identity(config, sleeve, panel, started)
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
            tape.begin(history_before(panel, identity.started))
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


def trading_identity(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, started: date
) -> TradingIdentity:
    """Return what names the run of a sleeve that began on a session."""
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


def run_begins(
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


def history_before(panel: MarketPanel, started: date) -> MarketPanel:
    """Return the panel until the session before `started`; empty if there is none."""
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
