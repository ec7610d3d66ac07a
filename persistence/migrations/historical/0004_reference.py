"""Statements, ratios, news, indexes, sectors, holidays and embeddings."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

DAY = {"sqlite": "date(a.timestamp)", "postgresql": "(a.timestamp AT TIME ZONE 'UTC')::date"}
DAYS_SINCE = {
    "sqlite": "CAST(julianday(news_date) - julianday(previous) AS INTEGER)",
    "postgresql": "news_date - previous",
}

# What changed later is another version of an article that was counted already.
NEWS_DAILY = """
CREATE VIEW issuer_news_daily AS
SELECT dataset_id, issuer_id, news_date, n_articles,
       {days_since} AS days_since_prev_news,
       issuer_id || ':' || news_date AS embedding_source_id
FROM (
    SELECT dataset_id, issuer_id, news_date, n_articles,
           lag(news_date) OVER (PARTITION BY dataset_id, issuer_id ORDER BY news_date) AS previous
    FROM (
        SELECT a.dataset_id, l.issuer_id, {day} AS news_date,
               count(DISTINCT a.article_id) AS n_articles
        FROM news_articles a JOIN news_links l ON l.article_id = a.article_id
        WHERE l.issuer_id IS NOT NULL AND a.known_at = a.timestamp
        GROUP BY a.dataset_id, l.issuer_id, {day}
    ) AS counted
) AS dated
"""


def upgrade() -> None:
    """Create every table of facts besides prices, and the daily count of news."""
    op.create_table(
        "joint_embeddings",
        sa.Column("joint_type", sa.String(length=32), nullable=False),
        sa.Column("scope_id", sa.String(length=16), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("entity_scope", DOCUMENT, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("vector_ref", sa.String(length=255), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "vector IS NOT NULL OR vector_ref IS NOT NULL",
            name=op.f("ck_joint_embeddings_has_vector"),
        ),
        sa.PrimaryKeyConstraint(
            "joint_type", "scope_id", "as_of_date", "model_id", name=op.f("pk_joint_embeddings")
        ),
    )
    op.create_table(
        "macro_events",
        sa.Column("event_id", sa.String(length=16), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("country", sa.String(length=32), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("text_ref", sa.String(length=255), nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_macro_events")),
    )
    with op.batch_alter_table("macro_events", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_macro_events_event_type_timestamp"),
            ["event_type", "timestamp"],
            unique=False,
        )

    op.create_table(
        "numeric_window_embeddings",
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("window_spec", DOCUMENT, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("vector_ref", sa.String(length=255), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "vector IS NOT NULL OR vector_ref IS NOT NULL",
            name=op.f("ck_numeric_window_embeddings_has_vector"),
        ),
        sa.PrimaryKeyConstraint(
            "entity_type",
            "entity_id",
            "as_of_date",
            "model_id",
            name=op.f("pk_numeric_window_embeddings"),
        ),
    )
    op.create_table(
        "text_embeddings",
        sa.Column("source_type", sa.String(length=32), nullable=False),
        sa.Column("source_id", sa.String(length=64), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("vector_ref", sa.String(length=255), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "vector IS NOT NULL OR vector_ref IS NOT NULL",
            name=op.f("ck_text_embeddings_has_vector"),
        ),
        sa.PrimaryKeyConstraint(
            "source_type", "source_id", "model_id", name=op.f("pk_text_embeddings")
        ),
    )
    op.create_table(
        "market_holidays",
        sa.Column("market_id", sa.String(length=50), nullable=False),
        sa.Column("holiday_date", sa.Date(), nullable=False),
        sa.Column("holiday_name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["market_id"], ["markets.market_id"], name=op.f("fk_market_holidays_market_id_markets")
        ),
        sa.PrimaryKeyConstraint("market_id", "holiday_date", name=op.f("pk_market_holidays")),
    )
    op.create_table(
        "earnings_calls",
        sa.Column("call_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=False),
        sa.Column("call_date", sa.Date(), nullable=False),
        sa.Column("transcript_ref", sa.String(length=255), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_earnings_calls_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("call_id", name=op.f("pk_earnings_calls")),
        sa.UniqueConstraint(
            "dataset_id", "issuer_id", "call_date", "transcript_ref", name="uq_earnings_calls_call"
        ),
    )
    op.create_table(
        "filings",
        sa.Column("filing_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=False),
        sa.Column("filing_type", sa.String(length=32), nullable=False),
        sa.Column("filing_date", sa.Date(), nullable=False),
        sa.Column("text_ref", sa.String(length=255), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.dataset_id"], name=op.f("fk_filings_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("filing_id", name=op.f("pk_filings")),
        sa.UniqueConstraint(
            "dataset_id",
            "issuer_id",
            "filing_type",
            "filing_date",
            "text_ref",
            name="uq_filings_document",
        ),
    )
    op.create_table(
        "financial_statements",
        sa.Column("statement_id", sa.String(length=16), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=False),
        sa.Column("statement_type", sa.String(length=16), nullable=False),
        sa.Column("frequency", sa.String(length=16), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=True),
        sa.Column("fiscal_period", sa.String(length=16), nullable=False),
        sa.Column("fiscal_year", sa.Integer(), nullable=False),
        sa.Column("report_date", sa.Date(), nullable=True),
        sa.Column("stated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("currency", sa.String(length=10), nullable=False),
        sa.Column("values", DOCUMENT, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "frequency IN ('QUARTERLY', 'ANNUAL')", name=op.f("ck_financial_statements_frequency")
        ),
        sa.CheckConstraint(
            "statement_type IN ('IS', 'BS', 'CF')",
            name=op.f("ck_financial_statements_statement_type"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_financial_statements_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("statement_id", name=op.f("pk_financial_statements")),
        sa.UniqueConstraint(
            "key_id", "known_at", name=op.f("uq_financial_statements_key_id_known_at")
        ),
        sa.UniqueConstraint(
            "dataset_id",
            "issuer_id",
            "statement_type",
            "frequency",
            "period_end",
            "stated_at",
            "known_at",
            name="uq_financial_statements_version",
        ),
    )
    op.create_table(
        "fundamental_ratios",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=False),
        sa.Column("frequency", sa.String(length=16), nullable=False),
        sa.Column("period_end", sa.Date(), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("roe", sa.Double(), nullable=True),
        sa.Column("roic", sa.Double(), nullable=True),
        sa.Column("gross_margin", sa.Double(), nullable=True),
        sa.Column("op_margin", sa.Double(), nullable=True),
        sa.Column("net_margin", sa.Double(), nullable=True),
        sa.Column("leverage", sa.Double(), nullable=True),
        sa.Column("interest_coverage", sa.Double(), nullable=True),
        sa.Column("revenue_growth", sa.Double(), nullable=True),
        sa.Column("eps_growth", sa.Double(), nullable=True),
        sa.Column("metrics", DOCUMENT, nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "frequency IN ('QUARTERLY', 'ANNUAL')", name=op.f("ck_fundamental_ratios_frequency")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_fundamental_ratios_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint(
            "dataset_id",
            "issuer_id",
            "frequency",
            "period_end",
            "known_at",
            name=op.f("pk_fundamental_ratios"),
        ),
    )
    op.create_table(
        "index_memberships",
        sa.Column("membership_id", sa.String(length=16), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("index_id", sa.String(length=50), nullable=False),
        sa.Column("instrument_id", sa.String(length=50), nullable=False),
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("end_date", sa.Date(), nullable=True),
        sa.Column("stated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_index_memberships_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("membership_id", name=op.f("pk_index_memberships")),
        sa.UniqueConstraint(
            "key_id", "known_at", name=op.f("uq_index_memberships_key_id_known_at")
        ),
    )
    with op.batch_alter_table("index_memberships", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_index_memberships_dataset_id_index_id_instrument_id"),
            ["dataset_id", "index_id", "instrument_id"],
            unique=False,
        )

    op.create_table(
        "news_articles",
        sa.Column("article_id", sa.String(length=16), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=True),
        sa.Column("headline", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_news_articles_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("article_id", name=op.f("pk_news_articles")),
        sa.UniqueConstraint("key_id", "known_at", name=op.f("uq_news_articles_key_id_known_at")),
    )
    with op.batch_alter_table("news_articles", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_news_articles_dataset_id_timestamp"),
            ["dataset_id", "timestamp"],
            unique=False,
        )

    op.create_table(
        "reference_revisions",
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_reference_revisions_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("dataset_id", "kind", name=op.f("pk_reference_revisions")),
    )
    op.create_table(
        "sector_history",
        sa.Column("assignment_id", sa.String(length=16), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("dataset_id", sa.String(length=64), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=False),
        sa.Column("sector", sa.String(length=100), nullable=False),
        sa.Column("industry", sa.String(length=100), nullable=True),
        sa.Column("start_date", sa.Date(), nullable=True),
        sa.Column("stated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=True),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.dataset_id"],
            name=op.f("fk_sector_history_dataset_id_datasets"),
        ),
        sa.PrimaryKeyConstraint("assignment_id", name=op.f("pk_sector_history")),
        sa.UniqueConstraint("key_id", "known_at", name=op.f("uq_sector_history_key_id_known_at")),
    )
    with op.batch_alter_table("sector_history", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_sector_history_dataset_id_issuer_id"),
            ["dataset_id", "issuer_id"],
            unique=False,
        )

    op.create_table(
        "news_links",
        sa.Column("link_id", sa.String(length=16), nullable=False),
        sa.Column("article_id", sa.String(length=16), nullable=False),
        sa.Column("issuer_id", sa.String(length=50), nullable=True),
        sa.Column("instrument_id", sa.String(length=50), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ingested_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "issuer_id IS NOT NULL OR instrument_id IS NOT NULL",
            name=op.f("ck_news_links_about_somebody"),
        ),
        sa.ForeignKeyConstraint(
            ["article_id"],
            ["news_articles.article_id"],
            name=op.f("fk_news_links_article_id_news_articles"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("link_id", name=op.f("pk_news_links")),
    )
    with op.batch_alter_table("news_links", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_news_links_article_id"), ["article_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_news_links_instrument_id"), ["instrument_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_news_links_issuer_id"), ["issuer_id"], unique=False)

    dialect = op.get_bind().dialect.name
    op.execute(NEWS_DAILY.format(day=DAY[dialect], days_since=DAYS_SINCE[dialect]))


def downgrade() -> None:
    """Drop every table of facts besides prices."""
    op.execute("DROP VIEW issuer_news_daily")
    with op.batch_alter_table("news_links", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_news_links_issuer_id"))
        batch_op.drop_index(batch_op.f("ix_news_links_instrument_id"))
        batch_op.drop_index(batch_op.f("ix_news_links_article_id"))

    op.drop_table("news_links")
    with op.batch_alter_table("sector_history", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sector_history_dataset_id_issuer_id"))

    op.drop_table("sector_history")
    op.drop_table("reference_revisions")
    with op.batch_alter_table("news_articles", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_news_articles_dataset_id_timestamp"))

    op.drop_table("news_articles")
    with op.batch_alter_table("index_memberships", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_index_memberships_dataset_id_index_id_instrument_id"))

    op.drop_table("index_memberships")
    op.drop_table("fundamental_ratios")
    op.drop_table("financial_statements")
    op.drop_table("filings")
    op.drop_table("earnings_calls")
    op.drop_table("market_holidays")
    op.drop_table("text_embeddings")
    op.drop_table("numeric_window_embeddings")
    with op.batch_alter_table("macro_events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_macro_events_event_type_timestamp"))

    op.drop_table("macro_events")
    op.drop_table("joint_embeddings")
