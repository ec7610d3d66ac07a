"""A whole day on bad input: every panel ends in finite weights within limits, in cash, or in none.

`run_day` absorbs one error only, a stage that has too little history; any other would fail here.
"""

import numpy as np
import pytest

from prometheus_nt.actors.pipeline import run_day
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel

SESSIONS, NAMES = 280, 8
NAN = np.nan

QUICK = {
    "regime": {
        "min_history": 40,
        "drawdown_lookback": 21,
        "breadth_lookback": 21,
        "trend_lookback": 21,
        "correlation_lookback": 21,
    },
    "stability": {"lookback": 21, "min_observations": 10},
    "fragility": {
        "horizon": 5,
        "tail_lookback": 21,
        "min_observations": 10,
        "trend_lookback": 42,
        "scenario_lookback": 63,
        "min_calibration_sessions": 20,
    },
    "assessment": {"momentum_lookback": 42, "momentum_skip": 5, "beta_lookback": 42},
    "universe": {"min_history_sessions": 30, "min_price": None},
}
BOOKS = {
    "long only": {"portfolio": {"max_weight": 0.3}, "risk": {"max_abs_weight_per_name": 0.3}},
    "risk budgeted": {
        "portfolio": {
            "weighting": "risk_budgeting",
            "max_weight": 0.3,
            "solver": {"lookback": 60, "min_observations": 30, "max_sector_weight": 0.4},
        },
        "risk": {"max_abs_weight_per_name": 0.3},
    },
    "two levels": {
        "portfolio": {
            "weighting": "min_variance",
            "max_weight": 0.3,
            "solver": {"lookback": 60, "min_observations": 30, "two_level": True},
        },
        "risk": {"max_abs_weight_per_name": 0.3},
    },
    "long short": {
        "portfolio": {"construction": "long_short", "max_names": 3, "max_names_short": 3},
        "risk": {"long_only": False, "max_gross": 2.0, "max_net": 0.5, "min_net": -0.5},
    },
    "hedge": {
        "portfolio": {"construction": "short_hedge"},
        "risk": {"long_only": False, "max_gross": 0.5},
    },
    "natural": {"universe": {"selection": "natural", "natural": {"friction_hurdle": None}}},
}


def clean(names=NAMES):
    rng = np.random.default_rng(11)
    common = rng.normal(0.0, 0.008, (SESSIONS, 1))
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0003, 0.015, (SESSIONS, names)) + common, axis=0))
    return close


def scattered_gaps():
    close = clean()
    close[np.random.default_rng(5).random(close.shape) < 0.3] = NAN
    return close


def one_column_unknown():
    close = clean()
    close[:, 2] = NAN
    return close


def twins():
    close = clean()
    close[:, 1::2] = close[:, ::2]
    return close


def one_stopped():
    close = clean()
    close[-30:, 0] = NAN
    return close


def crashed():
    close = clean()
    close[-1] *= 0.02
    return close


PANELS = {
    "clean": clean(),
    "scattered gaps": scattered_gaps(),
    "constant prices": np.full((SESSIONS, NAMES), 20.0),
    "one constant column": np.column_stack((clean(NAMES - 1), np.full(SESSIONS, 20.0))),
    "one instrument": clean(1),
    "two sessions": clean()[:2],
    "one session": clean()[:1],
    "one column unknown": one_column_unknown(),
    "nothing known": np.full((SESSIONS, NAMES), NAN),
    "twins": twins(),
    "one stopped": one_stopped(),
    "crashed": crashed(),
    "two names, cap a third": clean(2),
}


def panel_of(close):
    sessions = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-01-01") + len(close))
    arrays = {name: close.copy() for name in PANEL_FIELDS}
    arrays["volume"] = np.where(np.isnan(close), NAN, 1e6)
    arrays["split"], arrays["dividend"] = np.ones_like(close), np.zeros_like(close)
    names = tuple(f"I{column:02d}.US" for column in range(close.shape[1]))
    sectors = tuple(("TECH", "ENERGY")[column % 2] for column in range(close.shape[1]))
    return MarketPanel(
        sessions=sessions, instruments=names, fingerprint="bad", sectors=sectors, **arrays
    )


def days(panel, settings, count=3):
    engines = EnginesConfig.model_validate(settings)
    records = {}
    for session in panel.sessions[-count:]:
        records = run_day(panel.until(session.astype(object)), dict(engines), records)
    return engines, records


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("book", BOOKS)
@pytest.mark.parametrize("bad", PANELS)
def test_a_day_ends_in_finite_weights_within_limits_or_in_none(bad, book):
    panel = panel_of(PANELS[bad])
    settings = {stage: {**of} for stage, of in QUICK.items()}
    for stage, of in BOOKS[book].items():
        settings[stage] = settings.get(stage, {}) | of

    engines, records = days(panel, settings)

    if "risk" not in records:
        assert len(panel) < 60, "only a panel that is too short may have no target at all"
        return
    weights = records["risk"].weights
    assert np.isfinite(weights).all()
    assert np.abs(weights).sum() <= engines.risk.max_gross + 1e-9
    assert np.abs(weights).max(initial=0.0) <= engines.risk.max_abs_weight_per_name + 1e-9
    assert records["risk"].report.cash_weight == pytest.approx(1.0 - weights.sum())
    unknown = np.isnan(panel.close[-1]) & np.isnan(panel.close[-30:]).all(axis=0)
    assert not weights[unknown].any(), "nothing is bought that has not traded for weeks"


def test_a_clean_panel_is_invested():
    for book, settings in BOOKS.items():
        merged = {stage: {**of} for stage, of in QUICK.items()}
        for stage, of in settings.items():
            merged[stage] = merged.get(stage, {}) | of
        _, records = days(panel_of(PANELS["clean"]), merged)
        if book not in ("hedge", "natural"):
            assert np.abs(records["risk"].weights).sum() > 0.4, book
