"""Orders against the market of `market.prices`: AAPL opens at 100 + row, 2 above and below it."""

from datetime import date

import numpy as np
import pytest

from adapters.ib_gateway.market import Bars, Clock, Stage
from tests.integration.ib_gateway.driver import Driver, codes, names, statuses
from tests.integration.ib_gateway.market import HALF_SPREAD, new_gateway, prices

ASK, BID = 1 + HALF_SPREAD, 1 - HALF_SPREAD


@pytest.fixture
def client() -> Driver:
    """A client after the close of row 1; row 2 opens at 102."""
    return Driver(new_gateway())


def fills(client: Driver) -> list[tuple[int, float]]:
    return [(fill.side * fill.shares, fill.price) for fill in client.gateway.book.fills]


@pytest.mark.parametrize(
    ("terms", "stage", "filled"),
    [
        ({"tif": "OPG"}, Stage.OPEN, [(100, 102 * ASK)]),
        ({"tif": "OPG", "action": "SELL"}, Stage.OPEN, [(-100, 102 * BID)]),
        ({"orderType": "MKT"}, Stage.OPEN, [(100, 102 * ASK)]),
        ({"orderType": "LMT", "lmtPrice": 103.0}, Stage.OPEN, [(100, 102 * ASK)]),
        ({"orderType": "LMT", "lmtPrice": 102.0}, Stage.OPEN, []),
        ({"orderType": "LMT", "lmtPrice": 100.0}, Stage.CLOSED, [(100, 100.0)]),
        ({"orderType": "LMT", "lmtPrice": 99.99}, Stage.CLOSED, []),
        ({"orderType": "LMT", "lmtPrice": 104.0, "action": "SELL"}, Stage.CLOSED, [(-100, 104.0)]),
        ({"orderType": "LMT", "lmtPrice": 103.0, "tif": "OPG"}, Stage.OPEN, [(100, 102 * ASK)]),
        ({"orderType": "LMT", "lmtPrice": 101.0, "tif": "OPG"}, Stage.CLOSED, []),
        ({"orderType": "LMT", "lmtPrice": 101.0, "tif": "IOC"}, Stage.CLOSED, []),
        ({"orderType": "STP", "auxPrice": 101.0}, Stage.OPEN, [(100, 102 * ASK)]),
        ({"orderType": "STP", "auxPrice": 103.5}, Stage.CLOSED, [(100, 103.5 * ASK)]),
        ({"orderType": "STP", "auxPrice": 104.01}, Stage.CLOSED, []),
        (
            {"orderType": "STP", "auxPrice": 100.5, "action": "SELL"},
            Stage.CLOSED,
            [(-100, 100.5 * BID)],
        ),
        (
            {"orderType": "STP LMT", "auxPrice": 103.5, "lmtPrice": 104.0},
            Stage.CLOSED,
            [(100, 103 * ASK)],
        ),
        ({"orderType": "STP LMT", "auxPrice": 103.5, "lmtPrice": 102.5}, Stage.CLOSED, []),
        ({"orderType": "MOC"}, Stage.CLOSED, [(100, 103 * ASK)]),
        ({"orderType": "LOC", "lmtPrice": 104.0}, Stage.CLOSED, [(100, 103 * ASK)]),
        ({"orderType": "LOC", "lmtPrice": 103.0}, Stage.CLOSED, []),
    ],
)
def test_orders_fill_when_and_at_what_their_kind_says(client, terms, stage, filled):
    client.place(1, **terms)
    before = [] if stage is Stage.OPEN else None
    client.advance(Stage.OPEN)
    if before is None and terms.get("orderType") in ("MOC", "LOC"):
        assert fills(client) == []
    if stage is Stage.CLOSED:
        client.advance(Stage.CLOSED)

    found = fills(client)
    assert [shares for shares, _ in found] == [shares for shares, _ in filled]
    assert [price for _, price in found] == pytest.approx([price for _, price in filled])


def test_an_order_for_the_day_ends_with_it_and_one_till_cancelled_does_not(client):
    client.place(1, orderType="LMT", lmtPrice=90.0)
    client.place(2, orderType="LMT", lmtPrice=90.0, tif="GTC")

    said = client.advance(Stage.CLOSED)

    assert statuses(said)[-1:] == ["Cancelled"]
    assert codes(said) == [202]
    assert [order.order_id for order in client.gateway.book.open_orders()] == [2]


def test_a_market_order_while_the_market_is_open_fills_at_its_quote(client):
    client.advance(Stage.OPEN)

    client.place(1)

    assert fills(client) == [(100, pytest.approx(102 * ASK))]


def test_orders_for_the_open_are_taken_only_between_a_close_and_the_next_open(client):
    taken = codes(client.place(1, tif="OPG"))
    client.advance(Stage.OPEN)
    refused = codes(client.place(2, tif="OPG"))

    assert (taken, refused) == ([399], [201])


def test_right_after_the_close_no_order_for_the_open_is_taken():
    gateway = new_gateway()
    gateway.clock.settle_seconds = 10.0

    assert codes(Driver(gateway).place(1, tif="OPG")) == [201]


def test_a_halt_cancels_orders_for_the_open_and_leaves_others_waiting(client):
    client.advance(Stage.CLOSED)
    client.advance(Stage.CLOSED)
    client.advance(Stage.CLOSED)
    client.place(1, symbol="KO", tif="OPG")
    client.place(2, symbol="KO", tif="GTC")

    halted = client.advance(Stage.OPEN)
    client.advance(Stage.OPEN)

    assert statuses(halted) == ["Cancelled", "Submitted"]
    assert fills(client) == [(100, pytest.approx(56 * ASK))]


def test_a_change_of_an_order_is_taken_and_a_change_of_its_contract_is_not(client):
    client.advance(Stage.OPEN)
    client.place(1, orderType="LMT", lmtPrice=90.0)

    other = codes(client.place(1, symbol="IBM", orderType="LMT", lmtPrice=90.0))
    side = codes(client.place(1, action="SELL", orderType="LMT", lmtPrice=90.0))
    changed = client.place(1, orderType="LMT", lmtPrice=95.0, totalQuantity=50)
    client.place(1, orderType="LMT", lmtPrice=103.0, totalQuantity=50)
    done = codes(client.place(1, orderType="LMT", lmtPrice=103.0, totalQuantity=60))

    assert (other, side, done) == ([105], [105], [104])
    assert changed[0].values["lmtPrice"] == 95.0
    assert fills(client) == [(50, pytest.approx(102 * ASK))]


def test_a_number_below_the_next_is_a_duplicate(client):
    client.place(5, tif="OPG")

    assert codes(client.place(4, tif="OPG")) == [103]


def test_the_twenty_first_order_of_a_stock_and_side_is_refused(client):
    for number in range(1, 21):
        client.place(number, totalQuantity=1, tif="OPG")

    assert codes(client.place(21, totalQuantity=1, tif="OPG")) == [201]
    assert codes(client.place(22, totalQuantity=1, tif="OPG", action="SELL")) == [399]


def test_margin_counts_what_is_already_on_its_way(client):
    first = codes(client.place(1, totalQuantity=15_000, tif="OPG"))
    second = codes(client.place(2, totalQuantity=15_000, tif="OPG"))

    # 15,000 shares at 102 need 765,000 of the million.
    assert (first, second) == ([399], [201])


def test_a_read_only_gateway_takes_no_order():
    client = Driver(new_gateway(read_only=True))

    assert codes(client.place(1)) == [321]


@pytest.mark.parametrize(
    "terms",
    [
        {"parentId": "7"},
        {"transmit": "0"},
        {"ocaGroup": "g"},
        {"allOrNone": "1"},
        {"hedgeType": "D", "hedgeParam": "1"},
        {"goodAfterTime": "20240105 10:00:00"},
    ],
)
def test_what_is_not_simulated_is_refused_and_not_ignored(client, terms):
    assert codes(client.place(1, **terms)) in ([201], [320])
    assert client.gateway.book.orders == {}


def test_a_split_multiplies_the_position_and_cancels_resting_orders(client):
    client.place(1, symbol="IBM", tif="OPG", totalQuantity=11)
    client.advance(Stage.OPEN)
    client.place(2, symbol="IBM", orderType="LMT", lmtPrice=100.0, tif="GTC")
    client.advance(Stage.CLOSED)
    for _ in range(3):
        client.advance(Stage.CLOSED)
    before = client.gateway.book.account.equity(client.gateway.clock.price)

    said = client.advance(Stage.NIGHT)

    book = client.gateway.book
    assert book.clock.row == 6
    assert book.account.held()[1].shares == 22
    assert statuses(said) == ["Cancelled"]
    assert book.account.equity(book.clock.price) == pytest.approx(before)


def test_a_dividend_is_paid_to_who_held_overnight(client):
    client.place(1, symbol="KO", tif="OPG")
    client.advance(Stage.OPEN)
    for _ in range(4):
        client.advance(Stage.CLOSED)
    client.advance(Stage.CLOSED)
    cash = client.gateway.book.account.cash

    client.advance(Stage.NIGHT)

    assert client.gateway.book.clock.row == 7
    assert client.gateway.book.account.cash == pytest.approx(cash + 100 * 0.5)


def test_history_knows_no_bar_before_its_close_and_no_later_split():
    replay = prices()
    clock = Clock(replay, first=2, last=9)
    bars = Bars(replay, clock)

    seen = []
    while True:
        rows = bars.rows(1, None, date(2030, 1, 1), None)
        seen.append((clock.row, clock.stage, bars.values(1, rows, total=False)["close"]))
        coming = clock.upcoming()
        if coming is None:
            break
        clock.move_to(*coming)

    for row, stage, closes in seen:
        assert len(closes) == row + (stage is Stage.CLOSED)
        expected = replay.close[: len(closes), 1] / np.where(
            (row >= 6) & (np.arange(len(closes)) < 6), 2.0, 1.0
        )
        assert closes == pytest.approx(expected)


def test_total_return_bars_lose_the_dividend_that_is_known():
    replay = prices()
    clock = Clock(replay, first=2, last=9)
    clock.move_to(8, Stage.CLOSED)
    bars = Bars(replay, clock)

    rows = bars.rows(2, None, clock.session, None)
    adjusted = bars.values(2, rows, total=True)["close"]

    # 0.5 on row 7, of the 57 of row 6; row 5 is a halt.
    kept = np.where(rows < 7, 1 - 0.5 / 57, 1.0)
    assert adjusted == pytest.approx(replay.close[rows, 2] * kept)


def test_time_never_reaches_the_next_stage_by_itself():
    now = [0.0]
    clock = Clock(prices(), first=2, last=9, monotonic=lambda: now[0])
    start = clock.now_ns()

    now[0] = 90.0
    later = clock.now_ns()
    now[0] = 1e9
    stuck = clock.now_ns()

    assert later - start == 90 * 10**9
    assert stuck == clock.starts_ns(2, Stage.NIGHT) - 1


def test_five_second_bars_say_that_nothing_traded_until_the_last_one_says_it_all(client):
    client.request("reqRealTimeBars", reqId=3, symbol="AAPL", secType="STK", whatToShow="TRADES")
    client.advance(Stage.OPEN)
    client.gateway.five_seconds()
    [quiet] = client.collect()
    [last] = [item for item in client.advance(Stage.CLOSED) if item.name == "realTimeBar"]

    assert (quiet.values["open"], quiet.values["close"], quiet.values["volume"]) == (102, 102, 0)
    shape = [last.values[name] for name in ("open", "high", "low", "close", "volume")]
    assert shape == [102.0, 104.0, 100.0, 103.0, 1_000_000]


def test_a_growing_history_gets_its_bar_at_the_close(client):
    history = {"barSize": "1 day", "duration": "1 D", "whatToShow": "TRADES", "keepUpToDate": 1}
    client.request("reqHistoricalData", reqId=3, symbol="AAPL", secType="STK", **history)

    opened = client.advance(Stage.OPEN)
    closed = client.advance(Stage.CLOSED)

    assert "historicalDataUpdate" not in names(opened)
    [bar] = [item.values for item in closed if item.name == "historicalDataUpdate"]
    assert (bar["date"], bar["close"]) == ("20240104", 103.0)


@pytest.mark.parametrize(
    ("asked", "days"),
    [
        ({"duration": "1 D"}, ["20240103"]),
        ({"duration": "1 W"}, ["20240102", "20240103"]),
        ({"duration": "5 D", "endDateTime": "20240102 23:00:00 US/Eastern"}, ["20240102"]),
        ({"duration": "5 D", "endDateTime": "20240102-20:59:59"}, None),
        ({"duration": "5 D", "endDateTime": "20240102-21:00:00"}, ["20240102"]),
        ({"duration": "5 D", "endDateTime": "20240103 15:00:00"}, ["20240102"]),
    ],
)
def test_durations_and_ends_choose_the_bars(client, asked, days):
    history = {"barSize": "1 day", "whatToShow": "TRADES"} | asked

    said = client.request("reqHistoricalData", reqId=3, symbol="AAPL", secType="STK", **history)

    if days is None:
        assert codes(said) == [162]
    else:
        assert [bar["date"] for bar in said[0].values["bars"]] == days


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"duration": "5 X"}, 321),
        ({"endDateTime": "yesterday"}, 10314),
        ({"barSize": "1 min"}, 162),
        ({"whatToShow": "BID"}, 162),
        ({"symbol": "NOPE"}, 200),
        ({"whatToShow": "ADJUSTED_LAST", "endDateTime": "20240103 23:00:00"}, 321),
    ],
)
def test_history_that_cannot_be_told_has_a_gateways_code(client, asked, code):
    history = {"barSize": "1 day", "duration": "5 D", "whatToShow": "TRADES", "symbol": "AAPL"}

    said = client.request("reqHistoricalData", reqId=3, secType="STK", **(history | asked))

    assert codes(said) == [code]


def test_small_bars_are_paced_by_stock_and_by_request(client):
    history = {"barSize": "5 secs", "duration": "60 S", "whatToShow": "TRADES", "secType": "STK"}

    answers = [
        client.request("reqHistoricalData", reqId=3, symbol="AAPL", **history)[0].values[
            "errorText"
        ]
        for _ in range(2)
    ]

    assert "no data" in answers[0]
    assert "pacing" in answers[1]


def test_a_third_account_summary_is_one_too_many(client):
    said = [
        client.request("reqAccountSummary", reqId=number, group="All", tags="NetLiquidation")
        for number in (1, 2, 3)
    ]

    assert [codes(item) for item in said] == [[], [], [322]]


def test_profit_is_measured_from_the_last_close(client):
    client.place(1, tif="OPG")
    client.advance(Stage.CLOSED)
    client.advance(Stage.OPEN)

    [profit] = client.request("reqPnL", reqId=1)

    # From 103 at the close to 103 at the open: nothing; since it was bought: 103 - 102 and costs.
    assert profit.values["daily"] == pytest.approx(0.0)
    assert profit.values["unrealized"] == pytest.approx(100 * (103 - 102 * ASK) - 1)


def test_executions_are_filtered_by_what_is_asked(client):
    client.place(1, tif="OPG")
    client.place(2, symbol="IBM", tif="OPG", action="SELL")
    client.advance(Stage.OPEN)
    client.gateway.clock.move_to(2, Stage.CLOSED)

    def found(**asked):
        said = client.request("reqExecutions", reqId=1, **asked)
        return [item.values["symbol"] for item in said if item.name == "execution"]

    assert found() == ["AAPL", "IBM"]
    assert found(symbol="IBM") == ["IBM"]
    assert found(side="BUY") == ["AAPL"]
    assert found(clientId=2) == []
    assert found(time="20240104 09:00:00") == ["AAPL", "IBM"]
    assert found(time="20240104 12:00:00") == []


def test_another_accounts_figures_are_refused(client):
    assert codes(client.request("reqAccountUpdates", subscribe=1, account="DU7")) == [321]
    assert codes(client.request("reqPnL", reqId=1, account="DU7")) == [321]


def test_a_summary_tells_the_ledger_if_it_is_asked_for(client):
    said = client.request("reqAccountSummary", reqId=1, group="All", tags="$LEDGER:ALL")

    cash = [
        (item.values["currency"], item.values["value"])
        for item in said
        if item.values.get("tag") == "CashBalance"
    ]
    assert cash == [("USD", "1000000.00"), ("BASE", "1000000.00")]


def test_every_unanswered_request_of_a_gateway_is_answered_empty(client):
    assert names(client.request("reqFamilyCodes")) == ["familyCodes"]
    assert names(client.request("reqSoftDollarTiers", reqId=1)) == ["softDollarTiers"]
    assert names(client.request("reqMktDepthExchanges")) == ["depthExchanges"]
    assert names(client.request("reqNewsProviders")) == ["newsProviders"]
    assert names(client.request("reqUserInfo", reqId=1)) == ["userInfo"]


def test_symbols_heads_schedules_and_rules_are_told(client):
    stock = {"symbol": "AAPL", "secType": "STK"}
    [samples] = client.request("reqMatchingSymbols", reqId=1, pattern="aa")
    [head] = client.request("reqHeadTimestamp", reqId=1, formatDate="2", **stock)
    [schedule] = client.request(
        "reqHistoricalData",
        reqId=1,
        duration="1 D",
        barSize="1 day",
        whatToShow="SCHEDULE",
        **stock,
    )
    [rule] = client.request("reqMarketRule", ruleId=26)

    assert [item["symbol"] for item in samples.values["samples"]] == ["AAPL"]
    assert head.values["timestamp"] == "1704205800"
    assert schedule.values["sessions"] == [
        {"start": "20240103-09:30:00", "end": "20240103-16:00:00", "refDate": "20240103"}
    ]
    assert rule.values["increments"] == [{"lowEdge": 0.0, "increment": 0.01}]


def test_subscriptions_end_when_they_are_cancelled(client):
    stock = {"symbol": "AAPL", "secType": "STK"}
    client.request("reqMktData", reqId=5, **stock)
    client.request("reqTickByTick", reqId=6, tickType="BidAsk", **stock)
    client.request("reqPositionsMulti", reqId=7, account="")
    client.request("reqPnLSingle", reqId=8, conId=client.gateway.book.stock(0).con_id)
    assert codes(client.request("reqMktData", reqId=5, **stock)) == [102]

    for name, req_id in (
        ("cancelMktData", 5),
        ("cancelTickByTick", 6),
        ("cancelPositionsMulti", 7),
        ("cancelPnLSingle", 8),
    ):
        assert client.request(name, reqId=req_id) == []

    assert codes(client.request("cancelMktData", reqId=5)) == [300]
    assert codes(client.request("cancelHistoricalData", reqId=5)) == [366]
    assert client.advance(Stage.OPEN) == []


def test_single_ticks_tell_the_quote_or_the_trade(client):
    client.advance(Stage.OPEN)
    kinds = {}
    for number, kind in enumerate(("BidAsk", "Last", "MidPoint"), start=1):
        [tick] = client.request(
            "reqTickByTick", reqId=number, tickType=kind, symbol="AAPL", secType="STK"
        )
        kinds[kind] = tick.values

    assert (kinds["BidAsk"]["bid"], kinds["BidAsk"]["ask"]) == pytest.approx((102 * BID, 102 * ASK))
    assert kinds["Last"]["price"] == 102.0
    assert kinds["MidPoint"]["middle"] == pytest.approx(102.0)


def test_a_global_cancel_ends_every_clients_orders(client):
    other = Driver(client.gateway, client_id=2)
    client.place(1, orderType="LMT", lmtPrice=50.0, tif="GTC")
    other.place(1, symbol="IBM", orderType="LMT", lmtPrice=50.0, tif="GTC")

    client.request("reqGlobalCancel")

    assert client.gateway.book.open_orders() == []


def test_the_account_is_told_once_for_many_fills(client):
    client.request("reqAccountUpdates", subscribe=1)
    for number in range(1, 11):
        client.place(number, totalQuantity=1, tif="OPG")

    said = client.advance(Stage.OPEN)

    assert names(said).count("execution") == 10
    assert names(said).count("accountDownloadEnd") <= 2
