"""What stands against believing a run: found in what it did, with the evidence and a remedy.

1. `Evidence` is what a run left behind, as arrays;
2. `run_findings` asks every question of `CHECKS`; a question that cannot be answered is a finding
   itself (INFO), and one without a finding was answered well;
3. `neighbour_findings` looks at runs that differ in one setting: is the best on an edge, or a peak?

A VETO keeps a run from being selected, a WARN is for a person to read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from pydantic import Field

from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params, SessionArray
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE, SESSIONS_PER_YEAR
from prometheus_nt.meta.diagnostics import IDENTITIES
from prometheus_nt.meta.findings import RunFinding, Severity

MOST_EVIDENCE = 5
"""Rows that one finding shows."""


class FindingRules(Params):
    """From where on something stands against a run.

    Most are conventions of this house, chosen so that what they say can be said in a sentence;
    where a number has a source it is named.

    Attributes
    ----------
    warn_participation, veto_participation
        95th percentile of the share that a fill has of the day's volume. The square-root law of
        impact that is charged was measured on orders of some percent of a day's volume; a tenth is
        where an order moves the price it is filled at.
    warn_cost_share, veto_cost_share
        Costs as a share of the profit before them: from a half on, costs twice as high as assumed
        leave nothing.
    warn_name_share, veto_name_share
        Profit of the best instrument as a share of all: at 1, nothing is left without it.
    best_sessions, veto_session_share
        A profit that is gone without so many best sessions, or that one session made.
    warn_fills, veto_fills
        Below 30 observations no statistic is computed here.
    veto_regime_sessions
        Share of sessions below which one regime may not have made the whole profit.
    warn_stale, veto_stale, stale_sessions
        Share of held positions marked at an old close; sessions in a row of one of them.
    implausible_sharpe
        Annual: ratios of this size, after costs and over a year or more, are errors first.
    min_ended_annual, ended_names
        Share of instruments a year whose history ends: about one in twenty listed companies goes
        each year, so a universe of some size of which none does was chosen in hindsight.
    peak
        Share of the best ratio below which both neighbours lie: a peak is luck.
    veto
        Codes whose warnings are vetoes.
    """

    warn_participation: float = Field(0.05, gt=0, le=1)
    veto_participation: float = Field(0.10, gt=0, le=1)
    warn_cost_share: float = Field(0.30, gt=0)
    veto_cost_share: float = Field(0.50, gt=0)
    warn_name_share: float = Field(0.50, gt=0)
    veto_name_share: float = Field(1.00, gt=0)
    best_sessions: int = Field(5, ge=1)
    veto_session_share: float = Field(0.50, gt=0)
    warn_fills: int = Field(100, ge=1)
    veto_fills: int = Field(30, ge=1)
    veto_regime_sessions: float = Field(0.20, gt=0, le=1)
    warn_stale: float = Field(0.01, ge=0, le=1)
    veto_stale: float = Field(0.05, ge=0, le=1)
    stale_sessions: int = Field(10, ge=1)
    implausible_sharpe: float = Field(4.0, gt=0)
    min_ended_annual: float = Field(0.005, ge=0, lt=1)
    ended_names: int = Field(30, ge=1)
    peak: float = Field(0.5, gt=0, lt=1)
    veto: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What a run of T sessions, N instruments and F fills left behind; money in USD.

    Attributes
    ----------
    returns : (T,) simple returns per session, after all costs
    profit : equity at the end less the starting capital
    costs : mapping of kind to what it cost in all
    profits : mapping of instrument to what it earned: trades, dividends, delisting; and its mark
    filled_on, decided_on : (F,) datetime64[D]; NaT where the decision is unknown
    fill_names : (F,) names
    participation : (F,) share of the day's volume; NaN where volume is unknown
    impact_charged : whether fills paid for their size
    held, barless : (T, N) whether a position was held at the close, and had no bar on the day
    regimes : (T,) labels known before each session, None where unknown; or None
    survivorship : what the dataset says of its dead
    listed, ended : instruments of the universe, and those whose history ends before its last month
    years : length of the run
    """

    sessions: SessionArray
    returns: FloatArray
    profit: float
    costs: Mapping[str, float]
    profits: Mapping[str, float]
    filled_on: SessionArray
    decided_on: SessionArray
    fill_names: npt.NDArray[np.object_]
    participation: FloatArray
    impact_charged: bool
    instruments: tuple[str, ...]
    held: BoolArray
    barless: BoolArray
    regimes: npt.NDArray[np.object_] | None
    survivorship: str
    listed: int
    ended: int

    @property
    def years(self) -> float:
        return len(self.sessions) / SESSIONS_PER_YEAR


@dataclass(frozen=True)
class Neighbour:
    """A finished run of the same sessions and data: its settings by dotted name, and its ratio."""

    run_id: str
    settings: Mapping[str, Any]
    sharpe: float | None


OF_NEIGHBOURS = ("EDGE_PARAMETER", "PARAMETER_PEAK")

CODES = (
    *("LOOK_AHEAD", "IMPLAUSIBLE", "CAPACITY", "NO_GROSS_PROFIT", "COST_SHARE"),
    *("PNL_CONCENTRATION", "BEST_SESSIONS", "FEW_TRADES", "REGIME_DEPENDENCE", "STALE_DATA"),
    *("SURVIVORSHIP", *OF_NEIGHBOURS),
)
"""Of all that can be found."""
"""Codes that the runs beside a run decide: they change as more is tried."""

Check = Callable[[Evidence, FindingRules], RunFinding | None]


def run_findings(found: Evidence, rules: FindingRules | None = None) -> tuple[RunFinding, ...]:
    """Return what stands against a run, the gravest first."""
    rules = rules or FindingRules()
    made = [check(found, rules) for check in CHECKS]
    return ordered([one for one in made if one is not None], rules)


def neighbour_findings(
    own: Neighbour, others: Sequence[Neighbour], rules: FindingRules | None = None
) -> tuple[RunFinding, ...]:
    """Return what the runs that differ in one number say of a run that is the best of them.

    A setting counts from three values on: with two, both are an edge.
    """
    rules = rules or FindingRules()
    edges, peaks = [], []
    for key, axis in _axes(own, others).items():
        values = sorted(axis)
        at = values.index(own.settings[key])
        best = max(axis.values())
        if len(values) < 3 or axis[values[at]] < best:
            continue
        row = {"key": key, "values": values, "sharpes": [axis[value] for value in values]}
        if at in (0, len(values) - 1):
            edges.append({**row, "best": values[at]})
        elif best > 0.0 and max(axis[values[at - 1]], axis[values[at + 1]]) < rules.peak * best:
            peaks.append({**row, "best": values[at]})
    made = []
    if edges:
        made.append(
            RunFinding(
                "EDGE_PARAMETER",
                Severity.WARN,
                f"the best value of {_names(edges)} is the last that was tried",
                tuple(edges),
                "try values beyond it: the best may lie further out, or there may be none",
            )
        )
    if peaks:
        made.append(
            RunFinding(
                "PARAMETER_PEAK",
                Severity.WARN,
                f"both neighbours of {_names(peaks)} earn less than {rules.peak:.0%} of its ratio",
                tuple(peaks),
                "choose from a plateau: a setting that works by itself alone was fitted to luck",
            )
        )
    return ordered(made, rules)


def ordered(found: Sequence[RunFinding], rules: FindingRules) -> tuple[RunFinding, ...]:
    """Return findings the gravest first; warnings of the codes in `rules.veto` are vetoes."""
    raised = [
        replace(one, severity=Severity.VETO)
        if one.severity is Severity.WARN and one.code in rules.veto
        else one
        for one in found
    ]
    return tuple(sorted(raised, key=lambda one: (-one.severity.rank, one.code)))


def vetoes_of(found: Sequence[RunFinding]) -> tuple[RunFinding, ...]:
    """Return the findings that keep a run from being selected."""
    return tuple(one for one in found if one.severity is Severity.VETO)


def _look_ahead(found: Evidence, _rules: FindingRules) -> RunFinding | None:
    early = np.flatnonzero(found.filled_on <= found.decided_on)
    if not len(early):
        return None
    rows = [
        {
            "instrument_id": found.fill_names[at],
            "decided_on": str(found.decided_on[at]),
            "filled_on": str(found.filled_on[at]),
        }
        for at in early[:MOST_EVIDENCE].tolist()
    ]
    return RunFinding(
        "LOOK_AHEAD",
        Severity.VETO,
        f"{len(early)} fills happened by the close that they were decided on",
        tuple(rows),
        "decide after a close, trade at a later one; `prometheus check lookahead` finds the leak",
    )


def _implausible(found: Evidence, rules: FindingRules) -> RunFinding | None:
    known = found.returns[np.isfinite(found.returns)]
    if len(known) < SESSIONS_PER_YEAR or not known.std(ddof=1) > NEGLIGIBLE:
        return None
    sharpe = float(known.mean() / known.std(ddof=1)) * sqrt(SESSIONS_PER_YEAR)
    if sharpe < rules.implausible_sharpe:
        return None
    return RunFinding(
        "IMPLAUSIBLE",
        Severity.WARN,
        f"a Sharpe ratio of {sharpe:.1f} over {found.years:.1f} years is too good to be true",
        ({"sharpe": sharpe, "sessions": len(known)},),
        "look for data of the future first: `prometheus check lookahead`, then prices and costs",
    )


def _capacity(found: Evidence, rules: FindingRules) -> RunFinding | None:
    known = np.flatnonzero(np.isfinite(found.participation))
    if not len(found.participation):
        return None
    if not len(known):
        return _unanswered("CAPACITY", "the volume of no fill's session is known")
    share = float(np.quantile(found.participation[known], 0.95))
    if share <= rules.warn_participation:
        return None
    largest = known[np.argsort(-found.participation[known], kind="stable")][:MOST_EVIDENCE]
    rows = [
        {
            "instrument_id": found.fill_names[at],
            "session": str(found.filled_on[at]),
            "share_of_volume": float(found.participation[at]),
        }
        for at in largest.tolist()
    ]
    unpaid = "" if found.impact_charged else ", and no market impact was charged"
    return RunFinding(
        "CAPACITY",
        _grade(share, rules.veto_participation),
        f"one fill in twenty takes more than {share:.1%} of the day's volume{unpaid}",
        tuple(rows),
        f"trade about {rules.warn_participation / share:.0%} of this capital, set "
        "execution.planner.max_participation, or leave thin names out",
    )


def _cost_share(found: Evidence, rules: FindingRules) -> RunFinding | None:
    costs = sum(found.costs.values())
    gross = found.profit + costs
    rows = tuple({"kind": kind, "usd": cost} for kind, cost in found.costs.items())
    remedy = "trade less often or less of it: a wider no_trade_band, a longer horizon, fewer names"
    if gross <= 0.0:
        message = f"before costs of {costs:,.0f} USD there was no profit"
        return RunFinding("NO_GROSS_PROFIT", Severity.WARN, message, rows, "it has no edge to keep")
    share = costs / gross
    if share <= rules.warn_cost_share:
        return None
    severity = _grade(share, rules.veto_cost_share, reached=True)
    message = f"costs take {share:.0%} of the profit before them"
    return RunFinding("COST_SHARE", severity, message, rows, remedy)


def _concentration(found: Evidence, rules: FindingRules) -> RunFinding | None:
    total = sum(found.profits.values())
    if len(found.profits) < 3 or total <= 0.0:
        return None
    ranked = sorted(found.profits.items(), key=lambda item: (-item[1], item[0]))
    share = ranked[0][1] / total
    if share <= rules.warn_name_share:
        return None
    rows = tuple({"instrument_id": name, "usd": usd} for name, usd in ranked[:MOST_EVIDENCE])
    return RunFinding(
        "PNL_CONCENTRATION",
        _grade(share, rules.veto_name_share, reached=True),
        f"{ranked[0][0]} earned {share:.0%} of the profit of {len(ranked)} instruments",
        rows,
        f"run it again with {ranked[0][0]} in engines.universe.exclude: what is left is the edge",
    )


def _best_sessions(found: Evidence, rules: FindingRules) -> RunFinding | None:
    logs = np.log1p(np.where(found.returns > -1.0, found.returns, np.nan))
    total = float(logs.sum()) if len(logs) > rules.best_sessions else np.nan
    if not total > 0.0:
        return None
    best = np.argsort(-logs, kind="stable")[: rules.best_sessions]
    one, all_ = float(logs[best[0]]) / total, float(logs[best].sum()) / total
    if all_ < 1.0 and one < rules.veto_session_share:
        return None
    rows = [
        {"session": str(found.sessions[at]), "return": float(found.returns[at])}
        for at in best.tolist()
    ]
    return RunFinding(
        "BEST_SESSIONS",
        _grade(one, rules.veto_session_share, reached=True),
        f"the best session made {one:.0%} of the growth, the best {len(best)} made {all_:.0%}",
        tuple(rows),
        "check the prices of those sessions; if they are right, the record is too short to judge",
    )


def _few_trades(found: Evidence, rules: FindingRules) -> RunFinding | None:
    fills, days = len(found.filled_on), len(np.unique(found.filled_on))
    if fills >= rules.warn_fills:
        return None
    return RunFinding(
        "FEW_TRADES",
        Severity.VETO if fills < rules.veto_fills else Severity.WARN,
        f"{fills} fills on {days} sessions; {rules.warn_fills} are wanted to tell skill from luck",
        ({"fills": fills, "sessions_with_fills": days, "sessions": len(found.sessions)},),
        "run it over more sessions, or over more instruments",
    )


def _regime_dependence(found: Evidence, rules: FindingRules) -> RunFinding | None:
    if found.regimes is None:
        return _unanswered("REGIME_DEPENDENCE", "the run recorded no regime")
    logs = np.log1p(np.where(found.returns > -1.0, found.returns, np.nan))
    labels = sorted({label for label in found.regimes.tolist() if label})
    earned = {label: float(logs[found.regimes == label].sum()) for label in labels}
    total = sum(earned.values())
    if len(labels) < 2 or not total > 0.0:
        return None
    best = max(labels, key=lambda label: (earned[label], label))
    if total - earned[best] > 0.0:
        return None
    shares = {label: float((found.regimes == label).mean()) for label in labels}
    rows = tuple(
        {"regime": label, "growth": earned[label], "share_of_sessions": shares[label]}
        for label in labels
    )
    rare = shares[best] < rules.veto_regime_sessions
    return RunFinding(
        "REGIME_DEPENDENCE",
        Severity.VETO if rare else Severity.WARN,
        f"outside {best}, {shares[best]:.0%} of the sessions, it earned nothing",
        rows,
        "judge it on years with every regime, or trade it only where its reason to work holds",
    )


def _stale_data(found: Evidence, rules: FindingRules) -> RunFinding | None:
    stale = found.held & found.barless
    marks, old = int(found.held.sum()), int(stale.sum())
    if not old:
        return None
    longest = _longest(stale)
    at = int(longest.argmax())
    share = old / marks
    if share <= rules.warn_stale and longest[at] < rules.stale_sessions:
        return None
    by_name = np.argsort(-stale.sum(axis=0), kind="stable")[:MOST_EVIDENCE]
    rows = [
        {
            "instrument_id": found.instruments[column],
            "old_marks": int(stale[:, column].sum()),
            "longest": int(longest[column]),
            "first": str(found.sessions[int(stale[:, column].argmax())]),
        }
        for column in by_name.tolist()
        if stale[:, column].any()
    ]
    return RunFinding(
        "STALE_DATA",
        _grade(share, rules.veto_stale),
        f"{share:.1%} of what was held was valued at an old close, {found.instruments[at]} for "
        f"{longest[at]} sessions in a row",
        tuple(rows),
        "`prometheus data check` lists the gaps; ingest them, or leave those names out",
    )


def _survivorship(found: Evidence, rules: FindingRules) -> RunFinding | None:
    said = found.survivorship.lower()
    declared = said.startswith("survivorship-biased")
    rate = found.ended / max(found.listed, 1) / max(found.years, 1.0)
    hindsight = found.listed >= rules.ended_names and rate < rules.min_ended_annual
    if not declared and not (hindsight and found.years >= 1.0):
        return None
    row = {"listed": found.listed, "ended": found.ended, "years": found.years}
    why = found.survivorship if declared else f"of {found.listed} instruments {found.ended} ended"
    return RunFinding(
        "SURVIVORSHIP",
        Severity.WARN,
        f"the dead are missing: {why}"[:500],
        (row,),
        "use a dataset that keeps delisted names, with the members of its day (data.index)",
    )


CHECKS: tuple[Check, ...] = (
    _look_ahead,
    _implausible,
    _capacity,
    _cost_share,
    _concentration,
    _best_sessions,
    _few_trades,
    _regime_dependence,
    _stale_data,
    _survivorship,
)
"""Every question that is asked of a run."""


def _grade(value: float, veto: float, *, reached: bool = False) -> Severity:
    beyond = value >= veto if reached else value > veto
    return Severity.VETO if beyond else Severity.WARN


def _unanswered(code: str, why: str) -> RunFinding:
    return RunFinding(code, Severity.INFO, f"not computed, because {why}", (), "")


def _longest(stale: BoolArray) -> IntArray:
    """Return the most sessions in a row that each column is true, (N,)."""
    counted = np.cumsum(stale, axis=0)
    before = np.maximum.accumulate(np.where(stale, 0, counted), axis=0)
    longest: IntArray = (counted - before).max(axis=0)
    return longest


def _axes(own: Neighbour, others: Sequence[Neighbour]) -> dict[str, dict[float, float]]:
    """Return, by numeric setting, the ratio at each value of the runs that differ in it alone."""
    if own.sharpe is None:
        return {}
    axes: dict[str, dict[float, float]] = {}
    for other in others:
        key = _only_difference(own.settings, other.settings)
        if key is None or other.sharpe is None:
            continue
        here, there = own.settings.get(key), other.settings.get(key)
        if _is_number(here) and _is_number(there):
            axes.setdefault(key, {here: own.sharpe})[there] = other.sharpe
    return axes


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _only_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    absent = object()
    names = (one.keys() | other.keys()) - IDENTITIES
    different = [name for name in names if one.get(name, absent) != other.get(name, absent)]
    return different[0] if len(different) == 1 else None


def _names(rows: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{row['key']} = {row['best']}" for row in rows)
