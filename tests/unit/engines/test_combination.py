"""Weights are learnt from what was known, slowly, and only by those who deserve it."""

from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.engines.alphas import layout_of, standardised
from prometheus_nt.engines.combination import CombinationParams, combiner, evidence

H = 5
BASE = {
    "momentum_lookback": 20,
    "momentum_skip": 2,
    "reversal_lookback": 5,
    "volatility_lookback": 20,
    "beta_lookback": 40,
    "horizon": H,
    "evidence_step": 2,
    "refit_every": 7,
}
LEARNT = ("ic", "ridge")
NAMES = ("momentum", "short_momentum", "residual_momentum", "reversal", "low_volatility")


def _params(**settings):
    return CombinationParams(**BASE | settings)


@pytest.fixture
def market(panel_of, random_close):
    return panel_of(random_close(3, 160, 24))


def _with_prices(panel, row, seed):
    """The panel with every later close, open, high and low replaced."""
    rng = np.random.default_rng(seed)
    noise = rng.uniform(5.0, 100.0, panel.close[row:].shape)
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for name in ("open", "high", "low", "close"):
        arrays[name][row:] = noise
    return replace(panel, _wall=None, **arrays)


@pytest.fixture
def reversing_market(panel_of):
    """Prices that return to their level: what fell will rise, and nothing else is known."""
    rng = np.random.default_rng(7)
    logs = np.zeros((1000, 40))
    for row in range(1, 1000):
        logs[row] = 0.9 * logs[row - 1] + rng.normal(0.0, 0.02, 40)
    return panel_of(50.0 * np.exp(logs))


def test_evidence_is_the_correlation_with_the_returns_from_the_close_after(market):
    params = _params()

    found = evidence(market, params)

    s = 100
    z = standardised(market, params, np.array([s]))[0]
    order = layout_of(market).order
    close = market.close.copy()
    for row in range(1, len(close)):
        close[row] = np.where(np.isnan(close[row]), close[row - 1], close[row])
    outcome = (close[s + 1 + H] / close[s + 1] - 1.0)[order]
    for family in range(5):
        known = np.isfinite(z[family]) & np.isfinite(outcome)
        y = outcome[np.isfinite(z).any(axis=0) & np.isfinite(outcome)]
        x, own = z[family][known], outcome[known] - y.mean()
        size = np.sqrt((x @ x) * ((y - y.mean()) ** 2).sum())
        assert found[s + 1 + H, family] == pytest.approx(x @ own / size)
    assert found[s + 1 + H, -2] == 1.0
    assert (found[s + 2 + H] == 0.0).all(), "no cross-section was scored that day"


@pytest.mark.parametrize("combination", LEARNT)
def test_an_outcome_changes_no_weight_before_it_is_known(market, combination):
    params = _params(combination=combination)
    row = 119  # a refit; its newest outcome is that of session 112, scored at 113 to 118
    whole = combiner(market, params)

    later = combiner(_with_prices(market, row + 1, 1), params)
    today = combiner(_with_prices(market, row, 1), params)

    assert np.array_equal(later[: row + 1], whole[: row + 1])
    # Session 119 itself completes the outcomes of session 113, odd and so no evidence.
    assert np.array_equal(today[: row + 1], whole[: row + 1])
    assert not np.array_equal(later[row + 14 :], whole[row + 14 :])


@pytest.mark.parametrize("combination", ["fixed", *LEARNT])
def test_a_shorter_history_gives_the_same_weights(market, combination):
    params = _params(combination=combination)
    cut = {name: getattr(market, name)[:131].copy() for name in PANEL_FIELDS}
    shorter = replace(market, _wall=None, sessions=market.sessions[:131].copy(), **cut)

    assert np.array_equal(combiner(shorter, params), combiner(market, params)[:131])


def test_weights_are_held_between_refits_and_are_shares(market):
    weights = combiner(market, _params())[:, :-1]

    changed = np.flatnonzero((np.diff(weights, axis=0) != 0.0).any(axis=1)) + 1
    assert (changed % 7 == 0).all() and len(changed) > 5
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0.0).all()


@pytest.mark.parametrize("combination", LEARNT)
def test_without_evidence_the_weights_are_the_prior(market, combination):
    fitted = combiner(market, _params(combination=combination))[0]

    prior = np.array([0.5, 0.25, 0.25, 0.2, 0.3])
    assert np.allclose(fitted[:-1], prior / prior.sum())
    assert fitted[-1] == pytest.approx(0.03)


@pytest.mark.parametrize("combination", LEARNT)
def test_the_belief_is_the_stated_blend_of_prior_and_evidence(market, combination):
    params = _params(combination=combination, prior_error=0.05)
    row = 154
    facts = evidence(market, params)[: row + 1]

    fitted = combiner(market, params)[row]

    known = facts[facts[:, -2] > 0.0]
    b, gram = known[:, :5].sum(axis=0), known[:, 5:30].reshape(-1, 5, 5).sum(axis=0)
    counts = np.diag(gram)
    scatter = ((known[:, :5] ** 2).sum(axis=0) - b**2 / counts).sum()
    worth = max(scatter / (counts - 1.0).sum(), known[:, -1].mean()) / 0.05**2
    prior = np.array([0.5, 0.25, 0.25, 0.2, 0.3])
    independent = 2 / H
    right = independent * b + worth * 0.03 * prior / np.linalg.norm(prior)
    left = independent * (gram if combination == "ridge" else np.diag(counts)) + worth * np.eye(5)
    belief = np.maximum(np.linalg.solve(left, right), 0.0)
    assert len(known) > 50 and np.abs(gram - np.diag(counts)).max() > 10.0
    assert np.allclose(fitted[:-1], belief / belief.sum())


@pytest.mark.parametrize("combination", LEARNT)
def test_a_planted_alpha_is_found_and_a_useless_family_is_not(reversing_market, combination):
    params = _params(combination=combination)

    fitted = combiner(reversing_market, params)[-1]

    weights = dict(zip(NAMES, fitted, strict=False))
    assert weights["reversal"] > 0.8, "its prior is 0.13"
    assert weights["low_volatility"] < 0.1, "its prior is 0.2"
    assert weights["momentum"] == 0.0, "it failed, which is no reason to bet on its opposite"
    assert fitted[-1] > 0.1, "the coefficient to expect follows the one that was measured"
    assert combiner(reversing_market, _params(combination="fixed"))[-1, -1] == 0.0


def test_where_no_family_deserves_a_weight_nothing_is_expected(reversing_market):
    # Two of one content: each is believed in less than both, so that both are given up sooner.
    twins = {"short_momentum_lookback": 20, "short_momentum_weight": 0.5}
    others = {f"{name}_weight": None for name in ("residual_momentum", "reversal")}
    params = _params(low_volatility_weight=None, **twins, **others)

    fitted = combiner(reversing_market, params)

    assert fitted[0].tolist() == [0.5, 0.5, pytest.approx(0.03)]
    assert fitted[-1].tolist() == [0.0, 0.0, 0.0]


def test_on_random_markets_the_claim_is_mostly_disproved(panel_of):
    found = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (1200, 40)), axis=0))
        found.append(combiner(panel_of(close), _params())[-1, -1])

    assert np.mean(found) < 0.02, "claimed were 0.03"
    assert max(found) < 0.045


def test_a_market_too_small_to_correlate_keeps_the_prior(panel_of, random_close):
    panel = panel_of(random_close(1, 120, 3))

    fitted = combiner(panel, _params(combination="ridge"))

    assert (fitted == fitted[0]).all()


def test_the_order_of_instruments_changes_no_bit_of_the_weights(market):
    order = np.random.default_rng(2).permutation(24)
    moved = replace(
        market,
        _wall=None,
        instruments=tuple(market.instruments[column] for column in order),
        **{name: getattr(market, name)[:, order] for name in PANEL_FIELDS},
    )

    for combination in LEARNT:
        params = _params(combination=combination)
        assert np.array_equal(combiner(market, params), combiner(moved, params))


def test_evidence_of_a_session_is_free_of_the_sectors_known_then(panel_of, random_close):
    close, params = random_close(4, 160, 30), _params(min_sector_names=3)
    before = tuple("AB"[column % 2] for column in range(30))
    after = tuple("ABC"[column % 3] for column in range(30))
    panel = panel_of(close)
    first, moved = panel.sessions[[0, 101]].astype(object)
    history = SectorHistory.of({first: before, moved: after})
    dated = replace(panel, sector_history=history, _wall=None)

    found = evidence(dated, params)

    lag = 1 + H
    early = evidence(panel_of(close, sectors=before), params)
    late = evidence(panel_of(close, sectors=after), params)
    # Filed under the session on which the outcome is known, `lag` after the one that was scored.
    assert np.array_equal(found[: 101 + lag], early[: 101 + lag])
    assert np.array_equal(found[101 + lag :], late[101 + lag :])
    assert not np.array_equal(early[101 + lag :], late[101 + lag :])
