from datetime import date
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.ledger import CashFlowKind, Ledger, micros
from prometheus_nt.domain.sessions import OvernightFinancing

SESSION = date(2024, 1, 3)
NAMES = ("A", "B", "C")
CAPITAL = 1_000_000.0

rows = st.integers(0, len(NAMES) - 1)
shares = st.integers(-2_000, 2_000).filter(bool)
price_micros = st.integers(1, 2_000_000_000)
fee_micros = st.integers(0, 50_000_000)
per_share = st.lists(st.sampled_from([0.0, 0.01, 0.33, 1.234567, 7.0]), min_size=3, max_size=3)
rate = st.sampled_from([0.0, 1 / 36_000, 0.05 / 360, 0.4 * 3 / 360])
close = st.one_of(st.just(np.nan), st.floats(0.01, 2_000.0))

events = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), rows, shares, price_micros, fee_micros),
        st.tuples(st.just("dividends"), per_share),
        st.tuples(st.just("delisting"), st.sets(rows, min_size=1)),
        st.tuples(st.just("nights"), rate, rate, rate),
        st.tuples(st.just("mark"), st.lists(close, min_size=3, max_size=3)),
    ),
    max_size=40,
)


class NaiveBooks:
    """The same books kept a second time, one instrument at a time, in exact fractions."""

    def __init__(self) -> None:
        self.cash = micros(CAPITAL)
        self.held = [0, 0, 0]
        self.cost = [Fraction(0)] * 3
        self.mark = [None, None, None]
        self.realised = Fraction(0)
        self.fees = self.dividends = self.flows = self.traded = 0
        self.borrowed = self.interest = 0
        self.peak = CAPITAL

    def fill(self, row: int, quantity: int, price: int, fee: int) -> None:
        self.cash -= quantity * price + fee
        self.traded += quantity * price
        self.fees += fee
        self.move(row, quantity, Fraction(price, 10**6))
        if self.mark[row] is None:
            self.mark[row] = price / 10**6

    def move(self, row: int, quantity: int, price: Fraction) -> None:
        """Move one share at a time: each either opens at a price or closes at the average cost."""
        step = 1 if quantity > 0 else -1
        closing = min(abs(quantity), abs(self.held[row])) if self.held[row] * step < 0 else 0
        self.realised += -step * closing * (price - self.cost[row])
        self.held[row] += step * closing
        opening = abs(quantity) - closing
        if opening:
            total = abs(self.held[row]) + opening
            self.cost[row] = (self.cost[row] * abs(self.held[row]) + price * opening) / total
            self.held[row] += step * opening

    def pay(self, amounts: list[float]) -> None:
        for row, amount in enumerate(amounts):
            paid = round(self.held[row] * amount * 1_000_000)
            self.cash += paid
            self.dividends += paid
            self.flows += paid

    def finance(self, borrow: float, debit: float, credit: float) -> None:
        lent = {row: -held * round(self.mark[row] * 10**6) for row, held in self.shorts()}
        free = self.cash - sum(lent.values())
        fees = sum(round(value * borrow) for value in lent.values())
        interest = round(free * (debit if free < 0 else credit))
        self.cash += interest - fees
        self.flows += interest - fees
        self.borrowed += fees
        self.interest += interest

    def shorts(self) -> list[tuple[int, int]]:
        return [(row, held) for row, held in enumerate(self.held) if held < 0]

    def delist(self, gone: set[int]) -> None:
        for row in gone:
            if self.held[row]:
                paid = self.held[row] * round(self.mark[row] * 1_000_000)
                self.cash += paid
                self.flows += paid
                self.move(row, -self.held[row], Fraction(self.mark[row]))

    def close(self, closes: list[float]) -> None:
        for row, price in enumerate(closes):
            if not np.isnan(price):
                self.mark[row] = price
        self.peak = max(self.peak, self.equity())

    def equity(self) -> float:
        held = [row for row in range(3) if self.held[row]]
        value = sum(self.held[row] * Fraction(self.mark[row]) for row in held)
        return float(Fraction(self.cash, 10**6) + value)


def _apply(books: Ledger, naive: NaiveBooks, event: tuple) -> None:
    match event:
        case ("fill", row, quantity, price, fee):
            books.fill(row, quantity, price, fee)
            naive.fill(row, quantity, price, fee)
        case ("dividends", amounts):
            books.pay_dividends(SESSION, np.array(amounts))
            naive.pay(amounts)
        case ("nights", borrow, debit, credit):
            books.finance(OvernightFinancing(SESSION, SESSION, 1, borrow, debit, credit))
            naive.finance(borrow, debit, credit)
        case ("delisting", gone):
            books.close_delisted(SESSION, np.array(sorted(gone)))
            naive.delist(gone)
        case ("mark", closes):
            books.mark(np.array(closes))
            naive.close(closes)


@given(history=events)
@settings(max_examples=150, deadline=None)
def test_cash_is_exact_and_equity_adds_up_after_every_event(history):
    books, naive = Ledger(NAMES, CAPITAL), NaiveBooks()

    for event in history:
        _apply(books, naive, event)

        assert books.cash_micros == naive.cash
        assert naive.cash == micros(CAPITAL) - naive.traded - naive.fees + naive.flows
        assert books.shares.tolist() == naive.held
        # Cash plus shares at marks, to a bit of the largest value in the sum.
        value = sum(abs(naive.held[row]) * naive.mark[row] for row in range(3) if naive.held[row])
        rounding = 1e-15 * (value + abs(books.cash)) + 1e-6
        assert books.equity == pytest.approx(naive.equity(), rel=1e-12, abs=rounding)
        books.check()


@given(history=events)
@settings(max_examples=100, deadline=None)
def test_every_flow_is_counted_once_by_its_kind_and_none_is_empty_financing(history):
    books, naive = Ledger(NAMES, CAPITAL), NaiveBooks()
    for event in history:
        _apply(books, naive, event)

    state = books.state(SESSION, "BOOK")

    assert round(state.borrow_fees * 10**6) == naive.borrowed
    assert round(state.interest * 10**6) == naive.interest
    assert round(state.dividends * 10**6) == naive.dividends
    financing = {CashFlowKind.BORROW_FEE, CashFlowKind.INTEREST}
    assert all(flow.amount_micros for flow in books.cash_flows if flow.kind in financing)
    assert state.drawdown == pytest.approx(min(state.equity / naive.peak - 1.0, 0.0), abs=1e-9)


@given(history=events)
@settings(max_examples=150, deadline=None)
def test_every_dollar_of_profit_is_realised_or_unrealised_or_a_flow_or_a_fee(history):
    books, naive = Ledger(NAMES, CAPITAL), NaiveBooks()

    for event in history:
        _apply(books, naive, event)

    state = books.state(SESSION, "BOOK")
    held = np.flatnonzero(state.shares)
    unrealised = float(state.shares[held] @ (state.marks[held] - state.average_cost[held]))
    income = state.dividends + state.interest - state.borrow_fees
    explained = state.realized_pnl + unrealised + income - state.commissions
    scale = CAPITAL + sum(abs(e[2] * e[3]) / 1e6 for e in history if e[0] == "fill")
    assert state.equity - CAPITAL == pytest.approx(explained, abs=1e-6 * scale)
    assert state.realized_pnl == pytest.approx(float(naive.realised), abs=1e-9 * scale)
    assert state.average_cost[held] == pytest.approx([float(naive.cost[row]) for row in held])
    assert np.isnan(state.average_cost[state.shares == 0]).all()


@given(history=events)
@settings(max_examples=50, deadline=None)
def test_the_fills_add_up_to_the_position_unless_it_was_delisted(history):
    books, naive = Ledger(NAMES, CAPITAL), NaiveBooks()
    for event in history:
        _apply(books, naive, event)

    for row, name in enumerate(NAMES):
        filled = sum(event[2] for event in history if event[0] == "fill" and event[1] == row)
        delisted = sum(
            flow.shares
            for flow in books.cash_flows
            if flow.kind is CashFlowKind.DELISTING and flow.instrument_id == name
        )
        assert books.shares[row] == filled - delisted


@given(
    buys=st.lists(st.integers(1, 5_000), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 4_999), max_size=6),
    price=price_micros,
    fees=st.lists(fee_micros, min_size=16, max_size=16),
    side=st.sampled_from([1, -1]),
)
@settings(max_examples=150, deadline=None)
def test_a_round_trip_at_one_price_costs_exactly_the_fees(buys, cuts, price, fees, side):
    books = Ledger(NAMES, CAPITAL)
    total = sum(buys)
    edges = sorted({0, total, *(cut for cut in cuts if cut < total)})
    sales = [-step for step in np.diff(edges).tolist()]

    paid = 0
    for quantity, fee in zip(buys + sales, fees, strict=False):
        books.fill(0, side * quantity, price, fee)
        paid += fee

    assert books.shares[0] == 0
    assert books.cash_micros == micros(CAPITAL) - paid
    assert books.equity == books.cash
    assert books.realized_pnl == pytest.approx(0.0, abs=1e-12 * total * price)
