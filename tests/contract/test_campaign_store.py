"""Campaigns on both engines: planned once, one runner at a time, what ended stays ended."""

import os
import socket
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from persistence.campaigns import CampaignRow, CampaignStore, TrialRow
from persistence.tables.campaigns import campaigns
from prometheus_nt.domain.errors import ConfigError, StoreError

CAMPAIGN = CampaignRow(
    campaign_id="test-1",
    name="test",
    status="PLANNED",
    code_hash="code",
    start=date(2010, 1, 4),
    end=date(2011, 12, 30),
    plan={"config": {"grid": {"seed": [1, 2]}}},
    owner=None,
    lease_until=None,
)
TRIALS = [
    TrialRow("test-1", f"S_V{number}", number, "S", "US_EQ", {"seed": number}, {"seed": number})
    for number in range(3)
]
ME = f"{socket.gethostname()}:{os.getpid()}:me"
GONE = f"{socket.gethostname()}:999999999:gone"
ELSEWHERE = "elsewhere:1:other"


@pytest.fixture
def store(database):
    made = CampaignStore(database)
    made.plan(CAMPAIGN, TRIALS)
    return made


def test_a_plan_is_written_once_and_read_back_whole(store):
    store.begin("test-1", "S_V1", "worker")
    store.end("test-1", "S_V1", "OK", run_id="run", seconds=2.5)

    store.plan(CAMPAIGN, TRIALS)

    assert store.campaign("test-1") == CAMPAIGN
    assert [trial.status for trial in store.trials("test-1")] == ["PENDING", "OK", "PENDING"]
    assert store.trials("test-1")[0] == TRIALS[0]


def test_a_campaign_is_found_by_its_beginning_or_as_the_latest(store):
    assert store.campaign("te").campaign_id == store.campaign("latest").campaign_id == "test-1"

    store.plan(replace(CAMPAIGN, campaign_id="test-12"), [])
    assert store.campaign("test-1").campaign_id == "test-1"
    with pytest.raises(StoreError, match="more than one campaign matches 'te'"):
        store.campaign("te")
    with pytest.raises(StoreError, match="no campaign matches 'other'"):
        store.campaign("other")


def test_one_runner_at_a_time_and_a_dead_one_holds_nobody_up(store):
    store.claim("test-1", GONE)
    store.claim("test-1", ME)

    with pytest.raises(ConfigError, match=f"{ME} is running it"):
        store.claim("test-1", GONE)
    store.release("test-1", "STOPPED")
    store.claim("test-1", GONE)


def test_a_runner_on_another_machine_is_believed_until_its_lease_ends(store):
    store.claim("test-1", ELSEWHERE)
    with pytest.raises(ConfigError, match="is running it"):
        store.claim("test-1", ME)

    with store.database.writer() as connection:
        past = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(sa.update(campaigns).values(lease_until=past))

    store.claim("test-1", ME)
    assert store.campaign("test-1").owner == ME


def test_attempts_are_counted_and_a_new_one_forgets_the_last_ones_end(store):
    store.begin("test-1", "S_V0", "worker")
    store.end("test-1", "S_V0", "FAILED", error="DataError", message="x" * 2000)
    failed = store.trial("test-1", "S_V0")
    store.put_back("test-1", "S_V0")
    store.begin("test-1", "S_V0", "other")

    again = store.trial("test-1", "S_V0")

    assert (failed.attempt, len(failed.message)) == (1, 512)
    assert (again.status, again.attempt, again.error, again.ended_at) == ("RUNNING", 2, None, None)
    assert again.worker == "other"


def test_a_listing_counts_what_ended(store):
    store.end("test-1", "S_V0", "FAILED", error="DataError", message="no")
    store.end("test-1", "S_V1", "CACHED", run_id="run")

    columns, (row,) = store.listing(10)

    found = dict(zip(columns, row, strict=True))
    assert (found["trials"], found["done"], found["failed"]) == (3, 2, 1)


def test_the_speed_of_past_runs_leaves_out_what_was_cached(store):
    store.end("test-1", "S_V0", "OK", run_id="run", seconds=4.0)
    store.end("test-1", "S_V1", "CACHED", run_id="other")

    assert store.seconds_of_runs("US_EQ") == [(4.0, 726)]
    assert store.seconds_of_runs("EU_EQ") == []


def test_a_decision_written_twice_is_one(store):
    row = {
        "decision_id": "META-1",
        "engine_name": "META_ORCHESTRATOR",
        "run_id": "test-1",
        "mode": "BACKTEST",
        "strategy_id": "S",
        "market_id": "US_EQ",
        "as_of_date": date(2011, 12, 30),
        "config_id": "test-1",
        "input_refs": {"candidates": []},
        "output_refs": {"selected_sleeves": []},
        "metadata": {"pool": {"hurdle": None}},
    }

    store.decide(row)
    store.decide(row)

    assert store.decisions("META_ORCHESTRATOR", "S") == [row]


def test_a_screen_is_written_beside_its_variant_and_a_gap_with_its_run(store):
    store.screened("test-1", "S_V0", {"sharpe": 0.5, "fills": 10})
    store.screened("test-1", "S_V1", {"error": "DataError", "message": "no volume"})
    store.end("test-1", "S_V0", "SCREENED")
    store.begin("test-1", "S_V1", "worker")
    store.end("test-1", "S_V1", "OK", run_id="run", seconds=1.0)
    store.screened("test-1", "S_V2", {"sharpe": 0.7})
    store.begin("test-1", "S_V2", "worker")
    store.end("test-1", "S_V2", "OK", run_id="other", seconds=1.0, gap_bps=0.25)

    first, second, third = store.trials("test-1")
    assert (first.status, first.screen, first.run_id) == (
        "SCREENED",
        {"sharpe": 0.5, "fills": 10},
        None,
    )
    assert second.screen["error"] == "DataError"
    assert third.gap_bps == 0.25
    assert store.gaps("test-1") == [("S_V1", None), ("S_V2", 0.25)]
    columns, (row,) = store.listing(1)
    assert dict(zip(columns, row, strict=True))["done"] == 3
