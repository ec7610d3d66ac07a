"""The ledger of trials: every run that was tried, by the runner's own hand, for ever.

Rules of the ledger:

- A trial is written when it starts and again when it ends; a crash leaves it counted.
- Rows are never removed; every change is an entry of the sealed stream `trials` as well, so that
  a row that disappears is found by `missing`.
- A look at a hold-out is sealed as well, each time, whatever came of it.
- N is what was tried on data that overlap, not what one campaign tried. The same settings on the
  same data with the same returns are one trial, whatever version of the code made them.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from persistence import events
from persistence.database import Database, upsert
from persistence.tables.operations import trials
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.domain.runs import RunIdentity
from prometheus_nt.meta.sharpe import sharpe_moments

STREAM = "trials"
LOOK = "HOLDOUT_LOOK"


class TrialLedger:
    """Every trial of every family, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def begin(self, identity: RunIdentity, facts: Mapping[str, Any]) -> None:
        """Count a trial before anything of it is known.

        Parameters
        ----------
        facts : mapping
            market_id, start_date and end_date of the run.
        """
        row = {
            "trial_id": _trial_id(identity),
            "family": identity.strategy_id,
            "market_id": facts["market_id"],
            "sleeve_id": identity.sleeve_id,
            "run_id": identity.run_id,
            "status": "STARTED",
            "params_hash": identity.config_hash,
            "data_fingerprint": identity.data_fingerprint,
            "code_hash": identity.code_hash,
            "seed": identity.seed,
            "start_date": facts["start_date"],
            "end_date": facts["end_date"],
            "recorded_at": datetime.now(UTC),
        }
        with self.database.writer() as connection:
            known = sa.select(trials.c.trial_id).where(trials.c.trial_id == row["trial_id"])
            if connection.execute(known).first() is not None:
                return
            upsert(connection, trials, tuple(row), [tuple(row.values())])
            told = {name: value for name, value in row.items() if name != "recorded_at"}
            events.append(connection, STREAM, [("STARTED", told)])

    def complete(self, identity: RunIdentity, returns: FloatArray) -> None:
        """Record what a trial amounts to: the moments of its simple returns per session."""
        self._end(identity, {"status": "OK", **_moments(returns)})

    def fail(self, identity: RunIdentity, reason: str) -> None:
        """Record that a trial failed; it stays counted."""
        self._end(identity, {"status": "FAILED", "reason": reason[:512]})

    def attempts(self, family: str, start: date, end: date) -> int:
        """Return how many different things a family tried on data that overlap these sessions."""
        columns = ("params_hash", "data_fingerprint", "seed", "returns_hash", "trial_id")
        query = sa.select(*(trials.c[name] for name in columns)).where(
            trials.c.family == family, trials.c.start_date <= end, trials.c.end_date >= start
        )
        with self.database.reader() as connection:
            rows = connection.execute(query).all()
        return len({(*row[:3], row[3] or row[4]) for row in rows})

    def knows(self, family: str, params_hash: str) -> bool:
        """Return whether a family ever tried these settings on any data."""
        query = sa.select(trials.c.trial_id).where(
            trials.c.family == family, trials.c.params_hash == params_hash
        )
        with self.database.reader() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def look(self, told: Mapping[str, Any]) -> int:
        """Seal a look at a hold-out, before it is taken; return how many there were of it.

        Parameters
        ----------
        told : mapping
            family, start and end of the hold-out at least.
        """
        with self.database.writer() as connection:
            events.append(connection, STREAM, [(LOOK, told)])
        return self.looks(told["family"], told["start"], told["end"])

    def looks(self, family: str, start: str, end: str) -> int:
        """Return how often a family looked at a hold-out that overlaps these ISO dates."""
        with self.database.reader() as connection:
            found = events.payloads(connection, STREAM, LOOK)
        return sum(
            one["family"] == family and one["start"] <= end and one["end"] >= start for one in found
        )

    def missing(self) -> list[str]:
        """Return the trials that the sealed stream knows and the table does not."""
        with self.database.reader() as connection:
            known = set(connection.execute(sa.select(trials.c.trial_id)).scalars())
            started = events.payloads(connection, STREAM, "STARTED")
        return [told["trial_id"] for told in started if told["trial_id"] not in known]

    def _end(self, identity: RunIdentity, found: dict[str, Any]) -> None:
        trial_id = _trial_id(identity)
        with self.database.writer() as connection:
            if _known(connection, trial_id) == (found["status"], found.get("returns_hash")):
                return
            changed = sa.update(trials).where(trials.c.trial_id == trial_id)
            connection.execute(changed.values(recorded_at=datetime.now(UTC), **found))
            events.append(connection, STREAM, [(found["status"], {"trial_id": trial_id, **found})])


def _trial_id(identity: RunIdentity) -> str:
    return content_hash([identity])


def _known(connection: Connection, trial_id: str) -> tuple[str, str | None] | None:
    query = sa.select(trials.c.status, trials.c.returns_hash).where(trials.c.trial_id == trial_id)
    row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])


def _moments(returns: FloatArray) -> dict[str, Any]:
    """Return the moments as columns; those of a record that has none are unknown."""
    found: dict[str, Any] = {
        "observations": len(returns),
        "returns_hash": content_hash([np.asarray(returns, np.float64)]),
        "reason": None,
    }
    try:
        moments = sharpe_moments(returns)
    except DataError as undefined:
        return found | {"reason": str(undefined)}
    return found | {
        "sharpe_per_session": moments.sharpe,
        "skew": moments.skew,
        "kurtosis": moments.kurtosis,
        "autocorrelation": moments.autocorrelation,
    }
