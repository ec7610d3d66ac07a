from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.venue.carry import Carry, Delistings, FinancingParams, delisting_rows

NAN = np.nan
FREE = FinancingParams(borrow_fee_annual=0.0, debit_rate_annual=0.0)


def _carry(panel, financing=FREE) -> Carry:
    return Carry(panel, ShareUnits.of(panel), financing)


def test_rates_are_for_all_the_nights_since_the_close_before(panel_of):
    panel = panel_of([10.0] * 3)
    rates = FinancingParams(
        borrow_fee_annual=0.036, debit_rate_annual=0.072, credit_rate_annual=0.018
    )
    weekend = np.array(["2020-01-02", "2020-01-03", "2020-01-06"], dtype="datetime64[D]")

    carry = _carry(replace(panel, sessions=weekend), rates)

    one, three = carry.overnight(1), carry.overnight(2)
    assert (three.as_of, three.session) == (date(2020, 1, 3), date(2020, 1, 6))
    assert (one.nights, three.nights) == (1, 3)
    assert (one.borrow_rate, one.debit_rate, one.credit_rate) == pytest.approx((1e-4, 2e-4, 5e-5))
    assert (three.borrow_rate, three.debit_rate) == pytest.approx((3e-4, 6e-4))


def test_a_year_may_have_365_days(panel_of):
    rates = FinancingParams(borrow_fee_annual=0.0365, debit_rate_annual=0.0, day_count=365)

    assert _carry(panel_of([10.0] * 2), rates).overnight(1).borrow_rate == pytest.approx(1e-4)


def test_nothing_is_charged_before_the_first_row_or_without_a_rate(panel_of):
    panel = panel_of([10.0] * 2)

    assert _carry(panel, FinancingParams()).overnight(0) is None
    assert _carry(panel).overnight(1) is None


def test_a_dividend_is_paid_on_its_session_to_holders_of_the_close_before(panel_of):
    panel = panel_of([10.0, 10.0, 9.5, 9.5], dividend=[0.0, 0.0, 0.5, 0.0])

    actions = _carry(panel).at_open(2)

    assert (actions.as_of, actions.session) == (date(2020, 1, 2), date(2020, 1, 3))
    assert actions.dividend_per_share.tolist() == [0.5]
    assert actions.delisted.tolist() == []


def test_a_dividend_before_a_later_split_is_less_per_venue_share(panel_of):
    # Two splits still to come make one share of the dividend's day 4 * 7 venue shares.
    panel = panel_of(
        [280.0, 280.0, 40.0, 10.0], dividend=[0.0, 1.4, 0.0, 0.0], split=[1.0, 1.0, 7.0, 4.0]
    )

    per_share = _carry(panel).at_open(1).dividend_per_share

    assert per_share == pytest.approx([1.4 / 28], rel=1e-15)


def test_a_dividend_on_the_day_of_a_split_is_per_new_share(panel_of):
    panel = panel_of([20.0, 10.0, 10.0], dividend=[0.0, 0.25, 0.0], split=[1.0, 2.0, 1.0])

    assert _carry(panel).at_open(1).dividend_per_share.tolist() == [0.25]


def test_holders_receive_the_same_cash_in_either_share_unit(panel_of):
    panel = panel_of([20.0, 20.0, 10.0], dividend=[0.0, 0.5, 0.0], split=[1.0, 1.0, 2.0])
    units = ShareUnits.of(panel)

    venue_shares = 100 * units.factor[1, 0]

    assert venue_shares * Carry(panel, units, FREE).at_open(1).dividend_per_share[0] == 100 * 0.5


def test_an_instrument_is_delisted_on_the_row_after_its_last_bar(panel_of):
    close = [[10.0, 5.0], [10.0, 4.0], [10.0, NAN], [10.0, NAN]]

    carry = _carry(panel_of(close))

    assert [carry.at_open(row) is None for row in range(4)] == [True, True, False, True]
    assert carry.at_open(2).delisted.tolist() == [1]
    assert carry.at_open(2).dividend_per_share.tolist() == [0.0, 0.0]


def test_a_gap_is_not_a_delisting(panel_of):
    carry = _carry(panel_of([[10.0], [NAN], [NAN], [11.0], [NAN]]))

    assert [carry.at_open(row) is None for row in range(5)] == [True, True, True, True, False]


def test_what_trades_to_the_end_or_never_is_not_delisted(panel_of):
    carry = _carry(panel_of([[10.0, NAN], [10.0, NAN], [10.0, NAN]]))

    assert [carry.at_open(row) for row in range(3)] == [None, None, None]


def test_several_instruments_can_leave_on_one_session(panel_of):
    close = [[1.0, 2.0, 3.0], [NAN, 2.0, NAN]]

    assert _carry(panel_of(close)).at_open(1).delisted.tolist() == [0, 2]


def test_nobody_held_anything_before_the_first_row(panel_of):
    assert _carry(panel_of([10.0, 10.0], dividend=[0.5, 0.0])).at_open(0) is None


def _ends(*days, returns=None) -> Delistings:
    gains = np.full(len(days), NAN) if returns is None else np.array(returns)
    return Delistings(np.array(days, dtype="datetime64[D]"), gains)


@pytest.mark.parametrize(
    ("on", "row"),
    [
        ("NaT", 2),  # nothing recorded: the session after the last bar
        ("2020-01-03", 2),  # recorded for just that session
        ("2020-01-02", 2),  # before the last bar: that bar was a trade all the same
        ("2020-01-05", 4),  # halted for two sessions first
        ("2020-01-06", -1),  # beyond the record: still held at its end
    ],
)
def test_a_recorded_delisting_waits_for_its_day(panel_of, on, row):
    panel = panel_of([10.0, 9.0, NAN, NAN, NAN])

    assert delisting_rows(panel, _ends(on)).tolist() == [row]


def test_whoever_trades_after_its_recorded_delisting_is_not_closed(panel_of):
    panel = panel_of([10.0, 9.0, 8.0])

    assert delisting_rows(panel, _ends("2020-01-02")).tolist() == [-1]


def test_the_recorded_return_goes_with_the_delisting(panel_of):
    panel = panel_of([[10.0, 5.0], [NAN, NAN], [NAN, NAN]])
    ends = _ends("2020-01-02", "NaT", returns=[-0.3, NAN])

    actions = Carry(panel, ShareUnits.of(panel), FREE, ends).at_open(1)

    assert actions.delisted.tolist() == [0, 1]
    assert actions.delisting_return.tolist() == pytest.approx([-0.3, NAN], nan_ok=True)
