from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.ledger import Ledger, micros
from prometheus_nt.domain.units import ShareUnits


def _day(number: int) -> date:
    return date(2020, 1, number)


def _lots(units: ShareUnits) -> list[int]:
    days = units.sessions.astype(object)
    return [int(units.lots_at(day)[0]) for day in days]


def test_before_a_two_for_one_split_a_traded_share_is_two_venue_shares(panel_of):
    panel = panel_of([400.0, 404.0, 202.0, 204.0], split=[1.0, 1.0, 2.0, 1.0])

    units = ShareUnits.of(panel)

    assert units.factor[:, 0].tolist() == [2.0, 2.0, 1.0, 1.0]
    assert _lots(units) == [2, 2, 1, 1]


def test_the_traded_price_is_the_venue_price_times_the_factor(panel_of):
    panel = panel_of([400.0, 404.0, 202.0, 204.0], split=[1.0, 1.0, 2.0, 1.0])

    venue = panel.close / ShareUnits.of(panel).factor

    assert venue[:, 0].tolist() == [200.0, 202.0, 202.0, 204.0]


def test_splits_multiply(panel_of):
    # Apple: 7-for-1 in June 2014, 4-for-1 in August 2020.
    panel = panel_of([2800.0, 400.0, 100.0], split=[1.0, 7.0, 4.0])

    units = ShareUnits.of(panel)

    assert units.factor[:, 0].tolist() == [28.0, 4.0, 1.0]
    assert _lots(units) == [28, 4, 1]


def test_a_split_on_the_first_session_scales_nothing_after_it(panel_of):
    units = ShareUnits.of(panel_of([50.0, 50.0], split=[2.0, 1.0]))

    assert units.factor[:, 0].tolist() == [1.0, 1.0]


def test_a_three_for_two_split_has_no_whole_lot_so_one_share_must_do(panel_of):
    units = ShareUnits.of(panel_of([30.0, 20.0], split=[1.0, 1.5]))

    assert units.factor[:, 0].tolist() == [1.5, 1.0]
    assert _lots(units) == [1, 1]


def test_two_uneven_splits_can_make_an_even_lot(panel_of):
    units = ShareUnits.of(panel_of([40.0, 26.67, 20.0], split=[1.0, 1.5, 4 / 3]))

    assert units.factor[0, 0] == pytest.approx(2.0, rel=1e-15)
    assert _lots(units) == [2, 1, 1]


def test_before_a_reverse_split_a_venue_share_is_many_traded_ones(panel_of):
    # Citigroup, May 2011: one new share for ten old ones.
    units = ShareUnits.of(panel_of([4.50, 45.0], split=[1.0, 0.1]))

    assert units.factor[:, 0].tolist() == [0.1, 1.0]
    assert _lots(units) == [1, 1]


def test_a_rounding_error_in_the_product_of_splits_does_not_spoil_a_lot(panel_of):
    split = [1.0, 0.1, 3.0, 10.0, 1.0]

    units = ShareUnits.of(panel_of([1.0] * 5, split=split))

    assert _lots(units) == [3, 30, 10, 1, 1]


def test_each_instrument_has_its_own_units(panel_of):
    panel = panel_of([[100.0, 10.0], [50.0, 10.0]], split=[[1.0, 1.0], [2.0, 1.0]])

    units = ShareUnits.of(panel)

    assert units.factor_at(_day(1)).tolist() == [2.0, 1.0]
    assert units.lots_at(_day(1)).tolist() == [2, 1]
    assert units.factor_at(_day(2)).tolist() == [1.0, 1.0]


def test_a_day_that_is_no_session_has_no_units():
    sessions = np.array(["2020-01-03", "2020-01-06"], dtype="datetime64[D]")
    units = ShareUnits(sessions, np.array([[2.0], [1.0]]))

    assert [units.row(_day(3)), units.row(_day(6))] == [0, 1]
    for day in (_day(2), _day(4), _day(7)):
        for question in (units.row, units.factor_at, units.lots_at):
            with pytest.raises(DataError, match=f"^{day} is not a session of these share units$"):
                question(day)


def test_a_broker_trades_shares_as_they_are_today(panel_of):
    units = ShareUnits.as_traded(panel_of([400.0, 200.0], split=[1.0, 2.0]))

    assert units.factor[:, 0].tolist() == [1.0, 1.0]
    assert _lots(units) == [1, 1]


def test_a_split_changes_the_shares_and_the_price_but_not_the_equity(panel_of):
    panel = panel_of([[400.0, 4.5], [200.0, 45.0]], split=[[1.0, 1.0], [2.0, 0.1]])
    units = ShareUnits.of(panel)
    ledger = Ledger(panel.instruments, 100_000.0)
    for row, traded_shares in enumerate((100, 1000)):
        venue_shares = round(traded_shares * units.factor[0, row])
        venue_price = panel.close[0, row] / units.factor[0, row]
        ledger.fill(row, venue_shares, micros(venue_price), 0)

    equities = []
    for row in range(2):
        ledger.mark(panel.close[row] / units.factor[row])
        equities.append(ledger.equity)

    assert equities == [100_000.0, 100_000.0]
    traded_shares_after = ledger.shares / units.factor[1]
    assert traded_shares_after.tolist() == [200.0, 100.0]


def test_lots_are_whole_numbers(panel_of):
    rng = np.random.default_rng(7)
    split = np.where(rng.random((60, 5)) < 0.1, rng.choice([2.0, 3.0, 0.1, 1.5], (60, 5)), 1.0)

    units = ShareUnits.of(panel_of(np.ones((60, 5)), split=split))

    lots = np.array([units.lots_at(day) for day in units.sessions.astype(object)])
    assert lots.dtype == np.int64
    assert (lots >= 1).all()
    whole = lots > 1
    assert np.allclose(units.factor[whole], lots[whole], rtol=1e-9)
