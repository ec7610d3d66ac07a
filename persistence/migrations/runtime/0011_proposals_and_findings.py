"""Findings of runs; proposals that are open once; versions of a strategy's applied settings."""  # noqa: N999

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"

DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)


def upgrade() -> None:
    """Create the table of findings; nothing wrote proposals or applied settings until now."""
    op.create_table(
        "run_findings",
        sa.Column("run_id", sa.String(length=96), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("strategy_id", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("message", sa.String(length=512), nullable=False),
        sa.Column("remedy", sa.String(length=512), nullable=False),
        sa.Column("evidence", DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "code", name=op.f("pk_run_findings")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("meta_config_proposals", schema=None) as batch_op:
        batch_op.add_column(sa.Column("open_change", sa.String(length=32), nullable=True))
        batch_op.alter_column("confidence_score", existing_type=sa.Double(), nullable=True)
        batch_op.create_unique_constraint(
            op.f("uq_meta_config_proposals_open_change"), ["open_change"]
        )
    with op.batch_alter_table("strategy_configs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("version", sa.Integer(), nullable=True))
    # A row that somebody wrote by hand is the first version.
    op.execute("UPDATE strategy_configs SET version = 1")
    with op.batch_alter_table("strategy_configs", schema=None) as batch_op:
        batch_op.alter_column("version", existing_type=sa.Integer(), nullable=False)


def downgrade() -> None:
    """Drop what was added; a proposal without a confidence gets 0."""
    with op.batch_alter_table("strategy_configs", schema=None) as batch_op:
        batch_op.drop_column("version")
    op.execute(
        "UPDATE meta_config_proposals SET confidence_score = 0 WHERE confidence_score IS NULL"
    )
    with op.batch_alter_table("meta_config_proposals", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("uq_meta_config_proposals_open_change"), type_="unique")
        batch_op.alter_column("confidence_score", existing_type=sa.Double(), nullable=False)
        batch_op.drop_column("open_change")
    op.drop_table("run_findings")
