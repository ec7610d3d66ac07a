"""The ledger of trials: every run that was tried, by the runner's own hand, for ever.

Rules of the ledger:

- A trial is written when it starts and again when it ends; a crash leaves it counted.
- Rows are never removed; every change is an entry of the sealed stream `trials` as well, so that
  a row that disappears is found by `missing`, and one that was changed by `altered`.
- Another result of the same trial, of code that is not deterministic, is one more trial.
- A variant that was only screened is a trial; if it is run after all, the run's result takes the
  place of the screen's.
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
SCREENED = "SCREENED"

STARTED = (
    *("trial_id", "family", "market_id", "sleeve_id", "run_id", "status", "params_hash"),
    *("data_fingerprint", "code_hash", "seed", "start_date", "end_date", "recorded_at"),
)
"""What is known of a trial when it starts."""

COUNTED = ("family", "params_hash", "data_fingerprint", "seed", "start_date", "end_date")
"""What decides, with the returns, in which N a trial counts, and whether as one of its own."""


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
            _begin(connection, row)

    def complete(self, identity: RunIdentity, returns: FloatArray) -> None:
        """Record what a trial amounts to: the moments of its simple returns per session.

        If it had amounted to something else before, that stays counted, and this is one more.
        """
        found = {"status": "OK", **_moments(returns)}
        trial_id = _trial_id(identity)
        with self.database.writer() as connection:
            known = _known(connection, trial_id)
            # A screen's result is not the run's: it makes way for it, and counts no second time.
            settled = None if known is None or known[0] == SCREENED else known[1]
            if settled not in (None, found["returns_hash"]):
                trial_id = _counted_again(connection, trial_id, found["returns_hash"])
            _end(connection, trial_id, found)

    def screen(self, identity: RunIdentity, facts: Mapping[str, Any], returns: FloatArray) -> None:
        """Count a trial of which only a screen is known; nothing if it was run before.

        Parameters
        ----------
        facts : mapping
            market_id, start_date and end_date of the screen.
        """
        self.begin(identity, facts)
        trial_id = _trial_id(identity)
        with self.database.writer() as connection:
            known = _known(connection, trial_id)
            if known is not None and known[0] in ("STARTED", SCREENED):
                _end(connection, trial_id, {"status": SCREENED, **_moments(returns)})

    def fail(self, identity: RunIdentity, reason: str) -> None:
        """Record that a trial failed; it stays counted."""
        with self.database.writer() as connection:
            _end(connection, _trial_id(identity), {"status": "FAILED", "reason": reason[:512]})

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

    def altered(self) -> list[str]:
        """Return the trials of which the table says something else than the sealed stream.

        Of what decides whether and as what they count; by the time they started.
        """
        query = sa.select(*(trials.c[name] for name in ("trial_id", *COUNTED, "returns_hash")))
        with self.database.reader() as connection:
            rows = {row["trial_id"]: row for row in connection.execute(query).mappings()}
            started = events.payloads(connection, STREAM, "STARTED")
            # A run takes the place of its screen.
            ended = events.payloads(connection, STREAM, SCREENED)
            ended += events.payloads(connection, STREAM, "OK")
        returned = {told["trial_id"]: told["returns_hash"] for told in ended}
        return [
            told["trial_id"]
            for told in started
            if (row := rows.get(told["trial_id"])) is not None
            and (
                any(str(row[name]) != str(told[name]) for name in COUNTED)
                or row["returns_hash"] != returned.get(told["trial_id"])
            )
        ]


def _end(connection: Connection, trial_id: str, found: dict[str, Any]) -> None:
    if _known(connection, trial_id) == (found["status"], found.get("returns_hash")):
        return
    changed = sa.update(trials).where(trials.c.trial_id == trial_id)
    connection.execute(changed.values(recorded_at=datetime.now(UTC), **found))
    events.append(connection, STREAM, [(found["status"], {"trial_id": trial_id, **found})])


def _begin(connection: Connection, row: Mapping[str, Any]) -> None:
    """Count a trial, unless it is counted already."""
    if _known(connection, row["trial_id"]) is not None:
        return
    upsert(connection, trials, tuple(row), [tuple(row.values())], update=False)
    told = {name: value for name, value in row.items() if name != "recorded_at"}
    events.append(connection, STREAM, [("STARTED", told)])


def _counted_again(connection: Connection, trial_id: str, returns_hash: str) -> str:
    """Count another result of the same trial as a trial of its own; return its id."""
    again = content_hash([trial_id, returns_hash])
    query = sa.select(*(trials.c[name] for name in STARTED)).where(trials.c.trial_id == trial_id)
    facts = dict(connection.execute(query).mappings().one())
    new = {"trial_id": again, "status": "STARTED", "recorded_at": datetime.now(UTC)}
    _begin(connection, facts | new)
    return again


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
