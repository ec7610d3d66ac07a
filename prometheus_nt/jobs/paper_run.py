"""Open the run that a sleeve trades session by session: its files, its lease, its trader.

`trading` makes this process the only one who trades it; afterwards the run is STOPPED, or HALTED
with an alert.
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
    PrometheusError,
    RecordUnwritable,
    StoreError,
    StoreUnavailable,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import TradingIdentity
from prometheus_nt.domain.safety import HaltCause
from prometheus_nt.jobs.paper_identity import begin
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.paper_trader import PaperTrader, TraderFiles
from prometheus_nt.jobs.safety import halt
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue
from strategies.catalog import SleeveParams

OUTBOX, TAPE, SWITCH, ANSWERS = "outbox.spool", "tape.spool", "switch.spool", "answers.spool"

HALTED = "trading_halted"
"""The rule of the alert of a halted run."""

log = logging.getLogger(__name__)


@contextmanager
def trading(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    identity: TradingIdentity,
    panel: MarketPanel,
    venue: PaperVenue,
) -> Iterator[PaperTrader]:
    """Yield the trader of a sleeve; afterwards the run is STOPPED, or HALTED with an alert."""
    folder = run_dir(stores, identity.run_id, config.mode)
    with ExitStack() as files:
        names = (OUTBOX, TAPE, SWITCH, ANSWERS)
        outbox, tape_file, moves, answers = (Spool(folder / name) for name in names)
        for spool in (outbox, tape_file, moves, answers):
            files.callback(spool.close)
        recorder = RunRecorder(stores.runtime.database, outbox, lease_of(identity.run_id, folder))
        recorder.open()
        begin(config, sleeve, stores, identity)
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


def history_before(panel: MarketPanel, started: date) -> MarketPanel:
    """Return the panel until the session before `started`; empty if there is none."""
    row = int(np.searchsorted(panel.sessions, np.datetime64(started, "D")))
    if row == 0:
        return panel.last(0)
    return panel.until(panel.sessions[row - 1].astype(object))


def run_dir(stores: Stores, run_id: str, mode: str) -> Path:
    """Return the folder of what a run that trades saw and was told."""
    return stores.settings.home / mode.lower() / run_id


def lease_of(run_id: str, folder: Path) -> Lease:
    """Return the right to trade a run that this process may ask for."""
    host = socket.gethostname()
    owner = f"{host}:{os.getpid()}:{uuid4().hex[:8]}"
    return Lease(run_id, owner, f"{host}:{folder.absolute()}")


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
