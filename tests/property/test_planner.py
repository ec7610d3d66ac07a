from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.errors import DataError
from strategies.gate import GateParams, OrderGate
from strategies.planner import BookView, Plan, PlannerParams, plan_orders

EXACT = PlannerParams(cash_buffer=0.01, no_trade_band=0.0, min_notional_usd=0.0)

counts = st.integers(1, 7)
prices = st.one_of(st.just(np.nan), st.floats(0.5, 2_000.0), st.sampled_from([0.1, 1.0, 50.0]))
params = st.builds(
    PlannerParams,
    cash_buffer=st.sampled_from([0.0, 0.01, 0.2]),
    no_trade_band=st.sampled_from([0.0, 0.002, 0.05]),
    min_notional_usd=st.sampled_from([0.0, 500.0, 5_000.0]),
)
caps = st.sampled_from([None, 0.01, 0.1, 1.0])
levered = st.builds(
    PlannerParams,
    max_gross=st.sampled_from([0.5, 1.0, 1.6, 2.0]),
    cash_buffer=st.sampled_from([0.01, 0.05]),
    no_trade_band=st.sampled_from([0.0, 0.002]),
    min_notional_usd=st.sampled_from([0.0, 500.0]),
    min_net=st.sampled_from([None, -0.3, -0.05, 0.8]),
    max_net=st.sampled_from([None, 0.8, 1.05]),
    max_participation=caps,
)


def _several(draw, values, count):
    return np.array(draw(st.lists(values, min_size=count, max_size=count)))


@st.composite
def targets(draw, count, shorts=False):
    """Weights whose gross is at most one; every second example fills the book.

    With shorts every fourth example asks for twice the book.
    """
    raw = _several(draw, st.integers(0, 20), count).astype(np.float64)
    gross = draw(st.sampled_from([1.0, 0.99, 0.5, 2.0] if shorts else [1.0, 0.99, 0.5]))
    weights = raw / raw.sum() * gross if raw.any() else raw
    signs = _several(draw, st.sampled_from([1.0, -1.0]), count) if shorts else 1.0
    return weights * signs


@st.composite
def books(draw, count, *, all_cash=False, tradable=False, shorts=False):
    least = -3_000 if shorts else 0
    held = np.zeros(count, dtype=np.int64)
    if not all_cash:
        held = _several(draw, st.one_of(st.just(0), st.integers(least, 3_000)), count)
    price = _several(draw, prices, count)
    if tradable:
        price = np.nan_to_num(price, nan=33.0)
    marks = np.where(np.isnan(price), 21.0, price)
    working = np.zeros(count, dtype=bool)
    if not tradable:
        working = _several(draw, st.sampled_from([False, False, False, True]), count)
    cash = draw(st.floats(1.0, 1e7)) + float(np.abs(np.minimum(held, 0)) @ marks)
    return BookView(
        equity=cash + float(held @ marks),
        shares=held,
        prices=price,
        marks=marks,
        lots=_several(draw, st.sampled_from([1, 1, 2, 28]), count),
        working=working,
        pending=np.zeros(count, dtype=np.int64),
        usual_value=_several(draw, st.floats(1e3, 1e7), count),
    )


@st.composite
def cases(draw, **options):
    count = draw(counts)
    shorts = options.get("shorts", False)
    return draw(targets(count, shorts)), draw(books(count, **options))


def _executed(book: BookView, plan: Plan) -> BookView:
    after = book.shares.copy()
    after[plan.rows] += plan.quantities
    return replace(book, shares=after)


def _cash(book: BookView) -> float:
    return book.equity - float(book.shares @ book.marks)


@given(case=cases(shorts=True), params=params)
@settings(max_examples=200, deadline=None)
def test_orders_are_whole_distinct_and_never_for_what_cannot_trade(case, params):
    weights, book = case

    plan = plan_orders(weights, book, params)

    assert len(set(plan.rows.tolist())) == len(plan.rows) == len(plan.quantities)
    assert (plan.quantities != 0).all()
    assert np.isfinite(book.prices[plan.rows]).all()
    assert not book.working[plan.rows].any()
    after = _executed(book, plan).shares
    cut = np.isin(plan.rows, _cut(plan, weights, book, params))
    assert not (after[plan.rows] % book.lots[plan.rows])[~cut].any()
    # What is cut grows by whole lots, from where it was or, through zero, from nothing.
    turned = after[plan.rows] * book.shares[plan.rows] < 0
    grown = np.where(turned, after[plan.rows], plan.quantities)
    closed = after[plan.rows] == 0
    assert not (grown % book.lots[plan.rows])[cut & ~closed].any()
    stuck = np.isnan(book.prices) | book.working
    concerned = (weights != 0) | (book.shares != 0)
    assert plan.held.tolist() == np.flatnonzero(stuck & concerned).tolist()


@given(case=cases(shorts=True), params=params)
@settings(max_examples=150, deadline=None)
def test_sells_come_before_buys_and_by_instrument_within_each(case, params):
    plan = plan_orders(*case, params)

    order = [(quantity > 0, row) for row, quantity in zip(plan.rows, plan.quantities, strict=True)]
    assert order == sorted(order)


@given(case=cases(all_cash=True), params=params)
@settings(max_examples=200, deadline=None)
def test_a_book_of_cash_is_never_overspent(case, params):
    weights, book = case

    after = _executed(book, plan_orders(weights, book, params))

    assert _cash(after) >= (params.cash_buffer - 1e-9) * book.equity


@given(case=cases(tradable=True))
@settings(max_examples=200, deadline=None)
def test_a_long_only_book_keeps_its_cash_buffer(case):
    weights, book = case

    after = _executed(book, plan_orders(weights, book, EXACT))

    gross = float(np.abs(after.shares) @ after.prices) / book.equity
    assert gross <= 1.0 - EXACT.cash_buffer + 1e-9
    assert _cash(after) >= 0.0


@given(case=cases(tradable=True, shorts=True))
@settings(max_examples=200, deadline=None)
def test_every_position_ends_within_one_lot_below_its_target(case):
    weights, book = case
    gross = sum(abs(weight) for weight in weights.tolist())
    scale = min(1.0, 0.99 / gross) if gross else 1.0

    after = _executed(book, plan_orders(weights, book, EXACT)).shares

    for row, weight in enumerate(weights.tolist()):
        wanted = weight * scale * book.equity
        reached = after[row] * book.prices[row]
        slack = 1e-9 * book.equity
        assert abs(reached) <= abs(wanted) + slack
        assert abs(wanted - reached) < book.prices[row] * book.lots[row] + slack


@given(case=cases(shorts=True), params=params, cap=caps)
@settings(max_examples=300, deadline=None)
def test_the_plan_is_the_one_a_plain_loop_makes(case, params, cap):
    weights, book = case
    orders = _wanted(weights, book, params)
    granted = _paid_for(_absorbed(orders, book, cap), book, params)

    plan = plan_orders(weights, book, params.model_copy(update={"max_participation": cap}))

    assert _as_dict(plan) == {row: change for row, change in granted.items() if change}
    least = max(params.min_notional_usd, params.no_trade_band * book.equity)
    missing = {row: abs(change - granted[row]) for row, change in orders.items()}
    assert plan.deferred.tolist() == [
        row for row, shares in missing.items() if shares and shares * book.prices[row] >= least
    ]


def _as_dict(plan: Plan) -> dict[int, int]:
    return dict(zip(plan.rows.tolist(), plan.quantities.tolist(), strict=True))


def _wanted(weights: np.ndarray, book: BookView, params: PlannerParams) -> dict[int, int]:
    """Return the orders that reach the target, if the market and the book's money allow them."""
    gross = sum(abs(weight) for weight in weights.tolist())
    scale = min(1.0, (params.max_gross - params.cash_buffer) / gross) if gross else 1.0
    orders = {}
    for row, weight in enumerate(weights.tolist()):
        price, lot, held = book.prices[row], int(book.lots[row]), int(book.shares[row])
        if np.isnan(price) or book.working[row]:
            continue
        # Towards zero, but all of a whole lot but a rounding error is that lot.
        whole = int(weight * scale * book.equity / (price * lot) * (1.0 + 1e-12))
        change = whole * lot - held
        worth = abs(change) * price
        too_small = worth < params.min_notional_usd
        in_band = held != 0 and worth < params.no_trade_band * book.equity
        if change and (whole == 0 or not (too_small or in_band)):
            orders[row] = change
    return orders


def _cut(plan: Plan, weights: np.ndarray, book: BookView, params: PlannerParams) -> list[int]:
    """Return the rows whose orders are smaller than wanted."""
    granted = _as_dict(plan)
    wanted = _wanted(weights, book, params)
    return [row for row, change in wanted.items() if granted.get(row, 0) != change]


def _absorbed(orders: dict[int, int], book: BookView, cap: float | None) -> dict[int, int]:
    """Return the orders cut to the share of the usual value that one session takes."""
    if cap is None:
        return orders
    cut = {}
    for row, change in orders.items():
        lot = int(book.lots[row])
        largest = int(cap * book.usual_value[row] // (book.prices[row] * lot)) * lot
        cut[row] = max(-largest, min(change, largest))
    return cut


def _paid_for(orders: dict[int, int], book: BookView, params: PlannerParams) -> dict[int, int]:
    """Return the orders with what opens positions cut to what closing others leaves free."""
    closing = _closing(orders, book)
    opening = {row: change - closing[row] for row, change in orders.items()}
    kept = book.shares.copy()
    for row, change in closing.items():
        kept[row] += change
    allowed = (params.max_gross - params.cash_buffer) * book.equity
    free = max(0.0, allowed - float(np.abs(kept) @ book.marks))
    growth = sum(abs(change) * book.marks[row] for row, change in opening.items())
    if growth <= free * (1.0 + 1e-9):
        return orders
    granted = dict(closing)
    for row, change in opening.items():
        lot = int(book.lots[row])
        cut = int(change * (free / growth) / lot * (1.0 + 1e-12)) * lot
        granted[row] += cut if abs(cut) * book.marks[row] >= params.min_notional_usd else 0
    return granted


def _closing(orders: dict[int, int], book: BookView) -> dict[int, int]:
    """Return the part of each order that walks a position towards zero, a share at a time."""
    closing = {}
    for row, change in orders.items():
        held = int(book.shares[row])
        towards_zero = held * change < 0
        step = 1 if change > 0 else -1
        closing[row] = step * min(abs(change), abs(held)) if towards_zero else 0
    return closing


@given(case=cases(shorts=True), params=params, cap=caps)
@settings(max_examples=300, deadline=None)
def test_a_plan_never_grows_the_book_beyond_what_the_buffer_leaves(case, params, cap):
    weights, book = case

    plan = plan_orders(weights, book, params.model_copy(update={"max_participation": cap}))

    after, closed = _executed(book, plan).shares, book.shares.copy()
    for row, change in _closing(_as_dict(plan), book).items():
        closed[row] += change
    allowed = (1.0 - params.cash_buffer) * book.equity
    gross = [float(np.abs(shares) @ book.marks) for shares in (after, closed)]
    assert gross[0] <= max(allowed, gross[1]) * (1.0 + 1e-8)


@given(case=cases(shorts=True), params=levered, data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_gate_with_the_planners_limits_passes_every_plan(case, params, data):
    weights, book = case
    halves = _several(data.draw, st.integers(-2, 2), len(weights)) * book.lots * 50
    book = replace(book, pending=np.where(book.working, halves, 0))
    limits = {name: getattr(params, name) for name in ("max_gross", "min_net", "max_net")}
    gate = OrderGate(GateParams(long_only=False, max_position_weight=1.0, **limits))

    plan = plan_orders(np.clip(weights, -0.9, 0.9), book, params)

    assert gate.approve(plan, book).plan is plan


@given(case=cases(shorts=True), params=levered)
@settings(max_examples=200, deadline=None)
def test_what_closes_positions_is_the_same_with_and_without_a_net_band(case, params):
    weights, book = case
    free = params.model_copy(update={"min_net": None, "max_net": None})

    banded, unbanded = plan_orders(weights, book, params), plan_orders(weights, book, free)

    closing = _closing(_as_dict(banded), book), _closing(_as_dict(unbanded), book)
    assert [{row: change for row, change in part.items() if change} for part in closing] == [
        {row: change for row, change in closing[1].items() if change}
    ] * 2
    granted, wanted = np.zeros((2, len(weights)), dtype=np.int64)
    granted[banded.rows], wanted[unbanded.rows] = banded.quantities, unbanded.quantities
    assert (np.abs(granted) <= np.abs(wanted)).all()
    assert (granted * wanted >= 0).all()


@given(case=cases(shorts=True, tradable=True), gross=st.sampled_from([1.0, 1.6, 2.0]))
@settings(max_examples=200, deadline=None)
def test_a_signed_target_within_its_gross_is_reached_to_a_lot(case, gross):
    weights, book = case
    total = float(np.abs(weights).sum())
    weights = weights / total * (gross - 0.01) if total else weights
    params = EXACT.model_copy(update={"max_gross": gross})

    after = _executed(book, plan_orders(weights, book, params)).shares

    missing = np.abs(weights * book.equity - after * book.prices)
    assert (missing < book.lots * book.prices + 1e-8 * book.equity).all()


@given(case=cases(shorts=True), params=params)
@settings(max_examples=200, deadline=None)
def test_planning_again_after_executing_a_plan_asks_only_for_what_was_cut(case, params):
    weights, book = case
    plan = plan_orders(weights, book, params)

    again = plan_orders(weights, _executed(book, plan), params)

    cut = set(_cut(plan, weights, book, params))
    assert set(again.rows.tolist()) | set(again.deferred.tolist()) <= cut
    assert set(plan.deferred.tolist()) <= cut


@given(case=cases(tradable=True, shorts=True), cap=st.sampled_from([0.01, 0.1, 1.0]))
@settings(max_examples=200, deadline=None)
def test_no_order_exceeds_the_participation_cap_and_what_is_cut_is_reported(case, cap):
    weights, book = case
    capped_params = EXACT.model_copy(update={"max_participation": cap})

    free = plan_orders(weights, book, EXACT)
    capped = plan_orders(weights, book, capped_params)

    worth = np.abs(capped.quantities) * book.prices[capped.rows]
    assert (worth <= cap * book.usual_value[capped.rows] * (1 + 1e-12)).all()
    wanted, granted = np.zeros((2, len(weights)), dtype=np.int64)
    wanted[free.rows], granted[capped.rows] = free.quantities, capped.quantities
    assert (np.abs(granted) <= np.abs(wanted)).all()
    assert (granted * wanted >= 0).all()
    assert capped.deferred.tolist() == np.flatnonzero(granted != wanted).tolist()


@given(case=cases(tradable=True), sessions=st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_deferred_orders_finish_where_an_uncapped_plan_would_have_gone(case, sessions):
    weights, book = case
    free = plan_orders(weights, book, EXACT)
    largest = max((abs(free.quantities) * book.prices[free.rows]).tolist(), default=0.0)
    lot_value = float((book.prices * book.lots).max())
    # Thin enough to need `sessions` sessions, thick enough for a lot in each.
    usual = np.full(len(weights), max(largest / sessions + lot_value, 1.0))
    thin = replace(book, usual_value=usual)
    params = EXACT.model_copy(update={"max_participation": 1.0})

    plan, moved = plan_orders(weights, thin, params), thin
    # Sales are done after `sessions` sessions; what waited for their money needs as many again.
    for _ in range(2 * sessions):
        moved = _executed(moved, plan)
        only = np.isin(np.arange(len(weights)), plan.deferred)
        plan = plan_orders(weights, moved, params, only)
        assert set(plan.rows.tolist()) <= set(np.flatnonzero(only).tolist())

    assert moved.shares.tolist() == _executed(book, free).shares.tolist()
    assert plan.deferred.tolist() == []


@given(case=cases(shorts=True), params=params, seed=st.integers(0, 2**16))
@settings(max_examples=150, deadline=None)
def test_the_order_of_the_instruments_does_not_matter(case, params, seed):
    weights, book = case
    order = np.random.default_rng(seed).permutation(len(weights))
    fields = ("shares", "prices", "marks", "lots", "working", "pending", "usual_value")
    shuffled = replace(book, **{name: getattr(book, name)[order] for name in fields})

    plan = plan_orders(weights, book, params)
    other = plan_orders(weights[order], shuffled, params)

    quantities, others = np.zeros((2, len(weights)), dtype=np.int64)
    quantities[plan.rows], others[order[other.rows]] = plan.quantities, other.quantities
    assert sorted(order[other.held].tolist()) == plan.held.tolist()
    # The last bit of a sum depends on its order, and may decide about one lot of a cut order.
    cut = np.isin(np.arange(len(weights)), _cut(plan, weights, book, params))
    gap = np.abs(quantities - others) * book.marks
    assert (gap <= np.where(cut, book.lots * book.marks + params.min_notional_usd, 0.0)).all()
    alike = set(np.flatnonzero(quantities == others).tolist())
    assert set(order[other.deferred].tolist()) & alike == set(plan.deferred.tolist()) & alike


@given(case=cases(), bad=st.sampled_from([np.nan, np.inf, -np.inf]), data=st.data())
@settings(max_examples=50, deadline=None)
def test_weights_that_are_not_finite_have_no_plan(case, bad, data):
    weights, book = case
    weights = weights.copy()
    weights[data.draw(st.integers(0, len(weights) - 1))] = bad

    with pytest.raises(DataError, match="1 target weights are not finite"):
        plan_orders(weights, book, EXACT)


@given(case=cases(), equity=st.one_of(st.floats(max_value=0.0), st.just(np.nan)))
@settings(max_examples=50, deadline=None)
def test_equity_that_is_not_positive_has_no_plan(case, equity):
    weights, book = case

    with pytest.raises(DataError, match="nothing can be sized by it"):
        plan_orders(weights, replace(book, equity=equity), EXACT)
