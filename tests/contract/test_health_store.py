"""What the health of a dataset is computed from, on either engine."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from persistence.health import HealthStore
from persistence.historical import AUDIT, HistoricalStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import StoreError

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}
EVENT = {
    "dataset_id": "demo",
    "instrument_id": "A.US",
    "trade_date": None,
    "rule": "large_return",
    "severity": "WARNING",
    "value": "1",
    "message": "m",
}


@pytest.fixture
def store(database):
    store = HistoricalStore(database)
    store.write_dataset(DATASET)
    facts = [
        {
            "instrument_id": f"{name}.US",
            "symbol": name,
            "issuer_id": name,
            "name": name,
            "sector": None,
            "asset_class": "EQUITY",
            "exchange": None,
            "currency": "USD",
        }
        for name in "ABC"
    ]
    store.write_instruments("demo", facts)
    for name, rows in (("A.US", [0, 1, 4, 5]), ("B.US", [6, 7, 8])):
        days = SESSIONS[rows]
        columns = ("open", "high", "low", "close", "adjusted_close", "volume")
        prices = {column: np.full(len(days), 10.0) for column in columns} | {"trade_date": days}
        store.write_prices("demo", name, prices, source="test")
    return store


@pytest.fixture
def health(store):
    return HealthStore(store.database)


def test_holdings_are_what_was_stored_up_to_the_session(health):
    day = SESSIONS[4].astype(object)

    rows = {row["instrument_id"]: row for row in health.holdings("demo", day)}

    a, b, c = (rows[f"{name}.US"] for name in "ABC")
    assert (a["first_date"], a["last_date"], a["row_count"]) == (date(2024, 1, 2), day, 3)
    assert (b["row_count"], b["last_date"]) == (0, None)
    assert b["listed_on"] == SESSIONS[6].astype(object)
    assert (c["row_count"], c["listed_on"]) == (0, None)
    assert health.sessions("demo", "A.US", day).tolist() == SESSIONS[[0, 1, 4]].tolist()


def test_holdings_of_no_session_are_all_that_is_stored(health):
    counts = {row["instrument_id"]: row["row_count"] for row in health.holdings("demo")}

    assert counts == {"A.US": 4, "B.US": 3, "C.US": 0}
    with pytest.raises(StoreError, match="known datasets: demo"):
        health.holdings("none")


def test_an_ingest_and_an_audit_resolve_their_own_findings_only(store, health):
    audited = EVENT | {"rule": "stale"}
    store.write_quality_events("demo", "A.US", [EVENT])
    store.write_quality_events("demo", "A.US", [audited], found_by=AUDIT)

    store.write_quality_events("demo", "A.US", [])
    (still,) = store.quality_events("demo")
    (resolved,) = store.quality_events("demo", resolved=True)

    assert (still["rule"], still["found_by"], still["resolved_by"]) == ("stale", "audit", None)
    assert (resolved["rule"], resolved["resolved_by"]) == ("large_return", "ingest")
    assert resolved["resolved_at"] is not None
    (counted,) = health.open_findings("demo")
    assert counted == {
        "instrument_id": "A.US",
        "found_by": "audit",
        "severity": "WARNING",
        "rule": "stale",
        "findings": 1,
    }


def test_a_finding_that_comes_back_is_resolved_by_nobody(store):
    for events in ([EVENT], [], [EVENT]):
        store.write_quality_events("demo", "A.US", events)

    (event,) = store.quality_events("demo", rule="large_return")

    assert (event["resolved_at"], event["resolved_by"]) == (None, None)
    assert store.quality_events("demo", rule="stale") == []


def test_an_origin_is_remembered_and_outlives_the_next_ingest(store, health):
    health.remember_origin("demo", {"kind": "csv", "path": "/data"})
    health.remember_origin("absent", {"kind": "csv"})

    store.write_dataset(DATASET)

    assert store.dataset("demo")["origin"] == {"kind": "csv", "path": "/data"}


def test_the_status_of_an_ingest_is_one_row_per_session(health):
    started = datetime(2024, 1, 5, 22, tzinfo=UTC)
    status = {
        "dataset_id": "demo",
        "as_of_date": date(2024, 1, 5),
        "market_id": "US_EQ",
        "status": "IN_PROGRESS",
        "instruments_received": 0,
        "instruments_expected": 3,
        "started_at": started,
        "error_details": {"missing": ["A.US"]},
    }
    health.write_ingestion_status(status)
    first = health.ingestion_status("demo", date(2024, 1, 5))

    health.write_ingestion_status(status | {"status": "COMPLETE", "instruments_received": 3})
    second = health.ingestion_status("demo", date(2024, 1, 5))

    assert first["started_at"] == started and first["error_details"] == {"missing": ["A.US"]}
    assert (second["status"], second["instruments_received"]) == ("COMPLETE", 3)
    assert second["created_at"] == first["created_at"]
    assert health.ingestion_status("demo", date(2024, 1, 4)) is None
    with pytest.raises(StoreError):
        health.write_ingestion_status(status | {"status": "DONE"})
