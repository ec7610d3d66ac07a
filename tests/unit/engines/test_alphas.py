from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.alphas import (
    FAMILIES,
    AlphaParams,
    families_of,
    layout_of,
    standardised,
)
from prometheus_nt.engines.numerics.market_relations import residual_momentum, rolling_beta

NAN = np.nan
SHORT = AlphaParams(
    momentum_lookback=4,
    momentum_skip=1,
    reversal_lookback=2,
    volatility_lookback=4,
    beta_lookback=4,
)
LONGER = AlphaParams(
    momentum_lookback=60,
    momentum_skip=5,
    reversal_lookback=5,
    volatility_lookback=30,
    beta_lookback=60,
)


def _measured(panel, params, name, row):
    family = next(family for family in FAMILIES if family.name == name)
    return family.measure(panel, params, np.array([row]))[0]


@pytest.fixture
def market(panel_of, random_close):
    sectors = tuple((None, "A", "B", "B", "A", "B", "C")[column % 7] for column in range(40))
    return panel_of(random_close(3, 150, 40), sectors=sectors)


def _in_layout(panel, params, row):
    layout = layout_of(panel)
    return standardised(panel, params, np.array([row]))[0][:, layout.place]


def test_each_price_family_is_what_its_name_says(panel_of):
    panel = panel_of(np.array([[10.0, 10.0], [11.0, 10.0], [12.0, 9.0], [15.0, 8.0], [18.0, 10.0]]))

    assert np.allclose(_measured(panel, SHORT, "momentum", 4), [15 / 10 - 1, 8 / 10 - 1])
    assert np.allclose(_measured(panel, SHORT, "short_momentum", 4), [15 / 12 - 1, 8 / 9 - 1])
    assert np.allclose(_measured(panel, SHORT, "reversal", 4), [1 - 18 / 12, 1 - 10 / 9])
    logs = np.log(panel.close[1:] / panel.close[:-1])
    assert np.allclose(_measured(panel, SHORT, "low_volatility", 4), -logs.std(axis=0, ddof=1))
    assert np.isnan(_measured(panel, SHORT, "momentum", 3)).all()


def test_beta_is_the_slope_on_the_mean_return_of_the_known_names(panel_of, random_close):
    panel = panel_of(random_close(5, 90, 6))

    beta = rolling_beta(panel, 20, 5)

    close = panel.close.copy()
    for row in range(1, 90):
        close[row] = np.where(np.isnan(close[row]), close[row - 1], close[row])
    returns = np.full_like(close, NAN)
    returns[1:] = close[1:] / close[:-1] - 1.0
    returns[np.isnan(panel.close)] = NAN
    market = np.nanmean(returns[1:], axis=1)
    for row in (30, 89):
        window = returns[row - 19 : row + 1]
        for column in range(6):
            known = np.isfinite(window[:, column])
            if known.sum() >= 5:
                x = market[row - 20 : row][known]
                assert beta[row, column] == pytest.approx(
                    np.polyfit(x, window[known, column], 1)[0]
                )
            else:
                assert np.isnan(beta[row, column])


def test_residual_momentum_is_the_mean_over_the_deviation_of_what_beta_leaves(panel_of):
    rng = np.random.default_rng(4)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (120, 5)), axis=0))
    panel = panel_of(close)

    found = residual_momentum(panel, 30, 40, 5)

    returns = close[1:] / close[:-1] - 1.0
    market = returns.mean(axis=1)
    beta = rolling_beta(panel, 30, 7)
    left = returns - beta[:-1] * market[:, None]
    window = left[119 - 1 - 39 : 119 - 5]
    assert len(window) == 35
    assert np.allclose(found[119], window.mean(axis=0) / window.std(axis=0, ddof=1))


def test_a_lone_instrument_has_no_market_to_move_with(panel_of, random_close):
    panel = panel_of(random_close(2, 120, 2)[:, :1])

    assert np.isnan(rolling_beta(panel, 30, 7)).all()
    assert np.isnan(residual_momentum(panel, 30, 40, 5)).all()


def test_families_are_free_of_beta_and_of_sectors(market):
    z = _in_layout(market, LONGER, 149)

    beta = rolling_beta(market, 60, 15)[149]
    sectors = np.array([sector or "" for sector in market.sectors])
    for values in z:
        known = np.isfinite(values)
        assert known.sum() > 30
        assert values[known].std() == pytest.approx(1.0)
        assert abs(values[known] @ (beta[known] - beta[known].mean())) < 1e-9
        for sector in set(sectors):
            inside = known & (sectors == sector)
            assert abs(values[inside].mean()) < 1e-12


def test_what_is_left_is_the_residual_of_a_regression_on_beta_and_sectors(market):
    z = _in_layout(market, LONGER, 149)

    raw = _measured(market, LONGER, "reversal", 149)
    known = np.isfinite(raw)
    raw = raw[known]
    ordered = np.sort(raw)
    raw = np.clip(raw, ordered[int(0.025 * len(raw))], ordered[-1 - int(0.025 * len(raw))])
    sectors = np.array([sector or "" for sector in market.sectors])[known]
    dummies = [(sectors == sector).astype(float) for sector in sorted(set(sectors))]
    design = np.column_stack([rolling_beta(market, 60, 15)[149][known], *dummies])
    left = raw - design @ np.linalg.lstsq(design, raw, rcond=None)[0]
    assert np.allclose(z[3][known], left / left.std(), atol=1e-9)


def test_names_that_stopped_trading_are_no_part_of_the_cross_section(panel_of):
    rng = np.random.default_rng(8)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (200, 30)), axis=0))
    close[100:, 20:] = NAN
    panel = panel_of(close)

    z = _in_layout(panel, LONGER, 199)
    a_week_later = _in_layout(panel, LONGER, 104)

    # Their index stands still, which is no momentum of 0.
    assert np.isnan(z[:, 20:]).all()
    assert z[:, :20].std(axis=1) == pytest.approx(1.0)
    assert np.isnan(a_week_later[:, 20:]).all()
    assert np.isfinite(_in_layout(panel, LONGER, 103)[0, 20:]).all()


def test_sectors_of_few_names_share_one_mean(panel_of, random_close):
    close = random_close(8, 150, 12)
    alone = panel_of(close, sectors=tuple(f"S{column}" for column in range(12)))

    together = _in_layout(panel_of(close), LONGER, 149)

    assert np.allclose(_in_layout(alone, LONGER, 149), together, atol=1e-12, equal_nan=True)
    assert np.nanstd(together) > 0.5


def test_few_names_keep_their_beta_and_the_same_values_score_zero(panel_of, random_close):
    close = random_close(8, 150, 6)
    six = panel_of(close)

    raw = _measured(six, LONGER, "momentum", 149)
    known = np.isfinite(raw)
    expected = (raw[known] - raw[known].mean()) / raw[known].std()
    assert np.allclose(_in_layout(six, LONGER, 149)[0][known], expected)

    flat = panel_of(np.full((150, 4), 10.0))
    assert (_in_layout(flat, LONGER, 149)[[0, 1, 3, 4]] == 0.0).all()


def test_the_order_of_instruments_changes_not_a_bit(market):
    order = np.random.default_rng(1).permutation(40)
    moved = replace(
        market,
        _wall=None,
        instruments=tuple(market.instruments[column] for column in order),
        sectors=tuple(market.sectors[column] for column in order),
        **{name: getattr(market, name)[:, order] for name in PANEL_FIELDS},
    )

    before = _in_layout(market, LONGER, 149)[:, order]

    assert np.array_equal(before, _in_layout(moved, LONGER, 149), equal_nan=True)


def test_a_family_without_a_weight_or_without_facts_is_absent(panel_of):
    panel = panel_of(np.full((5, 2), 10.0))
    empty = np.array([], dtype=np.int64)
    days = empty.astype("datetime64[D]")
    facts = Facts(("revenue",), empty, empty.copy(), days, days.copy(), empty.astype(float))
    with_facts = replace(panel, _wall=None, facts=facts)
    without = SHORT.model_copy(update={"momentum_weight": None, "recommend_all_weight": 0.5})

    prices = ("short_momentum", "residual_momentum", "reversal", "low_volatility")
    assert families_of(panel, without).names == (*prices, "recommend_all")
    assert families_of(with_facts, without).names == (*prices, "quality", "value", "recommend_all")
    assert families_of(panel, SHORT).prior.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum_skip": 252}, "momentum_skip: must be shorter than momentum_lookback"),
        ({"momentum_skip": 126}, "shorter than short_momentum_lookback"),
        (
            {f"{family.name}_weight": 0.0 for family in FAMILIES if not family.needs_facts},
            "must have a positive one",
        ),
    ],
)
def test_contradictory_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        AlphaParams(**settings)


def test_every_family_has_its_weight_among_the_parameters():
    weights = {name for name in AlphaParams.model_fields if name.endswith("_weight")}

    assert {f"{family.name}_weight" for family in FAMILIES} == weights
