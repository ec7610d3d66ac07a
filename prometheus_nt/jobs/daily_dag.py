"""The jobs of markets' days for the nodes at hand: which sessions, which jobs, how they stand.

1. `region_nodes` sorts nodes by their regions;
2. `sessions_of` says which sessions of its market a node is looked after at a time;
3. `jobs_of` makes the jobs of one session: some once a dataset, the others once a strategy;
4. `dag_rows` shows them as they stand.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from persistence.job_executions import JobExecution, JobExecutionStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import REGIONS, MarketCalendar
from prometheus_nt.domain.daily_jobs import (
    OF_DATASETS,
    Job,
    JobKind,
    JobRule,
    JobStatus,
    late_at,
    never,
    require_no_circle,
    starts_at,
)
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.market_state import DEFAULT_CLOCK
from prometheus_nt.jobs.day import strategy_of
from prometheus_nt.jobs.stores import Stores

Nodes = Mapping[str, tuple[NodeConfig, ...]]
"""Region -> its nodes."""

Place = tuple[JobKind, str]
"""What is done, and the dataset or strategy that it is done for."""

DAG_COLUMNS = (
    *("job_id", "job_type", "subject", "priority", "mandatory", "needs", "starts_at", "late_at"),
    *("timeout_seconds", "status", "attempt", "max_attempts", "started_at", "completed_at"),
    *("next_attempt_at", "owner", "message"),
)


def region_nodes(configs: Sequence[NodeConfig], regions: Sequence[str] = ()) -> Nodes:
    """Return the nodes of each region asked for; by default of those that the nodes are of.

    Raises
    ------
    ConfigError
        If a region is unknown or has no node, a node is of none of them or reads a revision of the
        past, two are of one strategy and mode, or their jobs need each other in a circle.
    """
    for region in regions:
        if region not in REGIONS:
            known = ", ".join(REGIONS)
            raise ConfigError(f"--region: unknown region {region!r}; known: {known}")
    wanted = tuple(regions) or tuple(dict.fromkeys(config.region for config in configs))
    for config in configs:
        _require_fit(config, wanted)
    nodes = {region: tuple(one for one in configs if one.region == region) for region in wanted}
    for region, found in nodes.items():
        if not found:
            raise ConfigError(f"--region {region}: has no node; name its file with --config")
        subjects = [subject_of(config) for config in found]
        if twice := sorted({name for name in subjects if subjects.count(name) > 1}):
            raise ConfigError(
                f"--config: more than one node of {', '.join(twice)} in {region}; a day of a "
                "strategy is run once in each mode"
            )
        newest: date = MarketCalendar.of(found[0].market).sessions[-1].astype(object)
        jobs_of(found, newest)
    return nodes


def subject_of(config: NodeConfig) -> str:
    """Return what the days of a node are of: its strategy and its mode."""
    return f"{strategy_of(config)}:{config.mode.upper()}"


def sessions_of(config: NodeConfig, now: datetime, known_since: date | None) -> list[date]:
    """Return the sessions of a node that are looked after at `now`, oldest first.

    The newest that have closed, back to the first one of which jobs were ever planned, and the one
    that is about to open or has opened. Where none was ever planned nothing was missed.
    """
    calendar = MarketCalendar.of(config.market)
    instant = int(now.timestamp() * 1e9)
    closed = int(np.searchsorted(calendar.closes_ns, instant, side="right"))
    ahead = timedelta(minutes=DEFAULT_CLOCK.pre_open_minutes) // timedelta(microseconds=1) * 1000
    begun = int(np.searchsorted(calendar.opens_ns, instant + ahead, side="right"))
    first = max(closed - config.day.daemon.catch_up_sessions, 0)
    recent: list[date] = calendar.sessions[first:begun].tolist()
    newest = calendar.sessions[max(closed - 1, 0)].astype(object)
    since = newest if known_since is None else min(known_since, newest)
    return [session for session in recent if session >= since and trades_on(config, session)]


def trades_on(config: NodeConfig, session: date) -> bool:
    """Return whether a session is one of the node's."""
    end = config.sessions.end
    return config.sessions.start <= session and (end is None or session <= end)


def dag_id(market_id: str, session: date) -> str:
    """Return the name of a market's day."""
    return f"{market_id.lower()}_daily_{session}"


def jobs_of(nodes: Sequence[NodeConfig], session: date) -> list[Job]:
    """Return the jobs of one session of a market, for these nodes of it.

    What is done for a dataset follows the rules of the first node that reads it.

    Raises
    ------
    ConfigError
        If the rules of the nodes, put together, need each other in a circle.
    """
    rules: dict[Place, tuple[JobRule, NodeConfig]] = {}
    for node in nodes:
        for kind, rule in node.day.daemon.rules.items():
            rules.setdefault((kind, _subject(kind, node)), (rule, node))
    needs = {place: _needs(place[0], *found, nodes) for place, found in rules.items()}
    jobs = [
        # What is disabled is needed by nobody.
        _job(node.market, place, rule, session, [need for need in needs[place] if need in rules])
        for place, (rule, node) in rules.items()
    ]
    require_no_circle({job.job_id: job.needs for job in jobs})
    return jobs


def dag_rows(
    configs: Sequence[NodeConfig], stores: Stores, session: date, regions: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of the jobs of a session, as they stand, in order of needs.

    Raises
    ------
    NonSession
        If a market is closed on that day.
    ConfigError
        As `region_nodes` does, or if no node trades on the session.
    """
    rows: list[tuple[Any, ...]] = []
    store = JobExecutionStore(stores.runtime.database)
    for nodes in region_nodes(configs, regions).values():
        market_id = nodes[0].market
        MarketCalendar.of(market_id).require_session(session)
        jobs = jobs_of([node for node in nodes if trades_on(node, session)], session)
        found = store.of_dags([dag_id(market_id, session)])
        lost = never(jobs, {name: each.standing for name, each in found.items()})
        rows += [_row(job, found.get(job.job_id), lost) for job in in_order(jobs)]
    if not rows:
        raise ConfigError(f"--as-of: no node trades on {session}; change sessions.start or .end")
    return DAG_COLUMNS, rows


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs so that each comes after those it needs; else by their priority and name."""
    left = sorted(jobs, key=lambda job: (job.rule.priority, job.job_id))
    done: list[Job] = []
    while left:
        names = {job.job_id for job in done}
        job = next(each for each in left if set(each.needs) <= names)
        done.append(job)
        left.remove(job)
    return done


def _require_fit(config: NodeConfig, wanted: Sequence[str]) -> None:
    subject_of(config)
    if config.region not in wanted:
        raise ConfigError(
            f"--config: a node is of {config.region}, asked was {', '.join(wanted)}; name its "
            "region with --region, or leave its file out"
        )
    if config.data.revision is not None:
        raise ConfigError(
            "data.revision: a daemon follows the newest data; leave it out, or use `day run`"
        )


def _subject(kind: JobKind, node: NodeConfig) -> str:
    return node.data.dataset if kind in OF_DATASETS else subject_of(node)


def _job_id(market_id: str, place: Place, session: date) -> str:
    kind, subject = place
    return f"{market_id.lower()}_{kind}_{subject}_{session}"


def _needs(
    kind: JobKind, rule: JobRule, node: NodeConfig, nodes: Sequence[NodeConfig]
) -> list[Place]:
    # A job of a dataset waits for every strategy that reads it.
    sharing = [each for each in nodes if each.data.dataset == node.data.dataset]
    readers = sharing if kind in OF_DATASETS else [node]
    found = [(need, _subject(need, reader)) for need in rule.needs for reader in readers]
    return list(dict.fromkeys(found))


def _job(market_id: str, place: Place, rule: JobRule, session: date, needs: Sequence[Place]) -> Job:
    calendar = MarketCalendar.of(market_id)
    kind, subject = place
    return Job(
        job_id=_job_id(market_id, place, session),
        dag_id=dag_id(market_id, session),
        kind=kind,
        session=session,
        subject=subject,
        rule=rule,
        needs=tuple(_job_id(market_id, need, session) for need in needs),
        starts_at=starts_at(rule, session, calendar),
        late_at=late_at(rule, session, calendar),
    )


def _row(job: Job, found: JobExecution | None, lost: Mapping[str, str]) -> tuple[Any, ...]:
    rule = job.rule
    plan = (job.job_id, job.kind.value, job.subject, rule.priority.name, rule.mandatory)
    times = (list(job.needs), job.starts_at, job.late_at, rule.timeout_seconds)
    if found is None:
        return (*plan, *times, JobStatus.PENDING.value, 0, rule.max_attempts, *[None] * 5)
    message = lost.get(job.job_id) or found.message
    stands = (found.status.value, found.attempt, rule.max_attempts)
    when = (found.started_at, found.completed_at, found.next_attempt_at)
    return (*plan, *times, *stands, *when, found.owner, message)
