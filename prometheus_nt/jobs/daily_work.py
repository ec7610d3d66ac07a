"""What the jobs of a day do, each in a process of its own.

`do_job` runs one. Those that move a day on do what `prometheus day run` does, a phase each: what
was done before, by whomever, is not done again, and a phase that was cut off is. A process whose
daemon is gone ends itself, so that the job can be begun anew at once.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from functools import partial
from threading import Thread
from time import sleep

from adapters.gates.health import HealthParams
from persistence.engine_runs import EngineRun, EngineRunStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.daily_jobs import JobKind
from prometheus_nt.domain.errors import PhaseError
from prometheus_nt.domain.phases import CHAIN, RunPhase
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.data import read_source, sources_of, spec_of
from prometheus_nt.jobs.day import DayRunner, Replays, ensure_day, worker_name
from prometheus_nt.jobs.days import reason_unfinished
from prometheus_nt.jobs.derive import DeriveRequest, derive
from prometheus_nt.jobs.health import audit, record
from prometheus_nt.jobs.observability import about_run, start_logging
from prometheus_nt.jobs.outcomes import update_outcomes
from prometheus_nt.jobs.readiness import IngestionState, ingestion_status, recorded_ingestion
from prometheus_nt.jobs.repair import narrowed, source_of
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
"""At the daemon, to see whether it still is."""


class Finding(StrEnum):
    """What a job that did not fail found."""

    DONE = "DONE"
    WAITS = "WAITS"
    NOTHING_TO_DO = "NOTHING_TO_DO"


@dataclass(frozen=True)
class Told:
    """What a job says of itself."""

    finding: Finding
    message: str

    @classmethod
    def read(cls, text: str) -> "Told":
        """Return what `write` wrote."""
        finding, message = json.loads(text)
        return cls(Finding(finding), message)

    def write(self) -> str:
        return json.dumps([self.finding, self.message])


@dataclass(frozen=True)
class WorkSpec:
    """What a process needs to do a job: where things are, the node, and what is asked for.

    daemon : id of the process that wants it done.
    log : form of log to write, as the daemon does.
    """

    settings: Settings
    config: NodeConfig
    kind: JobKind
    job_id: str
    session: date
    daemon: int
    log: str | None = None


def do_job(spec: WorkSpec) -> str:
    """Do one job; return what it says of itself, as `Told.write` writes it."""
    _end_with(spec.daemon)
    if spec.log is not None:
        start_logging(spec.settings, spec.log)
    with about_run(spec.job_id), open_stores(spec.settings) as stores:
        told = WORK[spec.kind](spec, stores)
        log.info("job=%s finding=%s %s", spec.job_id, told.finding, told.message)
    return told.write()


def ingest_again(stores: Stores, dataset_id: str) -> int:
    """Read the source that a dataset remembers for whatever is new; return the rows written.

    Raises
    ------
    StoreError
        If there is no such dataset, or it does not remember its source.
    PrometheusError
        If its source is gone, refuses, or has not one good row.
    """
    spec = spec_of(stores.historical.dataset(dataset_id))
    names = tuple(row["instrument_id"] for row in stores.historical.coverage(dataset_id))
    with sources_of(stores.settings, narrowed(spec, names), forgiving=True) as sources:
        source = source_of(sources, spec, dataset_id)
        return read_source(stores, source, replace(spec, symbols=None)).rows_written


def _ingest(spec: WorkSpec, stores: Stores) -> Told:
    dataset_id, minimum = spec.config.data.dataset, spec.config.day.min_data_coverage
    status = partial(ingestion_status, stores.historical, dataset_id, spec.session, minimum)
    if status().status is IngestionState.COMPLETE:
        return Told(Finding.DONE, "the data were there, nobody was asked")
    if stores.historical.dataset(dataset_id)["origin"] is None:
        return Told(Finding.NOTHING_TO_DO, f"{dataset_id} remembers no source to read again")
    with recorded_ingestion(stores.historical, dataset_id, spec.session, minimum):
        written = ingest_again(stores, dataset_id)
    found = status()
    counted = f"{found.instruments_received} of {found.instruments_expected} instruments"
    if found.status is not IngestionState.COMPLETE:
        return Told(Finding.WAITS, f"the source has the session of {counted}")
    return Told(Finding.DONE, f"{counted}, {written} rows written")


def _audit(spec: WorkSpec, stores: Stores) -> Told:
    dataset_id, params = spec.config.data.dataset, HealthParams()
    result = audit(stores.historical, dataset_id, params, as_of=spec.session)
    record(stores.historical, result, params)
    counted = (f"{count} {health}" for health, count in result.summary().items() if count)
    return Told(Finding.DONE, ", ".join(counted))


def _derive(spec: WorkSpec, stores: Stores) -> Told:
    # Up to date, whatever the session: derived data never go back to an earlier end.
    saved = derive(stores, DeriveRequest(spec.config.data.dataset))
    return Told(Finding.DONE, f"{len(saved)} tables")


def _outcomes(spec: WorkSpec, stores: Stores) -> Told:
    counts = update_outcomes(spec.config, stores)
    return Told(Finding.DONE, f"{sum(rows for _, rows in counts)} outcomes of {len(counts)} runs")


_KEPT: dict[str, Replays] = {}
"""The last replay of this process: the phases of a day share it, if one process does them."""


def _advance(phases: tuple[RunPhase, ...], spec: WorkSpec, stores: Stores) -> Told:
    """Do these phases of the day, as far as nobody has."""
    key = content_hash([spec.config.model_dump_json(), spec.settings.runtime_url])
    if key not in _KEPT:
        _KEPT.clear()
    runner = DayRunner(spec.config, stores, worker_name(), _KEPT.setdefault(key, {}))
    run = ensure_day(spec.config, spec.session, stores)
    if run.phase is RunPhase.FAILED and run.failed_phase in phases:
        run = EngineRunStore(stores.runtime.database).retry(run.run_id)
    while _reached(run) in phases:
        moved = runner.advance(run)
        if moved.phase is RunPhase.FAILED and moved.error is not None:
            raise PhaseError(f"{moved.error['type']}: {moved.error['message']}")
        if moved.phase is run.phase:
            told = reason_unfinished(moved, spec.config.data.dataset)
            return Told(Finding.WAITS, told or f"{run.run_id} stays at {run.phase}")
        run = moved
    if CHAIN.index(_reached(run)) < CHAIN.index(phases[0]):
        raise PhaseError(
            f"{run.run_id}: is at {run.phase}, {phases[0]} comes later; see `prometheus day dag`"
        )
    return Told(Finding.DONE, f"{run.run_id} is at {run.phase}")


def _reached(run: EngineRun) -> RunPhase:
    return run.phase if run.failed_phase is None else run.failed_phase


WORK: Mapping[JobKind, Callable[[WorkSpec, Stores], Told]] = {
    JobKind.INGEST_PRICES: _ingest,
    JobKind.CHECK_DATA: partial(_advance, (RunPhase.WAITING_FOR_DATA,)),
    JobKind.AUDIT_DATA: _audit,
    JobKind.DERIVE_DATA: _derive,
    JobKind.RUN_SIGNALS: partial(_advance, (RunPhase.DATA_READY,)),
    JobKind.RUN_UNIVERSES: partial(_advance, (RunPhase.SIGNALS_DONE,)),
    JobKind.RUN_BOOKS: partial(_advance, (RunPhase.UNIVERSES_DONE, RunPhase.BOOKS_DONE)),
    JobKind.UPDATE_OUTCOMES: _outcomes,
}
"""What is done for each kind of job."""

_followed: set[int] = set()


def _end_with(daemon: int) -> None:
    """End this process when the daemon is no more, whatever it is doing then."""
    if daemon in (*_followed, os.getpid()):
        return
    _followed.add(daemon)
    Thread(target=_follow, args=(daemon,), name="follow", daemon=True).start()


def _follow(daemon: int) -> None:
    while True:
        try:
            os.kill(daemon, 0)
        except ProcessLookupError:
            # Not sys.exit: that would end this thread only.
            os._exit(1)
        sleep(SECONDS_BETWEEN_LOOKS)
