import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import DataError
from strategies.planner import PlannerParams, plan_orders

NAN = np.nan
EXACT = PlannerParams(cash_buffer=0.0, no_trade_band=0.0, min_notional_usd=0.0)


def _orders(plan):
    return list(zip(plan.rows.tolist(), plan.quantities.tolist(), strict=True))


def _plan(weights, book, params=EXACT, only=None):
    return plan_orders(np.array(weights), book, params, None if only is None else np.array(only))


def test_a_first_plan_buys_the_target_in_whole_shares(book_of):
    book = book_of([30.0, 70.0], cash=10_000.0)

    plan = _plan([0.5, 0.25], book)

    # 5 000 / 30 = 166.67 and 2 500 / 70 = 35.71
    assert _orders(plan) == [(0, 166), (1, 35)]
    assert plan.held.tolist() == plan.deferred.tolist() == []


def test_sells_come_before_buys_and_then_by_instrument(book_of):
    book = book_of([10.0] * 4, shares=[0, 100, 0, 100], cash=8_000.0)

    plan = _plan([0.3, 0.05, 0.3, 0.05], book)

    assert _orders(plan) == [(1, -50), (3, -50), (0, 300), (2, 300)]


def test_a_held_name_that_is_absent_from_the_target_is_sold(book_of):
    book = book_of([10.0, 20.0], shares=[100, 50], cash=0.0)

    assert _orders(_plan([0.0, 0.5], book)) == [(0, -100)]


def test_an_empty_target_closes_everything(book_of):
    book = book_of([10.0, 20.0], shares=[100, -50], cash=2_000.0)

    assert _orders(_plan([0.0, 0.0], book)) == [(0, -100), (1, 50)]


def test_a_full_target_is_scaled_to_leave_the_cash_buffer(book_of):
    book = book_of([10.0, 10.0], cash=100_000.0)
    params = EXACT.model_copy(update={"cash_buffer": 0.02})

    # 98 % of 100 000 in the proportion 60 : 40
    assert _orders(_plan([0.6, 0.4], book, params)) == [(0, 5_880), (1, 3_920)]


def test_a_target_that_leaves_the_buffer_anyway_is_not_scaled(book_of):
    book = book_of([10.0, 10.0], cash=100_000.0)
    params = EXACT.model_copy(update={"cash_buffer": 0.02})

    assert _orders(_plan([0.5, 0.4], book, params)) == [(0, 5_000), (1, 4_000)]


def test_short_weights_are_sold_short_and_rounded_towards_zero(book_of):
    book = book_of([30.0, 70.0], cash=10_000.0)

    assert _orders(_plan([-0.5, 0.25], book)) == [(0, -166), (1, 35)]


def test_a_long_turns_short_in_one_order(book_of):
    book = book_of([10.0], shares=[100], cash=9_000.0)

    assert _orders(_plan([-0.1], book)) == [(0, -200)]


def test_quantities_are_whole_lots(book_of):
    book = book_of([30.0, 30.0], cash=10_000.0, lots=[4, 1])

    # 166 shares are 41 lots of four
    assert _orders(_plan([0.5, 0.5], book)) == [(0, 164), (1, 166)]


def test_an_odd_lot_is_rounded_to_whole_lots_when_it_trades(book_of):
    book = book_of([10.0], shares=[7], cash=930.0, lots=[4])

    assert _orders(_plan([0.5], book)) == [(0, 41)]


def test_a_target_of_exactly_k_shares_buys_k(book_of):
    book = book_of([0.1, 0.7], cash=1.0)

    assert _orders(_plan([0.3, 0.7], book)) == [(0, 3), (1, 1)]


@pytest.mark.parametrize(
    ("shares", "orders"),
    [(9_801, []), (9_800, [(0, 200)]), (10_199, []), (10_200, [(0, -200)])],
)
def test_a_held_name_inside_the_band_is_left_alone(book_of, shares, orders):
    params = EXACT.model_copy(update={"no_trade_band": 0.02})
    book = book_of([1.0], shares=[shares], equity=10_000.0)

    # The target is 10 000 shares; 2 % of 10 000 dollars are 200 shares.
    assert _orders(_plan([1.0], book, params)) == orders


def test_the_band_does_not_keep_a_new_name_out(book_of):
    params = EXACT.model_copy(update={"no_trade_band": 0.02})
    book = book_of([1.0], cash=10_000.0)

    assert _orders(_plan([0.01], book, params)) == [(0, 100)]


def test_the_band_does_not_keep_an_old_name_in(book_of):
    params = EXACT.model_copy(update={"no_trade_band": 0.02})
    book = book_of([1.0], shares=[50], cash=9_950.0)

    assert _orders(_plan([0.0], book, params)) == [(0, -50)]


@pytest.mark.parametrize(("weight", "orders"), [(0.0499, []), (0.05, [(0, 50)])])
def test_an_order_must_be_worth_the_least_notional(book_of, weight, orders):
    params = EXACT.model_copy(update={"min_notional_usd": 500.0})

    assert _orders(_plan([weight], book_of([10.0], cash=10_000.0), params)) == orders


def test_reducing_by_less_than_the_least_notional_waits(book_of):
    params = EXACT.model_copy(update={"min_notional_usd": 500.0})
    book = book_of([10.0], shares=[140], cash=8_600.0)

    assert _orders(_plan([0.1], book, params)) == []


def test_closing_ignores_the_least_notional(book_of):
    params = EXACT.model_copy(update={"min_notional_usd": 500.0})
    book = book_of([10.0], shares=[3], cash=9_970.0)

    assert _orders(_plan([0.0], book, params)) == [(0, -3)]


@pytest.mark.parametrize("price", [NAN, 0.0, -1.0, np.inf])
def test_a_name_without_a_price_is_held(book_of, price):
    book = book_of([price, 10.0], shares=[100, 0], marks=[10.0, 10.0], cash=9_000.0)

    plan = _plan([0.0, 0.1], book)

    assert _orders(plan) == [(1, 100)]
    assert plan.held.tolist() == [0]


def test_a_name_with_a_working_order_is_left_alone(book_of):
    book = book_of([10.0, 10.0], shares=[100, 0], cash=9_000.0, working=[True, False])

    plan = _plan([0.5, 0.1], book)

    assert _orders(plan) == [(1, 100)]
    assert plan.held.tolist() == [0]


def test_a_name_neither_held_nor_wanted_is_not_reported_as_held(book_of):
    book = book_of([NAN, 10.0, NAN], marks=[NAN, 10.0, NAN], cash=1_000.0)

    assert _plan([0.0, 0.5, 0.2], book).held.tolist() == [2]


def test_only_the_names_asked_for_are_considered(book_of):
    book = book_of([10.0, 10.0, NAN], shares=[50, 0, 5], marks=[10.0] * 3, cash=9_450.0)

    plan = _plan([0.0, 0.5, 0.0], book, only=[False, True, False])

    assert _orders(plan) == [(1, 500)]
    assert plan.held.tolist() == []


def test_an_order_is_cut_to_what_the_market_absorbs_and_the_rest_deferred(book_of):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    book = book_of(
        [10.0, 10.0, 10.0], shares=[0, 400, 0], cash=6_000.0, usual_value=[20_000.0, 40_000.0, 1e9]
    )

    plan = _plan([0.3, 0.0, 0.3], book, params)

    # 5 % of 20 000 and of 40 000 dollars are 100 and 200 shares.
    assert _orders(plan) == [(1, -200), (0, 100), (2, 300)]
    assert plan.deferred.tolist() == [0, 1]


def test_a_cut_order_is_still_whole_lots(book_of):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    book = book_of([10.0], cash=10_000.0, lots=[30], usual_value=[20_000.0])

    assert _orders(_plan([1.0], book, params)) == [(0, 90)]


def test_a_market_too_thin_for_one_lot_defers_everything(book_of):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    book = book_of([10.0], cash=10_000.0, usual_value=[199.0])

    plan = _plan([1.0], book, params)

    assert _orders(plan) == []
    assert plan.deferred.tolist() == [0]


@pytest.mark.parametrize("usual", [NAN, 0.0])
def test_a_participation_cap_on_unknown_volume_is_an_error_with_a_remedy(book_of, usual):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    book = book_of([10.0], cash=10_000.0, usual_value=[usual])

    with pytest.raises(DataError, match=r"unknown.*set planner.max_participation to null"):
        _plan([1.0], book, params)


def test_unknown_volume_does_not_matter_where_nothing_trades(book_of):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    book = book_of([10.0, 10.0], cash=10_000.0, usual_value=[NAN, 1e6])

    assert _orders(_plan([0.0, 0.1], book, params)) == [(1, 100)]


@pytest.mark.parametrize(
    ("buffer", "buys"), [(0.0, [(1, 5_000)]), (0.01, [(1, 4_000)]), (0.05, [])]
)
def test_what_a_capped_sale_should_have_paid_for_waits(book_of, buffer, buys):
    params = EXACT.model_copy(update={"cash_buffer": buffer, "max_participation": 0.05})
    book = book_of([10.0, 10.0], shares=[100_000, 0], usual_value=[1e6, 1e9])

    plan = _plan([0.0, 0.2], book, params)

    # 5 % of A's usual million are 5 000 shares, so A still takes 950 000 of the million there is.
    # B wants 20 000 shares and gets what 50 000 dollars less the buffer buy.
    assert _orders(plan) == [(0, -5_000), *buys]
    assert plan.deferred.tolist() == [0, 1]


def test_what_waited_is_bought_as_the_sale_goes_on(book_of):
    params = EXACT.model_copy(update={"max_participation": 0.05})
    shares, only, sessions = [10_000, 0], [True, True], []

    for _ in range(3):
        book = book_of([10.0, 10.0], shares=shares, usual_value=[1e6, 1e9])
        plan = _plan([0.0, 1.0], book, params, only)
        shares = [held + dict(_orders(plan)).get(row, 0) for row, held in enumerate(shares)]
        only = [row in plan.deferred for row in range(2)]
        sessions.append((_orders(plan), plan.deferred.tolist()))

    assert sessions == [
        ([(0, -5_000), (1, 5_000)], [0, 1]),
        ([(0, -5_000), (1, 5_000)], []),
        ([], []),
    ]


def test_a_name_that_cannot_be_sold_pays_for_nothing(book_of):
    book = book_of([NAN, 10.0], shares=[100, 0], marks=[10.0, 10.0], cash=9_000.0)

    plan = _plan([0.0, 1.0], book)

    # 10 000 of equity, of which 1 000 are stuck.
    assert _orders(plan) == [(1, 900)]
    assert (plan.held.tolist(), plan.deferred.tolist()) == ([0], [1])


def test_a_name_whose_order_is_working_pays_for_nothing_yet(book_of):
    book = book_of([10.0, 10.0], shares=[100, 0], cash=9_000.0, working=[True, False])

    plan = _plan([0.0, 1.0], book)

    assert _orders(plan) == [(1, 900)]
    assert (plan.held.tolist(), plan.deferred.tolist()) == ([0], [1])


def test_names_share_what_there_is_in_proportion_to_what_they_want(book_of):
    book = book_of([NAN, 10.0, 20.0], shares=[500, 0, 0], marks=[10.0, 10.0, 20.0], cash=5_000.0)

    plan = _plan([0.0, 0.6, 0.4], book)

    # 6 000 and 4 000 are wanted, half of it can be paid: 3 000 and 2 000.
    assert _orders(plan) == [(1, 300), (2, 100)]
    assert plan.deferred.tolist() == [1, 2]


def test_what_there_is_buys_whole_lots(book_of):
    book = book_of(
        [NAN, 10.0, 10.0],
        shares=[500, 0, 0],
        marks=[10.0] * 3,
        cash=5_000.0,
        lots=[1, 28, 1],
    )

    plan = _plan([0.0, 0.6, 0.4], book)

    # 588 (21 lots) and 400 are wanted and 500 of the 988 paid for: 297.6, ten lots, and 202.4.
    assert _orders(plan) == [(1, 280), (2, 202)]
    assert plan.deferred.tolist() == [1, 2]


def test_an_order_cut_below_the_least_notional_waits(book_of):
    params = EXACT.model_copy(update={"min_notional_usd": 2_500.0})
    book = book_of([NAN, 10.0, 20.0], shares=[500, 0, 0], marks=[10.0, 10.0, 20.0], cash=5_000.0)

    plan = _plan([0.0, 0.6, 0.4], book, params)

    # 3 000 are worth an order, 2 000 are not.
    assert _orders(plan) == [(1, 300)]
    assert plan.deferred.tolist() == [1, 2]


@pytest.mark.parametrize(("least", "deferred"), [(1_000.0, [0]), (1_000.01, [])])
def test_a_rest_that_is_worth_no_order_is_not_deferred(book_of, least, deferred):
    params = EXACT.model_copy(update={"max_participation": 0.05, "min_notional_usd": least})
    book = book_of([10.0], cash=100_000.0, usual_value=[180_000.0])

    plan = _plan([0.1], book, params)

    # 900 of the 1 000 shares wanted; the rest is worth 1 000 dollars.
    assert _orders(plan) == [(0, 900)]
    assert plan.deferred.tolist() == deferred


@pytest.mark.parametrize(("band", "deferred"), [(0.01, [0]), (0.0101, [])])
def test_a_rest_inside_the_band_is_not_deferred(book_of, band, deferred):
    params = EXACT.model_copy(update={"max_participation": 0.05, "no_trade_band": band})
    book = book_of([10.0], cash=100_000.0, usual_value=[180_000.0])

    plan = _plan([0.1], book, params)

    # The rest is worth 1 % of equity.
    assert _orders(plan) == [(0, 900)]
    assert plan.deferred.tolist() == deferred


def test_a_book_without_room_sells_but_buys_nothing(book_of):
    book = book_of([NAN, 10.0, 10.0], shares=[1_200, 100, 0], marks=[10.0] * 3, equity=10_000.0)

    plan = _plan([0.0, 0.0, 0.5], book)

    assert _orders(plan) == [(1, -100)]
    assert (plan.held.tolist(), plan.deferred.tolist()) == ([0], [2])


def test_a_reduction_is_never_cut_for_want_of_room(book_of):
    book = book_of([10.0, 10.0, 10.0], shares=[900, -900, 100], equity=1_000.0)

    plan = _plan([0.0, 0.0, 0.5], book)

    # 5 000 of gross exposure on 1 000 of equity cannot grow, but all of it can be closed.
    assert _orders(plan) == [(0, -900), (2, -50), (1, 900)]
    assert plan.deferred.tolist() == []


def test_a_short_takes_room_like_a_long(book_of):
    book = book_of([NAN, 10.0, 10.0], shares=[500, 0, 0], marks=[10.0] * 3, cash=5_000.0)

    plan = _plan([0.0, -0.5, 0.5], book)

    assert _orders(plan) == [(1, -250), (2, 250)]
    assert plan.deferred.tolist() == [1, 2]


def test_an_order_through_zero_closes_whole_and_opens_its_share_of_the_room(book_of):
    book = book_of([NAN, 10.0, 10.0], shares=[500, 300, 0], marks=[10.0] * 3, cash=2_000.0)

    plan = _plan([0.0, -0.2, 0.8], book)

    # 500 are stuck and 300 close; the 500 that leaves are half of the 200 and 800 to be opened.
    assert _orders(plan) == [(1, -400), (2, 400)]
    assert plan.deferred.tolist() == [1, 2]


def test_an_order_through_zero_still_closes_where_there_is_no_room(book_of):
    book = book_of([NAN, 10.0], shares=[1_000, 100], marks=[10.0] * 2, equity=10_000.0)

    plan = _plan([0.0, -0.5], book)

    assert _orders(plan) == [(1, -100)]
    assert (plan.held.tolist(), plan.deferred.tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("weight", "order"), [(-0.1, 200), (0.0, 300), (0.05, 350), (-0.4, -100), (-0.3, None)]
)
def test_a_short_is_covered_turned_and_grown_in_one_order(book_of, weight, order):
    book = book_of([10.0], shares=[-300], cash=13_000.0)

    assert _orders(_plan([weight], book)) == ([] if order is None else [(0, order)])


def test_a_hundred_long_and_a_hundred_short_is_reached_below_its_buffer(book_of):
    params = EXACT.model_copy(update={"max_gross": 2.0, "cash_buffer": 0.02})
    book = book_of([10.0, 10.0], cash=100_000.0)

    # 198 % of 100 000 in the proportion 1 : -1, so that net stays where the target has it.
    assert _orders(_plan([1.0, -1.0], book, params)) == [(1, -9_900), (0, 9_900)]


def test_a_hundred_and_thirty_long_and_thirty_short_is_reached(book_of):
    params = EXACT.model_copy(update={"max_gross": 1.65, "cash_buffer": 0.05})
    book = book_of([10.0, 10.0], cash=100_000.0)

    assert _orders(_plan([1.3, -0.3], book, params)) == [(1, -3_000), (0, 13_000)]


def test_a_book_over_its_gross_limit_closes_but_opens_nothing(book_of):
    params = EXACT.model_copy(update={"max_gross": 2.0})
    book = book_of([NAN, 10.0, 10.0], shares=[1_500, -900, 0], marks=[10.0] * 3, equity=10_000.0)

    plan = _plan([1.5, -0.6, 0.4], book, params)

    # A gross of 2.5 scaled to 2.0 leaves 480 short; with the 1 500 that are stuck, 20 are free.
    assert _orders(plan) == [(1, 420), (2, 20)]
    assert _orders(_plan([1.5, -0.7, 0.3], book, params)) == [(1, 340)]


NEUTRAL = EXACT.model_copy(update={"max_gross": 2.0, "min_net": -0.1, "max_net": 0.1})


def test_the_long_side_waits_for_a_short_side_that_the_market_cannot_absorb_yet(book_of):
    params = NEUTRAL.model_copy(update={"max_participation": 0.1})
    book = book_of([10.0, 10.0], cash=10_000.0, usual_value=[1e9, 20_000.0])

    plan = _plan([0.9, -0.9], book, params)

    # 200 of the 900 shares can be sold short; longs may then be 200 and a tenth of equity.
    assert _orders(plan) == [(1, -200), (0, 300)]
    assert plan.deferred.tolist() == [0, 1]


def test_the_short_side_waits_for_a_long_side_without_a_price(book_of):
    book = book_of([NAN, 10.0], marks=[10.0, 10.0], cash=10_000.0)

    plan = _plan([0.9, -0.9], book, NEUTRAL)

    assert _orders(plan) == [(1, -100)]
    assert (plan.held.tolist(), plan.deferred.tolist()) == ([0], [1])


def test_a_book_outside_its_net_band_comes_nearer_and_may_always_close(book_of):
    halted = book_of([NAN, 10.0, 10.0], shares=[500, -400, 0], marks=[10.0] * 3, equity=10_000.0)

    # Closing the short moves net from 0.1 to 0.5: it must be possible, and no long may be added.
    assert _orders(_plan([0.5, 0.0, 0.3], halted, NEUTRAL)) == [(1, 400)]
    # A larger short may take net from 0.1 down to -0.1, not to -0.3.
    assert _orders(_plan([0.5, -0.8, 0.0], halted, NEUTRAL)) == [(1, -200)]


def test_a_band_too_narrow_for_whole_lots_opens_nothing(book_of):
    params = EXACT.model_copy(update={"max_gross": 2.0, "min_net": 0.0, "max_net": 0.0})
    book = book_of([7.0, 11.3], cash=100.0)

    plan = _plan([0.9, -0.9], book, params)

    assert _orders(plan) == []
    assert plan.deferred.tolist() == [0, 1]


def test_names_that_wait_are_judged_with_the_rest_of_the_book(book_of):
    book = book_of([10.0] * 3, shares=[400, 500, 0], cash=1_000.0)

    plan = _plan([0.0, 0.0, 1.0], book, only=[False, False, True])

    assert _orders(plan) == [(2, 100)]
    assert plan.deferred.tolist() == [2]


@pytest.mark.parametrize("weight", [NAN, np.inf, -np.inf])
def test_a_weight_that_is_not_a_number_has_no_plan(book_of, weight):
    with pytest.raises(DataError, match="1 target weights are not finite"):
        _plan([weight, 0.5], book_of([10.0, 10.0], cash=1_000.0))


@pytest.mark.parametrize("equity", [0.0, -1.0, NAN, np.inf])
def test_equity_that_sizes_nothing_has_no_plan(book_of, equity):
    with pytest.raises(DataError, match=r"book equity is .* nothing can be sized by it"):
        _plan([0.5], book_of([10.0], equity=equity))


@pytest.mark.parametrize(
    "bad",
    [
        {"cash_buffer": -0.01},
        {"cash_buffer": 1.0},
        {"max_gross": 0.0},
        {"cash_buffer": 0.5, "max_gross": 0.5},
        {"min_net": 0.2, "max_net": 0.1},
        {"no_trade_band": 1.0},
        {"min_notional_usd": -1.0},
        {"max_participation": 0.0},
        {"max_participation": 1.01},
    ],
)
def test_settings_out_of_bounds_are_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        PlannerParams(**bad)


def test_an_order_on_its_way_leaves_less_room_for_another(book_of):
    book = book_of([10.0, 10.0], cash=100_000.0, working=[True, False], pending=[9_500, 0])

    plan = _plan([0.0, 0.95], book)

    # 100 000 less the 95 000 that the working order may still spend
    assert _orders(plan) == [(1, 500)]
    assert plan.deferred.tolist() == [1]


def test_a_sale_on_its_way_frees_nothing_before_it_has_filled(book_of):
    book = book_of(
        [10.0, 10.0], shares=[9_500, 0], cash=5_000.0, working=[True, False], pending=[-9_500, 0]
    )

    assert _orders(_plan([0.0, 0.95], book)) == [(1, 500)]


def test_the_tail_of_a_capped_closing_sale_is_not_forgotten(book_of):
    book = book_of([10.0], shares=[5_040], cash=0.0, usual_value=[100_000.0])
    params = PlannerParams(max_participation=0.5, min_notional_usd=500.0)

    plan = _plan([0.0], book, params)

    assert _orders(plan) == [(0, -5_000)]
    assert plan.deferred.tolist() == [0]
