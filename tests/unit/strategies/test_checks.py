"""Each limit of the gate lets pass what is just under it, and refuses what is just over."""

from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.errors import GateRefusal
from prometheus_nt.domain.safety import TradingState
from strategies.checks import MarketFacts
from strategies.gate import GATE_FAILURE, GateParams, OrderGate
from strategies.limits import MODE_LIMITS
from strategies.planner import Plan, closing_plan

NONE = np.array([], dtype=np.int64)
WIDE = {"long_only": False, "max_position_weight": 1.0, "max_gross": 10.0}
SECOND = 1_000_000_000
KNOWN = MarketFacts(
    instruments=("A.US", "B.US"),
    sectors=("Tech", "Energy"),
    closes=np.array([[9.0, 10.0], [10.0, 10.5], [10.0, 10.0]]),
    now_ns=100 * SECOND,
    closed_ns=100 * SECOND,
    opens_ns=200 * SECOND,
    equity_before=10_000.0,
    drawdown=0.0,
)


def plan_of(*orders):
    rows, quantities = zip(*orders, strict=True)
    return Plan(np.array(rows), np.array(quantities), NONE, NONE)


def gate_of(**limits):
    return OrderGate(GateParams(**WIDE | limits))


def refused(gate, plan, book, facts=KNOWN):
    with pytest.raises(GateRefusal) as found:
        gate.approve(plan, book, lambda: facts)
    return found.value


def passes(gate, plan, book, facts=KNOWN):
    return gate.approve(plan, book, lambda: facts).plan is plan


@pytest.fixture
def cash(book_of):
    return book_of([10.0, 10.0], cash=10_000.0)


@pytest.fixture
def holding(book_of):
    return book_of([10.0, 10.0], shares=[500, 0], cash=5_000.0)


@pytest.mark.parametrize(
    ("limit", "allowed", "under", "over"),
    [
        ("max_order_shares", 100, 100, 101),
        ("max_order_notional_usd", 1_000.0, 100, 101),
        ("max_position_weight", 0.2, 200, 201),
        ("max_position_notional_usd", 2_000.0, 200, 201),
        ("max_gross", 0.3, 300, 301),
        ("max_net", 0.3, 300, 301),
        ("max_sector_weight", 0.4, 400, 401),
    ],
)
def test_a_size_may_reach_its_limit_but_not_a_share_more(cash, limit, allowed, under, over):
    gate = gate_of(**{limit: allowed})

    assert passes(gate, plan_of((0, under)), cash)

    found = refused(gate, plan_of((1, over)), cash)
    assert found.limit == limit
    assert f"gate.{limit}" in found.detail


def test_a_refusal_names_the_instrument_the_value_the_limit_and_the_remedy(cash):
    found = refused(gate_of(max_order_shares=100), plan_of((1, 101)), cash)

    assert str(found) == (
        "refused by max_order_shares: B.US: 101 shares, limit 100; trade in parts, or raise "
        "gate.max_order_shares"
    )


def test_a_sector_is_what_all_of_its_instruments_add_up_to(cash):
    gate, one = gate_of(max_sector_weight=0.4), replace(KNOWN, sectors=("Tech", "Tech"))

    assert passes(gate, plan_of((0, 200), (1, 200)), cash, one)
    assert refused(gate, plan_of((0, 200), (1, -201)), cash, one).limit == "max_sector_weight"
    assert passes(gate, plan_of((0, 200), (1, -201)), cash)


def test_an_instrument_of_unknown_sector_cannot_be_bought_but_sold(cash, holding):
    gate, facts = gate_of(max_sector_weight=1.0), replace(KNOWN, sectors=(None, "Energy"))

    assert "its sector is unknown" in refused(gate, plan_of((0, 1)), cash, facts).detail
    assert passes(gate, plan_of((0, -500)), holding, facts)


@pytest.mark.parametrize(("before", "passing"), [(8.01, True), (7.99, False), (13.4, False)])
def test_a_price_that_moved_too_far_buys_nothing(cash, before, passing):
    gate = gate_of(max_price_move=0.25)
    facts = replace(KNOWN, closes=np.array([[before, 10.0], [np.nan, 10.0], [10.0, 10.0]]))

    if passing:
        assert passes(gate, plan_of((0, 1)), cash, facts)
    else:
        assert refused(gate, plan_of((0, 1)), cash, facts).limit == "max_price_move"


def test_an_instrument_on_its_first_day_has_no_price_to_compare_with(cash):
    facts = replace(KNOWN, closes=np.array([[np.nan, 10.0], [10.0, 10.0]]))

    assert passes(gate_of(max_price_move=0.25), plan_of((0, 1)), cash, facts)


def test_a_close_that_never_changes_is_a_dead_feed(cash):
    gate = gate_of(max_unchanged_sessions=2)
    alive = replace(KNOWN, closes=np.array([[9.0, 10.0], [10.0, 10.0], [10.0, 10.0], [10.0, 10.0]]))

    assert passes(gate, plan_of((0, 1)), cash, alive)
    assert refused(gate, plan_of((1, 1)), cash, alive).limit == "max_unchanged_sessions"


def test_orders_of_a_minute_are_counted_over_plans(cash):
    gate = gate_of(max_orders_per_minute=3)
    later = replace(KNOWN, now_ns=KNOWN.now_ns + 59 * SECOND)
    after = replace(KNOWN, now_ns=KNOWN.now_ns + 60 * SECOND)

    assert passes(gate, plan_of((0, 1), (1, 1)), cash)

    assert passes(gate, plan_of((0, 2)), cash, later)
    assert refused(gate, plan_of((1, 2)), cash, later).limit == "max_orders_per_minute"
    assert passes(gate, plan_of((1, 2)), cash, after)


def test_the_same_order_leaves_once_within_its_window(cash):
    gate = gate_of(duplicate_window_seconds=3600.0)
    inside, outside = (replace(KNOWN, now_ns=(100 + s) * SECOND) for s in (3599, 3600))

    assert passes(gate, plan_of((0, 5)), cash)

    assert refused(gate, plan_of((0, 5)), cash, inside).limit == "duplicate_window_seconds"
    assert passes(gate, plan_of((0, 6)), cash, inside)
    assert passes(gate, plan_of((0, 5)), cash, outside)


def test_restricted_instruments_may_only_be_closed(cash, holding):
    gate = gate_of(restricted=("A.US",))

    assert refused(gate, plan_of((0, 1)), cash).limit == "restricted"
    assert passes(gate, plan_of((1, 1)), cash)
    assert passes(gate, plan_of((0, -500)), holding)
    assert refused(gate, plan_of((0, -501)), holding).limit == "restricted"


def test_where_some_are_allowed_all_others_are_restricted(cash):
    gate = gate_of(allowed=("A.US",))

    assert passes(gate, plan_of((0, 1)), cash)
    assert refused(gate, plan_of((1, 1)), cash).limit == "restricted"


@pytest.mark.parametrize(("now", "passing"), [(99, False), (100, True), (199, True), (200, False)])
def test_orders_leave_between_the_close_and_the_next_open_only(cash, now, passing):
    gate, facts = gate_of(between_sessions=True), replace(KNOWN, now_ns=now * SECOND)

    if passing:
        assert passes(gate, plan_of((0, 1)), cash, facts)
    else:
        assert refused(gate, plan_of((0, 1)), cash, facts).limit == "between_sessions"


@pytest.mark.parametrize(
    ("limit", "under", "over"),
    [
        ("max_daily_loss", {"equity_before": 11_111.0}, {"equity_before": 11_112.0}),
        ("max_drawdown", {"drawdown": -0.1}, {"drawdown": -0.1001}),
    ],
)
def test_after_a_large_loss_only_closing_orders_pass(holding, limit, under, over):
    gate, lost = gate_of(**{limit: 0.1}), replace(KNOWN, **over)

    assert passes(gate, plan_of((1, 1)), holding, replace(KNOWN, **under))
    assert refused(gate, plan_of((1, 1)), holding, lost).limit == limit
    assert passes(gate, plan_of((0, -500)), holding, lost)


@pytest.mark.parametrize(
    ("limit", "value", "unknown"),
    [
        ("max_price_move", 0.5, {"closes": None}),
        ("max_unchanged_sessions", 5, {"closes": None}),
        ("max_orders_per_minute", 5, {"now_ns": None}),
        ("duplicate_window_seconds", 5.0, {"now_ns": None}),
        ("between_sessions", True, {"opens_ns": None}),
        ("max_daily_loss", 0.1, {"equity_before": None}),
        ("max_drawdown", 0.1, {"drawdown": None}),
        ("max_sector_weight", 0.9, {"sectors": ()}),
        ("restricted", ("C.US",), {"instruments": ()}),
    ],
)
def test_what_a_limit_needs_and_nobody_knows_refuses_all_but_closing(
    cash, holding, limit, value, unknown
):
    gate, facts = gate_of(**{limit: value}), replace(KNOWN, **unknown)

    found = refused(gate, plan_of((0, 1)), cash, facts)

    assert found.limit == limit
    assert "unknown" in found.detail
    assert passes(gate, plan_of((0, -500)), holding, facts)


def test_a_gate_that_fails_denies_and_says_with_what(cash):
    def broken():
        raise ZeroDivisionError("no facts today")

    gate = gate_of()

    with pytest.raises(GateRefusal) as found:
        gate.approve(plan_of((0, 1)), cash, broken)

    assert found.value.limit == GATE_FAILURE
    assert "ZeroDivisionError: no facts today" in found.value.detail
    assert gate.passed_orders == 0
    assert "no facts today" in gate.verdict(plan_of((0, 1)), cash, broken)


def test_a_check_that_fails_denies_as_well(cash):
    facts = replace(KNOWN, closes=np.array([[10.0], [10.0]]))

    assert refused(gate_of(max_price_move=0.5), plan_of((1, 1)), cash, facts).limit == GATE_FAILURE


def test_nothing_leaves_a_halted_sleeve(holding):
    facts = replace(KNOWN, state=TradingState.HALTED)

    assert refused(gate_of(), plan_of((0, -500)), holding, facts).limit == "kill_switch"


def test_a_sleeve_that_is_wound_down_closes_and_opens_nothing(holding):
    facts = replace(KNOWN, state=TradingState.FLATTENING)
    plan = closing_plan(holding)

    assert list(zip(plan.rows, plan.quantities, strict=True)) == [(0, -500)]
    assert passes(gate_of(), plan, holding, facts)
    assert refused(gate_of(), plan_of((0, -501)), holding, facts).limit == "kill_switch"


def test_the_closing_part_of_a_plan_is_what_shrinks_positions(holding):
    plan = closing_plan(holding, plan_of((0, -600), (1, 10)))

    assert list(zip(plan.rows, plan.quantities, strict=True)) == [(0, -500)]


def test_nothing_is_closed_twice(book_of):
    book = book_of([10.0, 10.0], shares=[500, 20], cash=0.0, working=[True, False])

    plan = closing_plan(book)

    assert list(zip(plan.rows, plan.quantities, strict=True)) == [(1, -20)]


def test_a_verdict_neither_remembers_nor_counts(cash):
    gate = gate_of(max_orders_per_minute=1)

    assert gate.verdict(plan_of((0, 1)), cash, lambda: KNOWN) == "passes"
    assert gate.passed_orders == 0
    assert passes(gate, plan_of((0, 1)), cash)
    assert gate.passed_orders == 1


def test_paper_has_the_limits_of_live_and_a_backtest_none():
    assert MODE_LIMITS["paper"] == MODE_LIMITS["live"]
    assert MODE_LIMITS["backtest"] == {}
    assert GateParams(**MODE_LIMITS["live"]).between_sessions
