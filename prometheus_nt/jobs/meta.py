"""Judge what was run and decide who goes on: the decision, its reasons and its page.

1. `rank_campaign` and `rank_strategy` collect the runs, and what failed;
2. `_judge` aligns their returns out of sample and asks `meta.selection`;
3. the decision is written with every candidate, selected or not, and the page beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.campaigns import CampaignRow, CampaignStore, TrialRow
from prometheus_nt.campaign_config import RISK_OFF_NOTE, FoldsConfig, plan_of
from prometheus_nt.domain.errors import ConfigError, DataError, StoreError
from prometheus_nt.domain.record import FloatArray, IntArray, content_hash
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.jobs.campaign import gap_findings
from prometheus_nt.jobs.findings import findings_of_runs, vetoes
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.trial import screened_returns
from prometheus_nt.meta.bootstrap import bootstrap_intervals
from prometheus_nt.meta.folds import Fold, chosen_by_training, rows_tested, walk_forward
from prometheus_nt.meta.selection import Ranked, Selection, SelectionRules, Tried, select
from prometheus_nt.reporting.campaign_page import SelectionView, WalkForward, render_selection
from prometheus_nt.reporting.overlap import require_same_sessions
from prometheus_nt.reporting.series import COST_KINDS, RunSeries

ENGINE = "META_ORCHESTRATOR"
SELECTIONS = "selections"

RUN_COLUMNS = (
    *("run_id", "sleeve_id", "strategy_id"),
    *("cumulative_return", "annualised_sharpe", "max_drawdown"),
)
"""What the mission prints of every run of a campaign."""


@dataclass(frozen=True)
class Decision:
    """Who was selected, perhaps nobody, and where it is written down."""

    decision_id: str
    strategy_id: str
    as_of: date
    selection: Selection
    run_ids: Mapping[str, str]
    runs: tuple[tuple[Any, ...], ...]
    failed: tuple[tuple[str, str], ...]
    report: Path

    def document(self) -> dict[str, Any]:
        """Return the decision as plain values."""
        return {
            "decision_id": self.decision_id,
            "strategy_id": self.strategy_id,
            "as_of": self.as_of,
            "verdict": self.selection.verdict,
            "selected": [self.run_ids[one.name] for one in self.selection.selected],
            "pool": dict(self.selection.pool),
            "not_computed": dict(self.selection.not_computed),
            "candidates": [_candidate(one, self.run_ids) for one in self.selection.ranked],
            "failed": [{"sleeve_id": name, "why": why} for name, why in self.failed],
            "runs": [dict(zip(RUN_COLUMNS, run, strict=True)) for run in self.runs],
            "report": str(self.report),
        }


@dataclass(frozen=True)
class _Question:
    """What is to be judged."""

    scope: str
    families: tuple[str, ...]
    rules: SelectionRules
    folds: FoldsConfig | None
    runs: Sequence[Mapping[str, Any]]
    failed: tuple[tuple[str, str], ...]
    settings: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]
    # Judged with the others, or the best of few would look like the best of all; never selected.
    screened: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def strategy_id(self) -> str:
        return "+".join(self.families)


def rank_campaign(stores: Stores, campaign_id: str, top_k: int | None = None) -> Decision:
    """Judge every variant of a campaign that has ended, write the decision and its page.

    Raises
    ------
    ConfigError
        If variants have not ended: what is left out of a comparison flatters the rest.
    """
    store = CampaignStore(stores.runtime.database)
    campaign = store.campaign(campaign_id)
    trials = store.trials(campaign.campaign_id)
    waiting = [trial for trial in trials if trial.status in ("PENDING", "RUNNING")]
    if waiting:
        raise ConfigError(
            f"{campaign.campaign_id}: {len(waiting)} of {len(trials)} variants have not ended; "
            f"`prometheus campaign resume {campaign.campaign_id}` runs them"
        )
    plan = plan_of(campaign.plan)
    config = plan.config
    notes = [RISK_OFF_NOTE] if config.disable_risk else []
    families = tuple(dict.fromkeys(trial.strategy_id for trial in trials))
    if config.holdout is not None:
        notes += _on_holdout(stores, families, config.holdout.start, config.holdout.end)
    question = _Question(
        scope=campaign.campaign_id,
        families=families,
        rules=_asked(config.selection, top_k),
        folds=config.folds,
        runs=[_run(stores, trial) for trial in trials if trial.run_id is not None],
        failed=tuple(
            (trial.sleeve_id, f"{trial.error}: {trial.message}")
            for trial in trials
            if trial.status == "FAILED"
        ),
        settings={trial.sleeve_id: trial.settings for trial in trials},
        notes=(*notes, *_on_screens(stores, campaign, trials)),
        screened={
            trial.sleeve_id: screened_returns(stores, trial, config.selection)
            for trial in trials
            if trial.status == "SCREENED"
        },
    )
    return _decide(stores, question)


def _on_screens(stores: Stores, campaign: CampaignRow, trials: Sequence[TrialRow]) -> list[str]:
    """Return what a reader must know of the screens of a campaign."""
    compared = [trial.gap_bps for trial in trials if trial.gap_bps is not None]
    if not any(trial.screen is not None for trial in trials):
        return []
    only = sum(trial.status == "SCREENED" for trial in trials)
    gap = f"at most {max(compared):.2g} bps a year" if compared else "not known of any"
    told = [
        f"Screened: every variant, in plain numpy; {len(trials) - only} were run event by event, "
        f"{only} end with their screen, are counted, and cannot be selected. Gap of a run's "
        f"equity from its screen: {gap}."
    ]
    return [
        *told,
        *(f"{one.code}: {one.subject}: {one.message}." for one in gap_findings(stores, campaign)),
    ]


def rank_strategy(
    stores: Stores, strategy_id: str, as_of: date, top_k: int | None = None
) -> Decision:
    """Judge the finished runs of a strategy that end by `as_of`.

    Only runs over the same sessions of the same data can be compared: those of the newest run.
    The others are listed with the reason; of one configuration the newest run counts.

    Raises
    ------
    StoreError
        If the strategy has no finished run by then.
    """
    found = CampaignStore(stores.runtime.database).finished_runs(strategy_id, as_of)
    if not found:
        raise StoreError(
            f"{strategy_id}: no finished backtest ends by {as_of}; `prometheus show runs` lists "
            "runs, `prometheus campaign and-meta` makes them"
        )
    same = ("start_date", "end_date", "dataset_id", "data_fingerprint")
    window = [found[0][name] for name in same]
    alike = [run for run in found if [run[name] for name in same] == window]
    newest = {run["config_hash"]: run for run in reversed(alike)}
    runs = sorted(newest.values(), key=lambda run: (run["created_at"], run["run_id"]))
    others = len(found) - len(alike)
    notes = (
        (f"{others} finished runs cover other sessions or other data and are not compared.",)
        if others
        else ()
    )
    question = _Question(
        scope=f"{strategy_id} as of {as_of}",
        families=(strategy_id,),
        rules=_asked(SelectionRules(), top_k),
        folds=None,
        runs=_named_once(runs),
        failed=(),
        settings={},
        notes=notes,
    )
    return _decide(stores, question)


def _asked(rules: SelectionRules, top_k: int | None) -> SelectionRules:
    return rules if top_k is None else rules.model_copy(update={"top_k": top_k})


def _run(stores: Stores, trial: TrialRow) -> dict[str, Any]:
    return stores.runtime.find_run(str(trial.run_id))


def _named_once(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs under different names: a sleeve's id, or the run's where several share it."""
    ids = [run["sleeve_id"] for run in runs]
    return [
        run if ids.count(run["sleeve_id"]) == 1 else {**run, "sleeve_id": run["run_id"]}
        for run in runs
    ]


def _on_holdout(stores: Stores, families: Sequence[str], start: date, end: date) -> list[str]:
    looks = sum(stores.trials.looks(name, start.isoformat(), end.isoformat()) for name in families)
    tried = sum(stores.trials.attempts(name, start, end) for name in families)
    untouched = "untouched" if not tried else f"not untouched: {tried} trials overlap it"
    return [f"Hold-out {start} to {end}: {untouched}, {looks} sealed looks at it so far."]


def _decide(stores: Stores, question: _Question) -> Decision:
    if not question.runs:
        raise DataError(
            f"{question.scope}: not one run was finished, so there is nothing to judge; "
            "`prometheus campaign status --trials` says why"
        )
    names = (*(run["sleeve_id"] for run in question.runs), *question.screened)
    series = [_series(stores, run) for run in question.runs]
    require_same_sessions(series)
    first = 0 if question.rules.against == "zero" else 1
    sessions = series[0].sessions[first:]
    records = [_returns(one, question.rules) for one in series]
    returns = np.column_stack([*records, *question.screened.values()])
    folds, tested = _tested(question.folds, len(sessions))
    start, end = question.runs[0]["start_date"], question.runs[0]["end_date"]
    tried = _tried(stores, question, start, end)
    idle = [run["sleeve_id"] for run in question.runs if not run["metrics_json"].get("num_fills")]
    ran = names[: len(question.runs)]
    findings = dict(zip(ran, findings_of_runs(stores, question.runs).values(), strict=True))
    raised = {name: vetoes(found) for name, found in findings.items()}
    against = {name: why for name, why in raised.items() if why is not None}
    against |= dict.fromkeys(idle, "it never traded")
    against |= dict.fromkeys(question.screened, "it was screened only, not run")
    judged = select(names, returns[tested], tried, question.rules, against)
    selection = _with_intervals(judged, names, returns[tested], series)
    run_ids = {run["sleeve_id"]: run["run_id"] for run in question.runs}
    view = SelectionView(
        title=question.strategy_id,
        scope=question.scope,
        selection=selection,
        sessions=sessions,
        tested=tested,
        names=names,
        returns=returns[tested],
        settings=question.settings,
        failed=question.failed,
        walk_forward=_walked(returns, folds, names),
        notes=[*question.notes, *_notes(stores, question, tried)],
        findings=findings,
    )
    decision_id = _decision_id(question, tried, end)
    decision = Decision(
        decision_id=decision_id,
        strategy_id=question.strategy_id,
        as_of=end,
        selection=selection,
        run_ids=run_ids,
        runs=tuple(_printed(run, run_ids[run["sleeve_id"]]) for run in question.runs),
        failed=question.failed,
        report=_written(stores, decision_id, render_selection(view)),
    )
    _record(stores, question, decision, start)
    return decision


def _series(stores: Stores, run: Mapping[str, Any]) -> RunSeries:
    return load_run_series(RunFolder(stores.settings.runs_dir, run["run_id"]))


def _returns(series: RunSeries, rules: SelectionRules) -> FloatArray:
    if rules.against == "zero":
        return series.returns
    if series.benchmark_returns is None:
        raise DataError(
            f"{series.run_id}: has no benchmark to be judged against; set data.benchmark, or "
            "selection.against to zero"
        )
    excess: FloatArray = series.returns[1:] - series.benchmark_returns
    return excess


def _tested(config: FoldsConfig | None, sessions: int) -> tuple[tuple[Fold, ...], IntArray]:
    if config is None:
        return (), np.arange(sessions)
    folds = walk_forward(sessions, config.train, config.test, config.embargo)
    return folds, np.flatnonzero(rows_tested(folds, sessions))


def _walked(
    returns: FloatArray, folds: tuple[Fold, ...], names: Sequence[str]
) -> WalkForward | None:
    if not folds:
        return None
    chosen, stitched = chosen_by_training(returns, folds)
    return WalkForward(
        folds=folds, chosen=tuple(names[at] for at in chosen.tolist()), returns=stitched
    )


def _tried(stores: Stores, question: _Question, start: date, end: date) -> Tried:
    ledger = stores.trials
    return Tried(
        overlapping=sum(ledger.attempts(name, start, end) for name in question.families),
        ever=sum(ledger.attempts(name, date.min, date.max) for name in question.families),
        failed=len(question.failed),
        hurdle_floor=_announced(stores, question, start, end),
    )


def _announced(stores: Stores, question: _Question, start: date, end: date) -> float:
    """Return the highest hurdle per session ever announced for the same record, or 0."""
    store = CampaignStore(stores.runtime.database)
    same = _same_record(question, start, end)
    hurdles = [
        made["metadata"]["pool"]["hurdle_per_session"]
        for made in store.decisions(ENGINE, question.strategy_id)
        if made["metadata"]["record"] == same
    ]
    return max((one for one in hurdles if one is not None), default=0.0)


def _same_record(question: _Question, start: date, end: date) -> dict[str, Any]:
    folds = None if question.folds is None else question.folds.model_dump()
    against = question.rules.against
    return {"start": f"{start}", "end": f"{end}", "against": against, "folds": folds}


def _with_intervals(
    selection: Selection, names: Sequence[str], returns: FloatArray, series: Sequence[RunSeries]
) -> Selection:
    columns = {name: column for column, name in enumerate(names)}
    of_run = dict(zip(names, series, strict=False))
    ranked = tuple(
        _with_interval(one, returns[:, columns[one.name]], of_run.get(one.name), selection)
        for one in selection.ranked
    )
    return replace(selection, ranked=ranked)


def _with_interval(
    one: Ranked, returns: FloatArray, series: RunSeries | None, selection: Selection
) -> Ranked:
    figures, missing = dict(one.figures), dict(one.not_computed)
    rules = selection.rules
    try:
        found = bootstrap_intervals(returns, paths=rules.paths, seed=rules.seed)
    except DataError as undefined:
        figures |= dict.fromkeys(("sharpe_low", "sharpe_high", "drawdown_low"))
        missing["interval"] = str(undefined)
    else:
        annual = sqrt(SESSIONS_PER_YEAR)
        figures["sharpe_low"] = found["sharpe"].low * annual
        figures["sharpe_high"] = found["sharpe"].high * annual
        figures["drawdown_low"] = found["max_drawdown"].low
    figures["cost_share"] = None if series is None else _cost_share(series)
    if series is None:
        missing["cost_share"] = "a screen does not tell costs apart"
    elif figures["cost_share"] is None:
        missing["cost_share"] = "before costs there was no profit"
    return replace(one, figures=figures, not_computed=missing)


def _cost_share(series: RunSeries) -> float | None:
    """Return all costs as a share of the profit before them, whole record; None without profit."""
    costs = sum(float(series.costs[kind].sum()) for kind in COST_KINDS)
    gross = float(series.equity[-1]) - series.starting_capital + costs
    return costs / gross if gross > 0.0 else None


def _notes(stores: Stores, question: _Question, tried: Tried) -> list[str]:
    first = RunFolder(stores.settings.runs_dir, question.runs[0]["run_id"])
    manifest = first.read_json("manifest.json")
    return [
        f"Selection: {tried.overlapping} trials of {question.strategy_id} on these data, "
        f"{tried.ever} since ever, counted by the ledger; {tried.failed} failed here.",
        "Risk-free rate 0; 252 sessions a year; a selected variant is a candidate for paper "
        "trading, and nothing is promoted without it.",
        *manifest["notes"],
    ]


def _decision_id(question: _Question, tried: Tried, as_of: date) -> str:
    runs = [run["run_id"] for run in question.runs]
    # What was tried is part of it: when the ledger grows, the same runs are judged anew.
    counted = [tried.overlapping, tried.ever, tried.failed]
    rules = question.rules.model_dump(mode="json")
    others = [[*question.failed], [*question.screened]]
    digest = content_hash([question.scope, runs, *others, counted, rules])
    return f"META-{question.strategy_id}-{as_of:%Y%m%d}-{digest[:12]}"


def _printed(run: Mapping[str, Any], run_id: str) -> tuple[Any, ...]:
    metrics = run["metrics_json"]
    return (
        run_id,
        run["sleeve_id"],
        run["strategy_id"],
        *(metrics.get(name) for name in RUN_COLUMNS[3:]),
    )


def _written(stores: Stores, decision_id: str, page: str) -> Path:
    folder = RunFolder(stores.settings.home / SELECTIONS, decision_id)
    return Path(folder.write_text("report.html", page, "html").path)


def _record(stores: Stores, question: _Question, decision: Decision, start: date) -> None:
    selection = decision.selection
    market = question.runs[0]["market_id"]
    metrics = {run["sleeve_id"]: run["metrics_json"] for run in question.runs}
    row = {
        "decision_id": decision.decision_id,
        "engine_name": ENGINE,
        "run_id": question.scope[:96],
        "mode": "BACKTEST",
        "strategy_id": decision.strategy_id,
        "market_id": market,
        "as_of_date": decision.as_of,
        "config_id": question.scope[:128],
        "input_refs": {
            "strategy_id": decision.strategy_id,
            "top_k": selection.rules.top_k,
            "rules": selection.rules.model_dump(mode="json"),
            "candidates": [_candidate(one, decision.run_ids) for one in selection.ranked],
            "failed": [{"sleeve_id": name, "why": why} for name, why in decision.failed],
        },
        "output_refs": {
            "selected_sleeves": [
                {
                    "run_id": decision.run_ids[one.name],
                    "sleeve_id": one.name,
                    "verdict": one.verdict.value,
                    "metrics": metrics[one.name],
                }
                for one in selection.selected
            ],
            "verdict": selection.verdict,
        },
        "metadata": {
            "type": "sleeve_selection",
            "record": _same_record(question, start, decision.as_of),
            "pool": dict(selection.pool),
            "not_computed": dict(selection.not_computed),
        },
    }
    CampaignStore(stores.runtime.database).decide(row)


def _candidate(one: Ranked, run_ids: Mapping[str, str]) -> dict[str, Any]:
    return {
        "run_id": run_ids.get(one.name),
        "sleeve_id": one.name,
        "rank": one.rank,
        "verdict": one.verdict.value,
        "selected": one.selected,
        "idea": one.idea,
        "figures": dict(one.figures),
        "not_computed": dict(one.not_computed),
        "reasons": list(one.reasons),
    }
