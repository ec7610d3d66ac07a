"""Shares as traded: what a split does to positions, marks and orders that wait."""

from datetime import date
from fractions import Fraction

import numpy as np
import pytest

from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.ledger import CashFlowKind, Ledger, micros, split_shares
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.venue.carry import Carry, Delistings, FinancingParams, unit_splits

DAY = date(2024, 3, 1)
FREE = FinancingParams(borrow_fee_annual=0, debit_rate_annual=0, credit_rate_annual=0)


def held(shares, price=90.0):
    ledger = Ledger(("A.US", "B.US"), 10_000.0)
    ledger.fill(0, shares, micros(price), 0)
    ledger.mark(np.array([price, 5.0]))
    return ledger


@pytest.mark.parametrize(
    ("shares", "ratio", "whole", "fraction"),
    [
        (100, 2.0, 200, Fraction(0)),
        (100, 1.5, 150, Fraction(0)),
        (101, 1 / 10, 10, Fraction(1, 10)),
        (-101, 1 / 10, -10, Fraction(-1, 10)),
        (10, 1 / 3, 3, Fraction(1, 3)),
        (30, 0.1, 3, Fraction(0)),
        (1000, 1.001, 1001, Fraction(0)),
        (4, 0.1, 0, Fraction(2, 5)),
    ],
)
def test_whole_shares_and_the_fraction_left_over(shares, ratio, whole, fraction):
    assert split_shares(shares, ratio) == (whole, fraction)


def test_two_for_one_doubles_shares_and_halves_marks_and_cost():
    ledger = held(100)
    before = ledger.equity

    ledger.split(DAY, np.array([2.0, 1.0]))

    assert ledger.shares.tolist() == [200, 0]
    assert (ledger.marks[0], ledger.average_cost[0], ledger.marks[1]) == (45.0, 45.0, 5.0)
    assert ledger.equity == before
    (flow,) = ledger.cash_flows
    assert (flow.kind, flow.shares, flow.amount_micros) == (CashFlowKind.SPLIT, 100, 0)
    ledger.check()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_reverse_split_pays_the_fraction_in_cash_and_keeps_equity(sign):
    ledger = held(sign * 105)
    before = ledger.equity

    ledger.split(DAY, np.array([0.1, 1.0]))

    assert ledger.shares[0] == sign * 10
    assert ledger.cash_flows[0].amount_micros == sign * micros(0.5 * 900.0)
    assert ledger.equity == pytest.approx(before)
    ledger.check()


def test_a_position_that_is_all_fraction_is_gone():
    ledger = held(4)

    ledger.split(DAY, np.array([0.1, 1.0]))

    assert ledger.shares[0] == 0
    assert np.isnan(ledger.average_cost[0])
    assert ledger.cash_flows[0].shares == -4


@pytest.mark.parametrize("ratio", [0.0, -1.0, np.nan])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(AccountingError, match=r"split ratio of B\.US is not positive"):
        held(1).split(DAY, np.array([1.0, ratio]))


def panel_with(split, close=None):
    shape = (4, 2)
    close = np.full(shape, 10.0) if close is None else close
    fields = {name: close.copy() for name in PANEL_FIELDS[:5]}
    fields |= {"split": np.ones(shape), "dividend": np.zeros(shape)}
    fields["split"][2, 0] = split
    days = np.array(["2024-02-28", "2024-02-29", "2024-03-01", "2024-03-04"], dtype="datetime64[D]")
    return MarketPanel(sessions=days, instruments=("A.US", "B.US"), fingerprint="x", **fields)


@pytest.mark.parametrize("split", [2.0, 1.5, 1 / 3, 7.0])
def test_a_split_shows_in_shares_as_traded_and_not_in_adjusted_ones(split):
    panel = panel_with(split)

    expected = np.ones((4, 2))
    assert (unit_splits(panel, ShareUnits.of(panel)) == expected).all()
    expected[2, 0] = split
    assert (unit_splits(panel, ShareUnits.as_traded(panel)) == expected).all()


def test_the_venue_announces_a_split_at_the_open_of_its_session():
    panel = panel_with(2.0)
    carry = Carry(panel, ShareUnits.as_traded(panel), FREE)

    assert [carry.at_open(row) is not None for row in range(4)] == [False, False, True, False]
    actions = carry.at_open(2)
    assert actions.session == DAY
    assert actions.split.tolist() == [2.0, 1.0]


def test_while_more_may_come_a_missing_bar_delists_nobody_but_a_record_does():
    close = np.full((4, 2), 10.0)
    close[2:, :] = np.nan
    panel = panel_with(1.0, close)
    units = ShareUnits.as_traded(panel)
    unknown = Delistings.unrecorded(2)
    on = np.array(["NaT", "2024-03-04"], dtype="datetime64[D]")

    final = Carry(panel, units, FREE, unknown)
    growing = Carry(panel, units, FREE, Delistings(on, np.array([np.nan, -0.5]), final=False))

    assert final.at_open(2).delisted.tolist() == [0, 1]
    assert growing.at_open(2) is None
    assert growing.at_open(3).delisted.tolist() == [1]
    assert growing.at_open(3).delisting_return.tolist() == [-0.5]
