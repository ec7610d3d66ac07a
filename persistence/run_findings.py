"""What stands against runs, and the cash by instrument that it takes to find it."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.tables import columns
from persistence.tables import runtime as tables
from prometheus_nt.meta.findings import RunFinding, run_finding


class FindingStore:
    """Reads and writes the findings of runs, in the runtime database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def replace(self, run: Mapping[str, Any], findings: Sequence[RunFinding]) -> None:
        """Write what stands against a run, in place of what was found before; all or nothing.

        Parameters
        ----------
        run : mapping
            run_id, mode and strategy_id.
        """
        table = tables.run_findings
        head = (run["run_id"], str(run["mode"]), run["strategy_id"])
        rows = [
            (*head, one.code, one.severity.value, one.message[:512], one.remedy[:512], evidence)
            for one in findings
            for evidence in [[dict(row) for row in one.evidence]]
        ]
        with self.database.writer() as connection:
            connection.execute(sa.delete(table).where(table.c.run_id == run["run_id"]))
            upsert(connection, table, columns.written(table), rows)

    def read(self, run_id: str) -> tuple[RunFinding, ...]:
        """Return what was found of a run, the gravest first; nothing also if nobody looked."""
        table = tables.run_findings
        query = sa.select(table).where(table.c.run_id == run_id)
        with self.database.reader() as connection:
            found = [run_finding(dict(row)) for row in connection.execute(query).mappings()]
        return tuple(sorted(found, key=lambda one: (-one.severity.rank, one.code)))

    def cash_by_instrument(self, run_id: str) -> dict[str, float]:
        """Return the cash that moved without a trade, USD by instrument: > 0 was received."""
        flows = tables.cash_flows.c
        query = (
            sa.select(flows.instrument_id, sa.func.sum(flows.amount))
            .where(flows.run_id == run_id)
            .group_by(flows.instrument_id)
        )
        with self.database.reader() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}
