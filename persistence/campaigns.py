"""Campaigns: what each planned, who runs it, and how every variant ended.

Rules of the store:

- A plan is written once, with every variant PENDING; running its file again finds the same rows.
- One runner at a time: the claim is a lease. On one machine it ends with its process, from another
  machine's view with its time.
- A variant moves PENDING -> RUNNING -> OK, CACHED or FAILED by the hand of whoever runs it. What
  was RUNNING when its runner died is run again; what has ended is not.
- A campaign that screens writes what each screen found beside the variant; those that are not run
  then move PENDING -> SCREENED.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.tables.campaigns import campaign_trials, campaigns
from persistence.tables.runtime import backtest_runs, engine_decisions
from prometheus_nt.domain.errors import ConfigError, StoreError

LEASE = timedelta(seconds=60)
ENDED = ("OK", "CACHED", "FAILED", "SCREENED")
LISTED = (
    *("campaign_id", "status", "start_date", "end_date"),
    *("trials", "done", "failed", "created_at", "owner"),
)


@dataclass(frozen=True)
class CampaignRow:
    """A campaign as it was planned."""

    campaign_id: str
    name: str
    status: str
    code_hash: str
    start: date
    end: date
    plan: Mapping[str, Any]
    owner: str | None
    lease_until: datetime | None


@dataclass(frozen=True)
class TrialRow:
    """One variant of a campaign and what became of it.

    Attributes
    ----------
    settings : mapping of dotted settings to the values that distinguish the variant
    node : the resolved node that it is
    seconds : how long its run took; None unless it ran
    screen : figures that its screen found, or `error` and `message`; None if it was not screened
    gap_bps : how far its run was from its screen, basis points a year; None unless both are there
    """

    campaign_id: str
    sleeve_id: str
    position: int
    strategy_id: str
    market_id: str
    settings: Mapping[str, Any]
    node: Mapping[str, Any]
    status: str = "PENDING"
    attempt: int = 0
    run_id: str | None = None
    error: str | None = None
    message: str | None = None
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    screen: Mapping[str, Any] | None = None
    gap_bps: float | None = None


class CampaignStore:
    """Reads and moves campaigns, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def plan(self, campaign: CampaignRow, trials: Sequence[TrialRow]) -> None:
        """Write a campaign and its variants; what is already there stays as it is."""
        now = datetime.now(UTC)
        row = {
            "campaign_id": campaign.campaign_id,
            "name": campaign.name,
            "status": campaign.status,
            "code_hash": campaign.code_hash,
            "start_date": campaign.start,
            "end_date": campaign.end,
            "plan": dict(campaign.plan),
            "created_at": now,
            "updated_at": now,
        }
        columns = campaign_trials.columns.keys()
        rows = [tuple(getattr(trial, name) for name in columns) for trial in trials]
        with self.database.writer() as connection:
            upsert(connection, campaigns, tuple(row), [tuple(row.values())], update=False)
            upsert(connection, campaign_trials, columns, rows, update=False)

    def campaign(self, campaign_id: str) -> CampaignRow:
        """Return the one campaign whose id is or begins with `campaign_id`; `latest` is the newest.

        Raises
        ------
        StoreError
            If there is none, or more than one.
        """
        table = campaigns.c
        query = sa.select(campaigns).order_by(table.created_at.desc()).limit(2)
        if campaign_id == "latest":
            query = query.limit(1)
        else:
            query = query.where(table.campaign_id.startswith(campaign_id, autoescape=True))
        with self.database.reader() as connection:
            found = connection.execute(query).mappings().all()
        exact = [row for row in found if row["campaign_id"] == campaign_id]
        if not exact and len(found) != 1:
            problem = "more than one campaign" if found else "no campaign"
            raise StoreError(
                f"{problem} matches {campaign_id!r}; `prometheus campaign list` lists them"
            )
        row = (exact or list(found))[0]
        same = ("campaign_id", "name", "status", "code_hash", "plan", "owner", "lease_until")
        return CampaignRow(
            **{name: row[name] for name in same}, start=row["start_date"], end=row["end_date"]
        )

    def trials(self, campaign_id: str) -> list[TrialRow]:
        """Return the variants of a campaign in their order."""
        query = sa.select(campaign_trials).where(campaign_trials.c.campaign_id == campaign_id)
        with self.database.reader() as connection:
            rows = connection.execute(query.order_by(campaign_trials.c.position)).mappings()
            return [TrialRow(**row) for row in rows]

    def trial(self, campaign_id: str, sleeve_id: str) -> TrialRow:
        """Return one variant of a campaign."""
        table = campaign_trials.c
        query = sa.select(campaign_trials).where(
            table.campaign_id == campaign_id, table.sleeve_id == sleeve_id
        )
        with self.database.reader() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise StoreError(
                f"{campaign_id}: has no variant {sleeve_id!r}; "
                "`prometheus campaign status --trials` lists them"
            )
        return TrialRow(**row)

    def progress(self, campaign_id: str) -> list[tuple[str, float | None]]:
        """Return the state of every variant, and how long its run took."""
        table = campaign_trials.c
        query = sa.select(table.status, table.seconds).where(table.campaign_id == campaign_id)
        with self.database.reader() as connection:
            return [(row.status, row.seconds) for row in connection.execute(query)]

    def listing(self, limit: int) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Return the columns and rows of the newest campaigns, how far each has come among them."""
        done = sa.func.sum(sa.case((campaign_trials.c.status.in_(ENDED), 1), else_=0))
        failed = sa.func.sum(sa.case((campaign_trials.c.status == "FAILED", 1), else_=0))
        counts = (
            sa.select(
                campaign_trials.c.campaign_id,
                sa.func.count().label("trials"),
                done.label("done"),
                failed.label("failed"),
            )
            .group_by(campaign_trials.c.campaign_id)
            .subquery()
        )
        columns = {**campaigns.c, **counts.c}
        query = (
            sa.select(*(columns[name] for name in LISTED if name != "campaign_id"))
            .add_columns(campaigns.c.campaign_id)
            .join_from(campaigns, counts, campaigns.c.campaign_id == counts.c.campaign_id)
            .order_by(campaigns.c.created_at.desc(), campaigns.c.campaign_id)
            .limit(limit)
        )
        with self.database.reader() as connection:
            rows = connection.execute(query).mappings().all()
        return LISTED, [tuple(row[name] for name in LISTED) for row in rows]

    def claim(self, campaign_id: str, owner: str) -> None:
        """Take a campaign for one runner.

        Raises
        ------
        ConfigError
            If another runner is at work on it.
        """
        with self.database.writer() as connection:
            query = sa.select(campaigns.c.owner, campaigns.c.lease_until)
            held = connection.execute(query.where(campaigns.c.campaign_id == campaign_id)).one()
            if held.owner not in (None, owner) and _alive(held.owner, held.lease_until):
                raise ConfigError(
                    f"{campaign_id}: {held.owner} is running it; wait for it, or end that process"
                )
            self._set(connection, campaign_id, owner=owner, status="RUNNING")

    def renew(self, campaign_id: str, owner: str) -> None:
        """Lengthen the lease of the runner that holds it."""
        with self.database.writer() as connection:
            self._set(connection, campaign_id, owner=owner)

    def release(self, campaign_id: str, status: str) -> None:
        """Give a campaign up, in the state that it has reached."""
        with self.database.writer() as connection:
            self._set(connection, campaign_id, owner=None, status=status)

    def begin(self, campaign_id: str, sleeve_id: str, worker: str) -> None:
        """Record that a variant is being run, once more."""
        attempt = campaign_trials.c.attempt + 1
        started = {"status": "RUNNING", "worker": worker, "started_at": datetime.now(UTC)}
        cleared = dict.fromkeys(("run_id", "error", "message", "ended_at", "seconds", "gap_bps"))
        self._move(campaign_id, sleeve_id, {**started, **cleared, "attempt": attempt})

    def end(self, campaign_id: str, sleeve_id: str, status: str, **found: Any) -> None:
        """Record how a variant ended: run_id and seconds, or error and message."""
        if found.get("message") is not None:
            found["message"] = found["message"][:512]
        self._move(
            campaign_id, sleeve_id, {"status": status, "ended_at": datetime.now(UTC)} | found
        )

    def screened(self, campaign_id: str, sleeve_id: str, found: Mapping[str, Any]) -> None:
        """Record what the screen of a variant found; the variant still waits to be run."""
        self._move(campaign_id, sleeve_id, {"screen": dict(found)})

    def gaps(self, campaign_id: str) -> list[tuple[str, float | None]]:
        """Return the gap of every variant that was screened and run, in their order."""
        table = campaign_trials.c
        query = sa.select(table.sleeve_id, table.gap_bps).where(
            table.campaign_id == campaign_id,
            table.status.in_(("OK", "CACHED")),
            table.screen.is_not(None),
        )
        with self.database.reader() as connection:
            found = connection.execute(query.order_by(table.position))
            return [(row.sleeve_id, row.gap_bps) for row in found]

    def put_back(self, campaign_id: str, sleeve_id: str) -> None:
        """Make a variant wait again; its attempts stay counted."""
        self._move(campaign_id, sleeve_id, {"status": "PENDING"})

    def seconds_of_runs(self, market_id: str, limit: int = 500) -> list[tuple[float, int]]:
        """Return how long the newest variants of a market took, and their calendar days."""
        table = campaign_trials.c
        query = (
            sa.select(table.seconds, campaigns.c.start_date, campaigns.c.end_date)
            .join_from(campaign_trials, campaigns, table.campaign_id == campaigns.c.campaign_id)
            .where(table.status == "OK", table.market_id == market_id, table.seconds.is_not(None))
            .order_by(table.ended_at.desc())
            .limit(limit)
        )
        with self.database.reader() as connection:
            rows = connection.execute(query).all()
        return [(row.seconds, (row.end_date - row.start_date).days + 1) for row in rows]

    def decisions(self, engine_name: str, strategy_id: str) -> list[dict[str, Any]]:
        """Return what an engine decided for a strategy, oldest session first."""
        table = engine_decisions.c
        query = sa.select(engine_decisions).where(
            table.engine_name == engine_name, table.strategy_id == strategy_id
        )
        with self.database.reader() as connection:
            rows = connection.execute(query.order_by(table.as_of_date, table.decision_id))
            return [dict(row) for row in rows.mappings()]

    def decide(self, row: Mapping[str, Any]) -> None:
        """Write a decision; the same one twice leaves one."""
        columns = engine_decisions.columns.keys()
        with self.database.writer() as connection:
            upsert(connection, engine_decisions, columns, [tuple(row[name] for name in columns)])

    def finished_runs(self, strategy_id: str, as_of: date) -> list[dict[str, Any]]:
        """Return the finished backtests of a strategy that end by `as_of`, newest first."""
        table = backtest_runs.c
        query = sa.select(backtest_runs).where(
            table.strategy_id == strategy_id,
            table.status == "COMPLETED",
            table.mode == "BACKTEST",
            table.end_date <= as_of,
        )
        with self.database.reader() as connection:
            rows = connection.execute(query.order_by(table.created_at.desc(), table.run_id))
            return [dict(row) for row in rows.mappings()]

    def _move(self, campaign_id: str, sleeve_id: str, values: Mapping[str, Any]) -> None:
        table = campaign_trials.c
        changed = sa.update(campaign_trials).where(
            table.campaign_id == campaign_id, table.sleeve_id == sleeve_id
        )
        with self.database.writer() as connection:
            connection.execute(changed.values(**values))

    def _set(self, connection: sa.Connection, campaign_id: str, **values: Any) -> None:
        now = datetime.now(UTC)
        lease = None if values["owner"] is None else now + LEASE
        changed = sa.update(campaigns).where(campaigns.c.campaign_id == campaign_id)
        connection.execute(changed.values(updated_at=now, lease_until=lease, **values))


def _alive(owner: str, lease_until: datetime | None) -> bool:
    """Return whether the runner `host:pid:...` is at work; on this machine its process tells."""
    host, pid, *_ = owner.split(":")
    if host != socket.gethostname():
        return lease_until is not None and lease_until > datetime.now(UTC)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
