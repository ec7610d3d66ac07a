"""Tables of the historical database besides prices: accounts, news, indexes, sectors, embeddings.

A fact that a source states has two times. `stated_at` is when it was known as the source says, and
part of its natural key; `known_at` is when it may be used. They differ only where a source came to
say something else of the same key: that is a new version, known from the time we were told.
`key_id` is the hash of the natural key, which may hold unknowns: all versions share it.
"""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from persistence.tables.historical import HISTORICAL
from persistence.tables.types import JSON, UtcDateTime

FREQUENCIES = "frequency IN ('QUARTERLY', 'ANNUAL')"


def _dataset() -> Column[str]:
    return Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), nullable=False)


def _key() -> Column[str]:
    return Column("key_id", String(16), nullable=False)


def _provenance() -> tuple[Column[str], Column[object], Column[object]]:
    return (
        Column("source", String(128), nullable=False),
        Column("known_at", UtcDateTime, nullable=False),
        Column("ingested_at", UtcDateTime, nullable=False),
    )


reference_revisions = Table(
    "reference_revisions",
    HISTORICAL,
    # Risen by every write that changed something: whoever caches what these tables say need not
    # count their rows to know that the cache is fresh.
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
)

financial_statements = Table(
    "financial_statements",
    HISTORICAL,
    Column("statement_id", String(16), primary_key=True),
    _key(),
    _dataset(),
    Column("issuer_id", String(50), nullable=False),
    Column("statement_type", String(16), nullable=False),
    Column("frequency", String(16), nullable=False),
    Column("period_end", Date, nullable=False),
    Column("period_start", Date),
    Column("fiscal_period", String(16), nullable=False),
    Column("fiscal_year", Integer, nullable=False),
    Column("report_date", Date),
    Column("stated_at", UtcDateTime, nullable=False),
    Column("currency", String(10), nullable=False),
    Column("values", JSON, nullable=False),
    Column("metadata", JSON),
    *_provenance(),
    UniqueConstraint(
        *("dataset_id", "issuer_id", "statement_type", "frequency", "period_end"),
        *("stated_at", "known_at"),
        name="uq_financial_statements_version",
    ),
    UniqueConstraint("key_id", "known_at"),
    CheckConstraint("statement_type IN ('IS', 'BS', 'CF')", name="statement_type"),
    CheckConstraint(FREQUENCIES, name="frequency"),
)

fundamental_ratios = Table(
    "fundamental_ratios",
    HISTORICAL,
    # Computed by us from financial_statements: a row for every time one of a period's figures
    # became known, from what was known then.
    Column("dataset_id", String(64), ForeignKey("datasets.dataset_id"), primary_key=True),
    Column("issuer_id", String(50), primary_key=True),
    Column("frequency", String(16), primary_key=True),
    Column("period_end", Date, primary_key=True),
    Column("known_at", UtcDateTime, primary_key=True),
    Column("period_start", Date, nullable=False),
    Column("roe", Double),
    Column("roic", Double),
    Column("gross_margin", Double),
    Column("op_margin", Double),
    Column("net_margin", Double),
    Column("leverage", Double),
    Column("interest_coverage", Double),
    Column("revenue_growth", Double),
    Column("eps_growth", Double),
    Column("metrics", JSON),
    Column("metadata", JSON),
    Column("source", String(128), nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    CheckConstraint(FREQUENCIES, name="frequency"),
)

news_articles = Table(
    "news_articles",
    HISTORICAL,
    Column("article_id", String(16), primary_key=True),
    _key(),
    _dataset(),
    # When it was published; `known_at` is later for a text that was changed afterwards.
    Column("timestamp", UtcDateTime, nullable=False),
    Column("language", String(16)),
    Column("headline", Text, nullable=False),
    Column("body", Text),
    Column("metadata", JSON),
    *_provenance(),
    Index(None, "dataset_id", "timestamp"),
    UniqueConstraint("key_id", "known_at"),
)

news_links = Table(
    "news_links",
    HISTORICAL,
    Column("link_id", String(16), primary_key=True),
    Column(
        "article_id",
        String(16),
        ForeignKey("news_articles.article_id", ondelete="CASCADE"),
        nullable=False,
    ),
    # One of the two may be unknown: an issuer without an instrument of ours, or the reverse.
    Column("issuer_id", String(50)),
    Column("instrument_id", String(50)),
    Column("known_at", UtcDateTime, nullable=False),
    Column("ingested_at", UtcDateTime, nullable=False),
    CheckConstraint("issuer_id IS NOT NULL OR instrument_id IS NOT NULL", name="about_somebody"),
    Index(None, "article_id"),
    Index(None, "issuer_id"),
    Index(None, "instrument_id"),
)

index_memberships = Table(
    "index_memberships",
    HISTORICAL,
    Column("membership_id", String(16), primary_key=True),
    _key(),
    _dataset(),
    Column("index_id", String(50), nullable=False),
    Column("instrument_id", String(50), nullable=False),
    # From `start_date` until before `end_date`; None is before all records, and still there.
    Column("start_date", Date),
    Column("end_date", Date),
    Column("stated_at", UtcDateTime, nullable=False),
    Column("metadata", JSON),
    *_provenance(),
    Index(None, "dataset_id", "index_id", "instrument_id"),
    UniqueConstraint("key_id", "known_at"),
)

sector_history = Table(
    "sector_history",
    HISTORICAL,
    Column("assignment_id", String(16), primary_key=True),
    _key(),
    _dataset(),
    Column("issuer_id", String(50), nullable=False),
    Column("sector", String(100), nullable=False),
    Column("industry", String(100)),
    Column("start_date", Date),
    Column("stated_at", UtcDateTime, nullable=False),
    Column("metadata", JSON),
    *_provenance(),
    Index(None, "dataset_id", "issuer_id"),
    UniqueConstraint("key_id", "known_at"),
)

market_holidays = Table(
    "market_holidays",
    HISTORICAL,
    Column("market_id", String(50), ForeignKey("markets.market_id"), primary_key=True),
    Column("holiday_date", Date, primary_key=True),
    Column("holiday_name", String(200), nullable=False),
    *_provenance(),
)

# No source of ours states the next three: filings and calls need one of documents, macro events one
# of economic releases. `show` says so, and docs/tables.md.
filings = Table(
    "filings",
    HISTORICAL,
    Column("filing_id", String(16), primary_key=True),
    _dataset(),
    Column("issuer_id", String(50), nullable=False),
    Column("filing_type", String(32), nullable=False),
    Column("filing_date", Date, nullable=False),
    Column("text_ref", String(255), nullable=False),
    Column("metadata", JSON),
    *_provenance(),
    UniqueConstraint(
        *("dataset_id", "issuer_id", "filing_type", "filing_date", "text_ref"),
        name="uq_filings_document",
    ),
)

earnings_calls = Table(
    "earnings_calls",
    HISTORICAL,
    Column("call_id", String(16), primary_key=True),
    _dataset(),
    Column("issuer_id", String(50), nullable=False),
    Column("call_date", Date, nullable=False),
    Column("transcript_ref", String(255), nullable=False),
    Column("metadata", JSON),
    *_provenance(),
    UniqueConstraint(
        *("dataset_id", "issuer_id", "call_date", "transcript_ref"), name="uq_earnings_calls_call"
    ),
)

macro_events = Table(
    "macro_events",
    HISTORICAL,
    Column("event_id", String(16), primary_key=True),
    Column("event_type", String(64), nullable=False),
    Column("timestamp", UtcDateTime, nullable=False),
    Column("country", String(32)),
    Column("description", Text, nullable=False),
    Column("text_ref", String(255)),
    Column("metadata", JSON),
    *_provenance(),
    Index(None, "event_type", "timestamp"),
)

# Vectors are little-endian float32, or a reference to where they are kept; `data embed` writes
# them.
text_embeddings = Table(
    "text_embeddings",
    HISTORICAL,
    Column("source_type", String(32), primary_key=True),
    Column("source_id", String(64), primary_key=True),
    Column("model_id", String(64), primary_key=True),
    Column("vector", LargeBinary),
    Column("vector_ref", String(255)),
    Column("known_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("vector IS NOT NULL OR vector_ref IS NOT NULL", name="has_vector"),
)

numeric_window_embeddings = Table(
    "numeric_window_embeddings",
    HISTORICAL,
    Column("entity_type", String(32), primary_key=True),
    Column("entity_id", String(64), primary_key=True),
    Column("as_of_date", Date, primary_key=True),
    Column("model_id", String(64), primary_key=True),
    Column("window_spec", JSON, nullable=False),
    Column("vector", LargeBinary),
    Column("vector_ref", String(255)),
    Column("known_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("vector IS NOT NULL OR vector_ref IS NOT NULL", name="has_vector"),
)

joint_embeddings = Table(
    "joint_embeddings",
    HISTORICAL,
    Column("joint_type", String(32), primary_key=True),
    # The hash of `entity_scope`, which as a document cannot be part of a key.
    Column("scope_id", String(16), primary_key=True),
    Column("as_of_date", Date, primary_key=True),
    Column("model_id", String(64), primary_key=True),
    Column("entity_scope", JSON, nullable=False),
    Column("vector", LargeBinary),
    Column("vector_ref", String(255)),
    Column("known_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("vector IS NOT NULL OR vector_ref IS NOT NULL", name="has_vector"),
)
