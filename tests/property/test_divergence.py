"""Whatever two runs did, the parts of their gap add up to it."""

from datetime import date, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prometheus_nt.domain.ledger import CashFlowKind
from prometheus_nt.reporting.divergence import attribute
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

COUNT, CAPITAL = 8, 100_000.0
DAYS = [date(2024, 1, 1) + timedelta(days=row) for row in range(COUNT)]
SESSIONS = np.array(DAYS, dtype="datetime64[D]")
NAMES = ("A.US", "B.US", "C.US")

seeds = st.integers(0, 2**32 - 1)


def random_orders(random):
    """Return orders that both runs may have, with the fills of a run that fills all at the open."""
    for number in range(random.integers(0, 12)):
        row, side = int(random.integers(0, COUNT - 1)), int(random.choice([-1, 1]))
        name, quantity = str(random.choice(NAMES)), float(random.integers(1, 200))
        yield OrderRecord(f"order-{number}", DAYS[row], True, name, side, quantity)


def random_run(random, orders, marks):
    """Return a run that sends some of the orders, changed, and fills what it likes of them."""
    sent, fills = [], []
    for order in orders:
        if random.random() < 0.2:
            continue
        scale = random.choice([1.0, 1.0, 0.5, 1.7])
        quantity = order.quantity * scale
        planned = bool(random.random() < 0.9)
        mine = OrderRecord(
            order.order_id, order.session, planned, order.instrument_id, order.side, quantity
        )
        sent.append(mine)
        fills.extend(random_fills(random, mine))
    flows = list(random_flows(random))
    shares, cash = added_up(fills, flows)
    stray = np.zeros_like(shares)
    if random.random() < 0.3:
        stray[random.integers(0, COUNT) :, random.integers(0, 3)] = 17.0
    shares = shares + stray
    own = marks * np.where(random.random(marks.shape) < 0.05, 1.1, 1.0)
    return TradedRun(
        run_id="run",
        capital=CAPITAL,
        orders=sent,
        fills=fills,
        flows=flows,
        decisions={
            day: DecisionRecord({"A.US": random.choice([0.1, 0.2])}, str(random.integers(2)))
            for day in DAYS
        },
        equity=cash + (shares * own).sum(axis=1),
        cash=cash,
        marks=own,
        shares=shares,
    )


def random_fills(random, order):
    left, row = order.quantity, DAYS.index(order.session) + 1
    while left > 0 and row < COUNT and random.random() < 0.85:
        quantity = min(left, float(random.integers(1, 200)))
        price, fee = float(random.uniform(8, 12)), float(random.uniform(0, 2))
        yield FillRecord(
            order.order_id, DAYS[row], order.instrument_id, order.side, quantity, price, fee
        )
        left -= quantity
        row += int(random.integers(0, 2))


def random_flows(random):
    for row in range(COUNT):
        if random.random() < 0.3:
            shares, amount = float(random.integers(1, 300)), float(random.normal())
            dividend = random.random() < 0.5
            kind = CashFlowKind.DIVIDEND if dividend else CashFlowKind.BORROW_FEE
            name = str(random.choice(NAMES))
            yield FlowRecord(DAYS[row], kind, name, shares, 0.0, amount)
        if random.random() < 0.1:
            yield FlowRecord(DAYS[row], CashFlowKind.INTEREST, None, 0.0, 0.0, -1.5)
        if random.random() < 0.1:
            yield FlowRecord(DAYS[row], CashFlowKind.DELISTING, "C.US", 5.0, -5.0, 50.0)


def added_up(fills, flows):
    """Return shares and cash after every session, event by event."""
    shares, cash = np.zeros((COUNT, 3)), np.full(COUNT, CAPITAL)
    for fill in fills:
        row, column = DAYS.index(fill.session), NAMES.index(fill.instrument_id)
        shares[row:, column] += fill.side * fill.quantity
        cash[row:] -= fill.side * fill.quantity * fill.price + fill.commission
    for flow in flows:
        row = DAYS.index(flow.session)
        cash[row:] += flow.amount
        if flow.instrument_id is not None:
            shares[row:, NAMES.index(flow.instrument_id)] += flow.moved
    return shares, cash


def random_events(random):
    for number in range(random.integers(0, 3)):
        row = int(random.integers(0, COUNT))
        cause = (Cause.FAULT, Cause.MANUAL, Cause.HALT)[random.integers(3)]
        name = str(random.choice(NAMES)) if random.random() < 0.5 else None
        yield RunEvent(DAYS[row], f"event-{number}", cause, instrument_id=name)


@given(seed=seeds)
def test_the_parts_are_the_gap_after_every_close_and_nothing_is_left_over(seed):
    random = np.random.default_rng(seed)
    marks = random.uniform(8, 12, (COUNT, 3))
    orders = list(random_orders(random))
    run_a, run_b = (random_run(random, orders, marks) for _ in range(2))

    found = attribute(run_a, run_b, SESSIONS, NAMES, tuple(random_events(random)))

    tolerance = 1e-6 * np.abs(run_b.equity).min() * 1e-3
    gap = run_a.equity - run_b.equity
    np.testing.assert_allclose(found.parts.sum(axis=1), gap, atol=tolerance)
    residual = found.parts[:, CAUSES.index(Cause.RESIDUAL)]
    np.testing.assert_allclose(residual, 0.0, atol=tolerance)
    np.testing.assert_allclose(found.by_instrument.sum(axis=1), found.parts[-1], atol=tolerance)


@given(seed=seeds)
def test_a_run_beside_itself_has_no_gap_and_no_evidence(seed):
    random = np.random.default_rng(seed)
    marks = random.uniform(8, 12, (COUNT, 3))
    run = random_run(random, list(random_orders(random)), marks)

    found = attribute(run, run, SESSIONS, NAMES, tuple(random_events(random)))

    assert np.abs(found.parts).max() < 1e-9
    assert found.evidence == ()


@given(seed=seeds)
def test_two_runs_the_other_way_round_have_the_gap_of_the_other_sign(seed):
    random = np.random.default_rng(seed)
    marks = random.uniform(8, 12, (COUNT, 3))
    orders = list(random_orders(random))
    run_a, run_b = (random_run(random, orders, marks) for _ in range(2))

    there = attribute(run_a, run_b, SESSIONS, NAMES)
    back = attribute(run_b, run_a, SESSIONS, NAMES)

    np.testing.assert_allclose(there.gap, -back.gap, atol=1e-9)
    for said in ("filled at another price", "another commission"):
        sums = [
            sum(item.cash for item in found.evidence if item.detail == said)
            for found in (there, back)
        ]
        np.testing.assert_allclose(sums[0], -sums[1], atol=0.01 * len(there.evidence))
