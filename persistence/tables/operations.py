"""Tables of the runtime database about the system's own work: days, trials, events."""

import sqlalchemy as sa

from persistence.tables.columns import document, key, number, table, text
from persistence.tables.types import UtcDateTime

engine_runs = table(
    "engine_runs",
    key("run_id", 96),
    sa.Column("as_of_date", sa.Date, nullable=False),
    text("region", 32),
    text("mode", 16),
    text("strategy_id"),
    text("phase", 32),
    # Where a failed run goes on when it is retried.
    text("failed_phase", 32, nullable=True),
    document("error"),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("next_attempt_at", UtcDateTime, nullable=True),
    text("owner", 128, nullable=True),
    sa.Column("lease_until", UtcDateTime, nullable=True),
    text("config_hash", 32, nullable=True),
    text("data_fingerprint", 32, nullable=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.Column("phase_started_at", UtcDateTime, nullable=True),
    sa.Column("phase_completed_at", UtcDateTime, nullable=True),
    sa.UniqueConstraint("as_of_date", "region", "strategy_id", "mode"),
    sa.Index("ix_engine_runs_phase", "phase", "as_of_date"),
    sa.Index("ix_engine_runs_updated", "updated_at"),
)

engine_run_attempts = table(
    "engine_run_attempts",
    key("run_id", 96),
    key("phase", 32),
    sa.Column("attempt", sa.Integer, primary_key=True),
    text("owner", 128),
    text("status", 16),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime, nullable=True),
    document("error"),
    document("coverage"),
)

events = table(
    "events",
    # One writer at a time extends a stream; its hashes chain over content, never over clocks.
    key("stream"),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    text("kind", 32),
    # The very text that was sealed: a database may write a document's numbers in another way.
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    text("previous_hash"),
    text("hash"),
)

trials = table(
    "trials",
    key("trial_id", 32),
    text("family"),
    text("market_id", 32),
    text("sleeve_id"),
    text("run_id", 96),
    text("status", 16),
    text("reason", 512, nullable=True),
    text("params_hash", 32),
    text("data_fingerprint", 32),
    text("code_hash", 32),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("start_date", sa.Date, nullable=False),
    sa.Column("end_date", sa.Date, nullable=False),
    number("sharpe_per_session", nullable=True),
    sa.Column("observations", sa.Integer, nullable=True),
    number("skew", nullable=True),
    number("kurtosis", nullable=True),
    number("autocorrelation", nullable=True),
    text("returns_hash", 32, nullable=True),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Index("ix_trials_family", "family", "start_date"),
    sa.Index("ix_trials_family_recorded", "family", "recorded_at"),
    sa.Index("ix_trials_family_status", "family", "status"),
    sa.Index("ix_trials_recorded", "recorded_at"),
)
