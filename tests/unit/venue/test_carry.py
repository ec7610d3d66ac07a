from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.venue.carry import Carry

NAN = np.nan


def _carry(panel) -> Carry:
    return Carry(panel, ShareUnits.of(panel))


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

    assert venue_shares * Carry(panel, units).at_open(1).dividend_per_share[0] == 100 * 0.5


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
