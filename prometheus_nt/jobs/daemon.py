"""Run the days of markets as they come: every job when its market, its needs and its waits allow.

1. `_plan` asks each market's calendar which sessions are looked after, and writes their jobs;
2. `_take_back` finds jobs whose daemon is gone, `_give_up` those that cannot begin any more;
3. `_begin` claims what may start, and hands each to a process of its own;
4. `_settle` records how it ended: done, waiting, to be tried again later, or finally failed;
5. `_idle` sleeps until time alone lets something happen: a job starts, a wait is over, a market
   opens or closes.

Everything is in `job_executions`: the daemon may be killed at any moment and goes on from there.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from persistence.alerts import Alert, Severity, raise_alert, resolve
from persistence.job_executions import LEASE, Ended, JobExecution, JobExecutionStore
from prometheus_nt.actors.session_clock import Stop, wall_clock
from prometheus_nt.config import Applied, NodeConfig, load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.daily_jobs import (
    OF_DATASETS,
    Job,
    JobKind,
    JobStatus,
    Standing,
    late,
    never,
    next_moment,
    startable,
    wait_after,
)
from prometheus_nt.domain.errors import ConfigError, PhaseError, StoreUnavailable
from prometheus_nt.domain.market_state import next_transition
from prometheus_nt.jobs.daily_dag import (
    jobs_of,
    region_nodes,
    sessions_of,
    subject_of,
    trades_on,
)
from prometheus_nt.jobs.daily_work import Finding, Told, WorkSpec, do_job
from prometheus_nt.jobs.day import worker_name
from prometheus_nt.jobs.executor import Ending, Handle, Outcome, ProcessExecutor, Task
from prometheus_nt.jobs.observability import about_run
from prometheus_nt.jobs.readiness import DATA_LATE
from prometheus_nt.jobs.stores import Stores

log = logging.getLogger(__name__)

JOB_FAILED, JOB_LATE, CONFIG_INVALID = ("job_failed", "job_late", "daemon_config_invalid")
"""Rules of alerts."""

LONGEST_SLEEP = timedelta(minutes=10)
"""Until the daemon looks again, at its configuration too, though nothing is due."""
COLLECT_SECONDS = 0.5
BEAT_SECONDS = LEASE.total_seconds() / 5
OUTAGE_SECONDS = 10.0
OF_DATA = (JobKind.INGEST_PRICES, JobKind.CHECK_DATA)

Load = Callable[[], Sequence[NodeConfig]]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class DaemonRequest:
    """What a daemon is asked to do.

    regions : those whose days it runs; none are those of its nodes.
    once : do what can be done now, and end.
    as_of : look after this session alone, instead of those that the calendar says.
    until : last session to look after; the daemon ends when its jobs are over.
    retry : let what finally failed of the sessions it looks after begin anew.
    workers : processes that do jobs at the same time.
    log : form of log that these write.
    task : what a process does with the spec of a job; it returns what `Told.write` writes.
    """

    regions: tuple[str, ...] = ()
    once: bool = False
    as_of: date | None = None
    until: date | None = None
    retry: bool = False
    workers: int = 1
    log: str | None = None
    task: Task = do_job


@dataclass(frozen=True)
class DaemonSummary:
    """What the jobs that were looked after amount to when the daemon ends.

    failed : ids of mandatory jobs that failed, or were skipped because of one.
    """

    counts: dict[str, int]
    failed: tuple[str, ...]


@dataclass
class _Running:
    job: Job
    held: JobExecution
    handle: Handle


@dataclass
class _Plan:
    """The jobs that are looked after, how they stand, and the nodes they are done for."""

    jobs: list[Job]
    nodes: dict[str, NodeConfig]
    found: dict[str, JobExecution] = field(default_factory=dict)

    @property
    def standings(self) -> dict[str, Standing]:
        return {name: each.standing for name, each in self.found.items()}


class NodeFiles:
    """Reads nodes from files, and again when one of them, or what was applied, has changed.

    Parameters
    ----------
    nodes : sequence of lists of paths
        Of each node its files; later ones override earlier ones.
    assignments : settings of every node, as `key=value`
    applied : function, optional
        What was applied to a strategy by proposals; by default nothing.
    """

    def __init__(
        self,
        nodes: Sequence[Sequence[Path]],
        assignments: Sequence[str] = (),
        applied: Applied | None = None,
    ) -> None:
        self._nodes, self._assignments, self._applied = nodes, assignments, applied
        self._heeded: dict[str, dict[str, Any]] = {}
        self._seen: list[tuple[int, int]] = []
        self._read: list[NodeConfig] = []

    def __call__(self) -> Sequence[NodeConfig]:
        """Return the nodes; raise `ConfigError` as `load_config` does."""
        seen = [_state(path) for paths in self._nodes for path in paths]
        if seen != self._seen or not self._read or self._applied_anew():
            self._heeded = {}
            applied = None if self._applied is None else self._heed
            self._read = [
                load_config(paths, self._assignments, applied=applied) for paths in self._nodes
            ]
            self._seen = seen
        return self._read

    def _heed(self, strategy_id: str) -> dict[str, Any]:
        assert self._applied is not None
        self._heeded[strategy_id] = dict(self._applied(strategy_id))
        return self._heeded[strategy_id]

    def _applied_anew(self) -> bool:
        heeded = self._heeded.items()
        return self._applied is not None and any(
            self._applied(strategy_id) != found for strategy_id, found in heeded
        )


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def run_daemon(
    load: Load,
    stores: Stores,
    request: DaemonRequest,
    stop: Stop,
    tell: Tell | None = None,
    now: Callable[[], datetime] = wall_clock,
) -> DaemonSummary:
    """Run the days of the regions asked for, until stopped or until nothing is left to do.

    Parameters
    ----------
    load : callable
        Returns the nodes; called again and again, so that a changed file needs no restart.
    stop : Stop
        What is running when it is set is ended and goes back to waiting.

    Raises
    ------
    ConfigError
        If the nodes cannot be run, or none of them has a session to look after.
    """
    daemon = _Daemon(load, stores, request, tell, now)
    try:
        while not stop.is_set():
            try:
                if daemon.step(stop):
                    break
            except StoreUnavailable as away:
                log.warning("database=runtime away: %s", away)
                stop.wait(OUTAGE_SECONDS)
    finally:
        daemon.close()
    return daemon.summary()


class _Daemon:
    def __init__(
        self,
        load: Load,
        stores: Stores,
        request: DaemonRequest,
        tell: Tell | None,
        now: Callable[[], datetime],
    ) -> None:
        self._load, self._stores, self._request, self._now = load, stores, request, now
        self._tell = tell or (lambda _: None)
        self._store = JobExecutionStore(stores.runtime.database)
        self._owner = worker_name()
        self._nodes = region_nodes(load(), request.regions)
        self._executor: ProcessExecutor | None = None
        self._running: dict[str, _Running] = {}
        self._planned: dict[str, datetime] = {}
        self._told: set[tuple[str, str]] = set()
        self._beaten = monotonic()
        self._reopened = False
        self._require_sessions()

    def step(self, stop: Stop) -> bool:
        """Do what can be done now, then wait for a while; return whether all is done."""
        if len(self._running) >= self._request.workers:
            self._collect()
            return False
        self._reload()
        plan = self._plan()
        self._take_back(plan)
        self._give_up(plan)
        self._warn(plan)
        self._begin(plan)
        if self._running:
            self._collect()
            return False
        self._rest()
        if self._is_done(plan):
            return True
        if startable(plan.jobs, plan.standings, self._now()):
            return False
        if self._request.once:
            return True
        self._idle(plan, stop)
        return False

    def close(self) -> None:
        """End what is running, and let it wait for the next daemon."""
        self._rest()
        for name, running in list(self._running.items()):
            ended = Ended(JobStatus.PENDING, "stopped with its daemon", counts=False)
            try:
                self._record(running, ended)
            except StoreUnavailable as away:
                # The lease ends by itself; the next daemon takes the job back.
                log.warning("job=%s not given back: %s", name, away)

    def summary(self) -> DaemonSummary:
        """Return how the jobs stand that are looked after."""
        plan = self._plan()
        lost = (JobStatus.FAILED, JobStatus.SKIPPED)
        counts = {str(status): 0 for status in JobStatus}
        failed = []
        for job in plan.jobs:
            status = plan.found[job.job_id].status
            counts[status] += 1
            if job.rule.mandatory and status in lost:
                failed.append(job.job_id)
        return DaemonSummary(counts, tuple(sorted(failed)))

    def _require_sessions(self) -> None:
        """Refuse to look after nothing: it would look like work."""
        for nodes in self._nodes.values():
            for node in nodes:
                if not self._sessions(node):
                    end = node.sessions.end
                    remedy = (
                        "name one with --as-of, or let the node go on: sessions.end: null, as in "
                        "configs/layers/daily.yaml (-c NODE.yaml,configs/layers/daily.yaml)"
                    )
                    raise ConfigError(
                        f"{subject_of(node)}: trades from {node.sessions.start} to {end or 'now'}, "
                        f"and no session of it is to be looked after; {remedy}"
                    )

    def _reload(self) -> None:
        """Read the nodes anew; as long as they make no sense, go on with those before."""
        subject = ", ".join(self._nodes)
        try:
            self._nodes = region_nodes(self._load(), self._request.regions)
        except ConfigError as wrong:
            if (CONFIG_INVALID, str(wrong)) not in self._told:
                self._told.add((CONFIG_INVALID, str(wrong)))
                self._alert(CONFIG_INVALID, "WARNING", subject, str(wrong))
            return
        if any(rule == CONFIG_INVALID for rule, _ in self._told):
            self._told = {each for each in self._told if each[0] != CONFIG_INVALID}
            self._resolve(subject, CONFIG_INVALID)

    def _plan(self) -> _Plan:
        plan = _Plan([], {})
        for nodes in self._nodes.values():
            days = [(session, node) for node in nodes for session in self._sessions(node)]
            for session in sorted({session for session, _ in days}):
                of_day = [node for day, node in days if day == session]
                jobs = jobs_of(of_day, session)
                plan.jobs += jobs
                plan.nodes |= {job.job_id: _node_of(job, of_day) for job in jobs}
                self._write(jobs, of_day[0].market)
        if self._request.retry and not self._reopened:
            for name in self._store.reopen(_dags(plan), self._now()):
                self._say(name, "waits again, as asked")
            self._reopened = True
        plan.found = self._store.of_dags(_dags(plan))
        return plan

    def _sessions(self, node: NodeConfig) -> list[date]:
        if self._request.as_of is not None:
            session = MarketCalendar.of(node.market).require_session(self._request.as_of)
            return [session] if trades_on(node, session) else []
        known_since = self._store.first_session(node.market)
        until = self._request.until
        found = sessions_of(node, self._now(), known_since)
        return [session for session in found if until is None or session <= until]

    def _write(self, jobs: Sequence[Job], market_id: str) -> None:
        new = [job for job in jobs if job.job_id not in self._planned]
        if new:
            self._store.plan(new, market_id, self._now())
            self._planned |= {job.job_id: self._now() for job in new}

    def _take_back(self, plan: _Plan) -> None:
        """Let jobs whose daemon is gone wait again; the attempt counts, it may have been fatal."""
        for job in plan.jobs:
            found = plan.found[job.job_id]
            if job.job_id in self._running or not found.is_stale(self._now()):
                continue
            message = f"{found.owner} is gone"
            ended = Ended(JobStatus.PENDING, message, "DaemonGone")
            if found.attempt >= job.rule.max_attempts:
                ended = Ended(JobStatus.FAILED, message, "DaemonGone")
            try:
                plan.found[job.job_id] = self._store.settle(found, ended, self._now())
            except PhaseError:
                # Another daemon was here first.
                continue
            self._say(job.job_id, f"{ended.status}: {message}")
            self._after(job, ended)

    def _give_up(self, plan: _Plan) -> None:
        for name, reason in never(plan.jobs, plan.standings).items():
            if self._store.skip(name, reason, self._now()):
                self._say(name, f"{JobStatus.SKIPPED}: {reason}")
        plan.found = self._store.of_dags(_dags(plan))

    def _warn(self, plan: _Plan) -> None:
        """Tell once of each job that should be over by now."""
        for job in late(plan.jobs, plan.standings, self._now(), self._planned):
            rule = DATA_LATE if job.kind in OF_DATA else JOB_LATE
            if (rule, job.job_id) not in self._told:
                self._told.add((rule, job.job_id))
                found = plan.found[job.job_id]
                message = f"{job.job_id} is {found.status} after {job.late_at:%Y-%m-%d %H:%M} UTC"
                told = f"{message}; {found.message}" if found.message else message
                self._alert(rule, "WARNING", job.job_id, told)

    def _begin(self, plan: _Plan) -> None:
        for job in startable(plan.jobs, plan.standings, self._now()):
            if len(self._running) >= self._request.workers:
                return
            held = self._store.claim(job.job_id, self._owner, self._now())
            if held is None:
                continue
            if self._executor is None:
                self._executor = ProcessExecutor(self._request.workers)
            spec = WorkSpec(
                settings=self._stores.settings,
                config=plan.nodes[job.job_id],
                kind=job.kind,
                job_id=job.job_id,
                session=job.session,
                daemon=os.getpid(),
                log=self._request.log,
            )
            handle = self._executor.submit(
                self._request.task, spec, timeout=job.rule.timeout_seconds
            )
            self._running[job.job_id] = _Running(job, held, handle)
            self._say(job.job_id, f"{JobStatus.RUNNING}: attempt {held.attempt}")

    def _collect(self) -> None:
        """Record what has ended, and keep what goes on."""
        handles = [running.handle for running in self._running.values()]
        if self._executor is not None:
            self._executor.ended(handles, COLLECT_SECONDS)
        for running in list(self._running.values()):
            if running.handle.outcome is not None:
                self._settle(running, running.handle.outcome)
        if monotonic() - self._beaten >= BEAT_SECONDS:
            self._beaten = monotonic()
            for running in list(self._running.values()):
                self._renew(running)

    def _renew(self, running: _Running) -> None:
        if self._store.renew(running.held, self._now()):
            return
        # Somebody else has the job: what this process does of it is not wanted any more.
        self._say(running.job.job_id, "was taken over; the process that did it is ended")
        if self._executor is not None:
            self._executor.cancel(running.handle)
        del self._running[running.job.job_id]

    def _settle(self, running: _Running, outcome: Outcome) -> None:
        if outcome.ending is Ending.DONE and outcome.result is not None:
            ended = _ended(running.job, Told.read(outcome.result), self._now())
        else:
            ended = _failed(running, outcome, self._now())
        self._record(running, ended)
        self._after(running.job, ended)

    def _record(self, running: _Running, ended: Ended) -> None:
        name = running.job.job_id
        try:
            self._store.settle(running.held, ended, self._now())
        except PhaseError as lost:
            log.warning("job=%s lost: %s", name, lost)
        else:
            again = ended.next_attempt_at
            later = "" if again is None else f"; again at {again:%Y-%m-%d %H:%M:%S} UTC"
            told = "" if ended.message is None else f": {ended.message}"
            self._say(name, f"{ended.status}{told}{later}")
        del self._running[name]

    def _after(self, job: Job, ended: Ended) -> None:
        """Raise the alert that an ending calls for, or end those that it answers."""
        if ended.status is JobStatus.FAILED and ended.next_attempt_at is None:
            severity: Severity = "CRITICAL" if job.rule.mandatory else "WARNING"
            message = f"{job.job_id} failed for good: {ended.message}"
            self._alert(JOB_FAILED, severity, job.job_id, message)
        elif ended.status in (JobStatus.SUCCESS, JobStatus.SKIPPED):
            self._resolve(job.job_id, JOB_FAILED, JOB_LATE, DATA_LATE)

    def _is_done(self, plan: _Plan) -> bool:
        """Return whether nothing of what was asked for will ever be left to do."""
        if not all(standing.over for standing in plan.standings.values()):
            return False
        if self._request.as_of is not None:
            return True
        until = self._request.until
        markets = [nodes[0].market for nodes in self._nodes.values()]
        return until is not None and all(
            MarketCalendar.of(market).close_time(MarketCalendar.of(market).roll_back(until))
            <= self._now()
            for market in markets
        )

    def _rest(self) -> None:
        """Give the processes up: a night is long, and they are large."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def _idle(self, plan: _Plan, stop: Stop) -> None:
        now = self._now()
        moments = [
            next_moment(plan.jobs, plan.standings, now),
            *(next_transition(nodes[0].market, now)[1] for nodes in self._nodes.values()),
            now + LONGEST_SLEEP,
        ]
        until = min(moment for moment in moments if moment is not None)
        log.info("daemon=%s idle until %s", self._owner, until.isoformat(timespec="seconds"))
        stop.wait((until - now).total_seconds())

    def _say(self, job_id: str, what: str) -> None:
        with about_run(job_id):
            log.info("job=%s %s", job_id, what)
        self._tell(f"{job_id} {what}")

    def _alert(self, rule: str, severity: Severity, subject: str, message: str) -> None:
        alert = Alert(rule, severity, subject, message, {}, self._now())
        with self._stores.runtime.database.writer() as connection:
            raise_alert(connection, alert)
        log.log(logging.ERROR if severity == "CRITICAL" else logging.WARNING, "%s", message)
        self._tell(f"{severity} {rule}: {message}")

    def _resolve(self, subject: str, *rules: str) -> None:
        with self._stores.runtime.database.writer() as connection:
            for rule in rules:
                resolve(connection, rule, subject)


def _node_of(job: Job, nodes: Sequence[NodeConfig]) -> NodeConfig:
    def subject(node: NodeConfig) -> str:
        return node.data.dataset if job.kind in OF_DATASETS else subject_of(node)

    return next(node for node in nodes if subject(node) == job.subject)


def _dags(plan: _Plan) -> set[str]:
    return {job.dag_id for job in plan.jobs}


def _ended(job: Job, told: Told, now: datetime) -> Ended:
    match told.finding:
        case Finding.DONE:
            return Ended(JobStatus.SUCCESS, told.message)
        case Finding.NOTHING_TO_DO:
            return Ended(JobStatus.SKIPPED, told.message)
        case Finding.WAITS:
            again = now + timedelta(seconds=job.rule.poll_seconds)
            return Ended(JobStatus.PENDING, told.message, next_attempt_at=again, counts=False)


def _failed(running: _Running, outcome: Outcome, now: datetime) -> Ended:
    job, attempt = running.job, running.held.attempt
    error = outcome.error or str(outcome.ending)
    message = outcome.message or str(outcome.ending)
    if outcome.ending is Ending.TIMED_OUT:
        message = f"took longer than {job.rule.timeout_seconds:g} s and was ended"
    last = attempt >= job.rule.max_attempts
    again = None if last else now + wait_after(job, attempt)
    return Ended(JobStatus.FAILED, message, error, again)
