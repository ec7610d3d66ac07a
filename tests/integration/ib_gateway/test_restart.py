import pytest

from adapters.ib_gateway.actions import Send
from adapters.ib_gateway.market import Stage
from prometheus_nt.domain.errors import ConfigError, StoreError
from tests.integration.ib_gateway.driver import Driver, codes, names, statuses
from tests.integration.ib_gateway.market import new_gateway


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a simulator on one journal."""
    started = []

    def start():
        started.append(new_gateway(journal=tmp_path / "gateway.jsonl"))
        return started[-1]

    yield start
    for gateway in started:
        gateway.close()


def test_a_simulator_that_starts_again_knows_orders_executions_account_ids_and_its_place(start):
    before = Driver(start())
    before.place(1, tif="OPG", orderRef="a")
    before.place(2, orderType="LMT", lmtPrice=50.0, tif="GTC", orderRef="b")
    before.place(5, symbol="IBM", tif="OPG", totalQuantity=10)
    before.advance(Stage.OPEN)
    before.gateway.close()

    again = start()
    client = Driver(again)

    old, new = before.gateway.book, again.book
    assert (again.clock.row, again.clock.stage) == (2, Stage.OPEN)
    assert new.orders == old.orders
    assert new.fills == old.fills
    assert new.account == old.account
    assert new.next_id(1) == 6
    assert names(client.request("reqOpenOrders")) == ["openOrder", "orderStatus", "openOrderEnd"]
    said = client.request("cancelOrder", orderId=2)
    assert statuses(said) == ["PendingCancel", "Cancelled"]


def test_numbers_and_execution_ids_go_on_where_they_were(start):
    before = Driver(start())
    before.advance(Stage.OPEN)
    before.place(1)
    before.gateway.close()

    client = Driver(start())
    reused = client.place(1)
    client.place(2)

    assert codes(reused) == [104]
    assert sorted(client.gateway.book.orders) == [1_500_000_001, 1_500_000_002]
    assert [fill.exec_id for fill in client.gateway.book.fills] == [
        "0000e0d5.00000001.01.01",
        "0000e0d5.00000002.01.01",
    ]


def test_a_torn_last_line_is_forgotten_and_any_other_is_an_error(start, tmp_path):
    journal = tmp_path / "gateway.jsonl"
    before = Driver(start())
    before.advance(Stage.OPEN)
    before.gateway.close()
    whole = journal.read_bytes()

    journal.write_bytes(whole + b'{"kind": "fil')
    again = start()
    again.close()
    assert again.clock.stage is Stage.OPEN
    assert journal.read_bytes() == whole

    journal.write_bytes(b'{"kind\n' + whole)
    with pytest.raises(StoreError, match="line 1"):
        start()


def test_a_journal_of_another_account_is_refused(start, tmp_path):
    journal = tmp_path / "gateway.jsonl"
    start().close()
    journal.write_text(journal.read_text().replace("DU1234567", "DU7654321"))

    with pytest.raises(ConfigError, match="other accounts or prices"):
        start()


def test_executions_and_completed_orders_are_gone_the_next_day():
    client = Driver(new_gateway())
    client.advance(Stage.OPEN)
    client.place(1)

    today = client.request("reqExecutions", reqId=1), client.request("reqCompletedOrders")
    client.advance(Stage.NIGHT)
    tomorrow = client.request("reqExecutions", reqId=1), client.request("reqCompletedOrders")

    assert [len(said) for said in today] == [3, 2]
    assert [len(said) for said in tomorrow] == [1, 1]


def test_a_message_to_a_client_that_is_away_is_lost():
    gateway = new_gateway()
    client = Driver(gateway)
    client.place(1, tif="OPG")
    gateway.disconnect(1)

    gateway.advance_to(Stage.OPEN)

    told = [action for action in gateway.drain() if isinstance(action, Send)]
    assert {action.client_id for action in told} == {1}
    assert gateway.sessions == {}
