"""Scenario sets that outlive the process: a row says what each is, a file holds its paths.

A file is named by the hash of what the set was made from, so that equal sets share one and none is
ever overwritten by another.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from persistence.artifacts import Artifact, RunFolder
from persistence.database import Database, upsert
from persistence.tables import runtime as tables
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.market import ScenarioSet

TABLE = tables.scenario_sets


class ScenarioStore:
    """Reads and writes the scenario sets of a home folder.

    A set is known by dataset, name and `as_of`. Saving it again changes nothing; another set of
    the same key takes its place.
    """

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._folder = RunFolder(home, "scenarios")

    def save(
        self, dataset_id: str, scenarios: ScenarioSet, spec: dict[str, Any], fingerprint: str
    ) -> dict[str, Any]:
        """Store a set; return its row.

        Parameters
        ----------
        spec : dict
            The generator's settings, as plain values.
        fingerprint : str
            Of the panel the set was made from.
        """
        known = self._rows(dataset_id=dataset_id, name=scenarios.name, as_of=scenarios.as_of)
        if known and known[0]["spec_hash"] == scenarios.spec_hash and self._is_whole(known[0]):
            return known[0]
        arrays = {"instruments": np.array(scenarios.instruments), "returns": scenarios.returns}
        written = self._folder.write_arrays(f"{scenarios.spec_hash}.npz", arrays)
        row = _row(dataset_id, scenarios, spec, fingerprint, written)
        with self._database.writer() as connection:
            upsert(connection, TABLE, tuple(row), [tuple(row.values())])
        return row

    def rows(self) -> list[dict[str, Any]]:
        """Return the row of every set, by dataset and name, newest `as_of` first."""
        return self._rows()

    def find(
        self, name: str, *, dataset_id: str | None = None, as_of: date | None = None
    ) -> dict[str, Any]:
        """Return the row of a set; without `as_of` the newest.

        Raises
        ------
        StoreError
            If there is none, or sets of several datasets have the name.
        """
        found = self._rows(dataset_id=dataset_id, name=name, as_of=as_of)
        datasets = sorted({row["dataset_id"] for row in found})
        if len(datasets) > 1:
            raise StoreError(f"{name!r} is a set of {', '.join(datasets)}; name one with --dataset")
        if not found:
            raise StoreError(f"no scenario set {name!r}; `prometheus scenarios list` lists them")
        return found[0]

    def load(self, row: dict[str, Any]) -> ScenarioSet:
        """Return the set of a row.

        Raises
        ------
        StoreError
            If its file is missing, or not the one that was recorded.
        """
        arrays = self._folder.read_arrays(f"{row['spec_hash']}.npz", row["sha256"])
        returns = arrays["returns"]
        returns.flags.writeable = False
        return ScenarioSet(
            as_of=row["as_of_date"],
            name=row["name"],
            spec_hash=row["spec_hash"],
            category=row["category"],
            instruments=tuple(arrays["instruments"].tolist()),
            returns=returns,
        )

    def _is_whole(self, row: dict[str, Any]) -> bool:
        try:
            self.load(row)
        except StoreError:
            return False
        return True

    def _rows(
        self, *, dataset_id: str | None = None, name: str | None = None, as_of: date | None = None
    ) -> list[dict[str, Any]]:
        wanted = {"dataset_id": dataset_id, "name": name, "as_of_date": as_of}
        query = (
            sa.select(TABLE)
            .where(*(TABLE.c[key] == value for key, value in wanted.items() if value is not None))
            .order_by(TABLE.c.dataset_id, TABLE.c.name, TABLE.c.as_of_date.desc())
        )
        with self._database.reader() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _row(
    dataset_id: str,
    scenarios: ScenarioSet,
    spec: dict[str, Any],
    fingerprint: str,
    written: Artifact,
) -> dict[str, Any]:
    paths, horizon, instruments = scenarios.returns.shape
    begins, ends = spec.get("base_start"), spec.get("base_end")
    return {
        "dataset_id": dataset_id,
        "name": scenarios.name,
        "as_of_date": scenarios.as_of,
        "spec_hash": scenarios.spec_hash,
        "category": scenarios.category,
        "horizon_days": horizon,
        "num_paths": paths,
        "num_instruments": instruments,
        "base_date_start": None if begins is None else date.fromisoformat(begins),
        "base_date_end": None if ends is None else date.fromisoformat(ends),
        "regime_filter": spec.get("regime"),
        "generator_spec": spec,
        "data_fingerprint": fingerprint,
        "path": written.path,
        "sha256": written.sha256,
        "bytes": written.bytes,
        "created_at": datetime.now(UTC),
    }
