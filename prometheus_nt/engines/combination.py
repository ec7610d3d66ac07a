"""How much each family has deserved: weights learnt from outcomes that were known at the time.

1. `evidence` compares the families of every `evidence_step`-th session s with the returns from
   the close of s + 1 to that of s + 1 + horizon, and files the result under session
   s + 1 + horizon, the first on which it is known: that is the purge.
2. `_posterior` weighs what was known at each refit against the prior.
3. `combiner` holds the weights of a refit until the next one, and measures how well the
   combination did with the weights it had at the time: its own information coefficient.

The claimed information coefficient c belongs to the prior combination, so family f with prior
weight w_f is believed to have mu_f = c w_f / |w|, give or take `prior_error`. Let b be the sum of
the families' coefficients, G the sum of their correlation matrices, n_f the sessions of family f
(the diagonal of G), d the share of the sessions whose outcomes do not overlap, v the variance of
a coefficient from session to session, and n0 = v / prior_error^2 the outcomes that the prior is
worth. The belief after the evidence is

    ridge    (d G + n0 I)^-1 (d b + n0 mu)
    ic       the same with the diagonal of G only: (d b_f + n0 mu_f) / (d n_f + n0)
    fixed    mu

Without evidence each of them is the prior, and evidence drowns it only at the rate at which its
own noise allows. A negative belief counts as 0: that a family fails is no reason to bet on its
opposite.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.engines.alphas import (
    AlphaParams,
    families_of,
    layout_of,
    standardised,
    tails,
)
from prometheus_nt.engines.numerics.returns import total_return_index

BLOCK_SESSIONS = 32
"""Sessions measured at a time: their temporaries then fit the processor's cache."""

MIN_NAMES = 5
"""Instruments below which a correlation of one session says nothing."""


class CombinationParams(AlphaParams):
    """Parameters of the combination; horizon, step and refit in sessions.

    Attributes
    ----------
    combination
        `fixed` keeps the prior weights, `ic` moves them with each family's own record, `ridge`
        with their joint record, so that two families of one content share one reward.
    information_coefficient
        Correlation of combined score and return that the user is ready to claim beforehand.
    prior_error
        Standard deviation of a family's true coefficient around the claimed one.
    evidence_step
        Every so many sessions a cross-section counts as evidence: adjacent ones say the same.
    refit_every
        Sessions between refits, counted from the first of the whole history.
    """

    horizon: int = Field(21, ge=1)
    combination: Literal["fixed", "ic", "ridge"] = "ic"
    information_coefficient: float = Field(0.03, ge=0, le=1)
    prior_error: float = Field(0.02, gt=0, le=1)
    evidence_step: int = Field(5, ge=1)
    refit_every: int = Field(21, ge=1)


def combiner(panel: MarketPanel, params: CombinationParams) -> FloatArray:
    """Return the weight of each family and the combination's own coefficient, (T, F + 1).

    The weights are not negative and sum to 1, or are all 0 where no family deserves one. The last
    column is the information coefficient to expect of the combination: the claimed one, moved
    towards the one measured out of sample just as the families' are; not negative, and 0 where
    all weights are.
    """
    prior = families_of(panel, params).prior
    claimed = params.information_coefficient
    coefficients, gram, count, noise = _unpacked(panel.derived(evidence, params), len(prior))
    refits = np.arange(0, len(panel), params.refit_every)
    held = np.repeat(np.arange(len(refits)), params.refit_every)[: len(panel)]
    weights = np.broadcast_to(prior, (len(refits), len(prior)))
    if params.combination != "fixed":
        mean = claimed * prior / np.sqrt((prior * prior).sum())
        believed = _posterior(coefficients, gram, noise, mean, refits, params)
        weights = _shares(np.maximum(believed, 0.0))
    own, present = _own_coefficients(weights[held], coefficients, gram, count, params)
    own_gram = present[:, None, None]
    skill = _posterior(own[:, None], own_gram, noise * present, np.array([claimed]), refits, params)
    # A combination of nothing, of which nothing was measured, would keep the claim for ever.
    expected = np.where(weights.any(axis=1, keepdims=True), np.maximum(skill, 0.0), 0.0)
    return np.concatenate((weights, expected), axis=1)[held]


def evidence(panel: MarketPanel, params: CombinationParams) -> FloatArray:
    """Return what each session newly tells about the families, (T, F + F F + 2).

    In a row: the families' information coefficients, their correlation matrix, 1 if there is any
    evidence, and the variance that a coefficient of pure noise would have. All 0 on the sessions
    on which no outcome became known; a family unknown on the session scored has zeros.
    """
    families = len(families_of(panel, params).names)
    result = np.zeros((len(panel), families + families * families + 2))
    lag = 1 + params.horizon
    scored = np.arange(0, len(panel) - lag, params.evidence_step)
    for first, after in panel.sector_spans():
        alike = scored[(scored >= first) & (scored < after)]
        for start in range(0, len(alike), BLOCK_SESSIONS):
            rows = alike[start : start + BLOCK_SESSIONS]
            result[rows + lag] = _evidence_of(panel, params, rows)
    return result


def _evidence_of(panel: MarketPanel, params: CombinationParams, rows: IntArray) -> FloatArray:
    z = standardised(panel, params, rows)
    outcome = _outcomes(panel, rows, params.horizon)
    both = np.isfinite(z) & np.isfinite(outcome)[:, None]
    many = both.sum(axis=-1, keepdims=True) >= MIN_NAMES
    unit = _unit(np.where(both & many, z, 0.0))
    judged = both.any(axis=1) & many.any(axis=1)
    count = judged.sum(axis=-1)
    centred = np.where(judged, outcome, 0.0)
    centred -= centred.sum(axis=-1, keepdims=True) / np.maximum(count, 1)[:, None]
    target = _unit(np.where(judged, centred, 0.0))
    coefficients = (unit * target[:, None]).sum(axis=-1)
    # Row by row rather than as a matrix product, whose rounding depends on the block's size.
    gram = [(unit * unit[:, [family]]).sum(axis=-1) for family in range(unit.shape[1])]
    counted = (count >= MIN_NAMES).astype(np.float64)
    noise = counted / np.maximum(count - 1, 1)
    return np.concatenate((coefficients, *gram, counted[:, None], noise[:, None]), axis=1)


def _outcomes(panel: MarketPanel, rows: IntArray, horizon: int) -> FloatArray:
    """Return total returns from the close after each row over `horizon`, tails pulled in, (R, N).

    In the layout's order.
    """
    index = panel.derived(total_return_index)
    returns = index[rows + 1 + horizon] / index[rows + 1] - 1.0
    low, high = tails(returns, np.isfinite(returns))
    winsorised = np.minimum(np.maximum(returns, low), high)
    return winsorised.take(layout_of(panel, int(rows[-1])).order, axis=-1)


def _unit(x: FloatArray) -> FloatArray:
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    unit: FloatArray = x / np.where(length > 0.0, length, 1.0)
    return unit


def _unpacked(
    facts: FloatArray, families: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return coefficients (T, F), correlations (T, F, F), presence (T,) and noise (T,)."""
    gram = facts[:, families:-2].reshape(-1, families, families)
    return facts[:, :families], gram, facts[:, -2], facts[:, -1]


def _posterior(
    coefficients: FloatArray,
    gram: FloatArray,
    noise: FloatArray,
    prior: FloatArray,
    refits: IntArray,
    params: CombinationParams,
) -> FloatArray:
    """Return the belief about each coefficient at each refit, (R, F)."""
    # Sums from the first session on: a later row cannot change an earlier one.
    total = np.cumsum(coefficients, axis=0)[refits]
    squares = np.cumsum(coefficients * coefficients, axis=0)[refits]
    grams = np.cumsum(gram, axis=0)[refits]
    counts = np.einsum("rff->rf", grams)
    scatter = (squares - total * total / np.maximum(counts, 1.0)).sum(axis=1)
    freedom = np.maximum(counts - 1.0, 0.0).sum(axis=1)
    sessions = np.cumsum(noise > 0.0)[refits]
    variance = np.maximum(
        scatter / np.maximum(freedom, 1.0), np.cumsum(noise)[refits] / np.maximum(sessions, 1)
    )
    worth = np.where(sessions > 0, variance / params.prior_error**2, 1.0)[:, None]
    independent = min(1.0, params.evidence_step / params.horizon)
    right = independent * total + worth * prior
    if params.combination != "ridge":
        believed: FloatArray = right / (independent * counts + worth)
        return believed
    left = independent * grams + worth[..., None] * np.eye(len(prior))
    return np.linalg.solve(left, right[..., None])[..., 0].astype(np.float64, copy=False)


def _shares(believed: FloatArray) -> FloatArray:
    total = believed.sum(axis=1, keepdims=True)
    shares: FloatArray = believed / np.where(total > 0.0, total, 1.0)
    return shares


def _own_coefficients(
    weights: FloatArray,
    coefficients: FloatArray,
    gram: FloatArray,
    count: FloatArray,
    params: CombinationParams,
) -> tuple[FloatArray, FloatArray]:
    """Return the combination's own coefficient on each row, and where it has one, (T,) each.

    With the weights in force on the session scored, which a later outcome cannot have touched.
    """
    used = np.zeros_like(weights)
    lag = 1 + params.horizon
    used[lag:] = weights[: max(len(weights) - lag, 0)]
    covariance = (used * coefficients).sum(axis=1)
    square = np.einsum("tf,tfg,tg->t", used, gram, used)
    present = np.where(square > 0.0, count, 0.0)
    return covariance * present / np.sqrt(np.where(square > 0.0, square, 1.0)), present
