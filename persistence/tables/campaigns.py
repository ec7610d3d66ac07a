"""Tables of the runtime database about campaigns: what was planned, and how each variant ended."""

import sqlalchemy as sa

from persistence.tables.columns import document, key, number, table, text
from persistence.tables.types import UtcDateTime

campaigns = table(
    "campaigns",
    key("campaign_id", 96),
    text("name"),
    text("status", 16),
    text("code_hash", 32),
    sa.Column("start_date", sa.Date, nullable=False),
    sa.Column("end_date", sa.Date, nullable=False),
    # The campaign's file and the node it varies, resolved: a resume needs no file.
    document("plan"),
    # Who runs it; the lease ends by itself, so a runner that died holds nobody up for long.
    text("owner", 128, nullable=True),
    sa.Column("lease_until", UtcDateTime, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Index("ix_campaigns_created", "created_at"),
)

campaign_trials = table(
    "campaign_trials",
    key("campaign_id", 96),
    key("sleeve_id"),
    sa.Column("position", sa.Integer, nullable=False),
    text("strategy_id"),
    text("market_id", 32),
    # What distinguishes the variant, and the node that it is.
    document("settings"),
    document("node"),
    text("status", 16),
    sa.Column("attempt", sa.Integer, nullable=False),
    text("run_id", 96, nullable=True),
    text("error", nullable=True),
    text("message", 512, nullable=True),
    text("worker", 128, nullable=True),
    sa.Column("started_at", UtcDateTime, nullable=True),
    sa.Column("ended_at", UtcDateTime, nullable=True),
    number("seconds", nullable=True),
    # What its screen found, or why it found nothing; and how far the run was from it.
    document("screen"),
    number("gap_bps", nullable=True),
    sa.Index("ix_campaign_trials_position", "campaign_id", "position"),
    sa.Index("ix_campaign_trials_status", "campaign_id", "status"),
)
