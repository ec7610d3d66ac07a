"""Derived tables against hand-made numbers, second implementations, and what engines see."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.engines import factors
from prometheus_nt.engines.alphas import FAMILIES, AlphaParams
from prometheus_nt.engines.features import (
    BETA_LOOKBACK,
    FEATURES,
    MARKET,
    TABLES,
    correlation_panel,
    derive_table,
)
from prometheus_nt.engines.numerics.market_relations import beta_floor, rolling_beta
from prometheus_nt.engines.numerics.rolling import rolling_volatility_per_session

NAN = np.nan


def _column(table, key, column):
    """Return the (T,) history of one of the things a table is about."""
    keys = list(zip(*table.keys.values(), strict=True))
    return table.columns[column][:, keys.index(key)]


@pytest.fixture(scope="module")
def panel(panel_of, random_close):
    close = random_close(5, 330, 6)
    high = np.where(np.isnan(close), np.nan, close * 1.01)
    return panel_of(close, high=high, low=high * 0.98, sectors=("A", "A", "B", None, "A", "B"))


def test_returns_count_splits_dividends_and_sessions(panel_of):
    close = [100.0, 110.0, 55.0, 54.0, 60.0, 66.0, 66.0]
    split = [1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    dividend = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]

    table = derive_table(panel_of(close, split=split, dividend=dividend), "returns")

    one, five = (_column(table, ("I000",), name) for name in ("ret_1d", "ret_5d"))
    np.testing.assert_allclose(one, [NAN, 0.1, 0.0, 0.0, 60 / 54 - 1, 0.1, 0.0], atol=1e-15)
    np.testing.assert_allclose(five[:5], NAN)
    # From 100 to 66 after a split in two, with 1 of 55 paid on the way.
    np.testing.assert_allclose(five[5], 2 * 66 / 100 * 55 / 54 - 1, rtol=1e-14)


def test_a_session_without_a_bar_has_no_return_of_any_length(panel_of):
    close = np.linspace(10.0, 20.0, 40)
    close[30] = NAN

    table = derive_table(panel_of(close), "returns")

    for name in table.columns:
        values = _column(table, ("I000",), name)
        assert np.isnan(values[30]), name
        assert values[31] > 0.0, name
        assert np.isnan(values[0]), name
    assert np.isnan(_column(table, ("I000",), "ret_21d")[:21]).all()
    assert np.isfinite(_column(table, ("I000",), "ret_21d")[21:30]).all()


def test_volatility_is_the_deviation_of_log_returns_per_session(panel):
    table = derive_table(panel, "volatility")

    for name, lookback in (("vol_21d", 21), ("vol_63d", 63)):
        bars = np.isfinite(panel.close[:, 0])
        logs = np.full(len(panel), NAN)
        logs[np.flatnonzero(bars)[1:]] = np.diff(np.log(panel.close[bars, 0]))
        expected = np.nanstd(logs[-lookback:], ddof=1)
        np.testing.assert_allclose(_column(table, ("I000",), name)[-1], expected, rtol=1e-9)


def test_a_sector_is_the_mean_of_its_members_that_have_a_return(panel_of):
    close = np.array([[10.0, 20.0, 30.0, 5.0], [11.0, 20.0, NAN, 6.0], [11.0, 22.0, 33.0, 6.0]])

    table = derive_table(panel_of(close, sectors=("A", "A", "A", "B")), "factors")

    np.testing.assert_allclose(_column(table, ("SECTOR:A",), "value"), [NAN, 0.05, 0.2 / 3])
    np.testing.assert_allclose(
        _column(table, (MARKET,), "value"), [NAN, (0.1 + 0.0 + 0.2) / 3, 0.2 / 4]
    )
    assert np.isnan(_column(table, ("SECTOR:B",), "value")).all(), "one name is no sector"


def test_exposures_are_slopes_on_the_market_and_on_the_own_sector(panel):
    table = derive_table(panel, "exposures")
    returns = derive_table(panel, "returns").columns["ret_1d"]
    common = derive_table(panel, "factors")

    for factor in (MARKET, "SECTOR:A"):
        mine, its = (
            returns[-BETA_LOOKBACK:, 1],
            _column(common, (factor,), "value")[-BETA_LOOKBACK:],
        )
        known = np.isfinite(mine) & np.isfinite(its)
        slope = np.polyfit(its[known], mine[known], 1)[0]
        np.testing.assert_allclose(
            _column(table, ("I001", factor), "exposure")[-1], slope, rtol=1e-7
        )
    pairs = set(zip(*table.keys.values(), strict=True))
    assert ("I003", MARKET) in pairs
    assert not any(name == "I003" and factor != MARKET for name, factor in pairs), "no sector"


@pytest.fixture(scope="module")
def reclassified(panel_of, random_close):
    """Return six names in Z and B, of whom one moves to A at row 200: A is seen last."""
    plain = panel_of(random_close(7, 330, 6))
    before, after = ("Z", "Z", "Z", "B", "B", None), ("A", "Z", "Z", "B", "B", "A")
    days = plain.sessions.astype(object)
    history = SectorHistory.of({days[0]: before, days[200]: after})
    return replace(plain, sector_history=history, _wall=None)


def test_a_sector_is_the_mean_of_those_known_to_be_its_members_on_the_day(reclassified):
    returns = derive_table(reclassified, "returns").columns["ret_1d"]

    table = derive_table(reclassified, "factors")

    sector = {name: _column(table, (f"SECTOR:{name}",), "value") for name in "ABZ"}
    np.testing.assert_allclose(sector["Z"][1:200], _mean(returns[1:200, [0, 1, 2]]))
    np.testing.assert_allclose(sector["Z"][200:], _mean(returns[200:, [1, 2]]))
    np.testing.assert_allclose(sector["B"][1:], _mean(returns[1:, [3, 4]]))
    np.testing.assert_allclose(sector["A"][200:], _mean(returns[200:, [0, 5]]))
    assert np.isnan(sector["A"][:200]).all(), "nobody was known to belong to it"


def test_an_exposure_is_to_the_sector_of_the_day(reclassified):
    table = derive_table(reclassified, "exposures")

    pairs = set(zip(*table.keys.values(), strict=True))
    before, after = (
        _column(table, ("I000", name), "exposure") for name in ("SECTOR:Z", "SECTOR:A")
    )
    assert np.isfinite(before[150:200]).all()
    assert np.isnan(before[200:]).all()
    assert np.isnan(after[:200]).all()
    assert np.isfinite(after[200:]).all()
    assert ("I001", "SECTOR:A") not in pairs
    # Slopes of the old membership are what they were before the move was known.
    view = reclassified.until(reclassified.sessions[199].astype(object))
    then = derive_table(view, "exposures")
    assert {factor for _, factor in zip(*then.keys.values(), strict=True)} == {
        MARKET,
        "SECTOR:Z",
        "SECTOR:B",
    }
    np.testing.assert_array_equal(_column(then, ("I000", "SECTOR:Z"), "exposure"), before[:200])


def test_a_view_knows_no_sector_that_was_first_seen_later(reclassified):
    view = reclassified.until(reclassified.sessions[199].astype(object))

    then, now = derive_table(view, "factors"), derive_table(reclassified, "factors")

    assert "SECTOR:A" not in then.keys["factor_id"]
    for factor in then.keys["factor_id"]:
        np.testing.assert_array_equal(
            _column(then, (factor,), "value"), _column(now, (factor,), "value")[:200]
        )


def _mean(returns):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        known = np.isfinite(returns).sum(axis=1)
        return np.where(known > 1, np.nanmean(returns, axis=1), NAN)


def test_features_are_what_the_engines_see_to_the_last_bit(panel):
    features, volatility, exposures = (
        derive_table(panel, name) for name in ("features", "volatility", "exposures")
    )
    families = {family.name: family.measure for family in FAMILIES}
    row = np.array([len(panel) - 1])
    width = len(panel.instruments)

    for name in ("recommend_ma", "recommend_other", "recommend_all"):
        start = list(FEATURES).index(name) * width
        stored = features.columns["value"][-1, start : start + width]
        np.testing.assert_array_equal(stored, families[name](panel, AlphaParams(), row)[0])
    seen = panel.derived(rolling_volatility_per_session, *factors.VOLATILITY)
    np.testing.assert_array_equal(volatility.columns["vol_63d"], seen)
    beta = AlphaParams().beta_lookback
    seen = panel.derived(rolling_beta, beta, beta_floor(beta))
    np.testing.assert_array_equal(exposures.columns["exposure"][:, :width], seen)


def test_warm_up_stays_unknown(panel):
    table = derive_table(panel, "features")

    first = {
        name: np.flatnonzero(np.isfinite(_column(table, ("I000", name), "value")))[0]
        for name in FEATURES
    }

    # Bars, not sessions: the name misses a few.
    assert first["recommend_ma"] >= 199 and first["recommend_all"] == first["recommend_ma"]
    assert first["adx_14"] >= 27
    assert first["dollar_volume_63"] >= 31


@pytest.mark.parametrize("name", TABLES)
def test_a_view_sees_the_same_values_as_the_whole(panel, name):
    session = panel.sessions[250].astype(object)

    whole, view = derive_table(panel, name), derive_table(panel.until(session), name)

    assert view.keys == whole.keys
    for column, values in view.columns.items():
        np.testing.assert_array_equal(values, whole.columns[column][:251])


def test_correlations_agree_with_numpy_and_leave_out_who_is_too_new(panel):
    measured = correlation_panel(panel, 63)

    logs = np.log1p(derive_table(panel, "returns").columns["ret_1d"])[-63:]
    columns = [panel.instruments.index(name) for name in measured.instruments]
    for one, first in enumerate(columns):
        for other, second in enumerate(columns):
            both = np.isfinite(logs[:, first]) & np.isfinite(logs[:, second])
            expected = np.corrcoef(logs[both, first], logs[both, second])[0, 1]
            np.testing.assert_allclose(measured.matrix[one, other], expected, rtol=1e-9, atol=1e-12)
    young = panel.until(panel.sessions[180].astype(object))
    assert "I005" not in correlation_panel(young, 63).instruments
    assert measured.start == panel.sessions[-63].astype(object)


def test_a_pair_without_common_sessions_is_unknown_not_uncorrelated(panel_of):
    rng = np.random.default_rng(1)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (81, 3)), axis=0))
    close[:41, 0] = close[41:, 1] = NAN

    measured = correlation_panel(panel_of(close), 80, min_observations=30)

    assert np.isnan(measured.matrix[0, 1])
    assert np.isfinite(measured.matrix[[0, 1], [2, 2]]).all()


def test_correlations_need_their_lookback(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 64 sessions, has 63"):
        correlation_panel(panel_of(np.ones((63, 2))), 63)
