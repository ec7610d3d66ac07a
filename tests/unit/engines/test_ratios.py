from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.facts import Facts
from prometheus_nt.engines.numerics.cross_section import cross_sectional_zscore
from prometheus_nt.engines.ratios import QUALITY, VALUE, fundamental_ratios

NAN = np.nan
QUARTERS = ("2019-03-31", "2019-06-30", "2019-09-29", "2019-12-31")


def _facts(rows):
    """Facts of (item, column, period_end, known_at, value) rows."""
    rows = sorted(rows, key=lambda row: row[3])
    items = tuple(sorted({row[0] for row in rows}))
    day = "datetime64[D]"
    return Facts(
        items=items,
        column=np.array([row[1] for row in rows]),
        item=np.array([items.index(row[0]) for row in rows]),
        period_end=np.array([row[2] for row in rows], dtype=day),
        known_at=np.array([row[3] for row in rows], dtype=day),
        value=np.array([row[4] for row in rows], dtype=np.float64),
    )


def _company(column, income, equity, *, known="2020-01-05"):
    """A year of quarters that all became known on one day."""
    flows = (
        ("revenue_quarterly", 100.0),
        ("net_income_quarterly", income),
        ("gross_profit_quarterly", 40.0),
    )
    stocks = {"equity": equity, "total_assets": 800.0, "total_liabilities": 800.0 - equity}
    rows = [(name, column, end, known, value) for name, value in flows for end in QUARTERS]
    rows += [(name, column, QUARTERS[-1], known, value) for name, value in stocks.items()]
    return [*rows, ("shares_outstanding", column, QUARTERS[-1], known, 10.0)]


@pytest.fixture
def ratios(panel_of):
    """Ratios of the facts on ten sessions from 2020-01-01, two or three names at 50."""

    def build(rows, *, sessions=10, names=2, **fields):
        close = fields.pop("close", np.full((sessions, names), 50.0))
        panel = panel_of(close, **fields)
        return fundamental_ratios(replace(panel, _wall=None, facts=_facts(rows)))

    return build


def test_quality_and_value_are_mean_zscores_of_three_ratios(ratios):
    rows = [*_company(0, 10.0, 300.0), *_company(1, 20.0, 500.0), *_company(2, 5.0, 400.0)]

    found = ratios(rows, names=3)

    income, equity = np.array([40.0, 80.0, 20.0]), np.array([300.0, 500.0, 400.0])
    z = cross_sectional_zscore
    quality = (z(np.full(3, 0.2)) + z(income / equity) + z(-(800.0 - equity) / 800.0)) / 3
    value = (z(income / 500.0) + z(equity / 500.0) + z(np.full(3, 0.8))) / 3
    assert np.isnan(found[:4]).all()
    assert np.allclose(found[4:, QUALITY], quality)
    assert np.allclose(found[4:, VALUE], value)


def test_a_figure_counts_from_the_session_on_which_it_was_known(ratios):
    both = [*_company(0, 10.0, 300.0), *_company(1, 20.0, 500.0)]
    restated = ("net_income_quarterly", 0, QUARTERS[2], "2020-01-08", 90.0)
    older = ("net_income_quarterly", 0, "2018-12-31", "2020-01-07", 1e6)

    found = ratios([*both, restated, older])

    plain = ratios(both)
    assert np.array_equal(found[:7], plain[:7], equal_nan=True)
    # Column 0 now earns 120 on 300 instead of 40: of the two it has become the better one.
    assert found[6, VALUE, 0] < found[7, VALUE, 0]
    assert np.array_equal(found[7], found[9])


def test_four_quarters_in_a_row_are_needed_and_old_ones_expire(ratios):
    gap = [row for row in _company(0, 10.0, 300.0) if row[2] != QUARTERS[1]]

    no_flow = ratios([*gap, *_company(1, 20.0, 500.0)])
    late = ratios([*_company(0, 10.0, 300.0), *_company(1, 20.0, 500.0)], sessions=400)

    # Without flows only equity to market value and liabilities to assets are left: one of three.
    assert np.isnan(no_flow[:, :, 0]).all()
    last_known = np.flatnonzero(np.isfinite(late[:, QUALITY, 0]))[-1]
    assert 270 <= last_known <= 300


def test_a_split_after_the_quarter_multiplies_the_shares(ratios):
    rows = [*_company(0, 10.0, 300.0), *_company(1, 20.0, 500.0), *_company(2, 5.0, 400.0)]
    split = np.ones((10, 3))
    split[7, 0] = 2.0
    close = np.full((10, 3), 50.0)
    close[7:, 0] = 25.0

    found = ratios(rows, names=3, split=split, close=close)

    assert np.allclose(found, ratios(rows, names=3), equal_nan=True)


def test_what_divides_must_be_positive(ratios):
    rows = [*_company(0, 10.0, -50.0), *_company(1, 20.0, 500.0), *_company(2, 5.0, 400.0)]
    close = np.full((10, 3), 50.0)
    close[6, 1] = NAN

    found = ratios(rows, names=3, close=close)[6]

    # Unknown for the first: income and book to equity. Two of three are left of each composite.
    assert np.isfinite(found[:, 0]).all()
    assert np.isfinite(found[QUALITY, 1]) and np.isnan(found[VALUE, 1])


def test_a_report_later_than_the_panel_and_unknown_items_are_ignored(ratios):
    rows = [*_company(0, 10.0, 300.0), *_company(1, 20.0, 500.0)]
    others = [("goodwill", 0, QUARTERS[0], "2020-01-02", 1.0)]

    later = ratios([*rows, ("equity", 0, QUARTERS[-1], "2020-03-01", 1.0), *others])

    assert np.array_equal(later, ratios(rows), equal_nan=True)
    assert np.isnan(ratios(others)).all()
