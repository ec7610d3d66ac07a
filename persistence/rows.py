"""Records as table rows: one function per table, columns in the table's own order.

What a record says of every instrument becomes a `Block`, what it says once becomes a row. Numbers
that are not finite are unknown, and become NULL. Nothing here reads or writes a database.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np

from persistence.blocks import Block, Documents, JsonTexts, Row
from prometheus_nt.domain.books import (
    BookTarget,
    Exclusion,
    RiskReport,
    TargetPortfolio,
    Tier,
    Universe,
)
from prometheus_nt.domain.ledger import CashFlow
from prometheus_nt.domain.market import (
    FragilityClass,
    FragilityMeasures,
    InstrumentScores,
    RegimeLabel,
    RegimeState,
    SignalLabel,
    SoftTargetClass,
    StabilityVectors,
)
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.runs import OrderRefusal

LISTED_CONTRIBUTIONS = 10
"""Names whose part of the volatility is stored; the record has all of them."""

# Looking a name up in a mapping is ten times faster than making an enum member of its code.
FRAGILITY_NAMES = {member.value: member.name for member in FragilityClass}
CLASS_NAMES = {member.value: member.name for member in SoftTargetClass}
LABEL_NAMES = {member.value: member.name for member in SignalLabel}
WEAK = {1: True, 0: False, -1: None}
TIER_NAMES = {member.value: member.name for member in Tier}
EXCLUSION_REASONS = {
    member.value: json.dumps({"exclusion": member.name} if member.value else {})
    for member in Exclusion
}
STABILITY_COMPONENTS = (
    "vol_score",
    "dd_score",
    "trend_score",
    "liquidity_score",
    "downside_beta_score",
    "tail_score",
    "contagion_score",
    "sigma",
    "max_drawdown",
    "trend",
    "downside_beta",
    "expected_shortfall",
    "market_correlation",
    "illiquidity",
)


@dataclass(frozen=True)
class RunContext:
    """Whose rows these are."""

    run_id: str
    mode: str
    strategy_id: str
    sleeve_id: str
    portfolio_id: str
    market_id: str
    region: str
    config_hash: str | None = None
    began_at: datetime | None = None

    @property
    def head(self) -> tuple[str, str, str]:
        """The three columns that every row of an engine output begins with."""
        return (self.run_id, self.mode, self.strategy_id)

    def decision_id(self, as_of: date) -> str:
        return _decision_id(self.run_id, as_of)


# Every order, fill and trade of a session names one of few decisions.
@lru_cache(maxsize=256)
def _decision_id(run_id: str, as_of: date) -> str:
    return f"{run_id}:{as_of}"


def profile_rows(run: RunContext, record: Profiles, model_id: str) -> Block:
    """Return rows of `profiles`; features that are unknown of every instrument are left out."""
    features = {name: of for name, of in record.features.items() if np.isfinite(of).any()}
    rows = len(record.instruments)
    return Block.of(
        rows,
        *run.head,
        record.as_of,
        record.instruments,
        Documents(features, rows),
        Documents(record.risk_flags, rows),
        [WEAK[code] for code in record.weak_profile.tolist()],
        record.schema_id,
        record.snapshot_id,
        model_id,
    )


def stability_rows(run: RunContext, record: StabilityVectors, model_id: str) -> Block:
    """Return rows of `stability_vectors`, the change risk among the components."""
    components = {name: getattr(record, name) for name in STABILITY_COMPONENTS}
    components |= record.change_risk
    return Block.of(
        len(record.instruments),
        *run.head,
        "INSTRUMENT",
        record.as_of,
        record.instruments,
        Documents(components, len(record.instruments)),
        _known(record.overall_score),
        model_id,
    )


def soft_target_rows(
    run: RunContext, record: StabilityVectors, model_id: str, profiles: Profiles | None = None
) -> Block:
    """Return rows of `soft_target_classes`; without a profile nobody is known to be weak."""
    rows = len(record.instruments)
    weak = [-1] * rows if profiles is None else profiles.weak_profile.tolist()
    return Block.of(
        rows,
        *run.head,
        "INSTRUMENT",
        record.as_of,
        record.instruments,
        [CLASS_NAMES.get(code) for code in record.soft_target_class.tolist()],
        _known(record.overall_score),
        [WEAK[code] for code in weak],
        _known(record.instability),
        _known(record.high_fragility),
        _known(record.complacent_pricing),
        model_id,
    )


def score_rows(run: RunContext, record: InstrumentScores, model_id: str) -> Block:
    """Return rows of `instrument_scores`."""
    return Block.of(
        len(record.instruments),
        *run.head,
        run.market_id,
        record.as_of,
        record.instruments,
        record.horizon,
        _known(record.expected_return),
        _known(record.score),
        _known(record.confidence),
        [LABEL_NAMES[code] for code in record.signal_label.tolist()],
        Documents(record.alpha_components, len(record.instruments)),
        model_id,
    )


def universe_rows(run: RunContext, record: Universe, model_id: str) -> Block:
    """Return rows of `universe_members`: every candidate, with the reason if it is out."""
    return Block.of(
        len(record.instruments),
        *run.head,
        record.universe_id,
        record.as_of,
        "INSTRUMENT",
        record.instruments,
        [TIER_NAMES[code] for code in record.tier.tolist()],
        record.included.tolist(),
        _known(record.score),
        _universe_reasons(record),
        model_id,
    )


def _universe_reasons(record: Universe) -> JsonTexts:
    """Return why each instrument is out and, of natural selection, its stage and the cluster."""
    codes = record.exclusion.tolist()
    if record.clusters is None:
        return JsonTexts(EXCLUSION_REASONS[code] for code in codes)
    found = JsonTexts()
    for code, cluster in zip(codes, record.clusters.tolist(), strict=True):
        reasons = {
            "cluster": cluster if cluster >= 0 else None,
            "exclusion": Exclusion(code).name if code else None,
            "relaxation_stage": record.relaxation_stage,
        }
        found.append(json.dumps({name: why for name, why in reasons.items() if why is not None}))
    return found


def regime_row(run: RunContext, record: RegimeState, model_id: str) -> Row:
    """Return the row of `regimes`."""
    labels = [label.value for label in RegimeLabel]
    return (
        *run.head,
        record.region,
        record.as_of,
        record.label.value,
        record.confidence,
        dict(zip(labels, record.probabilities.tolist(), strict=True)),
        record.change_risk,
        record.features,
        model_id,
    )


def transition_row(run: RunContext, record: RegimeState, model_id: str) -> Row | None:
    """Return the row of `regime_transitions`, or None if the regime did not change."""
    if record.previous_label in (None, record.label):
        return None
    before = record.previous_label
    return (*run.head, record.region, record.as_of, before, record.label.value, model_id)


def fragility_rows(run: RunContext, record: FragilityMeasures, model_id: str) -> Block:
    """Return rows of `fragility_measures`."""
    rows = len(record.instruments)
    return Block.of(
        rows,
        *run.head,
        "INSTRUMENT",
        record.as_of,
        record.instruments,
        _known(record.fragility_score),
        [FRAGILITY_NAMES.get(code) for code in record.fragility_class.tolist()],
        _known(record.drawdown_probability),
        Documents(record.scenario_losses, rows),
        Documents(record.components, rows),
        model_id,
    )


def book_target_rows(run: RunContext, record: BookTarget, model_id: str) -> Block:
    """Return rows of `book_targets`: the names with a weight."""
    weights = _weights(record.instruments, record.weights)
    return Block.of(
        len(weights),
        *run.head,
        record.book_id,
        record.as_of,
        run.region,
        "INSTRUMENT",
        [*weights],
        [*weights.values()],
        model_id,
    )


def target_row(
    run: RunContext, record: TargetPortfolio, model_id: str, lineage: dict[str, Any]
) -> Row:
    """Return the row of `target_portfolios`."""
    positions = {"weights": _weights(record.instruments, record.weights)}
    made = {name: value for name, value in lineage.items() if name != "construction"}
    key = (*run.head, record.book_id, record.as_of)
    return (*key, positions, model_id, made, lineage.get("construction"), run.began_at)


def construction(record: BookTarget) -> dict[str, Any]:
    """Return how the weights of a book came about, as a document."""
    found = {"binding": list(record.binding), "expected_return": record.expected_return}
    evidence = record.evidence
    if evidence is None:
        return found
    return found | {
        "method": evidence.method,
        "as_of_solved": evidence.as_of_solved.isoformat(),
        "regime": None if evidence.regime is None else evidence.regime.value,
        "fallbacks": [[one.method, one.reason] for one in evidence.fallbacks],
        "relaxed": list(evidence.relaxed),
        "turnover": evidence.turnover,
        "expected_volatility": evidence.expected_volatility,
        "condition_number": evidence.condition_number,
        "antifragility": evidence.antifragility,
        "cvar_95": evidence.cvar_95,
    }


def risk_report_row(
    run: RunContext, record: TargetPortfolio, model_id: str, equity: float | None
) -> Row:
    """Return the row of `portfolio_risk_reports`: the risk of a book, at the book's size.

    The metrics say by `basis` whether it is the target's or that of what was held.
    """
    report = record.report
    return (
        *run.head,
        record.book_id,
        record.as_of,
        equity,
        None if equity is None else equity * report.cash_weight,
        report.net_exposure,
        report.gross_exposure,
        report.gross_exposure,
        _risk_metrics(report),
        {row.name: {"pnl": row.pnl, "covered": row.covered} for row in report.stress},
        report.exposures_by_sector,
        report.exposures_by_factor,
        model_id,
        run.decision_id(record.as_of),
        None,
        run.began_at,
    )


def risk_action_rows(run: RunContext, record: TargetPortfolio) -> Iterator[Row]:
    """Yield rows of `risk_actions`: interventions only."""
    for action in record.actions:
        key = f"{run.decision_id(record.as_of)}:{action.instrument_id}:{action.limit}"
        details = {
            "limit": action.limit,
            "limit_value": action.limit_value,
            "original_weight": _number(action.weight_before),
            "adjusted_weight": action.weight_after,
            "reason": f"{action.action_type}_{action.limit.upper()}",
        }
        yield (
            *run.head,
            key,
            record.as_of,
            action.instrument_id,
            run.decision_id(record.as_of),
            action.action_type.value,
            details,
        )


def refusal_row(run: RunContext, record: OrderRefusal) -> Row:
    """Return the row of `risk_actions` of a refused plan."""
    details = {"limit": record.limit, "reason": record.detail, "orders": record.orders}
    decision_id = run.decision_id(record.as_of)
    key = f"{decision_id}:plan:{record.limit}"
    return (*run.head, key, record.as_of, None, decision_id, record.action_type.value, details)


def cash_flow_row(run: RunContext, flow: CashFlow) -> Row:
    """Return the row of `cash_flows`."""
    return (
        *run.head,
        run.portfolio_id,
        flow.session,
        flow.kind.value,
        flow.instrument_id or "",
        flow.shares,
        flow.amount_micros / 1_000_000,
    )


def _risk_metrics(report: RiskReport) -> dict[str, Any]:
    return {
        "basis": report.basis,
        "num_names": report.names,
        "herfindahl": report.herfindahl,
        "largest_weight": report.largest_weight,
        "cash_weight": report.cash_weight,
        "expected_volatility": report.volatility,
        "var_95": report.var_95,
        "expected_shortfall_95": report.expected_shortfall_95,
        "beta": report.beta,
        "max_drawdown": report.max_drawdown,
        "top_ten_share": report.top_ten_share,
        "sessions_to_liquidate": report.sessions_to_liquidate,
        "gross_by_sector": report.gross_by_sector,
        "tails": [tail._asdict() for tail in report.tails],
        "component_risk": component_risk(report),
    }


def component_risk(report: RiskReport, most: int = LISTED_CONTRIBUTIONS) -> dict[str, float]:
    """Return the largest contributions to volatility, in the order of their size."""
    if report.contributions is None:
        return {}
    component = report.contributions.component
    largest = np.argsort(-np.abs(component), kind="stable")[:most]
    return {report.contributions.instruments[row]: float(component[row]) for row in largest}


def _weights(instruments: tuple[str, ...], weights: FloatArray) -> dict[str, float]:
    held = np.flatnonzero(weights)
    return {instruments[row]: float(weights[row]) for row in held}


def _known(values: FloatArray) -> FloatArray:
    """Return the numbers with NaN for what is not finite."""
    return np.where(np.isfinite(values), values, np.nan)


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
