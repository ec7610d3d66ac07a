"""What was known of a dataset's instruments besides their prices, at the close of a session."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from persistence.embeddings import LISTED, EmbeddingStore
from persistence.reference_store import RATIOS, ReferenceStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

Listing = tuple[tuple[str, ...], list[tuple[Any, ...]]]


@dataclass(frozen=True)
class FactFilters:
    """Whose facts to list; `as_of` None is now."""

    dataset: str | None = None
    instrument: str | None = None
    as_of: date | None = None
    limit: int = 50


@dataclass(frozen=True)
class _Question:
    """A question to the reference store: at which instant, on which day, about whom."""

    store: ReferenceStore
    dataset: str
    instant: datetime
    day: date
    instrument: str | None
    issuer: str | None
    limit: int

    @property
    def about_issuer(self) -> dict[str, str]:
        return {} if self.issuer is None else {"issuer_id": self.issuer}

    @property
    def about_instrument(self) -> dict[str, str]:
        return {} if self.instrument is None else {"instrument_id": self.instrument}


def known_facts(settings: Settings, what: str, filters: FactFilters) -> Listing:
    """Return the columns and rows of one of `FACT_LISTINGS`.

    Raises
    ------
    ConfigError
        If no dataset is named, or the dataset has no such instrument.
    StoreError
        If there is no such dataset.
    """
    if filters.dataset is None:
        raise ConfigError(f"show {what}: of which dataset? add --dataset; `data list` names them")
    columns, ask = FACT_LISTINGS[what]
    with open_stores(settings) as stores:
        dataset = stores.historical.dataset(filters.dataset)
        instruments = stores.historical.instruments(filters.dataset)
        issuers = {row["instrument_id"]: row["issuer_id"] for row in instruments}
        # The index may hold what the dataset has no prices of.
        if filters.instrument not in (None, *issuers) and what != "membership":
            raise ConfigError(
                f"--instrument-id: dataset {filters.dataset!r} has no {filters.instrument!r}"
            )
        instant, day = _moment(dataset["market_id"], filters.as_of)
        rows = ask(
            _Question(
                ReferenceStore(stores.historical.database),
                filters.dataset,
                instant,
                day,
                filters.instrument,
                issuers.get(filters.instrument or ""),
                filters.limit,
            )
        )
    return columns, [tuple(row[name] for name in columns) for row in rows[: filters.limit]]


def _moment(market_id: str, as_of: date | None) -> tuple[datetime, date]:
    """Return the close of the newest session up to `as_of`, and its day; or now, and today."""
    if as_of is None:
        now = datetime.now(UTC)
        return now, now.date()
    calendar = MarketCalendar.of(market_id)
    session = calendar.roll_back(as_of)
    return calendar.close_time(session), session


def _statements(question: _Question) -> list[dict[str, Any]]:
    return question.store.statements(question.dataset, question.instant, **question.about_issuer)


def _ratios(question: _Question) -> list[dict[str, Any]]:
    return question.store.ratios(question.dataset, question.instant, **question.about_issuer)


def _news(question: _Question) -> list[dict[str, Any]]:
    asked = (question.dataset, question.instant, question.instrument, question.limit)
    return question.store.news(*asked)


def _membership(question: _Question) -> list[dict[str, Any]]:
    about = question.about_instrument
    return question.store.memberships(question.dataset, question.instant, question.day, **about)


def _sectors(question: _Question) -> list[dict[str, Any]]:
    return question.store.sectors(question.dataset, question.instant, **question.about_issuer)


def _embeddings(question: _Question) -> list[dict[str, Any]]:
    store = EmbeddingStore(question.store.database)
    return store.listed(question.dataset, question.instant, question.instrument, question.limit)


def _filings(question: _Question) -> list[dict[str, Any]]:
    return question.store.filings(question.dataset, question.instant, **question.about_issuer)


def _calls(question: _Question) -> list[dict[str, Any]]:
    return question.store.earnings_calls(
        question.dataset, question.instant, **question.about_issuer
    )


def _macro_events(question: _Question) -> list[dict[str, Any]]:
    return question.store.macro_events(question.instant)


PERIOD = ("issuer_id", "frequency", "period_end")
FACT_LISTINGS: dict[str, tuple[tuple[str, ...], Callable[[_Question], list[dict[str, Any]]]]] = {
    "statements": (
        (*PERIOD, "statement_type", "report_date", "known_at", "currency", "values"),
        _statements,
    ),
    "ratios": ((*PERIOD, "known_at", *RATIOS), _ratios),
    "news": (("timestamp", "source", "headline", "language", "known_at"), _news),
    "membership": (
        ("index_id", "instrument_id", "start_date", "end_date", "known_at"),
        _membership,
    ),
    "sectors": (("issuer_id", "sector", "industry", "start_date", "known_at"), _sectors),
    "embeddings": (LISTED, _embeddings),
    "filings": (("issuer_id", "filing_type", "filing_date", "text_ref", "known_at"), _filings),
    "earnings-calls": (("issuer_id", "call_date", "transcript_ref", "known_at"), _calls),
    "macro-events": (
        ("event_type", "timestamp", "country", "description", "known_at"),
        _macro_events,
    ),
}
"""What can be listed -> its columns, and who answers."""

WITHOUT_SOURCE = {
    "filings": "no source here states filings: this table is kept for one that does",
    "earnings-calls": "no source here states earnings calls: this table is kept for one that does",
    "macro-events": "no source here states macro events: this table is kept for one that does",
    "embeddings": "no vectors are stored; `prometheus data embed DATASET` computes them",
}
"""Why a listing is empty where it is nobody's mistake."""
