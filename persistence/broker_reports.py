"""What brokers said they hold when books were compared with them: a sealed stream for each run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence import events
from persistence.tables.operations import events as entries

STREAM = "broker:"
"""How the names of the streams begin; the run's id follows."""

SAID = "POSITIONS_SAID"
"""Kind of the entries."""


@dataclass(frozen=True)
class BrokerReport:
    """What a broker said of an account, beside what our books said at the same moment.

    as_of : newest close that the books have; None before their first.
    runs : whose books share the account and were compared together, sorted.
    shares, books : signed shares by instrument, at the broker and in all those books together.
    cash : USD at the broker.
    """

    account_id: str
    at: datetime
    as_of: date | None
    runs: tuple[str, ...]
    shares: Mapping[str, float]
    books: Mapping[str, float]
    cash: float

    @property
    def breaks(self) -> dict[str, float]:
        """Return what the broker holds beyond the books, of instruments that differ."""
        names = sorted(self.shares.keys() | self.books.keys())
        apart = {name: self.shares.get(name, 0) - self.books.get(name, 0) for name in names}
        return {name: shares for name, shares in apart.items() if shares}


def keep(connection: Connection, report: BrokerReport) -> None:
    """Add a report to the stream of each of its runs, in the caller's transaction.

    What a run's newest entry says already is not said again: its time is when it was said first.
    """
    document = _document(report)
    for run_id in report.runs:
        last = next(_newest_first(connection, run_id, limit=1), None)
        if last is None or {**last, "at": None} != {**document, "at": None}:
            events.append(connection, f"{STREAM}{run_id}", [(SAID, document)])


def newest(connection: Connection, run_id: str, as_of: date | None = None) -> BrokerReport | None:
    """Return what was said last of a run's account, up to the close of `as_of`; None if nothing."""
    said = _newest_first(connection, run_id, limit=1 if as_of is None else None)
    reports = (_report(each) for each in said)
    return next((one for one in reports if as_of is None or _day(one) <= as_of), None)


def _day(report: BrokerReport) -> date:
    return report.as_of or report.at.date()


def _newest_first(connection: Connection, run_id: str, limit: int | None) -> Any:
    query = sa.select(entries.c.payload).where(
        entries.c.stream == f"{STREAM}{run_id}", entries.c.kind == SAID
    )
    texts = connection.execute(query.order_by(entries.c.sequence.desc()).limit(limit)).scalars()
    return (json.loads(text) for text in texts)


def _document(report: BrokerReport) -> dict[str, Any]:
    held = {name: shares for name, shares in report.shares.items() if shares}
    ours = {name: shares for name, shares in report.books.items() if shares}
    return {
        "account_id": report.account_id,
        "at": report.at.isoformat(),
        "as_of": None if report.as_of is None else report.as_of.isoformat(),
        "runs": list(report.runs),
        "shares": held,
        "books": ours,
        "cash": report.cash,
    }


def _report(said: Mapping[str, Any]) -> BrokerReport:
    return BrokerReport(
        account_id=said["account_id"],
        at=datetime.fromisoformat(said["at"]),
        as_of=None if said["as_of"] is None else date.fromisoformat(said["as_of"]),
        runs=tuple(said["runs"]),
        shares=said["shares"],
        books=said["books"],
        cash=said["cash"],
    )
