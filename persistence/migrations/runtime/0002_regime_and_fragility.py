"""Regimes, their transitions, and fragility."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the tables of the regime and fragility engines."""
    op.create_table(
        "fragility_measures",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("entity_id", sa.String(length=64), nullable=False),
        sa.Column("fragility_score", sa.Double(), nullable=True),
        sa.Column("fragility_class", sa.String(length=32), nullable=True),
        sa.Column("drawdown_probability", sa.Double(), nullable=True),
        sa.Column("scenario_losses", DOCUMENT, nullable=True),
        sa.Column("components", DOCUMENT, nullable=True),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "entity_type", "as_of_date", "entity_id", name=op.f("pk_fragility_measures")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "regime_transitions",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("from_regime_label", sa.String(length=32), nullable=False),
        sa.Column("to_regime_label", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint(
            "run_id", "region", "as_of_date", name=op.f("pk_regime_transitions")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "regimes",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("as_of_date", sa.Date(), nullable=False),
        sa.Column("regime_label", sa.String(length=32), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("probabilities", DOCUMENT, nullable=False),
        sa.Column("change_risk", DOCUMENT, nullable=False),
        sa.Column("features", DOCUMENT, nullable=False),
        sa.Column("model_id", sa.String(length=96), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "region", "as_of_date", name=op.f("pk_regimes")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables of the regime and fragility engines."""
    op.drop_table("regimes")
    op.drop_table("regime_transitions")
    op.drop_table("fragility_measures")
