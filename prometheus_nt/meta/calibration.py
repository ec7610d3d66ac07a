"""How often the rules of selection are wrong, counted on made-up campaigns whose truth is known.

1. `noise` makes the returns of trials that have no edge: plain, heavy-tailed, related, persistent;
2. `judge_noise` counts campaigns of noise in which somebody survives, or is selected;
3. `judge_edge` plants one real edge in each and counts how often it is found;
4. `judge_padding` repeats and dilutes campaigns, and counts the verdicts that became better.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import Field

from prometheus_nt.domain.record import FloatArray, Params
from prometheus_nt.meta.selection import Ranked, Selection, SelectionRules, Tried, Verdict, select

LADDER = tuple(Verdict)

TAIL_FREEDOM = 4
"""Degrees of freedom of heavy-tailed returns: about those of daily returns of shares."""

SHARED = 0.5
"""Correlation of related trials: variants of one idea on the same market."""

PERSISTENCE = 0.1
"""Autocorrelation of persistent returns: stale prices and slow trades leave about as much."""

NEAR = 0.05
"""Volatility of what tells a near-copy from its model, as a share of the model's."""


class Noise(StrEnum):
    """What the returns of trials without an edge look like."""

    PLAIN = "PLAIN"
    HEAVY = "HEAVY"
    RELATED = "RELATED"
    PERSISTENT = "PERSISTENT"


class CampaignShape(Params):
    """A made-up campaign; `volatility` per session."""

    trials: int = Field(50, ge=2)
    sessions: int = Field(1000, ge=30)
    volatility: float = Field(0.01, gt=0)
    noise: Noise = Noise.PLAIN


@dataclass(frozen=True)
class NoiseJudged:
    """Campaigns in which nobody had an edge, and in how many luck passed a test all the same.

    Attributes
    ----------
    selecting, surviving, deflating : int
        Campaigns with a selected trial, a survivor of the stepwise test, and a deflated ratio that
        is called strong.
    """

    campaigns: int
    selecting: int
    surviving: int
    deflating: int


@dataclass(frozen=True)
class EdgeJudged:
    """Campaigns with one real edge: how often it survived, was selected, and others with it."""

    campaigns: int
    surviving: int
    selecting: int
    mistaken: int


@dataclass(frozen=True)
class PaddingJudged:
    """Verdicts compared before and after padding; `improved` of them became better."""

    verdicts: int
    improved: int
    lowered_hurdles: int


def noise(shape: CampaignShape, seed: int) -> FloatArray:
    """Return simple returns of trials whose true mean is zero, (sessions, trials)."""
    rng = np.random.default_rng([seed, list(Noise).index(shape.noise)])
    size = (shape.sessions, shape.trials)
    match shape.noise:
        case Noise.HEAVY:
            scale = np.sqrt((TAIL_FREEDOM - 2) / TAIL_FREEDOM)
            made = rng.standard_t(TAIL_FREEDOM, size) * scale
        case Noise.RELATED:
            common = rng.standard_normal((shape.sessions, 1))
            made = np.sqrt(SHARED) * common + np.sqrt(1.0 - SHARED) * rng.standard_normal(size)
        case Noise.PERSISTENT:
            made = _persistent(rng.standard_normal(size))
        case _:
            made = rng.standard_normal(size)
    returns: FloatArray = shape.volatility * made
    return returns


def judge_noise(
    shape: CampaignShape, rules: SelectionRules, campaigns: int, seed: int = 0
) -> NoiseJudged:
    """Return in how many of the campaigns luck alone passed; the bootstraps differ as well."""
    judged = [_judged(noise(shape, seed + at), rules, seed + at) for at in range(campaigns)]
    return NoiseJudged(
        campaigns=campaigns,
        selecting=sum(bool(one.selected) for one in judged),
        surviving=sum(bool(one.pool["survivors"]) for one in judged),
        deflating=sum(
            any((each.figures["deflated"] or 0.0) >= rules.strong_deflated for each in one.ranked)
            for one in judged
        ),
    )


def judge_edge(
    shape: CampaignShape, rules: SelectionRules, edge_bps: float, campaigns: int, seed: int = 0
) -> EdgeJudged:
    """Return how often the one trial that earns `edge_bps` more a session than nothing is found."""
    surviving, selecting, mistaken = 0, 0, 0
    for at in range(campaigns):
        returns, planted = _planted(shape, edge_bps, seed + at)
        judged = _judged(returns, rules, seed + at)
        real = _named(judged)[_name(planted)]
        surviving += bool(real.figures["survives"])
        selecting += real.selected
        mistaken += any(each.figures["survives"] and each is not real for each in judged.ranked)
    return EdgeJudged(campaigns, surviving, selecting, mistaken)


def judge_padding(
    shape: CampaignShape, rules: SelectionRules, edge_bps: float, campaigns: int, seed: int = 0
) -> PaddingJudged:
    """Return how many verdicts improve when trials are repeated, nearly repeated, idle or fail.

    The real edge and the luckiest trial are repeated in every campaign, others at random.
    """
    verdicts, improved, lowered = 0, 0, 0
    for at in range(campaigns):
        returns, planted = _planted(shape, edge_bps, seed + at)
        rng = np.random.default_rng([seed + at, len(Noise)])
        padded, failed = _padded(returns, planted, rng)
        before = _judged(returns, rules, seed + at)
        after = _judged(padded, rules, seed + at, failed)
        found = _named(after)
        raised = [_rung(found[one.name]) - _rung(one) for one in before.ranked]
        verdicts += len(raised)
        improved += sum(rise > 0 for rise in raised)
        lowered += (after.pool["hurdle"] or 0.0) < (before.pool["hurdle"] or 0.0) * (1.0 - 1e-9)
    return PaddingJudged(verdicts, improved, lowered)


def _judged(returns: FloatArray, rules: SelectionRules, seed: int, failed: int = 0) -> Selection:
    names = [_name(column) for column in range(returns.shape[1])]
    tried = Tried(overlapping=len(names) + failed, failed=failed)
    return select(names, returns, tried, rules.model_copy(update={"seed": seed}))


def _planted(shape: CampaignShape, edge_bps: float, seed: int) -> tuple[FloatArray, int]:
    returns, planted = noise(shape, seed), seed % shape.trials
    returns[:, planted] += edge_bps / 1e4
    return returns, planted


def _padded(returns: FloatArray, planted: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
    """Return the campaign with copies, near-copies and idle trials behind it, and how many fail."""
    sessions, trials = returns.shape
    luckiest = int((returns.mean(axis=0) / returns.std(axis=0)).argmax())
    copied = np.r_[planted, luckiest, rng.integers(0, trials, rng.integers(0, trials // 2 + 1))]
    near = np.r_[planted, luckiest, rng.integers(0, trials, rng.integers(0, trials // 2 + 1))]
    apart = NEAR * returns[:, near].std(axis=0) * rng.standard_normal((sessions, len(near)))
    idle = np.zeros((sessions, int(rng.integers(0, trials))))
    return np.c_[returns, returns[:, copied], returns[:, near] + apart, idle], int(rng.integers(40))


def _persistent(shocks: FloatArray) -> FloatArray:
    made = shocks.copy()
    scale = np.sqrt(1.0 - PERSISTENCE**2)
    for row in range(1, len(made)):
        made[row] = PERSISTENCE * made[row - 1] + scale * shocks[row]
    return made


def _name(column: int) -> str:
    return f"TRIAL_{column:04d}"


def _named(judged: Selection) -> dict[str, Ranked]:
    return {one.name: one for one in judged.ranked}


def _rung(one: Ranked) -> int:
    return LADDER.index(one.verdict)
