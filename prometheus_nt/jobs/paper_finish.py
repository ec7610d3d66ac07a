"""End a run that trades for good, so that its sleeve may begin another one.

1. The run is taken like by a node that would trade it: nobody else may hold it, and what waits in
   its spool is written first.
2. Books at a broker must be empty, for nobody would look after them; what the simulated venue
   holds ends with the run.
3. Who ended it, when and why is the last of its events, and its page says so.
"""

import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from persistence.alerts import resolve
from persistence.rebuild import Books, rebuild_books
from persistence.recorder import RunRecorder
from persistence.spool import Spool
from prometheus_nt.domain.errors import ConfigError, PrometheusError
from prometheus_nt.domain.ledger import MICROS
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.paper_report import close_report
from prometheus_nt.jobs.paper_run import HALTED, OUTBOX, lease_of, run_dir
from prometheus_nt.jobs.stores import Stores

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """A run that trades no more, and what the simulated venue still held of it."""

    run_id: str
    sleeve_id: str
    mode: str
    last: date
    cash: float
    positions: int
    open_orders: int
    reason: str
    report: Path | None


def finish_run(stores: Stores, text: str, by: str, reason: str = "") -> FinishedRun:
    """End a paper or live run for good; it can be read, and trades no more.

    Parameters
    ----------
    text : str
        A run id or its beginning.
    by, reason : str
        Who ends it, and why.

    Raises
    ------
    ConfigError
        If it is a backtest or finished already, or something is held at a broker.
    PhaseError
        If another process trades it.
    StoreError
        If no one run matches.
    """
    run = _open_run(stores, text)
    folder = run_dir(stores, run["run_id"], run["mode"])
    outbox = Spool(folder / OUTBOX)
    try:
        recorder = RunRecorder(stores.runtime.database, outbox, lease_of(run["run_id"], folder))
        recorder.open()
        try:
            return _finished(stores, run, by, reason)
        finally:
            recorder.close()
    finally:
        outbox.close()


def _open_run(stores: Stores, text: str) -> dict[str, Any]:
    run = stores.runtime.find_run(text)
    if run["mode"] == Mode.BACKTEST.value:
        raise ConfigError(
            f"run: expected a paper or live run, found {run['run_id']}, a backtest, which ended by "
            "itself; `prometheus show runs --mode PAPER` lists those that trade"
        )
    if run["status"] == "FINISHED":
        raise ConfigError(
            f"run: {run['run_id']} was finished after {run['end_date']} already; "
            "`prometheus show runs --mode PAPER` lists those that trade"
        )
    return run


def _finished(stores: Stores, run: dict[str, Any], by: str, reason: str) -> FinishedRun:
    run_id, database = run["run_id"], stores.runtime.database
    books = rebuild_books(database, run_id, run["config_json"]["sleeve"]["capital_usd"])
    _require_nothing_at_a_broker(run, books)
    held = len(books.shares)
    stores.runtime.finish_trading(run_id, by, reason)
    with database.writer() as connection:
        resolve(connection, HALTED, run_id)
    log.warning("run=%s by=%s positions=%d reason=%s finished", run_id, by, held, reason or "none")
    left = f"{held} positions and {len(books.open_orders)} open orders ended with it"
    return FinishedRun(
        run_id=run_id,
        sleeve_id=run["sleeve_id"],
        mode=run["mode"],
        last=run["end_date"],
        cash=books.cash_micros / MICROS,
        positions=held,
        open_orders=len(books.open_orders),
        reason=reason,
        report=_report(stores, run, f"by {by}{f': {reason}' if reason else ''}; {left}."),
    )


def _report(stores: Stores, run: dict[str, Any], how: str) -> Path | None:
    try:
        return close_report(stores, run, how)
    except PrometheusError as failure:
        # The run has ended, whatever its page says.
        log.warning("run=%s report not made: %s", run["run_id"], failure)
        return None


def _require_nothing_at_a_broker(run: dict[str, Any], books: Books) -> None:
    at_broker = run["config_json"].get("venue", "sandbox") != "sandbox"
    if at_broker and (books.shares or books.open_orders):
        raise ConfigError(
            f"{run['run_id']} holds {len(books.shares)} positions and {len(books.open_orders)} "
            "open orders at the broker, and nobody would look after them; wind it down first: "
            f"`prometheus flatten {run['sleeve_id']} --reason ...`, and let its node trade until "
            "nothing is held"
        )
