"""Propose a change of a strategy's settings, try it, decide on it, apply it, and see what came.

1. `propose` validates the change against the node, refuses duplicates, runs the node with and
   without it over the same sessions, and writes it down with what the runs found;
2. `approve`, `reject`, `apply` and `revert` move it; only the last two change what runs read;
3. `evaluate` runs the node with and without it over sessions that came after it was applied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from persistence.proposals import Active, Draft, Proposal, ProposalStore
from prometheus_nt.config import NodeConfig, load_config, require_resolvable
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, ProposalRefused
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.jobs.diagnostics import arm_of, diagnose_strategy
from prometheus_nt.jobs.findings import findings_of
from prometheus_nt.jobs.ingest import Progress
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.diagnostics import Arm, DiagnosisRules, Pair, Tested, tested
from prometheus_nt.meta.proposals import (
    flattened,
    is_proposable,
    require_proposable,
    setting_of,
    with_setting,
)
from prometheus_nt.meta.run_findings import vetoes_of
from prometheus_nt.reporting.performance import annualised_sharpe, annualised_volatility
from prometheus_nt.yaml_models import assignment_of, deep_merge, nested, validated
from strategies.catalog import family

if TYPE_CHECKING:
    from prometheus_nt.jobs.backtest import RunSummary

LISTED = (
    *("proposal_id", "strategy_id", "status", "key", "current", "proposed"),
    *("verdict", "improvement", "confidence", "created_at", "rationale"),
)


@dataclass(frozen=True)
class Request:
    """What is proposed, on which node.

    Attributes
    ----------
    paths : YAML files of the node
    assignments : `key=value` that the node is tried with, such as its sessions
    change : `key=value`; None asks the diagnosis for the best change that survives
    why : None only with the diagnosis, which says it itself
    """

    paths: Sequence[Path]
    by: str
    assignments: Sequence[str] = ()
    change: str | None = None
    why: str | None = None


@dataclass(frozen=True)
class Compared:
    """A node with and without a change, over the same sessions.

    Attributes
    ----------
    test : of the whole node: the mean of its sleeves' returns, weighted by their capital
    sleeves : of each sleeve, its two runs and what was tested
    before, after : Sharpe ratio, return and volatility of the node, annual; None where undefined
    """

    test: Tested
    sleeves: tuple[dict[str, Any], ...]
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    window: tuple[date, date]

    @property
    def verdict(self) -> str:
        """Whether the change is BETTER, WORSE, UNCLEAR, or NOT_COMPUTED."""
        p_value, mean = self.test.p_value, self.test.mean_annual
        if p_value is None or mean is None:
            return "NOT_COMPUTED"
        if p_value > DiagnosisRules().level:
            return "UNCLEAR"
        return "BETTER" if mean > 0.0 else "WORSE"

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return {
            "verdict": self.verdict,
            "why": self.test.why,
            "start": f"{self.window[0]}",
            "end": f"{self.window[1]}",
            "sessions": self.test.sessions,
            "mean_annual": self.test.mean_annual,
            "interval": _interval(self.test),
            "p_value": self.test.p_value,
            "before": dict(self.before),
            "after": dict(self.after),
            "sleeves": [dict(one) for one in self.sleeves],
        }


def store_of(stores: Stores) -> ProposalStore:
    """Return the proposals of the runtime database."""
    return ProposalStore(stores.runtime.database)


def propose(stores: Stores, request: Request, progress: Progress | None = None) -> Proposal:
    """Try a change of a node's settings, and write it down with what came of it.

    Raises
    ------
    ConfigError
        If the node cannot hold the setting, it cannot be proposed, or it changes nothing.
    DataError
        If no change survives the diagnosis.
    ProposalRefused
        If the same change of the strategy is open.
    """
    store = store_of(stores)
    base = load_config(request.paths, request.assignments, mode="backtest", applied=store.in_force)
    strategy_id = _strategy(base)
    key, wanted, why = _asked(stores, strategy_id, base, request)
    require_proposable(key)
    active = store.active(strategy_id)
    changed = _changed(request, active, key, wanted)
    value = _resolved(changed, key)
    _require_change(base, changed, key)
    store.require_new(strategy_id, key, value)
    found = compare_nodes(stores, base, changed, progress)
    proposal_id = store.propose(_draft(base, active, found, (key, value), (request.by, why)))
    return store.find(proposal_id)


def approve(stores: Stores, text: str, by: str) -> Proposal:
    """Approve a proposal, unless its trial found what vetoes a run that the node had not before.

    Raises
    ------
    ProposalRefused
        If it is not pending, or its trial raised a veto.
    """
    store = store_of(stores)
    found = store.find(text)
    vetoes = sorted({code for one in found.screen["sleeves"] for code in one["new_vetoes"]})
    if vetoes:
        raise ProposalRefused(
            f"{found.proposal_id}: its trial raises {', '.join(vetoes)}, which the settings in "
            f"force do not; `prometheus findings {found.run_id}` says why; reject it"
        )
    store.approve(found.proposal_id, by)
    return store.find(found.proposal_id)


def reject(stores: Stores, text: str, by: str, why: str) -> Proposal:
    """Reject a proposal that is not applied."""
    store = store_of(stores)
    found = store.find(text)
    store.reject(found.proposal_id, by, why)
    return store.find(found.proposal_id)


def apply(stores: Stores, text: str, by: str) -> tuple[Proposal, Active]:
    """Make an approved proposal part of what the next run of its strategy reads."""
    store = store_of(stores)
    found = store.find(text)
    _require_still_valid(found)
    active = store.apply(found.proposal_id, by)
    return store.find(found.proposal_id), active


def revert(stores: Stores, text: str, by: str, why: str | None) -> tuple[Proposal, Active]:
    """Put back what an applied proposal replaced."""
    store = store_of(stores)
    found = store.find(text)
    active = store.revert(found.proposal_id, by, why)
    return store.find(found.proposal_id), active


def rehearse_apply(stores: Stores, text: str) -> Proposal:
    """Return a proposal that `apply` would apply now; change nothing; raises as `apply` does."""
    store = store_of(stores)
    found = store.find(text)
    _require_still_valid(found)
    store.require_applicable(found.proposal_id)
    return found


def rehearse_revert(stores: Stores, text: str) -> Proposal:
    """Return a proposal that `revert` would revert now; change nothing; raises as `revert` does."""
    store = store_of(stores)
    found = store.find(text)
    store.require_revertible(found.proposal_id)
    return found


def evaluate(stores: Stores, text: str, progress: Progress | None = None) -> dict[str, Any]:
    """Compare an applied change with the settings that it replaced, on later sessions alone.

    Nothing that was known when it was applied, and no session of its trial, is looked at.

    Raises
    ------
    ProposalRefused
        If it never was applied.
    DataError
        If there is no session after it yet.
    """
    store = store_of(stores)
    found = store.find(text)
    if found.applied_at is None:
        raise ProposalRefused(f"{found.proposal_id}: is {found.status} and never was applied")
    where = f"{found.proposal_id}: the node it was tried on"
    node = validated(NodeConfig, found.node, where)
    first, last = _later_sessions(stores, node, found, found.applied_at.date())
    sessions = {"sessions": {"start": f"{first}", "end": f"{last}"}}
    base = validated(NodeConfig, deep_merge(found.node, sessions), where)
    override = nested(found.key, found.proposed)
    changed = validated(NodeConfig, deep_merge(deep_merge(found.node, sessions), override), where)
    compared = compare_nodes(stores, base, changed, progress)
    store.evaluated(found.proposal_id, compared.window, _logged(compared))
    return {
        "proposal_id": found.proposal_id,
        "key": found.key,
        "current": found.current,
        "proposed": found.proposed,
        "applied_at": found.applied_at,
        **compared.document(),
    }


def compare_nodes(
    stores: Stores, base: NodeConfig, changed: NodeConfig, progress: Progress | None = None
) -> Compared:
    """Run a node with and without a change over the same sessions; both count as trials."""
    # It brings Nautilus: the server, which only decides on proposals, need not hold it.
    from prometheus_nt.jobs.backtest import run_backtest

    pairs = list(
        zip(
            run_backtest(base, stores, progress=progress),
            run_backtest(changed, stores, progress=progress),
            strict=True,
        )
    )
    arms = [(_arm(stores, one), _arm(stores, other)) for one, other in pairs]
    capital = np.array([sleeve.capital_usd for sleeve in base.sleeves], dtype=float)
    before = _weighted([one.returns for one, _ in arms], capital)
    after = _weighted([other.returns for _, other in arms], capital)
    whole = Pair(
        replace(arms[0][0], returns=before), replace(arms[0][1], returns=after), "", None, None
    )
    rules = DiagnosisRules()
    return Compared(
        test=tested(whole, rules),
        sleeves=tuple(
            _sleeve(stores, summaries, tested(Pair(*both, "", None, None), rules))
            for summaries, both in zip(pairs, arms, strict=True)
        ),
        before=_figures(before),
        after=_figures(after),
        window=(pairs[0][0].start, pairs[0][0].end),
    )


def listed(proposal: Proposal) -> tuple[Any, ...]:
    """Return `LISTED` of a proposal."""
    told = {**proposal.__dict__, "verdict": proposal.screen.get("verdict")}
    return tuple(told[name] for name in LISTED)


def document(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as plain values, without the node it was tried on."""
    return {name: value for name, value in proposal.__dict__.items() if name != "node"}


def _strategy(node: NodeConfig) -> str:
    strategies = sorted({family(sleeve).strategy_id for sleeve in node.sleeves})
    if len(strategies) > 1:
        raise ConfigError(
            f"sleeves: a proposal is about one strategy, this node trades {', '.join(strategies)}; "
            "give each a node of its own"
        )
    return strategies[0]


def _asked(
    stores: Stores, strategy_id: str, base: NodeConfig, request: Request
) -> tuple[str, Any, str]:
    """Return the setting, its value and why: by hand, or what the diagnosis found."""
    if request.change is not None:
        key, value = assignment_of(request.change)
        if isinstance(value, Mapping):
            raise ConfigError(f"--set {request.change}: one setting is proposed, found several")
        if request.why is None:
            raise ConfigError(f"--set {request.change}: say why with --why")
        return key, value, request.why
    diagnosis = diagnose_strategy(stores, strategy_id).diagnosis
    current = flattened(base.resolved(base.sleeves[0]))
    ours = {key: current[key] for key in current if is_proposable(key)}
    best = diagnosis.best(ours)
    if best is None:
        raise DataError(
            f"{strategy_id}: of {len(diagnosis.pairs)} matched pairs none survives that improves "
            "this node; `prometheus meta diagnose` lists them, --set KEY=VALUE --why proposes by "
            "hand"
        )
    return best.key, best.new, request.why or _told(best)


def _told(best: Tested) -> str:
    return (
        f"{best.changed} against {best.base}, {best.sessions} sessions: "
        f"{best.mean_annual:+.2%} a year, Sharpe ratio {best.improvement:+.2f}, corrected "
        f"p-value {best.corrected:.2g}"
    )


def _changed(request: Request, active: Active, key: str, value: Any) -> NodeConfig:
    """Return the node as its next run would read it if the change were applied."""
    settings = with_setting(active.settings, key, value)
    return load_config(
        request.paths, request.assignments, mode="backtest", applied=lambda _: settings
    )


def _resolved(node: NodeConfig, key: str) -> Any:
    """Return the value of a setting as the first sleeve of a node has it."""
    found = setting_of(node.resolved(node.sleeves[0]), key)
    if found is None:
        raise ConfigError(
            f"{key}: is no setting of {node.sleeves[0].sleeve_id}; `prometheus config show` lists "
            "them"
        )
    return found["value"]


def _require_change(base: NodeConfig, changed: NodeConfig, key: str) -> None:
    same = [
        base.config_hash(one) == changed.config_hash(other)
        for one, other in zip(base.sleeves, changed.sleeves, strict=True)
    ]
    if all(same):
        raise ConfigError(
            f"{key}: the change changes nothing: it is the value in force, or the environment or "
            "the sleeve itself gives another"
        )


def _require_still_valid(found: Proposal) -> None:
    """Require the node that was tried to hold the change also in this version of the code."""
    where = f"{found.proposal_id}: with {found.key}={found.proposed!r}"
    merged = deep_merge(found.node, nested(found.key, found.proposed))
    require_resolvable(validated(NodeConfig, merged, where), where)


def _draft(
    base: NodeConfig,
    active: Active,
    found: Compared,
    change: tuple[str, Any],
    told: tuple[str, str],
) -> Draft:
    key, value = change
    p_value = found.test.p_value
    first = found.sleeves[0]
    return Draft(
        strategy_id=active.strategy_id,
        market_id=base.market,
        key=key,
        current=_resolved(base, key),
        proposed=value,
        run_id=first["changed"],
        confidence=None if p_value is None else 1.0 - p_value,
        improvement=_less(found.after["sharpe"], found.before["sharpe"]),
        gain=found.test.mean_annual,
        calmer=_less(found.before["risk"], found.after["risk"]),
        rationale=told[1],
        base_hash=active.digest,
        by=told[0],
        screen=found.document(),
        # Only what was set: what is not follows the family, also when it is read back.
        node=base.model_dump(mode="json", exclude_unset=True),
        arms={
            f"{arm}:{one['sleeve_id']}": (one[arm.lower()], one["metrics"][arm.lower()])
            for one in found.sleeves
            for arm in ("BASE", "CHANGED")
        },
    )


def _arm(stores: Stores, run: "RunSummary") -> Arm:
    return arm_of(stores, stores.runtime.find_run(run.run_id))


def _weighted(returns: Sequence[FloatArray], capital: FloatArray) -> FloatArray:
    weighted: FloatArray = np.average(np.vstack(returns), axis=0, weights=capital)
    return weighted


def _figures(returns: FloatArray) -> dict[str, float | None]:
    total = float(np.prod(1.0 + returns)) - 1.0
    return {
        "sharpe": annualised_sharpe(returns),
        "return": total if np.isfinite(total) else None,
        "risk": annualised_volatility(returns),
    }


def _sleeve(stores: Stores, pair: "tuple[RunSummary, RunSummary]", test: Tested) -> dict[str, Any]:
    base, changed = pair
    return {
        "sleeve_id": base.sleeve_id,
        "base": base.run_id,
        "changed": changed.run_id,
        "mean_annual": test.mean_annual,
        "interval": _interval(test),
        "p_value": test.p_value,
        "why": test.why,
        "metrics": {"base": base.metrics, "changed": changed.metrics},
        "new_vetoes": sorted(_vetoes(stores, changed) - _vetoes(stores, base)),
    }


def _vetoes(stores: Stores, run: "RunSummary") -> set[str]:
    _, found = findings_of(stores, run.run_id)
    return {one.code for one in vetoes_of(found)}


def _interval(test: Tested) -> list[float] | None:
    return None if test.interval is None else [test.interval.low, test.interval.high]


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _later_sessions(
    stores: Stores, node: NodeConfig, found: Proposal, applied: date
) -> tuple[date, date]:
    calendar = MarketCalendar.of(node.market)
    known = max(applied, date.fromisoformat(found.screen["end"]))
    last = panel_of(stores, node.data.dataset).as_of
    if found.reverted_at is not None:
        last = min(last, calendar.roll_back(found.reverted_at.date()))
    first = calendar.next_session(known)
    if last < first:
        raise DataError(
            f"{found.proposal_id}: not computed, because dataset {node.data.dataset!r} ends on "
            f"{last} and only sessions after {known} are later than what was known; ingest more"
        )
    return first, last


def _logged(compared: Compared) -> dict[str, float | None]:
    return {
        f"{name}_{when}": figures[name]
        for when, figures in (("before", compared.before), ("after", compared.after))
        for name in ("sharpe", "return", "risk")
    }
