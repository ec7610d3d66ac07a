"""What scanners found, as rows of `universe_members`: one run for each scanner and session."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import sqlalchemy as sa

from persistence.database import Database, upsert
from persistence.tables import runtime as tables
from prometheus_nt.domain.books import Tier
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode
from prometheus_nt.engines.scanner import LIMIT, Scan, ScannerParams

MEMBERS = tables.universe_members


@dataclass(frozen=True)
class RecordedScan:
    """A scan under the id of its run, and how many rows it added."""

    run_id: str
    scan: Scan
    rows_written: int


def scan_run_id(scan: Scan, params: ScannerParams, dataset_id: str) -> str:
    """Return the id of a scan: equal for the same question, answered from the same evidence.

    Data after `as_of` have no part in it.
    """
    evidence = [
        values if values.dtype != object else tuple(values.tolist()) for values in scan.values
    ]
    asked = [params.digest(), dataset_id, scan.as_of, scan.instruments]
    digest = content_hash([*asked, evidence, scan.score, scan.included])
    return f"scan-{scan.scanner_id}-{scan.as_of}-{digest[:12]}"


def record_scans(
    database: Database, scans: Sequence[Scan], params: ScannerParams, dataset_id: str
) -> list[RecordedScan]:
    """Store scans, all of them or none; what is stored already is left as it is."""
    recorded = []
    with database.writer() as connection:
        for scan in scans:
            run_id = scan_run_id(scan, params, dataset_id)
            known = sa.select(sa.exists().where(MEMBERS.c.run_id == run_id))
            rows = [] if connection.execute(known).scalar() else list(_rows(run_id, scan, params))
            upsert(connection, MEMBERS, MEMBERS.columns.keys(), rows)
            recorded.append(RecordedScan(run_id, scan, len(rows)))
    return recorded


def _rows(run_id: str, scan: Scan, params: ScannerParams) -> Iterator[tuple[Any, ...]]:
    """Yield every candidate, with each filter that it fails and what was found."""
    about = {"direction": params.direction, "logic": params.logic}
    about = {name: text for name, text in about.items() if text is not None}
    head = (run_id, Mode.BACKTEST.value, scan.scanner_id, scan.scanner_id, scan.as_of)
    model_id = f"scanner-{params.digest()}"
    parts = zip(
        scan.instruments,
        scan.included.tolist(),
        scan.score.tolist(),
        reasons_of(scan, params),
        strict=True,
    )
    for name, included, score, reasons in parts:
        tier = Tier.CORE if included else Tier.EXCLUDED
        details = about | {"failed": reasons} if reasons else about
        known = None if isnan(score) else score
        yield (*head, "INSTRUMENT", name, tier.name, included, known, details, model_id)


def reasons_of(scan: Scan, params: ScannerParams) -> list[list[dict[str, Any]]]:
    """Return for each instrument the filters that it fails, each with what was found.

    A value of None was not known.
    """
    reasons: list[list[dict[str, Any]]] = [[] for _ in scan.instruments]
    for label, values, passed in zip(scan.filters, scan.values, scan.passed, strict=True):
        for column in np.flatnonzero(~passed).tolist():
            reasons[column].append({"filter": label, "value": _plain(values[column])})
    beyond = np.flatnonzero((scan.rank >= 0) & ~scan.included)
    for column in beyond.tolist():
        place = int(scan.rank[column]) + 1
        reasons[column].append({"filter": f"{LIMIT} {params.limit}", "value": place})
    return reasons


def _plain(value: Any) -> Any:
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.floating):
        return None if np.isnan(value) else float(value)
    return value
