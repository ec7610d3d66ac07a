"""What a job can be about: for each kind a strict spec; `kind_work` has what does the work.

Whoever submits a job needs neither Nautilus nor pandas, and nothing here imports them.

A spec holds names, never paths: configuration files by their name in the configuration folder,
data by the name of a folder that the server was told of. `settled` replaces the names of files by
what they say, so that a job which is tried again does what it was submitted for.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adapters.gates import QualityParams
from adapters.inference import DividendBasis
from persistence.proposals import ProposalStore
from prometheus_nt.campaign_config import (
    CampaignConfig,
    CampaignPlan,
    load_campaign,
    plan_campaign,
    plan_of,
)
from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.errors import ConfigError, StoreError, StoreUnavailable
from prometheus_nt.domain.record import Params
from prometheus_nt.domain.runs import ExecutorKind
from prometheus_nt.engines.scenarios import ScenarioParams
from prometheus_nt.jobs.applied import load_node
from prometheus_nt.jobs.data import SourceSpec
from prometheus_nt.jobs.derive import KNOWN, LAST
from prometheus_nt.jobs.ingest import Progress
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.proposals import require_proposable
from prometheus_nt.settings import Settings
from prometheus_nt.yaml_models import deep_merge, nested, validated

Result = dict[str, Any]
"""Ids, figures, and paths relative to the home folder."""

Work = Callable[[Any, Stores, Progress], Result]
"""Of a spec, the open stores and a callback of progress."""


def _spelled(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


Name = Annotated[
    str,
    _spelled(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,95}", "a name of letters, digits, dots, - and _"),
]
"""Of a thing in a database: no path, and nothing that could become one."""

FileName = Annotated[
    str,
    _spelled(
        r"\w[\w.\-]*(/\w[\w.\-]*)*",
        "the name of a file below its folder, such as campaigns/us_core_grid; nothing above it",
    ),
]
"""Of a file below a folder of the server; no step upwards."""

Symbol = Annotated[
    str, _spelled(r"[A-Za-z0-9^][A-Za-z0-9._^=\-]{0,31}", "a symbol, such as AAPL or BRK-B")
]

HOUR = 3600.0
LATEST = "latest"


class JobSpec(Params):
    """What a kind of job needs to know."""

    def settled(self, settings: Settings) -> Self:
        """Return the spec with what it names of the server's files put in their place.

        Raises
        ------
        ConfigError
            If the spec makes no sense on this server.
        """
        del settings
        return self

    def found(self, stores: Stores) -> Self:
        """Return the spec with the full names of what it is about, which the stores must have.

        Raises
        ------
        ConfigError
            If they have not: the job could only fail.
        """
        del stores
        return self


class NodeJob(JobSpec):
    """A job about a node.

    config : names of YAML files in the configuration folder, later ones win; `.yaml` may be left
        out. What was applied to their strategy when the job is submitted counts.
    node : settings over them, or, without files, the whole node; nothing is applied to that.
    overrides : dotted settings over both, such as `execution.replay`.
    """

    config: tuple[FileName, ...] = ()
    node: dict[str, Any] = Field({})
    overrides: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if not (self.config or self.node):
            raise ValueError("config: name a file of the configuration folder, or give the node")
        return self

    def given(self) -> dict[str, Any]:
        """Return the settings that the spec holds over those of its files."""
        content = dict(self.node)
        for dotted, value in self.overrides.items():
            content = deep_merge(content, nested(dotted, value))
        return deep_merge(content, {"mode": "backtest"})

    def settled(self, settings: Settings) -> Self:
        given = self.given()
        if self.config:
            paths = [_config_file(settings, name) for name in self.config]
            items = [f"{name}={json.dumps(value)}" for name, value in given.items()]
            found = load_node(settings, paths, items)
        else:
            found = node_of(given)
        # Only what was set: what is not follows each sleeve's family, also when it is read back.
        node = found.model_dump(mode="json", exclude_unset=True)
        return self.model_copy(update={"config": (), "node": node, "overrides": {}})


class BacktestJob(NodeJob):
    """Run every sleeve of a node over recorded history.

    start, end : sessions, instead of the node's.
    force : run again what is recorded; the orders must be the same.
    """

    start: date | None = None
    end: date | None = None
    force: bool = False

    def given(self) -> dict[str, Any]:
        window = {"start": self.start, "end": self.end}
        asked = {name: day.isoformat() for name, day in window.items() if day is not None}
        return deep_merge(super().given(), {"sessions": asked} if asked else {})


class DayJob(NodeJob):
    """Take one session of a node through all its phases.

    roll_back : if the market is closed that day, take the session before it.
    """

    as_of: date
    roll_back: bool = False


class CampaignJob(JobSpec):
    """Run every variant of a campaign that has not been run.

    file : its YAML file in the configuration folder.
    campaign : its content; `base` names files in the configuration folder.
    plan : what a campaign's file and its base say, as `CampaignPlan.document` does.
    resume : the id of one that was planned, its beginning, or `latest`; with `retry_failed`, what
        failed is run again as well.
    workers : processes besides the job's own; 0 runs one variant after another in it.
    executor : where they run; None leaves it to the settings of the worker.
    """

    file: FileName | None = None
    campaign: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    resume: Name | None = None
    retry_failed: bool = False
    workers: int = Field(0, ge=0, le=256)
    executor: ExecutorKind | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        ways = ("file", "campaign", "plan", "resume")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            found = ", ".join(given) or "none of them"
            raise ValueError(f"give exactly one of {', '.join(ways)}; given: {found}")
        return self

    def settled(self, settings: Settings) -> Self:
        if self.resume is not None:
            return self
        plan = self._planned(settings)
        alone = {"file": None, "campaign": None, "plan": plan.document()}
        return self.model_copy(update=alone)

    def _planned(self, settings: Settings) -> CampaignPlan:
        if self.plan is not None:
            return plan_of_document(self.plan)
        if self.file is not None:
            return load_campaign(_config_file(settings, self.file))
        config = validated(CampaignConfig, self.campaign or {}, "campaign")
        base = [
            _config_file(settings, validated(_Named, {"name": name}, "campaign.base").name)
            for name in config.base
        ]
        return plan_campaign(config, base)


class _Named(Params):
    name: FileName


class IngestJob(JobSpec):
    """Read prices from a source that the server knows, check them, and store them.

    folder : for csv and parquet, one of the server's data folders, by its name.
    file : a file or a folder in it.
    """

    source: Literal["sample", "csv", "parquet", "eodhd", "yahoo"]
    folder: Name | None = None
    file: FileName | None = None
    dataset: Name | None = None
    market: str = "US_EQ"
    symbols: tuple[Symbol, ...] | None = None
    index: Symbol | None = None
    exchange: Symbol | None = None
    delisted: bool = True
    limit: int | None = Field(None, ge=1)
    offset: int = Field(0, ge=0)
    start: date | None = None
    end: date | None = None
    full: bool = False
    split_adjusted: bool = False
    infer_actions: DividendBasis | None = None
    gates: QualityParams = QualityParams()
    workers: int = Field(1, ge=1, le=64)

    def settled(self, settings: Settings) -> Self:
        self.source_spec(settings)
        return self

    def source_spec(self, settings: Settings) -> SourceSpec:
        """Return what to ingest, with the path that the names stand for on this server."""
        return SourceSpec(
            self.source,
            self._path(settings),
            self.dataset,
            self.market,
            self.symbols,
            self.split_adjusted,
            self.infer_actions,
            index=self.index,
            exchange=self.exchange,
            delisted=self.delisted,
            limit=self.limit,
            offset=self.offset,
            start=self.start,
            end=self.end,
            whole=self.full,
            gates=self.gates,
            workers=self.workers,
        )

    def _path(self, settings: Settings) -> Path | None:
        needs = self.source in ("csv", "parquet")
        if self.folder is None:
            if needs or self.file is not None:
                raise ConfigError(f"ingest: folder: {self.source} needs one; {_folders(settings)}")
            return None
        if not needs:
            raise ConfigError(f"ingest: folder: {self.source} reads no folder; leave it out")
        if self.folder not in settings.data_folders:
            raise ConfigError(f"ingest: folder: unknown {self.folder!r}; {_folders(settings)}")
        root = settings.data_folders[self.folder]
        return root if self.file is None else _inside(root, self.file, "ingest: file")


class ScenarioJob(JobSpec):
    """Make a set of joint futures from a dataset's past.

    run : ADVERSARIAL: the run whose latest target it works against.
    """

    dataset: Name
    params: ScenarioParams
    as_of: date | None = None
    run: Name | None = None

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        validated(_Named, {"name": self.params.name}, "params")
        return self

    def found(self, stores: Stores) -> Self:
        if self.run is None:
            return self
        if self.run == LATEST:
            return self
        return self.model_copy(update={"run": _run(stores, "run", self.run)})


class MetaRankJob(JobSpec):
    """Decide who goes on: of a campaign, or of a strategy's runs that end by a day."""

    campaign: Name | None = None
    strategy_id: Name | None = None
    as_of: date | None = None
    top_k: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.campaign is None) == (self.strategy_id is None):
            raise ValueError("give either campaign, or strategy_id and as_of")
        if (self.strategy_id is None) != (self.as_of is None):
            raise ValueError("as_of: belongs to strategy_id; a campaign has its own end")
        return self


class ReportJob(JobSpec):
    """Make the report of a finished run again: a run id, its beginning, or `latest`.

    run : `latest` is the newest when the job is done; any other must be there when it is asked for.
    """

    run: Name = LATEST

    def found(self, stores: Stores) -> Self:
        if self.run == LATEST:
            return self
        return self.model_copy(update={"run": _run(stores, "run", self.run)})


class CompareJob(JobSpec):
    """Put several finished runs on one page: run ids, or their beginnings."""

    runs: tuple[Name, ...] = Field(min_length=2, max_length=50)

    @model_validator(mode="after")
    def _runs_not_files(self) -> Self:
        files = [name for name in self.runs if name.endswith((".yaml", ".yml"))]
        if files:
            raise ValueError(f"runs: name runs, not files: {', '.join(files)}")
        return self

    def found(self, stores: Stores) -> Self:
        return self.model_copy(update={"runs": tuple(_run(stores, "runs", n) for n in self.runs)})


class DeriveJob(JobSpec):
    """Bring the derived data of a dataset up to date."""

    dataset: Name
    features: tuple[str, ...] = KNOWN
    until: date | None = None
    rows: str = LAST
    correlations: str = LAST
    lookback: int = Field(63, ge=2)


class ProposeJob(JobSpec):
    """Try a change of a strategy's settings on its node, and write it down as a proposal.

    config : names of the node's files in the configuration folder.
    by : who proposes it.
    key, value, why : the setting, what it is to be, and why; without `key` the diagnosis of
        finished runs chooses.
    start, end : sessions to try it on, instead of the node's.
    min_confidence, min_improvement : below either, of the Sharpe ratio, it is rejected at once.
    apply : where the trial is better beyond doubt and raises no veto, it is applied at once.
    """

    config: tuple[FileName, ...] = Field(min_length=1)
    by: str = Field(min_length=1, max_length=128)
    key: str | None = None
    value: Any = None
    why: str | None = Field(None, max_length=2000)
    start: date | None = None
    end: date | None = None
    min_confidence: float | None = Field(None, ge=0.0, le=1.0)
    min_improvement: float | None = None
    apply: bool = False

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.key is not None and not self.why:
            raise ValueError("why: a change that somebody chose needs a reason")
        if self.key is None and self.value is not None:
            raise ValueError("value: of what? give key as well")
        return self

    def settled(self, settings: Settings) -> Self:
        load_config(self.paths(settings), self.assignments() + self.changes(), mode="backtest")
        if self.key is not None:
            require_proposable(self.key)
        return self

    def paths(self, settings: Settings) -> list[Path]:
        """Return the node's files."""
        return [_config_file(settings, name) for name in self.config]

    def assignments(self) -> tuple[str, ...]:
        """Return `key=value` of the sessions that the trial is about."""
        window = {"start": self.start, "end": self.end}
        return tuple(f"sessions.{name}={day}" for name, day in window.items() if day is not None)

    def changes(self) -> tuple[str, ...]:
        """Return `key=value` of the change; nothing if the diagnosis is to choose."""
        return () if self.key is None else (f"{self.key}={json.dumps(self.value)}",)


class EvaluateJob(JobSpec):
    """Compare an applied change with what it replaced, on sessions after it was applied."""

    proposal: Name

    def found(self, stores: Stores) -> Self:
        store = ProposalStore(stores.runtime.database)
        known = _known("proposal", lambda: store.find(self.proposal).proposal_id)
        return self.model_copy(update={"proposal": known})


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    run : does the work, in a process of its own; a KeyboardInterrupt asks it to stop. None is what
        `kind_work.WORK` has for the spec, looked up in that process.
    attempts : how often it is tried while its worker dies or a database is away.
    timeout_seconds : of running, unless it is submitted with another; None is no limit.
    """

    spec: type[JobSpec]
    run: Work | None = None
    attempts: int = 3
    timeout_seconds: float | None = HOUR


KINDS: Mapping[str, Kind] = {
    "backtest": Kind(BacktestJob, timeout_seconds=6 * HOUR),
    "campaign": Kind(CampaignJob, timeout_seconds=None),
    "ingest": Kind(IngestJob, timeout_seconds=24 * HOUR),
    "scenario_set": Kind(ScenarioJob),
    "day": Kind(DayJob),
    "meta_rank": Kind(MetaRankJob),
    "report": Kind(ReportJob),
    "compare": Kind(CompareJob),
    "derive": Kind(DeriveJob),
    # Tried once: a second attempt would be refused as a duplicate, or run what was run.
    "propose": Kind(ProposeJob, attempts=1, timeout_seconds=6 * HOUR),
    "evaluate": Kind(EvaluateJob, attempts=1, timeout_seconds=6 * HOUR),
}


def node_of(content: Mapping[str, Any]) -> NodeConfig:
    """Return the node of a spec, with every sleeve's settings checked."""
    node = validated(NodeConfig, content, "node")
    for sleeve in node.sleeves:
        try:
            node.resolved(sleeve)
        except ConfigError as contradiction:
            raise ConfigError(f"node: {contradiction}") from None
    return node


def plan_of_document(document: Mapping[str, Any]) -> CampaignPlan:
    """Return the plan that a spec holds.

    Raises
    ------
    ConfigError
        If it is no plan.
    """
    missing = sorted({"config", "base", "source"} - set(document))
    if missing:
        raise ConfigError(f"plan: {', '.join(missing)}: required, but not given")
    return plan_of(document)


def _run(stores: Stores, field: str, name: str) -> str:
    return _known(field, lambda: str(stores.runtime.find_run(name)["run_id"]))


def _known(field: str, find: Callable[[], str]) -> str:
    """Return what `find` finds; that it finds nothing is a mistake in a field."""
    try:
        return find()
    except StoreUnavailable:
        raise
    except StoreError as unknown:
        raise ConfigError(f"{field}: {unknown}") from None


def _config_file(settings: Settings, name: str) -> Path:
    name = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    path = _inside(settings.config_dir, name, "config")
    if not path.is_file():
        known = sorted(
            str(one.relative_to(settings.config_dir)) for one in settings.config_dir.rglob("*.yaml")
        )
        raise ConfigError(f"config: no file {name!r}; known: {', '.join(known) or 'none'}")
    return path


def _inside(root: Path, name: str, field: str) -> Path:
    """Return the path of a file below a folder; links that lead out of it are refused."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{field}: {name!r} leads out of its folder; name a file inside it")
    return path


def _folders(settings: Settings) -> str:
    known = ", ".join(sorted(settings.data_folders))
    return f"known: {known}" if known else "none is known; set PROMETHEUS_DATA_FOLDERS=name=/path"
