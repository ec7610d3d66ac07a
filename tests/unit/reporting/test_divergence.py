"""Every cause of a divergence by hand, on books small enough to add up on paper."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.reporting.divergence import attribute
from prometheus_nt.reporting.divergence_figures import (
    cause_rows,
    worst_instruments,
    worst_sessions,
)
from prometheus_nt.reporting.divergence_records import (
    CAUSES,
    Cause,
    DecisionRecord,
    FillRecord,
    FlowRecord,
    OrderRecord,
    RunEvent,
    TradedRun,
)

DAYS = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4), date(2024, 1, 5)]
SESSIONS = np.array(DAYS, dtype="datetime64[D]")
NAMES = ("A.US", "B.US")
MARKS = np.array([[10.0, 20.0], [11.0, 20.0], [12.0, 21.0], [15.0, 22.0]])
CAPITAL = 10_000.0
SAME = {day: DecisionRecord({"A.US": 0.1}, "market", "inputs") for day in DAYS}


def order(decided, name="A.US", side=1, quantity=100.0, order_id="", planned=True):
    order_id = order_id or f"{decided}-{name}-{side}"
    return OrderRecord(order_id, DAYS[decided], planned, name, side, quantity)


def fill(of, row, price=10.0, quantity=None, commission=1.0):
    shares = of.quantity if quantity is None else quantity
    return FillRecord(of.order_id, DAYS[row], of.instrument_id, of.side, shares, price, commission)


def run(orders=(), fills=(), flows=(), marks=MARKS, decisions=SAME, **changes):
    """Return a run whose stored equity and cash are added up here, fill by fill."""
    cash, equity = [], []
    for row, day in enumerate(DAYS):
        held, money = dict.fromkeys(NAMES, 0.0), CAPITAL
        for one in fills:
            if one.session <= day:
                held[one.instrument_id] += one.side * one.quantity
                money -= one.side * one.quantity * one.price + one.commission
        for flow in flows:
            if flow.session <= day:
                money += flow.amount
                if flow.instrument_id is not None:
                    held[flow.instrument_id] += flow.moved
        cash.append(money)
        worth = sum(held[name] * marks[row, at] for at, name in enumerate(NAMES) if held[name])
        equity.append(money + worth)
    made = TradedRun(
        run_id="run",
        capital=CAPITAL,
        orders=list(orders),
        fills=list(fills),
        flows=list(flows),
        decisions=decisions,
        equity=np.array(equity),
        cash=np.array(cash),
        marks=marks,
    )
    return replace(made, **changes)


def compared(run_a, run_b, *events, contradictory=False):
    found = attribute(run_a, run_b, SESSIONS, NAMES, events)
    np.testing.assert_allclose(found.parts.sum(axis=1), found.gap, atol=1e-9)
    if not contradictory:
        np.testing.assert_allclose(found.parts[:, -1], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.by_instrument.sum(axis=1), found.parts[-1], atol=1e-9)
    assert sum(item.worth for item in found.evidence) == pytest.approx(
        found.parts[-1].sum() - found.amount(Cause.RESIDUAL)
    )
    return found


def amounts(found):
    """Return the parts at the end that are not zero."""
    last = zip(CAUSES, found.parts[-1].tolist(), strict=True)
    return {cause: pytest.approx(amount) for cause, amount in last if abs(amount) > 1e-9}


BUY = order(0)
BOUGHT = run([BUY], [fill(BUY, 1)])


def test_identical_runs_differ_in_nothing():
    found = compared(BOUGHT, BOUGHT)

    assert not found.parts.any()
    assert found.evidence == ()
    assert found.named == ()
    assert found.worst_bps == 0.0
    assert (found.counts.orders_same, found.counts.fills_same) == (1, 1)
    assert worst_sessions(found, 5) == worst_instruments(found, 5) == []


def test_another_price_of_the_same_fill_costs_the_difference_on_every_share():
    dearer = run([BUY], [fill(BUY, 1, price=10.5)])

    found = compared(dearer, BOUGHT)

    # 100 shares, half a dollar each, from the session of the fill on.
    assert amounts(found) == {Cause.FILL_PRICE: -50.0}
    assert found.parts[:, CAUSES.index(Cause.FILL_PRICE)].tolist() == [0.0, -50.0, -50.0, -50.0]
    (item,) = found.evidence
    assert (item.session, item.instrument_id, item.cash) == (DAYS[1], "A.US", -50.0)
    assert found.counts.fills_same == 0


def test_a_price_of_a_sale_counts_the_other_way():
    sale = order(1, side=-1)
    sold = run([BUY, sale], [fill(BUY, 1), fill(sale, 2, price=12.0)])
    better = run([BUY, sale], [fill(BUY, 1), fill(sale, 2, price=12.25)])

    found = compared(better, sold)

    assert amounts(found) == {Cause.FILL_PRICE: 25.0}


def test_another_commission_is_a_cost():
    costly = run([BUY], [fill(BUY, 1, commission=4.5)])

    found = compared(costly, BOUGHT)

    assert amounts(found) == {Cause.COST: -3.5}


def test_a_later_fill_is_timing_and_nothing_else():
    late = run([BUY], [fill(BUY, 2, price=11.5)])

    found = compared(late, BOUGHT)

    # On day 1 the shares are missing: 1000 of cash more, 1100 of shares less. On day 2 they are
    # bought for 1150: what is left is 150 for good. The commission is paid a session later too.
    timing = found.parts[:, CAUSES.index(Cause.TIMING)]
    np.testing.assert_allclose(timing, [0.0, -100.0, -150.0, -150.0])
    assert found.parts[:, CAUSES.index(Cause.COST)].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert amounts(found) == {Cause.TIMING: -150.0}


def test_a_fill_that_never_came_is_missed_with_all_that_follows():
    missed = run([BUY])

    found = compared(missed, BOUGHT)

    # 1001 of cash kept, 100 shares at 15 missing.
    assert amounts(found) == {Cause.MISSED_FILL: 1001.0 - 1500.0}
    assert found.parts[1, CAUSES.index(Cause.MISSED_FILL)] == pytest.approx(1001.0 - 1100.0)


def test_a_part_of_a_fill_that_never_came_is_missed_share_by_share():
    part = run([BUY], [fill(BUY, 1, price=10.1, quantity=60.0, commission=0.6)])

    found = compared(part, BOUGHT)

    assert amounts(found) == {
        Cause.FILL_PRICE: -6.0,
        Cause.MISSED_FILL: 40.0 * 10.01 - 40.0 * 15.0,
    }


def test_what_makes_up_for_a_missed_fill_closes_it():
    again = order(1)
    caught_up = run([BUY, again], [fill(again, 2, price=11.5)])

    found = compared(caught_up, BOUGHT)

    # 1001 kept on day 1, 1151 paid on day 2: no share is missing any more.
    assert amounts(found) == {Cause.MISSED_FILL: -150.0}
    assert found.parts[1:, CAUSES.index(Cause.MISSED_FILL)].tolist() == pytest.approx(
        [-99.0, -150.0, -150.0]
    )
    assert found.evidence[-1].detail == "closes what this cause had opened"


def test_another_target_from_the_same_data_is_a_signal():
    other = order(0, "B.US", quantity=50.0)
    decided = SAME | {DAYS[0]: DecisionRecord({"B.US": 0.1}, "market", "inputs")}
    swapped = run([other], [fill(other, 1, price=20.0)], decisions=decided)

    found = compared(swapped, BOUGHT)

    # 50 of B: 1100 - 1001. 100 of A that the backtest has: 1500 - 1001.
    assert amounts(found) == {Cause.SIGNAL: 99.0 - 499.0}
    assert {item.instrument_id for item in found.evidence} == set(NAMES)
    assert worst_instruments(found, 1)[0]["instrument_id"] == "A.US"


def test_another_target_from_other_data_is_data():
    more = order(0, quantity=120.0)
    decided = SAME | {DAYS[0]: DecisionRecord({"A.US": 0.12}, "other market", "inputs")}
    found = compared(run([more], [fill(more, 1)], decisions=decided), BOUGHT)

    # 20 shares more at 10, worth 15; one dollar of commission on 120 shares instead of 100, so
    # that a sixth of it goes with the 20 and the others pay less.
    assert amounts(found) == {Cause.DATA: 100.0 - 1.0 / 6.0, Cause.COST: 1.0 / 6.0}


def test_more_shares_for_the_same_target_follow_the_cause_that_moved_the_books():
    second = order(2, "B.US", quantity=10.0)
    larger = replace(second, quantity=12.0)
    dearer = run([BUY, larger], [fill(BUY, 1, 10.5), fill(larger, 3, 22.0, commission=1.2)])
    plain = run([BUY, second], [fill(BUY, 1), fill(second, 3, 22.0)])

    found = compared(dearer, plain)

    assert amounts(found) == {Cause.FILL_PRICE: -50.0 - 0.2}
    assert "the books differed by FILL_PRICE" in found.evidence[-1].detail


def test_another_mark_is_data_as_long_as_the_shares_are_held():
    marks = MARKS.copy()
    marks[2, 0] = 12.5
    found = compared(run([BUY], [fill(BUY, 1)], marks=marks), BOUGHT)

    assert found.parts[:, CAUSES.index(Cause.DATA)].tolist() == [0.0, 0.0, 50.0, 0.0]
    assert amounts(found) == {}


def test_an_order_without_a_decision_is_manual():
    own = order(1, "B.US", quantity=10.0, planned=False)
    found = compared(run([BUY, own], [fill(BUY, 1), fill(own, 1, 20.0)]), BOUGHT)

    assert amounts(found) == {Cause.MANUAL: 220.0 - 201.0}
    assert found.counts.only_a == 1


def test_a_position_without_a_fill_is_manual_with_the_cash_that_it_cost():
    held = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 10.0], [100.0, 10.0]])
    cash = BOUGHT.cash - np.array([0.0, 0.0, 205.0, 205.0])
    equity = cash + (held * MARKS).sum(axis=1)

    found = compared(replace(BOUGHT, cash=cash, equity=equity, shares=held), BOUGHT)

    assert amounts(found) == {Cause.MANUAL: 220.0 - 205.0}
    assert [item.detail for item in found.evidence] == [
        "shares that no fill explains",
        "cash that no row explains",
    ]


def test_sessions_without_stored_positions_say_nothing_about_them():
    held = np.array([[0.0, 0.0], [np.nan, np.nan], [100.0, 0.0], [np.nan, np.nan]])

    found = compared(replace(BOUGHT, shares=held), BOUGHT)

    assert found.evidence == ()


def test_cash_that_contradicts_the_rows_is_left_over_and_said_so():
    found = compared(
        replace(BOUGHT, cash=BOUGHT.cash - 7.0, equity=BOUGHT.equity - 7.0),
        BOUGHT,
        contradictory=True,
    )

    assert amounts(found) == {Cause.RESIDUAL: -7.0}
    assert found.named == (Cause.RESIDUAL,)
    assert found.residual_bps == pytest.approx(7e4 / BOUGHT.equity[0])


def test_a_difference_tied_to_a_fault_has_its_name():
    lost = RunEvent(DAYS[1], "link_lost", order_id=BUY.order_id)
    elsewhere = RunEvent(DAYS[1], "farm_down", instrument_id="B.US")

    found = compared(run([BUY]), BOUGHT, elsewhere, lost)

    assert amounts(found) == {Cause.FAULT: 1001.0 - 1500.0}
    assert found.event_parts == (0.0, pytest.approx(-499.0))
    (item,) = found.evidence
    assert (item.event, item.mechanism) == ("link_lost", Cause.MISSED_FILL)


def test_a_fault_of_a_session_explains_a_missed_fill_and_not_a_price():
    storm = RunEvent(DAYS[1], "gateway_restart")
    other = order(0, "B.US", quantity=10.0)
    plain = run([BUY, other], [fill(BUY, 1), fill(other, 1, 20.0)])
    stormy = run([BUY, other], [fill(BUY, 1, 10.5)])

    found = compared(stormy, plain, storm)

    assert amounts(found) == {Cause.FILL_PRICE: -50.0, Cause.FAULT: 201.0 - 220.0}


def test_what_people_are_recorded_to_have_done_is_manual():
    halted = RunEvent(DAYS[0], "halted by the desk", Cause.MANUAL, until=DAYS[1])

    found = compared(run([]), BOUGHT, halted)

    assert amounts(found) == {Cause.MANUAL: -499.0}
    assert found.evidence[0].event == "halted by the desk"


def dividend(row, shares, amount):
    return FlowRecord(DAYS[row], CashFlowKind.DIVIDEND, "A.US", shares, 0.0, amount)


def test_a_dividend_on_missing_shares_belongs_to_what_lost_them():
    part = run([BUY], [fill(BUY, 1, quantity=60.0, commission=0.6)], [dividend(2, 60.0, 30.0)])
    whole = run([BUY], [fill(BUY, 1)], [dividend(2, 100.0, 50.0)])

    found = compared(part, whole)

    assert amounts(found) == {Cause.MISSED_FILL: 400.4 - 20.0 - 600.0}


def test_another_dividend_on_the_same_shares_is_data():
    found = compared(
        run([BUY], [fill(BUY, 1)], [dividend(2, 100.0, 45.0)]),
        run([BUY], [fill(BUY, 1)], [dividend(2, 100.0, 50.0)]),
    )

    assert amounts(found) == {Cause.DATA: -5.0}


def test_a_delisting_closes_what_causes_had_open():
    def gone(shares):
        return FlowRecord(DAYS[3], CashFlowKind.DELISTING, "A.US", shares, -shares, 12.0 * shares)

    part = run([BUY], [fill(BUY, 1, quantity=60.0, commission=0.6)], [gone(60.0)])
    whole = run([BUY], [fill(BUY, 1)], [gone(100.0)])

    found = compared(part, whole)

    assert amounts(found) == {Cause.MISSED_FILL: 400.4 - 480.0}


def test_other_interest_is_a_cost():
    def interest(amount):
        return FlowRecord(DAYS[2], CashFlowKind.INTEREST, None, 0.0, 0.0, amount)

    found = compared(run(flows=[interest(-3.0)]), run(flows=[interest(-1.0)]))

    assert amounts(found) == {Cause.COST: -2.0}
    assert worst_instruments(found, 1)[0]["instrument_id"] is None


def test_an_order_that_is_found_twice_is_named_once_for_each_extra_share():
    twin = replace(BUY, order_id="twin")
    doubled = run([BUY, twin], [fill(BUY, 1), fill(twin, 1)])
    event = RunEvent(DAYS[1], "sent_twice", order_id="twin")

    found = compared(doubled, BOUGHT, event)

    assert amounts(found) == {Cause.FAULT: 1500.0 - 1001.0}


def test_the_rows_of_the_causes_and_the_sessions_say_what_happened():
    found = compared(run([BUY], [fill(BUY, 1, price=10.5)]), BOUGHT)

    rows = {row["cause"]: row for row in cause_rows(found)}
    assert rows["FILL_PRICE"]["usd"] == pytest.approx(-50.0)
    assert rows["FILL_PRICE"]["evidence"] == 1
    assert rows["FILL_PRICE"]["bps"] == pytest.approx(-5e5 / BOUGHT.equity[-1])
    (worst,) = worst_sessions(found, 3)
    assert worst["session"] == "2024-01-03"
    assert worst["causes"] == {"FILL_PRICE": pytest.approx(-50.0)}


def test_shares_that_nobody_ever_marked_are_an_error():
    unknown = np.full((4, 2), np.nan)
    blind = replace(run([BUY]), marks=unknown)

    with pytest.raises(DataError, match=r"2024-01-03: held and in no run marked: A\.US"):
        attribute(blind, replace(BOUGHT, marks=unknown), SESSIONS, NAMES)


def test_runs_of_other_sessions_are_refused():
    with pytest.raises(DataError, match="are to be of 3 sessions"):
        attribute(BOUGHT, BOUGHT, SESSIONS[:3], NAMES)


LARGER, SMALLER = order(1, quantity=150.0), order(1, quantity=50.0)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # For the same 150 shares the backtest paid 1001 + 506, the run 1531.5.
        ((RunEvent(DAYS[0], "reject", instrument_id="A.US"),), {Cause.FAULT: 1507.0 - 1531.5}),
        ((), {Cause.MISSED_FILL: 1001.0 - 1021.0, Cause.FILL_PRICE: -5.0, Cause.COST: 0.5}),
    ],
)
def test_the_price_of_an_order_that_an_event_resized_is_the_events(events, expected):
    makes_up = run([BUY, LARGER], [fill(LARGER, 2, price=10.2, commission=1.5)])
    plain = run([BUY, SMALLER], [fill(BUY, 1), fill(SMALLER, 2, price=10.1)])

    found = compared(makes_up, plain, *events)

    assert amounts(found) == expected


def test_what_a_halt_kept_back_is_its_own_cause_and_so_is_what_follows():
    halted = RunEvent(DAYS[0], "halt", Cause.HALT, until=DAYS[1])
    late = order(2)

    found = compared(run([late], [fill(late, 3, price=14.0)]), BOUGHT, halted)

    assert amounts(found) == {Cause.HALT: -400.0}
    assert {item.mechanism for item in found.evidence} == {Cause.SIGNAL, Cause.HALT}
