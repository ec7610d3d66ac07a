"""The paper node at the simulated broker: what it trades is what the backtest trades."""

from datetime import date
from pathlib import Path

import pytest

from adapters.sample import sample_ohlcv
from persistence import schema
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.config import Settings, load_config
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.rehearse import RehearsalRequest, rehearse
from prometheus_nt.jobs.stores import Stores

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")


@pytest.fixture(scope="module")
def historical(tmp_path_factory):
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('historical')}/historical.db")
    schema.upgrade(database, "historical")
    ingest(sample_ohlcv(), HistoricalStore(database))
    yield database
    database.close()


@pytest.fixture
def stores(historical, sqlite_database, tmp_path):
    settings = Settings(tmp_path / "home", "unused", "unused")
    return Stores(settings, HistoricalStore(historical), RuntimeStore(sqlite_database))


def node(*assignments):
    config = load_config([CONFIG], ["mode=paper", *assignments])
    return config.model_copy(
        update={"sleeves": (config.sleeves[0].model_copy(update={"horizon": 5}),)}
    )


def test_sixty_sessions_at_the_simulated_broker_trade_what_the_backtest_trades(stores):
    found = rehearse(node(), stores, RehearsalRequest(date(2006, 1, 3), date(2006, 3, 29)))

    (comparison,) = found.comparisons
    assert comparison.differences == ()
    assert comparison.sessions == 60
    assert comparison.orders > 20
    assert comparison.fills > 20
    assert abs(comparison.gap_bps) < 1e-6
    assert found.struck == ()


WEEK = (date(2006, 1, 3), date(2006, 1, 6))


@pytest.mark.parametrize("fault", ["lose_order:nth=3", "reset", "silent_fill", "missing_ack"])
def test_a_fault_that_can_be_overcome_leaves_no_difference(stores, fault):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=(fault,)))

    assert {hit.fault for hit in found.struck} == {fault.partition(":")[0]}
    assert found.comparisons[0].fills > 0
    assert found.is_within(0.0)


def test_a_rejected_order_is_a_difference_with_its_cause(stores):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=("reject:code=201,nth=2",)))

    (comparison,) = found.comparisons
    assert [each.what for each in comparison.differences] == ["order", "fill"]
    assert {each.cause for each in comparison.differences} == {"reject"}
    assert comparison.differences[0].rehearsed.endswith("0 filled, REJECTED")
    assert not found.is_within(0.0)
    assert found.is_within(abs(comparison.gap_bps) + 1.0)


def test_an_order_that_was_made_smaller_at_a_terminal_ends_with_what_it_filled(stores):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=("user_edits",)))

    (comparison,) = found.comparisons
    (changed, *_) = [each for each in comparison.differences if each.what == "order"]
    assert changed.rehearsed.endswith("filled, CANCELLED")
    assert {each.cause for each in comparison.differences if each.backtested} == {"user_edits"}


def test_an_execution_that_is_taken_back_halts_the_rehearsal(stores):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=("bust",)))

    assert "REVISED_FILL" in found.halted
    assert {hit.fault for hit in found.struck} == {"bust"}
    assert not found.is_within(1e9)
