"""The steps of the three phases: which jobs they call, and what a gate asks of their results.

- `data_flow`: prices come in, are checked, repaired, derived from and scanned;
- `production_flow`: a campaign is run on data that are whole, diagnosed and judged;
- `meta_flow`: sleeves become one book, each rule is asked of its files, and the book is traded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from adapters.gates.health import HealthParams
from persistence.artifacts import RunFolder
from prometheus_nt.campaign_config import CampaignPlan, load_campaign
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError, EmptyScan
from prometheus_nt.jobs.applied import stored_node
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.campaign import run_campaign, trial_rows
from prometheus_nt.jobs.check.node import check_lookahead
from prometheus_nt.jobs.compare import compare_runs
from prometheus_nt.jobs.daily_work import ingest_again
from prometheus_nt.jobs.data import SourceSpec, ingest_named
from prometheus_nt.jobs.derive import DeriveRequest, derive
from prometheus_nt.jobs.diagnostics import diagnose_strategy
from prometheus_nt.jobs.flow import FlowRequest, GateFailure, Results, Step
from prometheus_nt.jobs.health import audit, record
from prometheus_nt.jobs.meta import rank_campaign
from prometheus_nt.jobs.meta_audit import RULES, audit_rule
from prometheus_nt.jobs.meta_files import MARKDOWN
from prometheus_nt.jobs.meta_members import meta_dir
from prometheus_nt.jobs.meta_portfolio import MetaRequest, make_meta_portfolio
from prometheus_nt.jobs.repair import repair
from prometheus_nt.jobs.scan import ScanRequest, load_scanner, scan
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.allocation import MetaAllocationParams
from strategies.catalog import META_BOOK

UNHEALTHY = "DATA_UNHEALTHY"
CUTS, SLEEVE_SESSIONS = 2, 21
"""Of the look-ahead check in a flow; `prometheus check lookahead` asks more."""

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Skips:
    """Which steps are left out."""

    skip_analysis: bool = False
    skip_validation: bool = False
    start_step: int | None = None

    def of(self, phase: str, asked: Mapping[str, Any], steps: tuple[Step, ...]) -> FlowRequest:
        """Return the request of these steps without those left out."""
        left_out = (self.skip_analysis, self.skip_validation, self.start_step)
        return FlowRequest(phase, asked, steps, *left_out)


def data_flow(
    dataset: str,
    source: SourceSpec | None = None,
    scanner: Path | None = None,
    *,
    strict: bool = True,
    skips: Skips | None = None,
) -> FlowRequest:
    """Return phase 1 for a dataset.

    Parameters
    ----------
    source : SourceSpec, optional
        Where a new dataset comes from; one that is there remembers its own.
    strict : bool
        Fail for stale and degraded instruments as well, not only for those without a bar.
    """
    asked = {
        "dataset": dataset,
        "source": None if source is None else source.kind,
        "scanner": None if scanner is None else load_scanner(scanner).digest(),
        "strict": strict,
    }
    steps = [
        Step("ingest", partial(_ingest, dataset, source)),
        Step("check", partial(_check, dataset)),
        Step("repair", partial(_repair, dataset, strict)),
        Step("derive", partial(_derive, dataset)),
    ]
    if scanner is not None:
        steps.append(Step("scan", partial(_scan, dataset, scanner)))
    return (skips or Skips()).of("data", asked, tuple(steps))


def production_flow(
    campaign: Path,
    workers: int = 0,
    *,
    strict: bool = True,
    skips: Skips | None = None,
) -> FlowRequest:
    """Return phase 2 for a campaign's file."""
    plan = load_campaign(campaign)
    steps = (
        Step("data", partial(_require_healthy, plan, strict)),
        Step("lookahead", partial(_lookahead, plan), "validation"),
        Step("campaign", partial(_campaign, plan, workers)),
        Step("diagnostics", _diagnose, "analysis"),
        Step("selection", _select),
        Step("comparison", _compare, "analysis"),
    )
    document = {name: told for name, told in plan.document().items() if name != "source"}
    asked = {"plan": document, "strict": strict}
    return (skips or Skips()).of("production", asked, steps)


@dataclass(frozen=True)
class MetaFlow:
    """What phase 3 is about: runs by name, or a node whose sleeves are run if they are not yet."""

    runs: tuple[str, ...] = ()
    config: Path | None = None
    as_of: date | None = None
    params: MetaAllocationParams = field(default_factory=MetaAllocationParams)


def meta_flow(asked: MetaFlow, *, skips: Skips | None = None) -> FlowRequest:
    """Return phase 3.

    Raises
    ------
    ConfigError
        If neither runs nor a node are named.
    """
    if not asked.runs and asked.config is None:
        raise ConfigError("flow meta: name runs (--run) or a node's file (--config)")
    document = {
        "runs": list(asked.runs),
        "config": None if asked.config is None else _content(asked.config),
        "as_of": None if asked.as_of is None else asked.as_of.isoformat(),
        "params": asked.params.model_dump(mode="json"),
    }
    steps = (
        Step("sleeves", partial(_sleeves, asked)),
        Step("portfolio", partial(_portfolio, asked)),
        *(Step(name, partial(_ask, name)) for name in RULES),
        Step("book", _trade_book, "validation"),
    )
    return (skips or Skips()).of("meta", document, steps)


def _ingest(dataset: str, source: SourceSpec | None, stores: Stores, _: Results) -> Found:
    known = {row["dataset_id"] for row in stores.historical.datasets()}
    if dataset in known and stores.historical.dataset(dataset)["origin"] is not None:
        return {"rows_written": ingest_again(stores, dataset)}
    if source is None:
        raise ConfigError(
            f"{dataset}: is not there, or remembers no source; name one with --source, or "
            "`prometheus data ingest` it"
        )
    reports = ingest_named(stores.settings, source)
    return {"rows_written": sum(report.rows_written for report in reports)}


def _check(dataset: str, stores: Stores, _: Results) -> Found:
    params = HealthParams()
    result = audit(stores.historical, dataset, params)
    record(stores.historical, result, params)
    return {"as_of": result.as_of, **result.summary()}


def _repair(dataset: str, strict: bool, stores: Stores, _: Results) -> Found:
    """Read broken instruments again where there is a source, then require all to be well."""
    found = audit(stores.historical, dataset)
    if not found.failures(strict=strict):
        return {"repaired": 0}
    told = repair(stores.settings, dataset)
    after = audit(stores.historical, dataset).failures(strict=strict)
    if after:
        raise GateFailure(UNHEALTHY, dataset, f"{'; '.join(after)} after repair; {told.summary()}")
    return {"repaired": len(told.repaired), "rows_written": told.rows_written}


def _derive(dataset: str, stores: Stores, _: Results) -> Found:
    return {"tables": len(derive(stores, DeriveRequest(dataset)))}


def _scan(dataset: str, scanner: Path, stores: Stores, _: Results) -> Found:
    try:
        made = scan(stores, load_scanner(scanner), ScanRequest(dataset))
    except EmptyScan as empty:
        raise GateFailure("EMPTY_SCAN", dataset, str(empty)) from empty
    return {"run_id": made[-1].run_id, "selected": int(made[-1].scan.included.sum())}


def _require_healthy(plan: CampaignPlan, strict: bool, stores: Stores, _: Results) -> Found:
    datasets = sorted({variant.node.data.dataset for variant in plan.variants()})
    for dataset in datasets:
        failures = audit(stores.historical, dataset).failures(strict=strict)
        if failures:
            raise GateFailure(UNHEALTHY, dataset, "; ".join(failures))
    return {"datasets": ", ".join(datasets)}


def _lookahead(plan: CampaignPlan, stores: Stores, _: Results) -> Found:
    variant = plan.variants()[0]
    reports = check_lookahead(variant.node, stores, cuts=CUTS, sleeve_sessions=SLEEVE_SESSIONS)
    leaks = sum(len(report.leaks) for report in reports.values())
    if leaks:
        said = f"{leaks} things moved that were decided before the data changed"
        raise GateFailure("LOOK_AHEAD", variant.sleeve.sleeve_id, said)
    return {"cuts": CUTS, "leaks": 0}


def _campaign(plan: CampaignPlan, workers: int, stores: Stores, _: Results) -> Found:
    status = run_campaign(plan, stores, workers=workers)
    if status.failed:
        said = f"{status.failed} of {status.total} variants failed; `prometheus campaign status`"
        raise GateFailure("CAMPAIGN_FAILED", status.campaign_id, said)
    return {"campaign_id": status.campaign_id, "variants": status.total}


def _diagnose(stores: Stores, results: Results) -> Found:
    campaign = _given(results, "campaign", "campaign_id")
    strategies = sorted({name for (name,) in trial_rows(stores, campaign, ("strategy_id",))})
    found = [diagnose_strategy(stores, name) for name in strategies]
    return {"strategies": ", ".join(strategies), "pairs": sum(len(one.rows()) for one in found)}


def _select(stores: Stores, results: Results) -> Found:
    decision = rank_campaign(stores, _given(results, "campaign", "campaign_id"))
    selected = [decision.run_ids[one.name] for one in decision.selection.selected]
    if not selected:
        said = decision.selection.why_nobody or "nobody was selected"
        raise GateFailure("NOBODY_SELECTED", decision.decision_id, f"{said}; {decision.report}")
    return {
        "decision_id": decision.decision_id,
        "runs": selected,
        "selected": len(selected),
        "report": decision.report,
    }


def _compare(stores: Stores, results: Results) -> Found:
    runs = results["selection"]["runs"]
    if len(runs) < 2:
        return {"compared": 0}
    return {"compared": len(runs), "report": compare_runs(stores, runs)}


def _sleeves(asked: MetaFlow, stores: Stores, _: Results) -> Found:
    if asked.config is None:
        return {"runs": len(asked.runs), "made": 0}
    made = run_backtest(stored_node(stores, [asked.config]), stores)
    return {"runs": len(made), "made": sum(not one.cached for one in made)}


def _portfolio(asked: MetaFlow, stores: Stores, _: Results) -> Found:
    request = MetaRequest(asked.runs, asked.config, asked.as_of, asked.params)
    made = make_meta_portfolio(stores, request)
    report = made.report.parent / MARKDOWN
    if made.verdict != "PASS":
        failed = next(one for one in made.findings if one["level"] == "ERROR")
        said = f"{failed['message']}; all of it: {report}"
        raise GateFailure(failed["code"], failed["subject"], said)
    return {"meta_id": made.meta_id, "as_of": made.as_of, "report": report}


def _ask(rule: str, stores: Stores, results: Results) -> Found:
    """Ask one rule of the files of the meta-portfolio."""
    meta_id = _given(results, "portfolio", "meta_id")
    found = audit_rule(RunFolder(meta_dir(stores.settings), meta_id), rule)
    if found:
        raise GateFailure(found[0].code, found[0].subject, found[0].message)
    return {"findings": 0}


def _trade_book(stores: Stores, results: Results) -> Found:
    """Trade the book on the venue, from the day of its weights to the end of its members."""
    meta_id = _given(results, "portfolio", "meta_id")
    node = book_node(stores, meta_id)
    if node is None:
        return {"sessions": 0, "why": "no member has a session after the day of the weights"}
    (run,) = run_backtest(node, stores)
    return {"run_id": run.run_id, "report": run.report}


def book_node(stores: Stores, meta_id: str) -> NodeConfig | None:
    """Return the node that trades a meta-portfolio with its members' data and costs.

    None if its members' records end on the day that its weights were decided.
    """
    told = RunFolder(meta_dir(stores.settings), meta_id).read_json("completeness.json")
    rows = [stores.runtime.find_run(one["run_id"]) for one in told["sleeves"]]
    start, end = date.fromisoformat(told["as_of"]), min(row["end_date"] for row in rows)
    if end <= start:
        return None
    config = rows[0]["config_json"]
    content = {name: config[name] for name in ("region", "market", "data", "seed")}
    execution = {name: config["execution"][name] for name in ("quotes", "fees", "financing")}
    limit = told["params"]["max_asset"]
    return NodeConfig.model_validate(
        content
        | {
            "sessions": {"start": start, "end": end},
            "execution": execution,
            "engines": {"risk": {"max_sector_weight": None, "max_abs_weight_per_name": limit}},
            "sleeves": [{"family": META_BOOK, "horizon": 1, "metas": [meta_id]}],
        }
    )


def _given(results: Results, step: str, name: str) -> str:
    """Return what an earlier step found.

    Raises
    ------
    GateFailure
        FLOW_MISSING_RESULT, if that step never passed.
    """
    if step not in results:
        said = f"step {step} never passed for this request; start at it"
        raise GateFailure("FLOW_MISSING_RESULT", step, said)
    found: str = results[step][name]
    return found


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as unreadable:
        raise ConfigError(f"{path}: cannot be read: {unreadable}") from unreadable
