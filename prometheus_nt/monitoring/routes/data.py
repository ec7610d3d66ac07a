"""The datasets that are stored, and how healthy they are."""

from datetime import date, datetime
from typing import Any

from fastapi import APIRouter

from prometheus_nt.jobs.health import FINDING_COLUMNS, audit
from prometheus_nt.monitoring.answers import Answer, AsOf, Limit, Name, Page, Part, page_of
from prometheus_nt.monitoring.desk import Desk, OurDesk, aside

router = APIRouter(prefix="/api/data", tags=["data"])

NO_DATASET = "no dataset is stored; `prometheus demo` or `prometheus data ingest` stores one"
NO_BARS = "no bar of this dataset is stored"


class DatasetRow(Part):
    """A dataset. first_date, last_date : None where it has no bar."""

    dataset_id: str
    source: str | None
    market_id: str
    adjustment: str
    synthetic_bars: bool
    description: str | None
    survivorship: str | None
    revision: int
    updated_at: datetime
    instruments: int
    bars: int
    first_date: date | None
    last_date: date | None


class InstrumentHealth(Part):
    """The health of one instrument. age : sessions that its newest bar is behind.

    last, age : null without a bar; `reason` tells.
    """

    instrument_id: str
    status: str
    last: date | None
    age: int | None
    bars: int
    gaps: int
    quarantined: int
    warnings: int
    reason: str


class Finding(Part):
    """Something that was found in the data, and where."""

    severity: str
    rule: str
    instrument_id: str | None
    trade_date: date | None
    value: str | None
    message: str
    found_by: str | None
    source_file: str | None
    source_row: int | None
    source_column: str | None


class DataHealth(Answer):
    """The health of a dataset at a session.

    received, expected : instruments with the bar of that session, and those that should have it.
    summary : status -> instruments. failures : why the audit fails, in words; none if it passes.
    """

    dataset_id: str | None
    as_of: date | None
    received: int | None
    expected: int | None
    summary: dict[str, int]
    failures: list[str]
    instruments: list[InstrumentHealth]
    findings: list[Finding]
    more_findings: bool


@router.get("/datasets")
def datasets(desk: OurDesk) -> Page[DatasetRow]:
    """Return every dataset with its extent, by id."""
    rows = [_dataset(desk, row) for row in desk.stores.historical.datasets()]
    return page_of(rows, 0, len(rows))


@router.get("/health")
@aside
def data_health(
    desk: OurDesk, dataset: Name | None = None, as_of: AsOf = None, limit: Limit = 200
) -> DataHealth:
    """Return the health of a dataset, the first by default, with its open findings."""
    store = desk.stores.historical
    chosen = dataset or next((row["dataset_id"] for row in store.datasets()), None)
    if chosen is None:
        return _nothing()
    result = audit(store, chosen, as_of=as_of)
    findings = store.quality_events(chosen, limit + 1)
    names = InstrumentHealth.model_fields
    return DataHealth(
        dataset_id=chosen,
        as_of=result.as_of,
        received=result.received,
        expected=result.expected,
        summary=result.summary(),
        failures=result.failures(),
        instruments=[
            InstrumentHealth(**dict(zip(names, row, strict=True))) for row in result.rows()
        ],
        findings=[Finding(**{name: row[name] for name in FINDING_COLUMNS}) for row in findings][
            :limit
        ],
        more_findings=len(findings) > limit,
        unknown={} if result.as_of else {"as_of": NO_BARS},
    )


def _nothing() -> DataHealth:
    names = ("dataset_id", "as_of", "received", "expected")
    return DataHealth(
        **dict.fromkeys(names),
        summary={},
        failures=[],
        instruments=[],
        findings=[],
        more_findings=False,
        unknown=dict.fromkeys(names, NO_DATASET),
    )


def _dataset(desk: Desk, row: dict[str, Any]) -> DatasetRow:
    held = desk.stores.historical.coverage(row["dataset_id"])
    firsts = [one["first_date"] for one in held if one["first_date"] is not None]
    lasts = [one["last_date"] for one in held if one["last_date"] is not None]
    facts = {name: value for name, value in row.items() if name in DatasetRow.model_fields}
    return DatasetRow(
        **facts,
        instruments=len(held),
        bars=sum(one["row_count"] or 0 for one in held),
        first_date=min(firsts, default=None),
        last_date=max(lasts, default=None),
    )
