import pytest

from adapters.ib_gateway.actions import Close, Mode, Raw, Restart
from adapters.ib_gateway.fault_table import FAULTS, WALK
from adapters.ib_gateway.faults import ScriptEntry, ScriptMoment, random_rules, read_rule
from adapters.ib_gateway.market import Stage
from prometheus_nt.domain.errors import ConfigError
from tests.integration.ib_gateway.driver import Driver, codes, names, statuses
from tests.integration.ib_gateway.market import new_gateway

HISTORY = {
    "reqId": 9,
    "symbol": "AAPL",
    "secType": "STK",
    "barSize": "1 day",
    "duration": "5 D",
    "whatToShow": "TRADES",
}


def driver(*faults: str, opened: bool = True, **options) -> Driver:
    found = Driver(new_gateway(*faults, **options))
    if opened:
        found.advance(Stage.OPEN)
    found.actions.clear()
    return found


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("close", [Close]),
        ("reset", [Close]),
        ("half_frame", [Raw, Close]),
        ("bytewise", [Mode]),
        ("garbage", [Raw]),
        ("huge_length", [Raw]),
        ("deaf", [Mode]),
        ("jitter", [Mode]),
        ("burst", [Mode]),
        ("refuse", [Restart]),
        ("restart", [Restart]),
        ("token", [Restart]),
    ],
)
def test_a_transport_fault_strikes_at_the_acknowledgement(fault, kinds):
    client = driver(fault)

    client.place(1)

    found = [
        action for action in client.actions if isinstance(action, Close | Raw | Mode | Restart)
    ]
    assert [type(action) for action in found] == kinds


def test_a_connection_may_end_before_or_after_what_was_to_be_said():
    before, after = driver("close"), driver("close_after")

    before.place(1)
    after.place(1)

    assert isinstance(before.actions[0], Close)
    assert not isinstance(after.actions[0], Close)


def test_nth_and_times_choose_the_occurrences():
    client = driver("lose_order:nth=2,times=2")

    heard = [bool(client.place(number)) for number in range(1, 6)]

    assert heard == [True, False, False, True, True]


def test_a_rule_may_be_about_one_stock_or_one_client():
    client = driver("lose_order:symbol=IBM,times=0", "reject:client=2,times=0")

    assert client.place(1, symbol="AAPL")
    assert client.place(2, symbol="IBM") == []


def test_a_lost_order_is_in_no_book():
    client = driver("lose_order")

    assert client.place(1) == []
    assert client.gateway.book.orders == {}


@pytest.mark.parametrize(("inactive", "found"), [(1, ["Inactive"]), (0, [])])
def test_a_rejection_comes_with_or_without_inactive(inactive, found):
    client = driver(f"reject:code=110,inactive={inactive}")

    said = client.place(1)

    assert (codes(said), statuses(said)) == ([110], found)


def test_a_warning_refuses_nothing():
    client = driver("warn")

    said = client.place(1)

    assert codes(said) == [10349]
    assert client.gateway.book.orders[1_500_000_001].status == "Filled"


def test_statuses_executions_and_commissions_can_be_doubled_dropped_or_moved():
    doubled = names(driver("duplicate_execution").place(1))
    silent = names(driver("missing_status").place(1))
    swapped = names(driver("commission_first").place(1))
    quiet = names(driver("silent_fill").place(1))
    never = names(driver("commission_never").place(1))

    assert doubled.count("execution") == 2
    assert silent[-2:] == ["execution", "commissionReport"]
    assert swapped[2:4] == ["commissionReport", "execution"]
    assert quiet == ["openOrder", "orderStatus"]
    assert "commissionReport" not in never


def test_a_silent_fill_is_told_when_it_is_asked_for():
    client = driver("silent_fill")
    client.place(1)

    said = client.request("reqExecutions", reqId=4)

    assert names(said) == ["execution", "commissionReport", "executionEnd"]


def test_a_fill_may_overtake_its_acknowledgement():
    client = driver("late_ack")

    assert names(client.place(1))[0] == "execution"
    assert names(client.later()) == ["openOrder", "orderStatus"]


def test_a_commission_may_come_late():
    client = driver("commission_late")

    assert "commissionReport" not in names(client.place(1))
    assert names(client.later()) == ["commissionReport"]


def test_three_partial_fills_pay_one_floor_and_add_up():
    client = driver("three_partials")

    said = client.place(1)

    fills = [item.values for item in said if item.name == "execution"]
    fees = [item.values["commission"] for item in said if item.name == "commissionReport"]
    assert [fill["shares"] for fill in fills] == [33, 33, 34]
    assert [fill["cumQty"] for fill in fills] == [33, 66, 100]
    assert fees == [1.0, 0.0, 0.0]


def test_a_partial_fill_may_be_all_there_is():
    client = driver("partial_then_stop")
    client.place(1)

    said = client.advance(Stage.CLOSED)

    order = client.gateway.book.orders[1_500_000_001]
    assert (order.filled, order.status) == (40, "Cancelled")
    assert codes(said) == [202]


def test_a_cancel_may_race_with_a_fill():
    client = driver("cancel_races_fill")
    client.place(1, orderType="LMT", lmtPrice=50.0)

    said = client.request("cancelOrder", orderId=1)

    assert statuses(said) == ["Filled", "Filled"]
    assert codes(said) == [10148]


def test_a_cancel_may_stay_pending():
    client = driver("cancel_pending")
    client.place(1, orderType="LMT", lmtPrice=50.0)

    assert statuses(client.request("cancelOrder", orderId=1)) == ["PendingCancel"]


def test_a_cancelled_order_may_fill_after_all():
    client = driver("fill_after_cancel")
    client.place(1, orderType="LMT", lmtPrice=50.0)
    client.request("cancelOrder", orderId=1)

    said = client.later()

    assert "execution" in names(said)
    assert client.gateway.book.account.held()[0].shares == 100


def test_a_correction_replaces_an_execution_and_changes_the_account():
    client = driver("correction:shares=40")
    client.place(1)

    [execution, _] = client.later()[:2]

    assert execution.values["execId"].endswith(".01.02")
    assert execution.values["shares"] == 40
    assert client.gateway.book.account.held()[0].shares == 40
    assert [fill.shares for fill in client.gateway.book.fills] == [40]


def test_a_bust_takes_the_shares_back():
    client = driver("bust")
    client.place(1)
    client.later()

    assert client.gateway.book.account.held() == {}


def test_times_of_executions_may_be_in_utc():
    said = driver("utc_time").place(1)

    [execution] = [item for item in said if item.name == "execution"]
    assert execution.values["time"] == "20240104-14:30:00"


def test_execution_ids_may_begin_anew_every_day():
    client = driver("reuse_exec_ids")
    client.place(1)
    client.advance(Stage.OPEN)
    client.place(2)

    first, second = client.gateway.book.fills
    assert first.exec_id == second.exec_id


def test_somebody_may_cancel_or_change_an_order_at_the_terminal():
    cancelled, edited = driver("user_cancels"), driver("user_edits")
    cancelled.place(1, orderType="LMT", lmtPrice=50.0)
    edited.place(1, orderType="LMT", lmtPrice=50.0)

    assert statuses(cancelled.later()) == ["Cancelled"]
    assert edited.later()[0].values["totalQuantity"] == 50


def test_another_clients_order_shows_in_all_open_orders_only():
    client = driver("foreign_order", opened=False)
    client.place(1)

    assert names(client.request("reqOpenOrders")).count("openOrder") == 1
    assert names(client.request("reqAllOpenOrders")).count("openOrder") == 2


def test_an_order_may_work_twice_under_one_reference():
    client = driver("twin_order")
    client.place(1, orderType="LMT", lmtPrice=50.0, orderRef="plan-1")
    client.later()
    client.place(2, orderType="LMT", lmtPrice=50.0, orderRef="plan-2")

    shown = [each for each in client.request("reqOpenOrders") if each.name == "openOrder"]

    assert [each.values["orderRef"] for each in shown] == ["plan-1", "plan-1", "plan-2"]
    assert [each.values["orderId"] for each in shown] == [1, 0, 2]
    assert len({each.values["permId"] for each in shown}) == 3


def test_what_happens_while_the_link_is_lost_is_told_when_it_is_back():
    client = driver("link_lost", opened=False)
    client.request("reqMktData", reqId=5, symbol="AAPL", secType="STK")
    client.place(1)

    lost = client.advance(Stage.OPEN)
    client.gateway.faults.add(read_rule("link_back"))
    back = client.collect()

    assert [item.name for item in lost if item.name == "execution"] == []
    assert "execution" in names(back)
    assert codes(back) == [1102]
    assert len(client.gateway.sessions[1].desk.lines) == 1


def test_1101_loses_the_subscriptions():
    client = driver(opened=False)
    client.request("reqMktData", reqId=5, symbol="AAPL", secType="STK")

    client.gateway.faults.add(read_rule("link_back_empty"))

    assert codes(client.collect()) == [1101]
    assert client.gateway.sessions[1].desk.lines == {}


@pytest.mark.parametrize(
    ("fault", "count"),
    [("link_storm:count=3", 6), ("farms", 2), ("competing", 1), ("too_fast", 1)],
)
def test_notices_come_as_errors(fault, count):
    client = driver(fault)

    assert len(codes(client.place(1))) == count


def test_positions_may_come_late():
    client = driver("stale_positions")
    client.request("reqPositions")
    client.later()
    client.place(1)

    assert names(client.later()) == ["position"]


def test_account_faults():
    missing = driver("no_download_end").request("reqAccountUpdates", subscribe=1)
    bare = driver("no_currency").request("reqAccountUpdates", subscribe=1)
    wrong = new_gateway("wrong_accounts")

    assert "accountDownloadEnd" not in names(missing)
    assert {item.values["currency"] for item in bare if item.name == "accountValue"} == {"", "BASE"}
    assert wrong.accounts() == "DU9999999"


def test_a_margin_call_leaves_the_maintenance_margin_uncovered():
    client = driver("margin_call")
    client.place(1)

    book = client.gateway.book
    assert book.account.figures(book.clock.price)["ExcessLiquidity"] < 0


def test_requests_may_be_dropped_delayed_or_failed():
    dropped = driver("drop_request:request=reqHistoricalData")
    delayed = driver("delay_request:request=reqHistoricalData")
    failed = driver("data_error:code=354")

    assert dropped.request("reqHistoricalData", **HISTORY) == []
    assert dropped.request("reqCurrentTime")
    assert delayed.request("reqHistoricalData", **HISTORY) == []
    assert names(delayed.later()) == ["historicalData"]
    assert codes(failed.request("reqHistoricalData", **HISTORY)) == [354]


@pytest.mark.parametrize(
    ("fault", "bars"),
    [
        ("volume_unknown", [(101.0, -1), (102.0, -1)]),
        ("missing_day", [(102.0, 1_000_000)]),
        ("duplicate_bar", [(101.0, 1_000_000), (102.0, 1_000_000), (102.0, 1_000_000)]),
        ("zero_price", [(101.0, 1_000_000), (0.0, 1_000_000)]),
    ],
)
def test_history_may_be_wrong(fault, bars):
    client = driver(fault, opened=False)

    [said] = client.request("reqHistoricalData", **HISTORY)

    assert [(bar["close"], bar["volume"]) for bar in said.values["bars"]] == bars


def test_quotes_may_be_crossed_delayed_many_or_limited():
    ask = {"reqId": 5, "symbol": "AAPL", "secType": "STK"}
    crossed = {
        item.values["tickType"]: item.values["price"]
        for item in driver("crossed_quotes").request("reqMktData", **ask)
        if item.name == "tickPrice"
    }
    delayed = driver("delayed_only")
    flooded = driver("tick_flood:count=7")
    flooded.request("reqMktData", **ask)
    limited = driver("line_limit")

    assert crossed[1] > crossed[2]
    assert codes(delayed.request("reqMktData", **ask)) == [10089]
    delayed.request("reqMarketDataType", type=3)
    kinds = {
        i.values["tickType"] for i in delayed.request("reqMktData", **ask) if "price" in i.values
    }
    assert kinds == {66, 67, 68, 75}
    closing = [i for i in flooded.advance(Stage.CLOSED) if i.name == "tickPrice"]
    assert len(closing) == 7 * 4
    limited.request("reqMktData", **ask)
    assert codes(limited.request("reqMktData", **(ask | {"reqId": 6}))) == [101]


def test_contracts_may_claim_a_half_day():
    said = driver("half_day").request("reqContractDetails", reqId=1, symbol="AAPL", secType="STK")

    assert said[0].values["liquidHours"].startswith("20240104:0930-20240104:1300")


def test_a_handshake_may_hang_or_find_its_id_taken():
    assert new_gateway("hang_handshake").faults.handshake() == "hang"
    assert new_gateway("duplicate_client").faults.handshake() == "duplicate"
    assert new_gateway().faults.handshake() == ""


def test_a_script_begins_faults_at_their_moments():
    script = [
        ScriptEntry(at=ScriptMoment(session="2024-01-08"), fault="link_storm:count=1"),
        ScriptEntry(at=ScriptMoment(orders=2), fault="warn"),
    ]
    client = driver(script=script)

    first, second = codes(client.place(1)), codes(client.place(2))
    friday = codes(client.advance(Stage.OPEN))
    monday = codes(client.advance(Stage.OPEN))

    assert (first, second) == ([], [10349])
    assert (friday, monday) == ([], [1100, 1102])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rejekt", "did you mean 'reject'"),
        ("reject:cod=1", "unknown argument 'cod'"),
        ("reject:code=x", "expected int, found 'x'"),
        ("reject:code", "expected argument=value"),
        ("close:on=noon", "expected one of"),
    ],
)
def test_a_rule_that_cannot_be_read_says_why(text, problem):
    with pytest.raises(ConfigError, match=problem):
        read_rule(text)


def test_a_random_walk_is_the_same_for_a_seed_and_differs_between_seeds():
    def walk(seed):
        return [(rule.name, rule.nth) for rule in random_rules(seed, 8)]

    assert walk(3) == walk(3)
    assert len({tuple(walk(seed)) for seed in range(20)}) > 15


def test_every_fault_of_the_walk_can_be_read():
    assert {read_rule(text).name for text in WALK} <= set(FAULTS)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_goes_wrong_the_book_stays_consistent(seed):
    gateway = new_gateway()
    for rule in random_rules(seed, 6):
        gateway.faults.rules.append(rule)
    client = Driver(gateway)

    for number in range(1, 25):
        if number % 4 == 0:
            client.advance()
        client.place(number, symbol=("AAPL", "IBM", "KO")[number % 3], totalQuantity=10 + number)
        client.later()
    while gateway.advance():
        client.collect()
    while client.waiting:
        client.later()

    book = gateway.book
    for order in book.orders.values():
        fills = [fill for fill in book.fills if fill.perm_id == order.perm_id]
        assert order.filled == sum(fill.shares for fill in fills)
        assert 0 <= order.filled <= order.quantity
        assert not order.is_open
    assert book.open_orders() == []


def test_ids_may_begin_anew_above_the_open_orders():
    client = driver()
    client.place(1)
    client.place(2, orderType="LMT", lmtPrice=50.0)
    client.place(7)

    client.gateway.faults.add(read_rule("ids_restart"))

    assert client.gateway.book.next_id(1) == 3
    assert codes(client.place(3, symbol="IBM")) == []
