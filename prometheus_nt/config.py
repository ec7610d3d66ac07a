"""Configuration of a node: files, applied settings, environment and `key=value` as one.

Secrets come from the environment alone (`settings`) and are part of no file and no hash.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from adapters.ib.config import DeskParams
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.daily_jobs import JobKind, JobRule, Rules, rules_of
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params, content_hash
from prometheus_nt.engines.assessment import AssessmentParams
from prometheus_nt.engines.fragility import FragilityParams
from prometheus_nt.engines.portfolio import PortfolioParams
from prometheus_nt.engines.profiles import ProfileParams
from prometheus_nt.engines.regime import RegimeParams
from prometheus_nt.engines.risk import RiskParams
from prometheus_nt.engines.stability import StabilityParams
from prometheus_nt.engines.universe import UniverseParams
from prometheus_nt.venue.carry import FinancingParams
from prometheus_nt.venue.params import FeeParams, QuoteParams, Replay, RouterParams
from prometheus_nt.yaml_models import (
    Location,
    Origin,
    assignment_of,
    deep_merge,
    explained,
    holds,
    layered,
    nested,
    read_yaml,
    validated,
    value_of,
)
from strategies.catalog import SleeveParams, family
from strategies.limits import MODE_LIMITS, GateParams
from strategies.planner import PlannerParams

EngineRows = Literal["rebalance", "all", "none"]
Applied = Callable[[str], Mapping[str, Any]]
"""Returns the settings that were applied to a strategy, nested like a node's file; {} if none."""

ENVIRONMENT_PREFIX = "PROMETHEUS__"


Revision = (
    Annotated[int, Field(strict=True, ge=1)]
    | Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{16}$")]
)


class SessionsConfig(Params):
    """First and last session to trade; everything before the first is warm-up history.

    A day without trading rolls inwards: `start` to the next session, `end` to the one before.
    """

    start: date
    end: date | None = Field(None, description="None is the last session of the dataset")

    @model_validator(mode="after")
    def _in_order(self) -> "SessionsConfig":
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self


class DataConfig(Params):
    """The named dataset a node reads; sources never blend.

    revision : the state of the dataset to read, so that a run can be made again on what it used.
    benchmark : instrument to compare with, from `benchmark_dataset` or the same dataset.
    index : whose dated members `universe.require_membership` asks for; the dataset must keep them.
    collect : `ib`: a node that trades asks the broker itself for each session's bars, after its
        close; the dataset must be one of the broker's. None: they arrive beside the node.
    """

    dataset: str
    collect: Literal["ib"] | None = None
    index: str | None = None
    revision: Revision | None = Field(
        None, description="number, or quoted fingerprint of a panel; None is the newest"
    )
    benchmark: str | None = None
    benchmark_dataset: str | None = None


class EnginesConfig(Params):
    """Settings of every stage of the day; what is not set follows the sleeve's family."""

    profiles: ProfileParams = ProfileParams()
    regime: RegimeParams = RegimeParams()
    stability: StabilityParams = StabilityParams()
    fragility: FragilityParams = FragilityParams()
    assessment: AssessmentParams = AssessmentParams()
    universe: UniverseParams = UniverseParams()
    portfolio: PortfolioParams = PortfolioParams()
    risk: RiskParams = RiskParams()

    @model_validator(mode="after")
    def _shorts_are_allowed(self) -> "EnginesConfig":
        # Rejected one by one, they would leave a hedge of nothing that looks like a calm book.
        if self.portfolio.construction != "long_only" and self.risk.long_only:
            raise ValueError(
                f"risk.long_only: would reject every short of {self.portfolio.construction}"
            )
        return self


class ExecutionConfig(Params):
    """How decisions become fills, and what positions cost while they are held.

    fill_timing : `next_open`: decided after a close, filled at the next session's opening quotes.
    replay : `sparse` feeds the venue what it needs; `full` feeds everything, to prove it the same.
    planner : what is not set follows the sleeve's family.
    """

    fill_timing: Literal["next_open"] = "next_open"
    replay: Replay = "sparse"
    planner: PlannerParams = PlannerParams()
    router: RouterParams = RouterParams()
    quotes: QuoteParams = QuoteParams()
    fees: FeeParams = FeeParams()
    financing: FinancingParams = FinancingParams()


class PersistenceConfig(Params):
    """What becomes SQL rows; orders, fills, decisions and targets always do.

    engine_rows : sessions whose scores, stability and universe are written, one row a candidate.
    positions : snapshots of every session, or of those with a fill (the run folder has them all).
    """

    engine_rows: EngineRows = "rebalance"
    positions: Literal["all", "trades"] = "all"


class DaemonConfig(Params):
    """What the daemon does for a node, market day by market day.

    catch_up_sessions : newest sessions that have closed and are looked after; what was missed of
        them is done, the oldest first.
    jobs : changes to the jobs of a day; what is not set stays as `prometheus day dag` shows it.
    """

    catch_up_sessions: int = Field(5, ge=1, le=260)
    jobs: dict[JobKind, JobRule] = Field({}, description="by name")

    @model_validator(mode="after")
    def _jobs_can_be_done(self) -> "DaemonConfig":
        try:
            rules_of(self.jobs)
        except ConfigError as impossible:
            raise ValueError(f"jobs: {impossible}") from None
        return self

    @property
    def rules(self) -> Rules:
        """The jobs of the node's days, by their kind."""
        return rules_of(self.jobs)


class DayConfig(Params):
    """What a day must reach before its phases count as done; shares of instruments.

    min_data_coverage : of the instruments that are listed, those with a bar of the day.
    min_signal_coverage : of the instruments with a bar of the day, those with a score.
    min_universe_names : instruments that may be held, not a share; an empty universe passes with 0.
    max_attempts : times that a failing phase is tried before somebody has to look.
    """

    min_data_coverage: float = Field(0.95, gt=0, le=1)
    min_signal_coverage: float = Field(0.5, gt=0, le=1)
    min_universe_names: int = Field(0, ge=0)
    max_attempts: int = Field(5, ge=1)
    daemon: DaemonConfig = DaemonConfig()


class PaperConfig(Params):
    """How a paper node waits; what it trades is the same in every mode.

    poll_seconds : between two looks for a session's data.
    wait_for_database_seconds : at the end of a run, for what is still in the spool.
    halt_stale_hours : after a close, for its data; then the kill switch halts the sleeves. None
        waits for ever.
    """

    poll_seconds: float = Field(60.0, gt=0)
    wait_for_database_seconds: float = Field(30.0, ge=0)
    halt_stale_hours: float | None = Field(24.0, gt=0)


class IbConfig(Params):
    """How a node trades at Interactive Brokers.

    Where its gateway is and which account it trades, PROMETHEUS_IB_... of the environment say, or
    these settings, which win; `adapters.ib.config.LinkParams` explains them.

    send_after_minutes : after a close, until its orders for the next open are sent.
    send_until_minutes : before an open, from when nothing is sent for it any more.
    answer_minutes : most that the broker is waited for, before trading halts.
    cash_tolerance : largest difference of cash from the broker's, as a fraction of the capital.
    start_timeout_seconds : most that a connection may take to come up, of the node and of commands
        beside it; None is the connection's own, 60.
    """

    account: str | None = None
    host: str | None = None
    port: int | None = Field(None, ge=1, le=65535)
    client_id: int | None = Field(None, ge=1)
    also_ports: tuple[int, ...] | None = None
    also_hosts: tuple[str, ...] | None = None
    send_after_minutes: float = Field(5.0, ge=0, le=120)
    send_until_minutes: float = Field(10.0, ge=2, le=120)
    answer_minutes: float = Field(30.0, gt=0, le=600)
    cash_tolerance: float = Field(0.001, gt=0, le=0.1)
    start_timeout_seconds: float | None = Field(None, gt=0, le=600)
    patience: DeskParams = DeskParams()

    @property
    def link(self) -> dict[str, Any]:
        """The settings of the connection that are given here."""
        where = ("account", "host", "port", "client_id", "also_ports", "also_hosts")
        names = (*where, "start_timeout_seconds")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


class NodeConfig(Params):
    """One node: the same file for every venue but for the word after `mode`."""

    mode: Literal["backtest", "paper", "live"] = "backtest"
    venue: Literal["sandbox", "ib"] = Field(
        "sandbox", description="where paper trades: the simulated exchange, or the broker"
    )
    region: Literal["US", "EU", "ASIA"] = "US"
    market: str = "US_EQ"
    sessions: SessionsConfig
    instruments: Literal["all"] | tuple[str, ...] = "all"
    data: DataConfig
    engines: dict[str, dict[str, Any]] = Field(
        {}, description="per stage; checked with what each sleeve's family implies"
    )
    without: tuple[Literal["profiles", "regime", "fragility"], ...] = Field(
        (), description="engines that do not run; nothing may depend on them"
    )
    sleeves: tuple[SleeveParams, ...] = Field(min_length=1)
    execution: ExecutionConfig = ExecutionConfig()
    gate: GateParams = Field(
        GateParams(), description="what is not set follows each sleeve's family"
    )
    persistence: PersistenceConfig = PersistenceConfig()
    day: DayConfig = DayConfig()
    paper: PaperConfig = PaperConfig()
    ib: IbConfig = IbConfig()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "NodeConfig":
        if REGIONS[self.region] != self.market:
            raise ValueError(
                f"region {self.region} trades {REGIONS[self.region]}, not {self.market}"
            )
        if self.mode == "live" and self.venue != "ib":
            raise ValueError("mode live trades at a broker: set venue to ib")
        ids = [sleeve.sleeve_id for sleeve in self.sleeves]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two sleeves have one id: {', '.join(sorted(ids))}")
        return self

    def engines_of(self, sleeve: SleeveParams) -> EnginesConfig:
        """Return the engine settings of a sleeve.

        Defaults, then those of its family, of the node, and of the sleeve itself.

        Raises
        ------
        ConfigError
            If a setting is unknown, or contradicts another once they are put together.
        """
        implied = family(sleeve).engine_overrides[sleeve.horizon]
        forced = {
            "assessment": {"horizon": sleeve.horizon},
            "portfolio": {"book_id": sleeve.portfolio_id},
            "regime": {"region": self.region},
        }
        merged: dict[str, Any] = {}
        for layer in (implied, self.engines, sleeve.engines, forced):
            merged = deep_merge(merged, layer)
        try:
            engines = EnginesConfig.model_validate(merged)
        except ValidationError as invalid:
            lines = explained(EnginesConfig, invalid, self._origin(sleeve, "engines"))
            raise ConfigError("\n".join(lines)) from None
        for setting, asked, engine in _needs(engines):
            if asked and engine in self.without:
                raise ConfigError(
                    f"engines.{setting}: needs the {engine} engine; take it from `without`"
                )
        return engines

    def planner_of(self, sleeve: SleeveParams) -> PlannerParams:
        """Return the planner's settings for a sleeve, in the layers of `engines_of`."""
        layers = (family(sleeve).planner_overrides, self.execution.planner, sleeve.planner)
        return layered(PlannerParams, layers, self._origin(sleeve, "execution.planner"))

    def gate_of(self, sleeve: SleeveParams) -> GateParams:
        """Return the gate's settings for a sleeve, in the layers of `engines_of`.

        Below all of them lie the limits of the mode.

        Raises
        ------
        ConfigError
            If a setting is unknown, or the gate would refuse every plan of the sleeve's book.
        """
        implied = deep_merge(MODE_LIMITS[self.mode], family(sleeve).gate_overrides)
        layers = (implied, self.gate, sleeve.gate)
        origin = self._origin(sleeve, "gate")
        gate = layered(GateParams, layers, origin)
        construction = self.engines_of(sleeve).portfolio.construction
        if gate.long_only and construction != "long_only":
            raise ConfigError(
                f"{origin(('long_only',))}long_only: would refuse every plan of {sleeve.sleeve_id},"
                f" whose {construction} book sells short; set it to false"
            )
        return gate

    def _origin(self, sleeve: SleeveParams, section: str) -> Origin:
        """Return what tells, of a setting of `section`, whether the sleeve or the node gave it."""
        key = section.rpartition(".")[2]
        own = getattr(sleeve, key)

        def origin(location: Location) -> str:
            if not holds(own, location):
                return f"{section}."
            return f"sleeves.{self.sleeves.index(sleeve)}.{key}."

        return origin

    def resolved(self, sleeve: SleeveParams) -> dict[str, Any]:
        """Return everything that determines a sleeve's run, as plain values."""
        elsewhere = {"sleeves", "persistence", "day", "paper", "ib"}
        # A backtest is the same wherever its node will trade.
        if self.mode == "backtest" or self.venue == "sandbox":
            elsewhere.add("venue")
        plain = self.model_dump(mode="json", exclude=elsewhere)
        # Bars are the same whoever brings them.
        del plain["data"]["collect"]
        plain["engines"] = self.engines_of(sleeve).model_dump(mode="json")
        plain["execution"]["planner"] = self.planner_of(sleeve).model_dump(mode="json")
        plain["gate"] = self.gate_of(sleeve).model_dump(mode="json")
        plain["sleeve"] = sleeve.model_dump(mode="json")
        if not sleeve.metas:
            del plain["sleeve"]["metas"]
        plain["sleeve"]["rebalance"] = sleeve.rebalance or family(sleeve).schedules[sleeve.horizon]
        return plain

    def config_hash(self, sleeve: SleeveParams) -> str:
        """Return the hash of the resolved configuration of a sleeve.

        The data are no part of it, they have a fingerprint: so a run that names the revision it
        was made on is the run that it repeats.
        """
        resolved = self.resolved(sleeve)
        del resolved["data"]["revision"]
        return content_hash([resolved])

    def trading_hash(self, sleeve: SleeveParams) -> str:
        """Return the hash of what a sleeve trades by, whatever its first and last session are."""
        resolved = self.resolved(sleeve)
        return content_hash([{name: resolved[name] for name in resolved if name != "sessions"}])


def load_config(
    paths: Sequence[Path],
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    *,
    mode: str | None = None,
    applied: Applied | None = None,
) -> NodeConfig:
    """Read files (later ones win), then what was applied, the environment, and `key=value`.

    Parameters
    ----------
    mode : str, optional
        What the command is about, whatever mode is written anywhere.
    applied : function, optional
        What was applied to the node's strategy; by default nothing.

    Raises
    ------
    ConfigError
        Naming the file, the field, the value found and what was expected.
    """
    written = [read_yaml(path) for path in paths]
    settings = _from_environment(environment)
    given = [nested(dotted, value_of(name, text)) for name, dotted, text in settings]
    given += [nested(*assignment_of(assignment)) for assignment in assignments]
    given += [] if mode is None else [{"mode": mode}]
    others = [name for name, _, _ in settings] + [f"--set {item}" for item in assignments]
    source = " + ".join([*map(str, paths), *others])
    config = _node([*written, *given], source)
    active = {} if applied is None else _applied_to(config, applied)
    if not active:
        return config
    return _node([*written, active, *given], f"{source} + applied settings")


def _node(layers: Sequence[Mapping[str, Any]], source: str) -> NodeConfig:
    nothing: dict[str, Any] = {}
    config = validated(NodeConfig, reduce(deep_merge, layers, nothing), source)
    require_resolvable(config, source)
    return config


def require_resolvable(config: NodeConfig, source: str) -> None:
    """Require the settings of every sleeve to fit together.

    Raises
    ------
    ConfigError
        With a line for each contradiction, and `source` before it.
    """
    for sleeve in config.sleeves:
        family(sleeve)
        try:
            config.resolved(sleeve)
        except ConfigError as contradiction:
            lines = str(contradiction).splitlines()
            raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def _applied_to(config: NodeConfig, applied: Applied) -> Mapping[str, Any]:
    strategies = sorted({family(sleeve).strategy_id for sleeve in config.sleeves})
    active = {name: found for name in strategies if (found := applied(name))}
    if active and len(strategies) > 1:
        raise ConfigError(
            f"sleeves: settings were applied to {', '.join(active)}, and this node also trades "
            f"{', '.join(sorted(set(strategies) - set(active)) or strategies)}; give each strategy "
            "a node of its own, or run it with --no-applied"
        )
    return next(iter(active.values()), {})


def _needs(engines: EnginesConfig) -> tuple[tuple[str, bool, str], ...]:
    """Return which settings, where they are asked for, need an engine that may be left out."""
    universe, portfolio = engines.universe, engines.portfolio
    hedges = portfolio.construction == "short_hedge"
    limits_fragility = portfolio.solver.max_fragility is not None
    return (
        ("universe.regime_risk_alpha", universe.regime_risk_alpha > 0.0, "regime"),
        ("universe.exclude_weak_fragile", universe.exclude_weak_fragile, "profiles"),
        ("portfolio.construction: short_hedge", hedges, "fragility"),
        ("portfolio.solver.max_fragility", limits_fragility, "fragility"),
        ("fragility.scenario_set", engines.fragility.scenario_set is not None, "fragility"),
        ("portfolio.solver.two_level", portfolio.solver.two_level, "regime"),
    )


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [
        (key, key.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."), value)
        for key, value in sorted(environment.items())
        if key.startswith(ENVIRONMENT_PREFIX)
    ]
