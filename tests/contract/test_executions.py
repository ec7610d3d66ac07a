"""What a broker tells once, twice, or takes back, on either engine."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from persistence.database import upsert
from persistence.executions import Correction, ExecutionStore
from persistence.tables import runtime as tables
from persistence.tables.trading import executions
from prometheus_nt.domain.errors import StoreError

AT = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)
LATER = datetime(2024, 3, 1, 20, 0, tzinfo=UTC)
ORDER = "RUN:O-1"


@pytest.fixture
def store(database):
    head = {"run_id": "RUN", "mode": "PAPER", "strategy_id": "S", "portfolio_id": "P"}
    order = head | {
        "order_id": ORDER,
        "timestamp": AT,
        "updated_at": AT,
        "instrument_id": "A.US",
        "side": "BUY",
        "order_type": "MARKET",
        "quantity": 100,
        "filled_quantity": 0,
        "status": "SUBMITTED",
    }
    action = head | {
        "action_id": f"{ORDER}#1",
        "instrument_id": "A.US",
        "trade_date": AT.date(),
        "side": "BUY",
        "quantity": 60,
        "price": 10.1,
        "decision_price": 10.0,
        "slippage": 6.0,
        "slippage_bps": 100.0,
        "fees": 1.0,
    }
    with database.writer() as connection:
        for table, row in ((tables.orders, order), (tables.executed_actions, action)):
            upsert(connection, table, tuple(row), [tuple(row.values())])
    return ExecutionStore(database)


def execution(trade_id="0001.01", number=1, **facts):
    return {
        "account_id": "DU1",
        "trade_id": trade_id,
        "fill_id": f"{ORDER}#{number}",
        "order_id": ORDER,
        "run_id": "RUN",
        "mode": "PAPER",
        "strategy_id": "S",
        "portfolio_id": "P",
        "timestamp": AT,
        "instrument_id": "A.US",
        "side": "BUY",
        "quantity": 60.0,
        "price": 10.1,
        "commission": 1.0,
    } | facts


def one(store, table, **key):
    query = sa.select(table).where(*(table.c[name] == value for name, value in key.items()))
    with store.database.reader() as connection:
        return dict(connection.execute(query).mappings().one())


def count(store, table):
    with store.database.reader() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def test_an_execution_told_three_times_is_one_fill(store):
    assert store.record(execution())

    assert not store.record(execution())
    assert not store.record(execution(timestamp=LATER))

    assert (count(store, executions), count(store, tables.fills)) == (1, 1)
    order = one(store, tables.orders, order_id=ORDER)
    assert (order["filled_quantity"], order["status"]) == (60.0, "PARTIALLY_FILLED")


def test_executions_in_any_order_fill_the_order(store):
    store.record(execution("0002.01", 2, quantity=40.0))
    store.record(execution("0001.01", 1))

    order = one(store, tables.orders, order_id=ORDER)
    assert (order["filled_quantity"], order["status"]) == (100.0, "FILLED")


def test_the_same_trade_id_of_another_account_is_another_execution(store):
    store.record(execution())

    assert store.record(execution(account_id="DU2", number=2, quantity=40.0))

    assert count(store, tables.fills) == 2


def test_another_content_under_a_known_trade_id_is_refused(store):
    store.record(execution())

    with pytest.raises(
        StoreError, match=r"0001\.01 of DU1 was told twice, with price 10\.1 and 11"
    ):
        store.record(execution(price=11.0))

    assert one(store, tables.fills, order_id=ORDER)["price"] == 10.1


def test_a_correction_replaces_the_fill_and_what_hangs_on_it(store):
    store.record(execution())
    truth = Correction("0001.02", 50.0, 10.2, 0.9, LATER)

    assert store.correct("DU1", "0001.01", truth)
    assert not store.correct("DU1", "0001.01", truth)

    fill = one(store, tables.fills, order_id=ORDER)
    assert (fill["fill_id"], fill["quantity"], fill["price"]) == (f"{ORDER}#1", 50.0, 10.2)
    assert fill["metadata"] == {"trade_id": "0001.02"}
    assert one(store, tables.orders, order_id=ORDER)["filled_quantity"] == 50.0
    action = one(store, tables.executed_actions, action_id=f"{ORDER}#1")
    assert action["slippage"] == pytest.approx(50 * 0.2)
    assert action["slippage_bps"] == pytest.approx(200.0)
    assert one(store, executions, trade_id="0001.01")["status"] == "CORRECTED"
    assert one(store, executions, trade_id="0001.02")["replaces"] == "0001.01"


def test_a_correction_can_be_corrected_and_the_first_message_changes_nothing(store):
    store.record(execution())
    store.correct("DU1", "0001.01", Correction("0001.02", 50.0, 10.2, 0.9, LATER))
    store.correct("DU1", "0001.02", Correction("0001.03", 55.0, 10.3, 0.9, LATER))

    assert not store.record(execution())

    assert one(store, tables.fills, order_id=ORDER)["quantity"] == 55.0
    assert one(store, tables.orders, order_id=ORDER)["filled_quantity"] == 55.0


def test_a_bust_takes_the_fill_away_and_keeps_what_was_said(store):
    store.record(execution())
    store.record(execution("0002.01", 2, quantity=40.0))

    assert store.bust("DU1", "0001.01", LATER)
    assert not store.bust("DU1", "0001.01", LATER)

    assert one(store, tables.fills, order_id=ORDER)["quantity"] == 40.0
    order = one(store, tables.orders, order_id=ORDER)
    assert (order["filled_quantity"], order["status"]) == (40.0, "PARTIALLY_FILLED")
    assert count(store, tables.executed_actions) == 0
    assert one(store, executions, trade_id="0001.01")["status"] == "BUSTED"


def test_a_late_copy_of_a_busted_execution_does_not_bring_it_back(store):
    store.record(execution())
    store.bust("DU1", "0001.01", LATER)

    assert not store.record(execution())

    assert count(store, tables.fills) == 0
    assert one(store, tables.orders, order_id=ORDER)["filled_quantity"] == 0.0


def test_nobody_can_replace_what_is_unknown_or_replaced(store):
    truth = Correction("0001.03", 1.0, 1.0, 1.0, LATER)
    with pytest.raises(StoreError, match=r"no execution '0001\.01' of account 'DU1'"):
        store.correct("DU1", "0001.01", truth)
    store.record(execution())
    store.correct("DU1", "0001.01", Correction("0001.02", 50.0, 10.2, 0.9, LATER))

    with pytest.raises(StoreError, match="is CORRECTED; only an active one"):
        store.bust("DU1", "0001.01", LATER)
    with pytest.raises(StoreError, match="is CORRECTED; only an active one"):
        store.correct("DU1", "0001.01", truth)

    assert count(store, executions) == 2


def test_a_fill_of_an_unknown_order_leaves_nothing(store):
    with pytest.raises(StoreError):
        store.record(execution(order_id="RUN:O-9"))

    assert (count(store, executions), count(store, tables.fills)) == (0, 0)
