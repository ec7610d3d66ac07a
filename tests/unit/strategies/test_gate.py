import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import GateRefusal
from strategies.gate import Approved, GateParams, OrderGate
from strategies.planner import Plan

NAN = np.nan
NONE = np.array([], dtype=np.int64)
WIDE = GateParams(long_only=False, max_position_weight=1.0, max_gross=10.0)


def _plan(*orders):
    rows, quantities = zip(*orders, strict=True) if orders else ((), ())
    return Plan(np.array(rows, dtype=np.int64), np.array(quantities, dtype=np.int64), NONE, NONE)


def _approve(book, *orders, params=WIDE):
    return OrderGate(params).approve(_plan(*orders), book)


def _refusal(book, *orders, params=WIDE):
    with pytest.raises(GateRefusal) as refused:
        _approve(book, *orders, params=params)
    return refused.value


def test_an_approved_plan_is_the_plan_that_was_asked_for(book_of):
    plan = _plan((0, 10))

    approved = OrderGate(WIDE).approve(plan, book_of([10.0], cash=1_000.0))

    assert isinstance(approved, Approved)
    assert approved.plan is plan


def test_a_plan_without_orders_passes(book_of):
    assert _approve(book_of([10.0], cash=1_000.0)).plan.rows.tolist() == []


def test_a_position_may_reach_its_largest_weight_but_not_a_share_more(book_of):
    params = WIDE.model_copy(update={"max_position_weight": 0.25})
    book = book_of([10.0, 10.0], shares=[5, 0], cash=9_950.0)

    _approve(book, (0, 245), params=params)
    refusal = _refusal(book, (1, 10), (0, 246), params=params)

    assert refusal.limit == "max_position_weight"
    assert refusal.detail == (
        "column 0: a position of 2,510.00 USD on equity of 10,000.00 USD, limit 0.25 times equity;"
        " lower the target, or raise gate.max_position_weight"
    )
    assert str(refusal) == f"refused by max_position_weight: {refusal.detail}"


def test_a_short_position_has_the_same_largest_weight(book_of):
    params = WIDE.model_copy(update={"max_position_weight": 0.25})
    book = book_of([10.0], cash=10_000.0)

    _approve(book, (0, -250), params=params)
    assert _refusal(book, (0, -251), params=params).limit == "max_position_weight"


def test_gross_may_reach_its_limit_but_not_a_share_more(book_of):
    params = WIDE.model_copy(update={"max_gross": 0.9})
    book = book_of([10.0, 10.0, 10.0], shares=[-300, 0, 0], cash=13_000.0)

    _approve(book, (1, 300), (2, 300), params=params)
    refusal = _refusal(book, (1, 300), (2, 301), params=params)

    assert refusal.limit == "max_gross"
    found = "9,010.00 USD on equity of 10,000.00 USD, limit 0.9 times equity"
    assert refusal.detail == f"{found}; lower the target, or raise gate.max_gross"


def test_a_sale_makes_room_for_a_purchase_of_the_same_plan(book_of):
    book = book_of([10.0, 10.0], shares=[1_000, 0], cash=0.0)
    params = WIDE.model_copy(update={"max_gross": 1.0})

    _approve(book, (0, -500), (1, 500), params=params)
    assert _refusal(book, (0, -500), (1, 501), params=params).limit == "max_gross"


def test_an_order_may_reach_its_largest_notional_but_not_a_share_more(book_of):
    params = WIDE.model_copy(update={"max_order_notional_usd": 500.0})
    book = book_of([10.0], shares=[100], cash=9_000.0)

    _approve(book, (0, 50), params=params)
    refusal = _refusal(book, (0, 51), params=params)

    assert refusal.limit == "max_order_notional_usd"
    assert refusal.detail.startswith("column 0: an order of 510.00 USD, limit 500.00 USD; ")


def test_without_a_largest_notional_any_order_passes(book_of):
    _approve(book_of([10.0], cash=10_000.0), (0, 1_000))


def test_a_long_only_gate_lets_a_position_reach_zero_but_not_less(book_of):
    params = GateParams(max_position_weight=1.0)
    book = book_of([10.0, 10.0], shares=[100, 0], cash=9_000.0)

    _approve(book, (0, -100), params=params)
    assert _refusal(book, (0, -101), params=params).limit == "long_only"
    assert _refusal(book, (1, -1), params=params).detail.startswith("column 1: ")


def test_a_long_only_gate_lets_a_short_be_covered_but_not_grown(book_of):
    params = GateParams(max_position_weight=1.0)
    book = book_of([10.0], shares=[-100], cash=11_000.0)

    _approve(book, (0, 40), params=params)
    assert _refusal(book, (0, -1), params=params).limit == "long_only"


def test_shorts_pass_a_gate_that_allows_them(book_of):
    _approve(book_of([10.0], shares=[100], cash=9_000.0), (0, -300))


NEUTRAL = WIDE.model_copy(update={"min_net": -0.1, "max_net": 0.2})


def test_net_may_reach_the_ends_of_its_band_but_not_a_share_more(book_of):
    book = book_of([10.0, 10.0], cash=10_000.0)

    _approve(book, (0, 500), (1, -300), params=NEUTRAL)
    _approve(book, (0, 200), (1, -300), params=NEUTRAL)
    above = _refusal(book, (0, 501), (1, -300), params=NEUTRAL)
    below = _refusal(book, (0, 200), (1, -301), params=NEUTRAL)

    assert (above.limit, below.limit) == ("max_net", "min_net")
    on = "USD on equity of 10,000.00 USD"
    assert above.detail.startswith(f"2,010.00 {on}, limit 0.2 times equity; ")
    assert below.detail.startswith(f"-1,010.00 {on}, limit -0.1 times equity; ")


def test_a_book_outside_its_net_band_may_come_nearer_but_not_go_further(book_of):
    book = book_of([10.0, 10.0], shares=[600, 0], cash=4_000.0)

    _approve(book, (0, 10), (1, -10), params=NEUTRAL)
    _approve(book, (0, -100), (1, -100), params=NEUTRAL)
    assert _refusal(book, (0, 11), (1, -10), params=NEUTRAL).limit == "max_net"


def test_closing_orders_are_never_refused_for_their_net(book_of):
    book = book_of([10.0, 10.0, 10.0], shares=[600, -600, 0], cash=10_000.0)

    _approve(book, (1, 600), params=NEUTRAL)
    _approve(book, (0, -600), params=NEUTRAL)
    # What closes takes net to 0.6; what opens may not take it further.
    assert _refusal(book, (1, 600), (2, 1), params=NEUTRAL).limit == "max_net"


def test_an_order_on_its_way_counts_in_net(book_of):
    book = book_of([10.0, 10.0], cash=10_000.0, working=[True, False], pending=[-300, 0])

    _approve(book, (1, 500), params=NEUTRAL)
    assert _refusal(book, (1, 501), params=NEUTRAL).limit == "max_net"


@pytest.mark.parametrize("equity", [0.0, -1_000.0, NAN])
def test_a_closing_order_needs_no_equity_to_pass_a_net_band(book_of, equity):
    book = book_of([10.0, 10.0], shares=[100, -50], equity=equity)
    params = NEUTRAL.model_copy(update={"max_gross": 1.0})

    if not np.isnan(equity):
        _approve(book, (1, 50), params=params)
    assert _refusal(book, (1, -1), params=params).limit == "max_position_weight"


def test_a_net_band_that_nothing_lies_in_is_refused():
    with pytest.raises(ValidationError, match="min_net: must not exceed max_net"):
        GateParams(min_net=0.1, max_net=0.0)


@pytest.mark.parametrize("params", [GateParams(), WIDE])
def test_a_reducing_order_passes_a_book_that_breaks_every_limit(book_of, params):
    tight = params.model_copy(
        update={"max_position_weight": 0.01, "max_gross": 0.01, "max_order_notional_usd": 1.0}
    )
    book = book_of([10.0, 10.0], shares=[900, -500], cash=6_000.0)

    _approve(book, (0, -1), params=tight)
    _approve(book, (0, -900), (1, 500), params=tight)


def test_a_book_over_its_gross_may_not_grow_while_it_shrinks_elsewhere(book_of):
    params = WIDE.model_copy(update={"max_gross": 0.5})
    book = book_of([10.0, 10.0], shares=[900, 0], cash=1_000.0)

    _approve(book, (0, -100), (1, 100), params=params)
    assert _refusal(book, (0, -100), (1, 101), params=params).limit == "max_gross"


def test_turning_a_long_into_a_short_is_not_a_reduction(book_of):
    params = WIDE.model_copy(update={"max_order_notional_usd": 500.0})
    book = book_of([10.0], shares=[100], cash=9_000.0)

    assert _refusal(book, (0, -190), params=params).limit == "max_order_notional_usd"


@pytest.mark.parametrize("price", [NAN, 0.0, -10.0, np.inf])
def test_an_order_that_cannot_be_priced_is_refused(book_of, price):
    book = book_of([price, 10.0], marks=[10.0, 10.0], cash=1_000.0)

    refusal = _refusal(book, (0, 1), (1, 1))

    assert refusal.limit == "price"
    assert refusal.detail.startswith("column 0: no price of this session, ")


@pytest.mark.parametrize("price", [NAN, 0.0, -10.0, np.inf])
@pytest.mark.parametrize(("held", "order"), [(100, 1), (-100, -1), (100, -101), (-100, 101)])
def test_a_position_without_a_price_may_neither_grow_nor_turn(book_of, price, held, order):
    book = book_of([price], marks=[10.0], shares=[held], cash=9_000.0)

    refusal = _refusal(book, (0, order))

    assert refusal.limit == "price"
    assert refusal.detail.startswith("column 0: no price of this session, ")


@pytest.mark.parametrize("price", [NAN, 0.0, -10.0])
@pytest.mark.parametrize(("held", "order"), [(100, -1), (100, -100), (-100, 1), (-100, 100)])
def test_a_reducing_order_needs_no_price(book_of, price, held, order):
    tight = WIDE.model_copy(
        update={"max_position_weight": 0.01, "max_gross": 0.01, "max_order_notional_usd": 1.0}
    )
    book = book_of([price], marks=[10.0], shares=[held], cash=9_000.0)

    assert _approve(book, (0, order), params=tight).plan.quantities.tolist() == [order]


@pytest.mark.parametrize("equity", [0.0, -1_000.0])
@pytest.mark.parametrize("price", [10.0, NAN])
def test_a_reducing_order_needs_no_equity(book_of, equity, price):
    book = book_of([price, 10.0], marks=[10.0, 10.0], shares=[100, -50], equity=equity)

    _approve(book, (0, -1))
    _approve(book, (0, -100), (1, 50))


def test_a_second_order_while_one_is_working_is_refused(book_of):
    book = book_of([10.0, 10.0], cash=1_000.0, working=[False, True])

    _approve(book, (0, 1))
    refusal = _refusal(book, (0, 1), (1, 1))

    assert refusal.limit == "working order"
    assert refusal.detail.startswith("column 1: ")


def test_two_orders_for_one_instrument_are_refused(book_of):
    book = book_of([10.0, 10.0], cash=1_000.0)

    refusal = _refusal(book, (1, 1), (0, 1), (1, 2))

    assert refusal.limit == "duplicate order"
    assert refusal.detail.startswith("column 1 and 1 more: ordered twice, ")


def test_exposure_that_cannot_be_valued_is_refused(book_of):
    book = book_of([10.0, NAN], shares=[0, 10], marks=[10.0, NAN], cash=1_000.0)

    assert _refusal(book, (0, 1)).limit == "max_gross"


@pytest.mark.parametrize("equity", [-1_000.0, 0.0, NAN])
def test_nothing_may_grow_on_equity_that_is_zero_negative_or_unknown(book_of, equity):
    book = book_of([10.0], shares=[100], equity=equity)

    assert _refusal(book, (0, 1)).limit == "max_position_weight"


def test_a_broken_order_refuses_the_whole_plan(book_of):
    params = WIDE.model_copy(update={"max_order_notional_usd": 100.0})
    book = book_of([10.0] * 3, cash=10_000.0)

    assert _refusal(book, (0, 5), (1, 11), (2, 12), params=params).detail.startswith(
        "column 1 and 1 more: "
    )


def test_judging_a_plan_changes_neither_the_plan_nor_the_book(book_of):
    book = book_of([10.0, 10.0], shares=[100, 0], cash=9_000.0)
    plan = _plan((0, -50), (1, 10))

    OrderGate(WIDE).approve(plan, book)

    assert book.shares.tolist() == [100, 0]
    assert plan.quantities.tolist() == [-50, 10]
