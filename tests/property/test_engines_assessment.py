"""With every family at work: tomorrow does not matter, and neither does the order of names."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.engines.assessment import AssessmentParams, assess
from prometheus_nt.engines.ratios import ITEMS
from prometheus_nt.engines.stability import StabilityParams, measure_stability
from prometheus_nt.jobs.check.differences import first_difference
from prometheus_nt.jobs.check.futures import FUTURES

STABILITY = StabilityParams(lookback=21, min_observations=12)
RATINGS = {f"recommend_{name}_weight": 0.2 for name in ("ma", "other", "all")}
EVERYTHING = {
    name: AssessmentParams(
        horizon=5,
        momentum_lookback=60,
        momentum_skip=5,
        reversal_lookback=5,
        volatility_lookback=20,
        beta_lookback=40,
        evidence_step=3,
        refit_every=4,
        prior_error=0.2,
        combination=name,
        **RATINGS,
    )
    for name in ("fixed", "ic", "ridge")
}
SEEDS = st.integers(0, 2**32 - 1)


def _with_facts(panel, seed):
    """The panel with figures of every item, reported late and now and then corrected."""
    rng = np.random.default_rng(seed)
    count = 3000
    known = np.sort(rng.integers(0, len(panel) + 30, count))
    known_at = panel.sessions[0] + known
    quarter = np.datetime64("2018-03-31") + 91 * rng.integers(0, 5, count)
    facts = Facts(
        items=(*(name for name, _ in ITEMS), "goodwill"),
        column=rng.integers(0, len(panel.instruments), count),
        item=rng.integers(0, len(ITEMS) + 1, count),
        period_end=quarter,
        known_at=known_at,
        value=rng.uniform(-20.0, 100.0, count),
    )
    return replace(panel, _wall=None, facts=facts)


def _scores(panel, params):
    return assess(panel, measure_stability(panel, STABILITY), params)


@pytest.mark.parametrize("combination", EVERYTHING)
@given(seed=SEEDS, row=st.integers(100, 148))
@settings(max_examples=4, deadline=None)
def test_no_score_depends_on_a_later_row_or_fact(synthetic_panel, combination, seed, row):
    panel = _with_facts(synthetic_panel(seed), seed)
    params = EVERYTHING[combination]
    as_of = panel.sessions[row].astype(object)

    known = _scores(panel.until(as_of), params)

    with np.errstate(all="ignore"):
        for name, future in FUTURES.items():
            later = future(panel, row, np.random.default_rng(seed))
            assert first_difference(known, _scores(later.until(as_of), params)) is None, name
    assert np.isfinite(known.alpha_components["value"]).any()
    assert np.isfinite(known.alpha_components["recommend_other"]).any()


@pytest.mark.parametrize("combination", EVERYTHING)
@given(seed=SEEDS)
@settings(max_examples=4, deadline=None)
def test_the_order_of_instruments_changes_not_a_bit(synthetic_panel, combination, seed):
    panel = _with_facts(synthetic_panel(seed), seed)
    order = np.random.default_rng(seed).permutation(len(panel.instruments))
    assert panel.facts is not None
    moved = replace(
        panel,
        _wall=None,
        instruments=tuple(panel.instruments[column] for column in order),
        sectors=tuple(panel.sectors[column] for column in order),
        facts=panel.facts.select(order.tolist()),
        **{name: getattr(panel, name)[:, order] for name in PANEL_FIELDS},
    )
    params = EVERYTHING[combination]
    stability = measure_stability(panel, STABILITY)
    moved_stability = replace(
        stability,
        instruments=moved.instruments,
        overall_score=stability.overall_score[order],
        sigma=stability.sigma[order],
        market_correlation=stability.market_correlation[order],
    )

    before = assess(panel, stability, params)
    after = assess(moved, moved_stability, params)

    ours = {name: values[order] for name, values in before.alpha_components.items()}
    reordered = replace(
        before,
        instruments=moved.instruments,
        alpha_components=ours,
        **{
            name: getattr(before, name)[order]
            for name in ("score", "expected_return", "confidence", "signal_label")
        },
    )
    assert first_difference(reordered, after) is None
