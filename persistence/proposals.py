"""Proposals, the settings that were applied, and the log of what changed.

Rules of the store:

- A proposal moves PENDING -> APPROVED -> APPLIED -> REVERTED, or to REJECTED before it is applied.
- The same change of a strategy is open once: the database refuses the second.
- To apply is one transaction on the disk: the strategy's settings, the log and the proposal change
  together or not at all. So is to revert.
- Of two that apply at once one waits for the other, sees what it did, and is refused: a proposal
  was tried on the settings that were active then, and holds for no others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.tables import governance as tables
from prometheus_nt.domain.errors import ProposalRefused, StoreError
from prometheus_nt.meta.proposals import (
    OPEN,
    Status,
    change_hash,
    require_move,
    setting_of,
    settings_hash,
    with_setting,
    without_setting,
)

CHANGE_TYPE = "config_parameter_change"

EMPTY: dict[str, Any] = {}


@dataclass(frozen=True)
class Draft:
    """A proposal before it is written.

    Attributes
    ----------
    current, proposed : values of the setting; plain
    run_id : the run of the changed node that screened it
    confidence : one less the p-value of the screen's difference; None if it was not computed
    improvement, gain, calmer : of the Sharpe ratio, the annual return and the volatility; or None
    base_hash : of the strategy's applied settings that it was screened on
    screen : what the screen found
    node : the node that was screened, without the change
    arms : experiment arm -> (run id, metrics)
    """

    strategy_id: str
    market_id: str
    key: str
    current: Any
    proposed: Any
    run_id: str
    confidence: float | None
    improvement: float | None
    gain: float | None
    calmer: float | None
    rationale: str
    base_hash: str
    by: str
    screen: Mapping[str, Any]
    node: Mapping[str, Any]
    arms: Mapping[str, tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Proposal:
    """A proposal as it is stored.

    Attributes
    ----------
    screen : what the run before it was proposed found
    node : the node that was screened, without the change
    notes : who moved it, when and why, by move
    """

    proposal_id: str
    strategy_id: str
    market_id: str | None
    key: str
    current: Any
    proposed: Any
    status: str
    rationale: str | None
    run_id: str | None
    confidence: float | None
    improvement: float | None
    created_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    applied_at: datetime | None
    reverted_at: datetime | None
    screen: Mapping[str, Any]
    node: Mapping[str, Any]
    base_hash: str
    notes: Mapping[str, Any]


@dataclass(frozen=True)
class Active:
    """A strategy's applied settings, nested like a node's file; version 0 is none yet."""

    strategy_id: str
    version: int
    settings: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The hash of the settings, whatever their version."""
        return settings_hash(self.settings)


class ProposalStore:
    """Reads and moves proposals, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def propose(self, draft: Draft) -> str:
        """Write a proposal and the experiment that screened it; return its id.

        Raises
        ------
        ProposalRefused
            If the same change of the strategy is open.
        """
        proposal_id, now = f"PROP-{uuid4().hex[:12]}", datetime.now(UTC)
        with self.database.durable_writer() as connection:
            row = _proposal_row(proposal_id, draft, now)
            insert = sa.insert(tables.meta_config_proposals).values(row)
            try:
                connection.execute(insert)
            except sa.exc.IntegrityError:
                raise ProposalRefused(_duplicate(draft)) from None
            _write_experiment(connection, proposal_id, draft, now)
        return proposal_id

    def require_new(self, strategy_id: str, key: str, value: Any) -> None:
        """Refuse a change that is proposed already, before any run is made for it."""
        proposals = tables.meta_config_proposals.c
        change = change_hash(strategy_id, key, value)
        query = sa.select(proposals.proposal_id, proposals.status).where(
            proposals.open_change == change
        )
        with self.database.reader() as connection:
            found = connection.execute(query).first()
        if found is not None:
            raise ProposalRefused(
                f"{strategy_id}: {key}={value!r} is proposed already: {found[0]} is {found[1]}; "
                "decide on that one"
            )

    def find(self, text: str) -> Proposal:
        """Return the one proposal whose id is or begins with `text`; `latest` is the newest.

        Raises
        ------
        StoreError
            If there is none, or more than one.
        """
        table = tables.meta_config_proposals
        query = sa.select(table).order_by(table.c.created_at.desc())
        if text == "latest":
            query = query.limit(1)
        else:
            query = query.where(table.c.proposal_id.startswith(text, autoescape=True)).limit(2)
        with self.database.reader() as connection:
            found = connection.execute(query).mappings().all()
        if len(found) != 1:
            problem = "no proposal" if not found else "more than one proposal"
            raise StoreError(f"{problem} matches {text!r}; `prometheus meta proposals` lists them")
        return _proposal(found[0])

    def proposals(self, strategy_id: str | None = None, limit: int = 50) -> list[Proposal]:
        """Return the newest proposals, of one strategy or of all."""
        table = tables.meta_config_proposals
        query = sa.select(table).order_by(table.c.created_at.desc()).limit(limit)
        if strategy_id is not None:
            query = query.where(table.c.strategy_id == strategy_id)
        with self.database.reader() as connection:
            return [_proposal(row) for row in connection.execute(query).mappings()]

    def approve(self, proposal_id: str, by: str) -> None:
        """Record that a person wants the change; nothing is changed by it."""
        now = datetime.now(UTC)
        with self.database.durable_writer() as connection:
            row = _moved(connection, proposal_id, Status.APPROVED)
            values = {"status": Status.APPROVED.value, "approved_by": by, "approved_at": now}
            _set(connection, row, values, {"approved": _note(by, now, None)})

    def reject(self, proposal_id: str, by: str, why: str) -> None:
        """Record that a person does not want the change, and why."""
        now = datetime.now(UTC)
        with self.database.durable_writer() as connection:
            row = _moved(connection, proposal_id, Status.REJECTED)
            values = {"status": Status.REJECTED.value, "open_change": None}
            _set(connection, row, values, {"rejected": _note(by, now, why)})

    def apply(self, proposal_id: str, by: str, now: datetime | None = None) -> Active:
        """Make a proposal part of its strategy's settings, all of it or nothing.

        Parameters
        ----------
        now : datetime, optional
            When; the clock's time by default.

        Raises
        ------
        ProposalRefused
            If it is not approved, or its strategy's settings are not those it was screened on.
        """
        now = now or datetime.now(UTC)
        with self.database.durable_writer() as connection:
            row = _moved(connection, proposal_id, Status.APPLIED)
            before = _locked_settings(connection, row["strategy_id"], now)
            _require_base(row, before)
            key, value = row["target_component"], row["proposed_value"]["value"]
            after = Active(
                before.strategy_id,
                before.version + 1,
                with_setting(before.settings, key, value),
            )
            _write_settings(connection, after, now)
            _write_change(connection, row, before, after, by, now)
            values = {"status": Status.APPLIED.value, "applied_at": now, "open_change": None}
            _set(connection, row, values, {"applied": _note(by, now, None)})
        return after

    def revert(self, proposal_id: str, by: str, why: str | None = None) -> Active:
        """Put back what an applied proposal replaced, all of it or nothing.

        Raises
        ------
        ProposalRefused
            If it is not applied, or a later change of the same setting rests on it.
        """
        now = datetime.now(UTC)
        with self.database.durable_writer() as connection:
            row = _moved(connection, proposal_id, Status.REVERTED)
            before = _locked_settings(connection, row["strategy_id"], now)
            change = _change_of(connection, row["proposal_id"])
            _require_newest(connection, row, change)
            after = Active(before.strategy_id, before.version + 1, _restored(before, change))
            _write_settings(connection, after, now)
            log = tables.config_change_log
            reverted = {"is_reverted": True, "reverted_at": now, "reversion_reason": why}
            this = log.c.change_id == change["change_id"]
            connection.execute(sa.update(log).where(this).values(**reverted))
            values = {"status": Status.REVERTED.value, "reverted_at": now}
            _set(connection, row, values, {"reverted": _note(by, now, why)})
        return after

    def require_applicable(self, proposal_id: str) -> None:
        """Refuse what `apply` would refuse; change nothing."""
        with self.database.reader() as connection:
            row = _moved(connection, proposal_id, Status.APPLIED, lock=False)
            _require_base(row, _active(connection, row["strategy_id"]))

    def require_revertible(self, proposal_id: str) -> None:
        """Refuse what `revert` would refuse; change nothing."""
        with self.database.reader() as connection:
            row = _moved(connection, proposal_id, Status.REVERTED, lock=False)
            _require_newest(connection, row, _change_of(connection, row["proposal_id"]))

    def active(self, strategy_id: str) -> Active:
        """Return a strategy's applied settings; none is version 0."""
        with self.database.reader() as connection:
            return _active(connection, strategy_id)

    def in_force(self, strategy_id: str) -> dict[str, Any]:
        """Return a strategy's applied settings alone; {} too where nothing could be applied yet.

        No column that a later schema added is read: what reads a node comes before an upgrade.
        """
        if not self.database.exists:
            return {}
        table = tables.strategy_configs
        query = sa.select(table.c.config_json).where(table.c.strategy_id == strategy_id)
        with self.database.reader() as connection:
            found: dict[str, Any] | None = connection.execute(query).scalar()
        return found or {}

    def origins(self, strategy_id: str) -> dict[str, dict[str, Any]]:
        """Return, by dotted setting, the proposal that each applied setting comes from."""
        log = tables.config_change_log
        query = (
            sa.select(log)
            .where(log.c.strategy_id == strategy_id, ~log.c.is_reverted)
            .order_by(log.c.applied_at)
        )
        with self.database.reader() as connection:
            rows = connection.execute(query).mappings().all()
        return {
            row["target_component"]: {
                "value": row["new_value"]["value"],
                "proposal_id": row["proposal_id"],
                "version": row["metadata"]["version"],
                "applied_by": row["applied_by"],
                "applied_at": row["applied_at"],
            }
            for row in rows
        }

    def evaluated(
        self, proposal_id: str, window: tuple[date, date], figures: Mapping[str, float | None]
    ) -> None:
        """Write what became of an applied change over later sessions into the log.

        Parameters
        ----------
        figures : mapping
            `sharpe_before` to `risk_after`: before is the counterfactual without the change.
        """
        log = tables.config_change_log
        dates = {"evaluation_start_date": window[0], "evaluation_end_date": window[1]}
        changed = sa.update(log).where(log.c.proposal_id == proposal_id)
        with self.database.writer() as connection:
            connection.execute(changed.values(**dates, **figures))


def _duplicate(draft: Draft) -> str:
    return (
        f"{draft.strategy_id}: {draft.key}={draft.proposed!r} was proposed by somebody else just "
        "now; `prometheus meta proposals` lists it"
    )


def _proposal_row(proposal_id: str, draft: Draft, now: datetime) -> dict[str, Any]:
    return {
        "proposal_id": proposal_id,
        "run_id": draft.run_id,
        "strategy_id": draft.strategy_id,
        "market_id": draft.market_id,
        "proposal_type": CHANGE_TYPE,
        "target_component": draft.key,
        "current_value": {"value": draft.current},
        "proposed_value": {"value": draft.proposed},
        "confidence_score": draft.confidence,
        "expected_sharpe_improvement": draft.improvement,
        "expected_return_improvement": draft.gain,
        "expected_risk_reduction": draft.calmer,
        "rationale": draft.rationale,
        "supporting_metrics": dict(draft.screen),
        "status": Status.PENDING.value,
        "open_change": change_hash(draft.strategy_id, draft.key, draft.proposed),
        "metadata": {
            "base_hash": draft.base_hash,
            "node": dict(draft.node),
            "notes": {"proposed": _note(draft.by, now, draft.rationale)},
        },
        "created_at": now,
    }


def _write_experiment(
    connection: Connection, proposal_id: str, draft: Draft, now: datetime
) -> None:
    experiment_id = proposal_id.replace("PROP-", "EXP-")
    row = {
        "experiment_id": experiment_id,
        "name": f"{draft.key}={draft.proposed!r}"[:200],
        "strategy_id": draft.strategy_id,
        "status": "COMPLETED",
        "spec": {"proposal_id": proposal_id, "key": draft.key, "value": draft.proposed},
        "rationale": draft.rationale,
        "created_by": draft.by,
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(sa.insert(tables.experiments).values(row))
    results = [
        {
            "experiment_id": experiment_id,
            "arm": arm,
            "run_id": run_id,
            "metrics": dict(metrics),
            "verdict": None,
            "created_at": now,
        }
        for arm, (run_id, metrics) in draft.arms.items()
    ]
    connection.execute(sa.insert(tables.experiment_results), results)


def _proposal(row: sa.RowMapping) -> Proposal:
    told = row["metadata"] or {}
    return Proposal(
        proposal_id=row["proposal_id"],
        strategy_id=row["strategy_id"],
        market_id=row["market_id"],
        key=row["target_component"],
        current=(row["current_value"] or {}).get("value"),
        proposed=row["proposed_value"]["value"],
        status=row["status"],
        rationale=row["rationale"],
        run_id=row["run_id"],
        confidence=row["confidence_score"],
        improvement=row["expected_sharpe_improvement"],
        created_at=row["created_at"],
        approved_by=row["approved_by"],
        approved_at=row["approved_at"],
        applied_at=row["applied_at"],
        reverted_at=row["reverted_at"],
        screen=row["supporting_metrics"] or {},
        node=told.get("node", {}),
        base_hash=told.get("base_hash", ""),
        notes=told.get("notes", {}),
    )


def _note(by: str, at: datetime, why: str | None) -> dict[str, Any]:
    return {"by": by, "at": at.isoformat(), "why": why}


def _moved(
    connection: Connection, proposal_id: str, to: Status, *, lock: bool = True
) -> sa.RowMapping:
    """Return the row of a proposal that may make a move, locked until the transaction ends."""
    table = tables.meta_config_proposals
    query = sa.select(table).where(table.c.proposal_id == proposal_id)
    locked = query.with_for_update() if lock else query
    row = connection.execute(locked).mappings().first()
    if row is None:
        raise StoreError(f"{proposal_id}: no such proposal; `prometheus meta proposals` lists them")
    require_move(proposal_id, row["status"], to)
    return row


def _set(
    connection: Connection,
    row: sa.RowMapping,
    values: Mapping[str, Any],
    note: Mapping[str, Any],
) -> None:
    table = tables.meta_config_proposals
    told = row["metadata"] or {}
    metadata = {**told, "notes": {**told.get("notes", {}), **note}}
    changed = sa.update(table).where(table.c.proposal_id == row["proposal_id"])
    connection.execute(changed.values(metadata=metadata, **values))


def _active(connection: Connection, strategy_id: str, *, lock: bool = False) -> Active:
    table = tables.strategy_configs
    query = sa.select(table).where(table.c.strategy_id == strategy_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return Active(strategy_id, 0, EMPTY)
    return Active(strategy_id, row["version"], row["config_json"])


def _locked_settings(connection: Connection, strategy_id: str, now: datetime) -> Active:
    """Return a strategy's settings, which nobody else changes until the transaction ends."""
    # A lock needs a row; who inserts the same one at once waits for the other to end.
    columns = ("strategy_id", "config_json", "version", "updated_at")
    first = [(strategy_id, EMPTY, 0, now)]
    upsert(connection, tables.strategy_configs, columns, first, update=False)
    return _active(connection, strategy_id, lock=True)


def _require_base(row: sa.RowMapping, before: Active) -> None:
    if (row["metadata"] or {}).get("base_hash") != before.digest:
        raise ProposalRefused(
            f"{row['proposal_id']}: the settings of {before.strategy_id} are not those it was "
            f"tried on: another change is active since (version {before.version}); reject "
            "this one and propose it again, so that it is tried on them"
        )


def _write_settings(connection: Connection, after: Active, now: datetime) -> None:
    table = tables.strategy_configs
    changed = sa.update(table).where(table.c.strategy_id == after.strategy_id)
    values = {"config_json": dict(after.settings), "version": after.version, "updated_at": now}
    connection.execute(changed.values(**values))


def _write_change(
    connection: Connection,
    row: sa.RowMapping,
    before: Active,
    after: Active,
    by: str,
    now: datetime,
) -> None:
    change = {
        "change_id": f"CHG-{uuid4().hex[:12]}",
        "proposal_id": row["proposal_id"],
        "strategy_id": row["strategy_id"],
        "market_id": row["market_id"],
        "change_type": CHANGE_TYPE,
        "target_component": row["target_component"],
        "previous_value": setting_of(before.settings, row["target_component"]),
        "new_value": row["proposed_value"],
        "is_reverted": False,
        "applied_by": by,
        "applied_at": now,
        "metadata": {"version": after.version},
    }
    connection.execute(sa.insert(tables.config_change_log).values(change))


def _change_of(connection: Connection, proposal_id: str) -> sa.RowMapping:
    log = tables.config_change_log
    row = connection.execute(sa.select(log).where(log.c.proposal_id == proposal_id)).mappings()
    return row.one()


def _require_newest(connection: Connection, row: sa.RowMapping, change: sa.RowMapping) -> None:
    log = tables.config_change_log
    query = sa.select(log.c.proposal_id, log.c["metadata"]).where(
        log.c.strategy_id == row["strategy_id"],
        log.c.target_component == row["target_component"],
        ~log.c.is_reverted,
    )
    version = change["metadata"]["version"]
    later = [one[0] for one in connection.execute(query) if one[1]["version"] > version]
    if later:
        raise ProposalRefused(
            f"{row['proposal_id']}: {row['target_component']} was changed again by "
            f"{', '.join(later)}; revert the later change first"
        )


def _restored(before: Active, change: sa.RowMapping) -> dict[str, Any]:
    key, previous = change["target_component"], change["previous_value"]
    if previous is None:
        return without_setting(before.settings, key)
    return with_setting(before.settings, key, previous["value"])


__all__ = ["OPEN", "Active", "Draft", "Proposal", "ProposalStore"]
