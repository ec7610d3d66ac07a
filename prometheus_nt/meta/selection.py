"""Which of many trials deserve to go on, given how many were tried; the answer may be none.

1. `_pool` measures all together: different ideas, the hurdle of luck, overfitting, survivors;
2. `_figures` measures each record by itself and against the hurdle;
3. `_verdict` walks the ladder: rejected, unproven, candidate, strong;
4. `select` ranks by the declared objective and takes the first eligible of each idea.

Padding never helps. A copy, a near-copy or an idle trial adds no idea, no spread and no survivor, a
failed one is counted; blocks of the bootstrap depend on the length of the records alone. What is
selected here is no more than a candidate for paper trading: nothing is promoted without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt
from typing import Literal, TypeVar

import numpy as np
from pydantic import Field

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.meta.overfitting import Overfitting, overfitting_probability
from prometheus_nt.meta.sharpe import (
    Revision,
    SharpeMoments,
    deflated_sharpe_ratio,
    expected_maximum,
    minimum_backtest_years,
    minimum_track_record,
    probabilistic_sharpe_ratio,
    sharpe_hurdle,
    sharpe_moments,
)
from prometheus_nt.meta.superiority import stepwise_survivors, superior_predictive_ability
from prometheus_nt.meta.trials import DistinctTrials, distinct_trials

Objective = Literal["sharpe", "cumulative_return", "calmar"]
Found = TypeVar("Found")

ANNUAL = sqrt(SESSIONS_PER_YEAR)


class Verdict(StrEnum):
    """How far a record has come; only the last two can be selected."""

    REJECTED = "REJECTED"
    UNPROVEN = "UNPROVEN"
    CANDIDATE = "CANDIDATE"
    STRONG = "STRONG"


ELIGIBLE = (Verdict.CANDIDATE, Verdict.STRONG)


class SelectionRules(Params):
    """How trials are judged; fixed before they are run.

    Attributes
    ----------
    objective
        What ranks them, out of sample and after all costs.
    top_k
        Selected at most.
    against
        Every statistic is of the returns less nothing (`zero`), or less the benchmark's.
    confidence
        Of the least track record; one that is shorter is rejected.
    max_overfitting, min_deflated, strong_deflated
        What a candidate, and a strong one, has to keep; probabilities.
    unproven_overfitting
        Above this probability of overfitting nobody is proven.
    level
        Chance of one mistake among all survivors.
    paths, blocks
        Of the bootstrap, and of the test of overfitting.
    target_sharpe
        Annual; luck alone reaches it in records shorter than the least length that is reported.
    """

    objective: Objective = "sharpe"
    top_k: int = Field(3, ge=0)
    against: Literal["zero", "benchmark"] = "zero"
    confidence: float = Field(0.95, gt=0.5, lt=1)
    max_overfitting: float = Field(0.20, ge=0, le=1)
    unproven_overfitting: float = Field(0.50, ge=0, le=1)
    min_deflated: float = Field(0.90, gt=0, lt=1)
    strong_deflated: float = Field(0.95, gt=0, lt=1)
    level: float = Field(0.05, gt=0, lt=1)
    paths: int = Field(2000, ge=100)
    blocks: int = Field(16, ge=2, multiple_of=2)
    target_sharpe: float = Field(1.0, gt=0)
    revision: Revision = Revision.R2014
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Tried:
    """What the ledger knows of everything that was tried before and beside these records.

    Attributes
    ----------
    overlapping : int
        Trials of the families on data that overlap.
    ever : int
        Trials of the families on any data.
    failed : int
        Of this campaign, without a record.
    hurdle_floor : float
        Highest hurdle, per session, that was ever announced to the families on these data.
    """

    overlapping: int = 0
    ever: int = 0
    failed: int = 0
    hurdle_floor: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """One record, judged.

    Attributes
    ----------
    rank : int
        By the objective, 1 is best.
    idea : int
        Records with the same number are nearly the same; -1 never moved.
    figures : mapping
        None where a figure was not computed.
    not_computed : mapping of figures to why
    reasons : tuple of str
        Why the verdict is not a better one.
    """

    name: str
    rank: int
    idea: int
    verdict: Verdict
    selected: bool
    figures: Mapping[str, float | None]
    not_computed: Mapping[str, str]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """What became of all of them.

    Attributes
    ----------
    pool : mapping
        Figures of all records together; None where one was not computed.
    why_nobody : str or None
        Said if nobody is selected.
    """

    rules: SelectionRules
    ranked: tuple[Ranked, ...]
    pool: Mapping[str, float | None]
    not_computed: Mapping[str, str]
    why_nobody: str | None

    @property
    def selected(self) -> tuple[Ranked, ...]:
        return tuple(one for one in self.ranked if one.selected)

    @property
    def verdict(self) -> str:
        """One line about the whole."""
        if not self.selected:
            return f"None selected: {self.why_nobody}"
        return f"{len(self.selected)} selected of {len(self.ranked)}"


@dataclass(frozen=True, eq=False)
class _Pool:
    """All records together; None where something could not be computed."""

    trials: int
    distinct: DistinctTrials | None
    variance: float | None
    overfitting: Overfitting | None
    survives: IntArray | None
    figures: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)


def select(
    names: Sequence[str],
    returns: FloatArray,
    tried: Tried,
    rules: SelectionRules,
    vetoes: Mapping[str, str] | None = None,
) -> Selection:
    """Return the verdict on every record and who is selected, perhaps nobody.

    Parameters
    ----------
    names : sequence of N different names
    returns : (T, N) array
        Simple returns per session out of sample, after all costs, on the same sessions, in the
        order in which the trials were laid out.
    vetoes : mapping of names to a finding that rejects them

    Raises
    ------
    DataError
        If names and returns do not fit together.
    """
    if returns.ndim != 2 or returns.shape[1] != len(names) or len(set(names)) != len(names):
        raise DataError(f"{len(names)} names for returns of shape {returns.shape}; one each")
    pool = _pool(returns, tried, rules)
    judged = [
        _judged(at, name, returns[:, at], pool, rules, (vetoes or {}).get(name))
        for at, name in enumerate(names)
    ]
    ordered = sorted(judged, key=lambda one: _merit(one, rules.objective))
    ranked = _chosen(ordered, rules.top_k)
    return Selection(rules, ranked, pool.figures, pool.reasons, _why_nobody(ranked, rules, pool))


def best_first(names: Sequence[str], returns: FloatArray, objective: Objective) -> tuple[str, ...]:
    """Return the names in the order of their records, (T, N), by the objective: the best first."""
    found = {name: figures_of(returns[:, at]) for at, name in enumerate(names)}
    return tuple(sorted(names, key=lambda name: _key(found[name], objective, name)))


def figures_of(returns: FloatArray) -> dict[str, float | None]:
    """Return what a record of simple returns, (T,), amounts to by itself; None where unknown."""
    levels = np.cumprod(1.0 + returns)
    drawdown = float((levels / np.maximum(np.maximum.accumulate(levels), 1.0) - 1.0).min(initial=0))
    total = float(levels[-1]) - 1.0 if len(levels) else None
    try:
        sharpe = sharpe_moments(returns).sharpe * ANNUAL
    except DataError:
        sharpe = None
    return {
        "sharpe": sharpe,
        "cumulative_return": total,
        "max_drawdown": drawdown,
        "calmar": _calmar(total, drawdown, len(returns)),
    }


def _pool(returns: FloatArray, tried: Tried, rules: SelectionRules) -> _Pool:
    sessions, columns = returns.shape
    trials = max(tried.overlapping, columns + tried.failed, 1)
    reasons: dict[str, str] = {}
    noted = _Noting(reasons)
    distinct = noted("distinct", lambda: distinct_trials(returns))
    variance = None if distinct is None else _variance(distinct, trials, tried.hurdle_floor)
    moving = np.flatnonzero(np.ptp(returns, axis=0) > NEGLIGIBLE) if sessions else np.empty(0, int)
    overfitting = noted("overfitting", lambda: _overfitting(returns, distinct, rules))
    # Fixed by the length alone: a block chosen from the records could be moved by padding.
    options = {"block": max(1.0, sessions ** (1.0 / 3.0)), "paths": rules.paths, "seed": rules.seed}
    best = noted("spa_p", lambda: _fewer(returns, moving, superior_predictive_ability, options))
    names = noted(
        "survivors",
        lambda: _fewer(returns, moving, stepwise_survivors, {**options, "level": rules.level}),
    )
    hurdle = None if variance is None else sharpe_hurdle(variance, trials)
    if hurdle is None:
        reasons["hurdle"] = reasons["distinct"]
    figures: dict[str, float | None] = {
        "trials": trials,
        "trials_ever": max(tried.ever, trials),
        "failed": tried.failed,
        "records": columns,
        "moving": len(moving),
        "distinct": None if distinct is None else len(distinct.representatives),
        "effective": None if distinct is None else distinct.effective,
        "hurdle_per_session": hurdle,
        "hurdle": None if hurdle is None else hurdle * ANNUAL,
        "overfitting": None if overfitting is None else overfitting.probability,
        "loss_probability": None if overfitting is None else overfitting.loss_probability,
        "slope": None if overfitting is None else overfitting.slope,
        "spa_p": None if best is None else best.consistent,
        "survivors": None if names is None else float(names.sum()),
        "sessions": sessions,
        "years": sessions / SESSIONS_PER_YEAR,
        "min_backtest_years": minimum_backtest_years(trials, rules.target_sharpe),
        "block": options["block"],
    }
    survives = None if names is None else moving[names]
    return _Pool(trials, distinct, variance, overfitting, survives, figures, reasons)


def _variance(distinct: DistinctTrials, trials: int, floor: float) -> float:
    """Return the variance of the hurdle, raised until it keeps the highest one announced."""
    own = sharpe_hurdle(distinct.sharpe_variance, trials)
    # The slack keeps rounding from raising a hurdle that is announced again and again.
    if trials == 1 or floor <= own * (1.0 + 1e-9):
        return distinct.sharpe_variance
    return (floor / expected_maximum(trials)) ** 2


def _overfitting(
    returns: FloatArray, distinct: DistinctTrials | None, rules: SelectionRules
) -> Overfitting:
    if distinct is None:
        raise DataError("there are no different trials to compare")
    _require_fewer(len(distinct.representatives), len(returns))
    return overfitting_probability(returns[:, distinct.representatives], rules.blocks)


def _fewer(
    returns: FloatArray, moving: IntArray, test: Callable[..., Found], options: Mapping[str, float]
) -> Found:
    _require_fewer(len(moving), len(returns))
    return test(returns[:, moving], **options)


def _require_fewer(trials: int, sessions: int) -> None:
    if trials > sessions:
        raise DataError(f"{trials} trials on {sessions} sessions: more trials than observations")


class _Noting:
    """Computes what it can, and notes why it could not."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons

    def __call__(self, figure: str, of: Callable[[], Found]) -> Found | None:
        try:
            return of()
        except DataError as undefined:
            self.reasons[figure] = str(undefined)
            return None


def _judged(
    at: int, name: str, returns: FloatArray, pool: _Pool, rules: SelectionRules, veto: str | None
) -> Ranked:
    figures, missing = _figures(at, returns, pool, rules)
    verdict, reasons = _verdict(figures, missing, pool, rules, veto)
    return Ranked(
        name=name,
        rank=0,
        idea=-1 if pool.distinct is None else int(pool.distinct.group[at]),
        verdict=verdict,
        selected=False,
        figures=figures,
        not_computed=missing,
        reasons=reasons,
    )


def _figures(
    at: int, returns: FloatArray, pool: _Pool, rules: SelectionRules
) -> tuple[dict[str, float | None], dict[str, str]]:
    missing: dict[str, str] = {}
    noted = _Noting(missing)
    moments = noted("sharpe", lambda: sharpe_moments(returns))

    def of_moments(figure: str, of: Callable[[SharpeMoments], float]) -> float | None:
        if moments is None:
            missing[figure] = missing["sharpe"]
            return None
        return noted(figure, lambda: of(moments))

    variance, trials = pool.variance, pool.trials
    deflated = None
    if variance is None:
        missing["deflated"] = pool.reasons["distinct"]
    else:
        deflated = of_moments(
            "deflated", lambda own: deflated_sharpe_ratio(own, variance, trials, rules.revision)
        )
    survives = None if pool.survives is None else float(at in pool.survives)
    if survives is None:
        missing["survives"] = pool.reasons["survivors"]
    return {
        **figures_of(returns),
        "above_zero": of_moments(
            "above_zero", lambda own: probabilistic_sharpe_ratio(own, 0.0, rules.revision)
        ),
        "deflated": deflated,
        "sessions": float(len(returns)),
        "sessions_needed": of_moments(
            "sessions_needed", lambda own: minimum_track_record(own, confidence=rules.confidence)
        ),
        "survives": survives,
    }, missing


def _calmar(total: float | None, drawdown: float, sessions: int) -> float | None:
    if total is None or total <= -1.0 or drawdown == 0.0:
        return None
    growth = float((1.0 + total) ** (SESSIONS_PER_YEAR / sessions)) - 1.0
    return growth / -drawdown


def _verdict(
    figures: Mapping[str, float | None],
    missing: Mapping[str, str],
    pool: _Pool,
    rules: SelectionRules,
    veto: str | None,
) -> tuple[Verdict, tuple[str, ...]]:
    rejected = tuple(_rejections(figures, missing, veto))
    if rejected:
        return Verdict.REJECTED, rejected
    unproven = tuple(_doubts(figures, missing, pool, rules))
    if unproven:
        return Verdict.UNPROVEN, unproven
    deflated = figures["deflated"] or 0.0
    return (Verdict.STRONG if deflated >= rules.strong_deflated else Verdict.CANDIDATE), ()


def _rejections(
    figures: Mapping[str, float | None], missing: Mapping[str, str], veto: str | None
) -> list[str]:
    found = [] if veto is None else [veto]
    needed, sessions = figures["sessions_needed"], figures["sessions"] or 0.0
    if needed is None:
        found.append(f"least track record not computed, because {missing['sessions_needed']}")
    elif sessions < needed:
        found.append(f"{sessions:,.0f} sessions, {needed:,.0f} are needed to tell it from nothing")
    return found


def _doubts(
    figures: Mapping[str, float | None],
    missing: Mapping[str, str],
    pool: _Pool,
    rules: SelectionRules,
) -> list[str]:
    found = []
    if figures["survives"] is None:
        found.append(f"survivors not computed, because {missing['survives']}")
    elif not figures["survives"]:
        found.append("not among the survivors of the stepwise test")
    if pool.overfitting is None:
        found.append(f"overfitting not computed, because {pool.reasons['overfitting']}")
    elif pool.overfitting.probability > rules.unproven_overfitting:
        found.append(
            f"the best are overfitted: probability {pool.overfitting.probability:.0%}, above "
            f"{rules.unproven_overfitting:.0%}"
        )
    elif pool.overfitting.probability > rules.max_overfitting:
        found.append(
            f"probability of overfitting {pool.overfitting.probability:.0%}, above "
            f"{rules.max_overfitting:.0%}"
        )
    deflated = figures["deflated"]
    if deflated is None:
        found.append(f"deflated ratio not computed, because {missing['deflated']}")
    elif deflated < rules.min_deflated:
        found.append(
            f"deflated ratio {deflated:.1%}, below {rules.min_deflated:.0%}: luck in "
            f"{pool.trials:,} trials explains it"
        )
    return found


def _merit(one: Ranked, objective: Objective) -> tuple[float, float, float, str]:
    """Return what sorts the best first; of equals the one that fell less, then the name."""
    return _key(one.figures, objective, one.name)


def _key(
    figures: Mapping[str, float | None], objective: Objective, name: str
) -> tuple[float, float, float, str]:
    keys = (objective, "cumulative_return", "max_drawdown")
    known = [figure if figure is not None else -np.inf for figure in map(figures.get, keys)]
    return (-known[0], -known[1], -known[2], name)


def _chosen(ordered: Sequence[Ranked], top_k: int) -> tuple[Ranked, ...]:
    """Return the records with their ranks; the first eligible of each idea is selected."""
    ideas: set[int] = set()
    ranked = []
    for number, one in enumerate(ordered, 1):
        fresh = one.idea not in ideas and len(ideas) < top_k
        selected = fresh and one.verdict in ELIGIBLE
        if selected:
            ideas.add(one.idea)
        ranked.append(Ranked(**{**one.__dict__, "rank": number, "selected": selected}))
    return tuple(ranked)


def _why_nobody(ranked: Sequence[Ranked], rules: SelectionRules, pool: _Pool) -> str | None:
    if any(one.selected for one in ranked):
        return None
    if not ranked:
        return "there is no record to judge"
    if rules.top_k == 0:
        return "none was asked for"
    best = ranked[0]
    hurdle = pool.figures["hurdle"]
    told = "" if hurdle is None else f"; luck alone is expected to reach a ratio of {hurdle:.2f}"
    return f"the first, {best.name}, is {best.verdict.lower()}: {'; '.join(best.reasons)}{told}"
