"""Is a session's data there? Follow its ingest, and count what the store really holds.

1. `recorded_ingestion` marks a session IN_PROGRESS, and settles it when the ingest ends.
2. `ingestion_status` counts the instruments whose bar of the session is stored, by the rule of
   `gates.health.bar_coverage`. Enough of them are COMPLETE whatever was recorded; too few are
   FAILED once an ingest has ended, IN_PROGRESS while one runs or some bars are there, PENDING
   otherwise.
3. `is_data_ready` is the answer that a trading day waits for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from adapters.gates.health import Holding, coverage
from persistence.health import HealthStore
from persistence.historical import HistoricalStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs.health import held
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

MINIMUM_COVERAGE = 0.95
MOST_NAMED = 100
"""Missing instruments that a status lists by name."""
DATA_LATE = "data_late"
"""The rule of the alert of a session whose bars are not here in time."""


class IngestionState(StrEnum):
    """How far the ingest of one session has come."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"


@dataclass(frozen=True)
class IngestionStatus:
    """What is stored of one session of a dataset, counted.

    Attributes
    ----------
    instruments_received, instruments_expected : int
        With the bar of the session, and those that should have it.
    last_price_timestamp : datetime or None
        When the session closed, if any bar of it is stored.
    error_message, error_details
        Why the session is not complete, and the instruments that are missing.
    """

    dataset_id: str
    as_of_date: date
    market_id: str
    status: IngestionState
    instruments_received: int
    instruments_expected: int
    last_price_timestamp: datetime | None = None
    error_message: str | None = None
    error_details: dict[str, Any] | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def share(self) -> float | None:
        """The share of the expected instruments that was received; None if none is expected."""
        expected = self.instruments_expected
        return self.instruments_received / expected if expected else None


def ingestion_status(
    store: HistoricalStore, dataset_id: str, as_of: date, minimum: float = MINIMUM_COVERAGE
) -> IngestionStatus:
    """Return how far the ingest of a session has come, counted from what is stored.

    Raises
    ------
    NonSession
        If `as_of` is no session of the dataset's market.
    StoreError
        If there is no such dataset.
    """
    market_id = store.dataset(dataset_id)["market_id"]
    calendar = MarketCalendar.of(market_id)
    calendar.require_session(as_of)
    health = HealthStore(store.database)
    holdings = held(health, dataset_id, calendar, as_of)
    received, expected = coverage(holdings, as_of, calendar)
    recorded = health.ingestion_status(dataset_id, as_of) or {}
    state = _state(received, expected, minimum, recorded)
    short = state is not IngestionState.COMPLETE
    failure = (recorded.get("error_details") or {}).get("failure")
    return IngestionStatus(
        dataset_id,
        as_of,
        market_id,
        state,
        received,
        expected,
        calendar.close_time(as_of) if received else None,
        _why_short(received, expected, minimum, failure) if short else None,
        _missing(holdings, as_of, failure) if short else None,
        recorded.get("started_at"),
        recorded.get("completed_at"),
    )


def is_data_ready(
    store: HistoricalStore, dataset_id: str, as_of: date, minimum: float = MINIMUM_COVERAGE
) -> bool:
    """Return whether enough of the expected instruments have their bar of `as_of`."""
    status = ingestion_status(store, dataset_id, as_of, minimum)
    return status.status is IngestionState.COMPLETE


@contextmanager
def recorded_ingestion(
    store: HistoricalStore, dataset_id: str, as_of: date, minimum: float = MINIMUM_COVERAGE
) -> Iterator[None]:
    """Record that a session's ingest runs, and in the end what came of it.

    An error of the ingest is recorded and goes on to the caller.
    """
    health = HealthStore(store.database)
    started = datetime.now(UTC)
    before = ingestion_status(store, dataset_id, as_of, minimum)
    running = asdict(before) | {"status": str(IngestionState.IN_PROGRESS), "started_at": started}
    health.write_ingestion_status(running | {"completed_at": None, "error_details": None})
    failure = None
    try:
        yield
    except PrometheusError as error:
        failure = str(error)
        raise
    finally:
        ended = running | {
            "completed_at": datetime.now(UTC),
            "error_details": {"failure": failure},
        }
        health.write_ingestion_status(ended)
        settled = ingestion_status(store, dataset_id, as_of, minimum)
        health.write_ingestion_status(asdict(settled) | {"status": str(settled.status)})


def dataset_status(
    settings: Settings, dataset_id: str, as_of: date, minimum: float = MINIMUM_COVERAGE
) -> IngestionStatus:
    """Return the status of a session, and store it."""
    with open_stores(settings) as stores:
        status = ingestion_status(stores.historical, dataset_id, as_of, minimum)
        HealthStore(stores.historical.database).write_ingestion_status(
            asdict(status) | {"status": str(status.status)}
        )
    return status


def _state(
    received: int, expected: int, minimum: float, recorded: dict[str, Any]
) -> IngestionState:
    if expected and received >= minimum * expected:
        return IngestionState.COMPLETE
    if recorded.get("completed_at") is not None:
        return IngestionState.FAILED
    if received or recorded.get("started_at") is not None:
        return IngestionState.IN_PROGRESS
    return IngestionState.PENDING


def _why_short(received: int, expected: int, minimum: float, failure: str | None) -> str:
    if not expected:
        return "no instrument is expected: the dataset is empty"
    counted = f"{received} of {expected} instruments have their bar, {minimum:.0%} are needed"
    return f"{counted}; {failure}" if failure else counted


def _missing(holdings: list[Holding], as_of: date, failure: str | None) -> dict[str, Any]:
    alive = [each for each in holdings if not each.delisted]
    names = [each.instrument_id for each in alive if each.last != as_of]
    return {"missing": names[:MOST_NAMED], "missing_count": len(names), "failure": failure}
