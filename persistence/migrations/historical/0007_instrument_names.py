"""Names, listings and trading metadata of instruments."""  # noqa: N999

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the tables of names, listings and trading metadata."""
    op.create_table(
        "instrument_symbols",
        sa.Column("scheme", sa.String(32), nullable=False),
        sa.Column("symbol", sa.String(50), nullable=False),
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("valid_to", sa.Date()),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instruments.instrument_id"],
            name="fk_instrument_symbols_instrument_id_instruments",
        ),
        sa.PrimaryKeyConstraint(
            "scheme", "symbol", "instrument_id", "valid_from", name="pk_instrument_symbols"
        ),
    )
    op.create_index("ix_instrument_symbols_instrument_id", "instrument_symbols", ["instrument_id"])
    op.create_table(
        "instrument_listings",
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=False),
        sa.Column("listed_on", sa.Date(), nullable=False),
        sa.Column("delisted_on", sa.Date()),
        sa.Column("reason", sa.Text()),
        sa.Column("delisting_return", sa.Double()),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instruments.instrument_id"],
            name="fk_instrument_listings_instrument_id_instruments",
        ),
        sa.PrimaryKeyConstraint(
            "instrument_id", "exchange", "listed_on", name="pk_instrument_listings"
        ),
    )
    op.create_table(
        "instrument_specs",
        sa.Column("instrument_id", sa.String(50), nullable=False),
        sa.Column("tick_size", sa.String(32)),
        sa.Column("lot_size", sa.Integer()),
        sa.Column("price_precision", sa.Integer()),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instruments.instrument_id"],
            name="fk_instrument_specs_instrument_id_instruments",
        ),
        sa.PrimaryKeyConstraint("instrument_id", name="pk_instrument_specs"),
    )


def downgrade() -> None:
    """Drop the tables of names, listings and trading metadata."""
    op.drop_table("instrument_specs")
    op.drop_table("instrument_listings")
    op.drop_table("instrument_symbols")
