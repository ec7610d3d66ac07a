"""Run a campaign: every variant once, in parallel, through crashes, each one counted.

1. `plan_rows` writes the campaign and its variants, all of them waiting;
2. `resume_campaign` claims it and hands the waiting ones to an executor;
3. `run_trial` makes one run, in whatever process, and records how it ended;
4. a variant whose worker died is tried again, until its attempts are used up.

Nothing that ended is done twice: a stopped campaign goes on where it was, from its rows alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

from persistence.campaigns import ENDED, CampaignRow, CampaignStore, TrialRow
from prometheus_nt.campaign_config import CampaignConfig, CampaignPlan, plan_campaign, plan_of
from prometheus_nt.config import NodeConfig, Settings, validated
from prometheus_nt.domain.errors import ConfigError, PrometheusError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.backtest import Progress, RunSummary, run_backtest
from prometheus_nt.jobs.data import panel_of
from prometheus_nt.jobs.day import worker_name
from prometheus_nt.jobs.executor import Ending, Executor, Handle, new_executor
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.stores import Stores, open_stores
from strategies.catalog import CATALOG

DEFAULT_BASE = Path("configs/us_core_long_eq_ohlcv.yaml")

SECONDS_PER_YEAR = 0.9
"""Stated default: seconds of one run per calendar year of a market of twenty names."""

NEAREST = 20
"""Measured runs that an estimate rests on."""

WAITING = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class TrialSpec:
    """What a worker needs to find its work: where the databases are, and which variant it is."""

    settings: Settings
    campaign_id: str
    sleeve_id: str


@dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign has come; `eta_seconds` is None until a run was measured."""

    campaign_id: str
    status: str
    total: int
    ok: int
    cached: int
    failed: int
    running: int
    pending: int
    seconds_mean: float | None
    eta_seconds: float | None

    @property
    def done(self) -> int:
        return self.ok + self.cached + self.failed

    def line(self) -> str:
        """Return the counts as words."""
        eta = "" if self.eta_seconds is None else f", {self.eta_seconds:,.0f} s to go"
        return f"{self.failed} failed, {self.cached} cached{eta}"


@dataclass(frozen=True)
class Estimate:
    """How much work a campaign is, and what the estimate rests on."""

    variants: int
    years: float
    seconds_per_run: float
    seconds: float
    workers: int
    basis: str


def run_campaign(
    plan: CampaignPlan, stores: Stores, *, workers: int = 0, progress: Progress | None = None
) -> CampaignStatus:
    """Run every variant of a plan that has not been run; return how it ended.

    Parameters
    ----------
    workers : int
        Processes; 0 runs in this one.

    Raises
    ------
    PrometheusError
        If the plan makes no sense, its data are missing, or somebody else is running it.
    """
    campaign_id = plan_rows(plan, stores)
    return resume_campaign(campaign_id, stores, workers=workers, progress=progress)


def plan_rows(plan: CampaignPlan, stores: Stores) -> str:
    """Write a plan and its variants, once; return the id, which is the hash of what they are."""
    variants = plan.variants()
    # Loaded here, each panel is in the cache before many workers ask for it at once.
    datasets = sorted({variant.node.data.dataset for variant in variants})
    prints = [panel_of(stores, name).fingerprint for name in datasets]
    document = plan.document()
    digest = content_hash([document["config"], document["base"], code_hash(), prints])
    campaign_id = f"{plan.config.campaign}-{digest[:12]}"
    campaign = CampaignRow(
        campaign_id=campaign_id,
        name=plan.config.campaign,
        status="PLANNED",
        code_hash=code_hash(),
        start=plan.config.sessions.start,
        end=plan.config.sessions.end,
        plan=document,
        owner=None,
        lease_until=None,
    )
    trials = [
        TrialRow(
            campaign_id=campaign_id,
            sleeve_id=variant.sleeve.sleeve_id,
            position=position,
            strategy_id=CATALOG[variant.sleeve.family].strategy_id,
            market_id=variant.node.market,
            settings=variant.settings,
            # Only what was set: what is not follows the family, also when it is read back.
            node=variant.node.model_dump(mode="json", exclude_unset=True),
        )
        for position, variant in enumerate(variants)
    ]
    CampaignStore(stores.runtime.database).plan(campaign, trials)
    return campaign_id


def resume_campaign(
    campaign_id: str,
    stores: Stores,
    *,
    workers: int = 0,
    retry: bool = False,
    progress: Progress | None = None,
) -> CampaignStatus:
    """Run what of a campaign has not ended; with `retry`, what failed as well.

    Raises
    ------
    ConfigError
        If the code has changed since it was planned, or somebody else is running it.
    """
    store = CampaignStore(stores.runtime.database)
    campaign = store.campaign(campaign_id)
    if campaign.code_hash != code_hash():
        raise ConfigError(
            f"{campaign.campaign_id}: was planned with code {campaign.code_hash}, this is "
            f"{code_hash()}; half a campaign of each compares nothing, start it again with "
            "`prometheus campaign run`"
        )
    runner = _Runner(campaign, stores, store, worker_name(), progress)
    store.claim(campaign.campaign_id, runner.owner)
    executor = new_executor(workers)
    try:
        runner.run(executor, workers, retry)
    finally:
        executor.close()
        ended = all(status in ENDED for status, _ in store.progress(campaign.campaign_id))
        store.release(campaign.campaign_id, "COMPLETED" if ended else "STOPPED")
    return campaign_status(stores, campaign.campaign_id)


@dataclass(frozen=True)
class _Runner:
    campaign: CampaignRow
    stores: Stores
    store: CampaignStore
    owner: str
    progress: Progress | None
    deaths: Counter[str] = field(default_factory=Counter)

    @property
    def campaign_id(self) -> str:
        return self.campaign.campaign_id

    def run(self, executor: Executor, workers: int, retry: bool) -> None:
        config = plan_of(self.campaign.plan).config
        wanted = (*WAITING, "FAILED") if retry else WAITING
        waiting = [one for one in self.store.trials(self.campaign_id) if one.status in wanted]
        while waiting:
            handles = [
                executor.submit(run_trial, self._spec(trial), timeout=config.timeout_seconds)
                for trial in waiting
            ]
            for handle in executor.as_completed(handles, self._renew):
                self._settle(handle, config.max_attempts)
                self._tell(workers)
            waiting = [one for one in self.store.trials(self.campaign_id) if one.status in WAITING]

    def _spec(self, trial: TrialRow) -> TrialSpec:
        return TrialSpec(self.stores.settings, self.campaign_id, trial.sleeve_id)

    def _renew(self) -> None:
        self.store.renew(self.campaign_id, self.owner)

    def _settle(self, handle: Handle, max_attempts: int) -> None:
        """Record what a worker could not record itself: that it died, was killed, or hit a bug."""
        outcome, spec = handle.outcome, handle.spec
        if outcome is None or outcome.ending is Ending.DONE:
            return
        trial = self.store.trial(spec.campaign_id, spec.sleeve_id)
        if trial.status in ENDED:
            return
        # Counted here too: a worker may die before it could count its attempt.
        self.deaths[spec.sleeve_id] += outcome.ending is Ending.DIED
        tries = max(trial.attempt, self.deaths[spec.sleeve_id])
        if outcome.ending is Ending.DIED and tries < max_attempts:
            self.store.put_back(spec.campaign_id, spec.sleeve_id)
            return
        _count(self.stores, trial, f"{outcome.error}: {outcome.message}")
        self.store.end(
            spec.campaign_id,
            spec.sleeve_id,
            "FAILED",
            error=outcome.error,
            message=outcome.message,
        )

    def _tell(self, workers: int) -> None:
        if self.progress is not None:
            found = campaign_status(self.stores, self.campaign_id, workers)
            self.progress(found.done, found.total, found.line())


def run_trial(spec: TrialSpec) -> str:
    """Run one variant and record how it ended; return its run id."""
    with open_stores(spec.settings) as stores:
        store = CampaignStore(stores.runtime.database)
        trial = store.trial(spec.campaign_id, spec.sleeve_id)
        store.begin(spec.campaign_id, spec.sleeve_id, worker_name())
        began = perf_counter()
        try:
            (summary,) = run_backtest(_node(trial), stores, load=_kept_panel)
        except PrometheusError as failure:
            kind, message = type(failure).__name__, str(failure)
            _count(stores, trial, f"{kind}: {message}")
            store.end(spec.campaign_id, spec.sleeve_id, "FAILED", error=kind, message=message)
            raise
        status = "CACHED" if summary.cached else "OK"
        seconds = None if summary.cached else perf_counter() - began
        store.end(spec.campaign_id, spec.sleeve_id, status, run_id=summary.run_id, seconds=seconds)
        return summary.run_id


_KEPT: dict[str, MarketPanel] = {}
"""The panel of the last run in this process, with everything that was derived from it."""


def _kept_panel(
    stores: Stores, dataset_id: str, index: str | None, revision: int | str | None
) -> MarketPanel:
    """Return the panel of a dataset: that of the run before if nothing has changed.

    Variants of one campaign share what engines derive from prices with the same settings.
    """
    panel = panel_of(stores, dataset_id, index, revision)
    key = f"{stores.historical.database.safe_url} {dataset_id} {index} {panel.fingerprint}"
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = panel
    return _KEPT[key]


def campaign_status(stores: Stores, campaign_id: str, workers: int = 0) -> CampaignStatus:
    """Return how far a campaign has come."""
    store = CampaignStore(stores.runtime.database)
    campaign = store.campaign(campaign_id)
    trials = store.progress(campaign.campaign_id)
    counts = Counter(status for status, _ in trials)
    measured = [seconds for _, seconds in trials if seconds is not None]
    mean = sum(measured) / len(measured) if measured else None
    left = counts["PENDING"] + counts["RUNNING"]
    return CampaignStatus(
        campaign_id=campaign.campaign_id,
        status=campaign.status,
        total=len(trials),
        ok=counts["OK"],
        cached=counts["CACHED"],
        failed=counts["FAILED"],
        running=counts["RUNNING"],
        pending=counts["PENDING"],
        seconds_mean=mean,
        eta_seconds=None if mean is None else mean * left / max(workers, counts["RUNNING"], 1),
    )


def trial_rows(stores: Stores, campaign_id: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return these columns of every variant of a campaign."""
    store = CampaignStore(stores.runtime.database)
    found = store.trials(store.campaign(campaign_id).campaign_id)
    return [tuple(getattr(trial, name) for name in columns) for trial in found]


def list_campaigns(stores: Stores, limit: int) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return the columns and rows of the newest campaigns."""
    return CampaignStore(stores.runtime.database).listing(limit)


def estimate_campaign(plan: CampaignPlan, stores: Stores, workers: int = 0) -> Estimate:
    """Return how many variants a plan has, and how long they will take."""
    variants = plan.variants()
    window = plan.config.sessions
    years = ((window.end - window.start).days + 1) / 365.25
    store = CampaignStore(stores.runtime.database)
    measured = [
        (seconds, days)
        for market in plan.config.markets
        for seconds, days in store.seconds_of_runs(market)
    ]
    # A run has a cost of its own besides that of its years: ask those of nearly the same length.
    measured = sorted(measured, key=lambda one: abs(one[1] - 365.25 * years))[:NEAREST]
    if measured:
        per_year = 365.25 * sum(one[0] for one in measured) / sum(one[1] for one in measured)
        basis = f"{len(measured)} measured runs, {per_year:.2f} s a year of sessions"
    else:
        per_year = SECONDS_PER_YEAR
        basis = f"no run was measured yet: a default of {per_year:.2f} s a year of sessions"
    seconds = per_year * years
    total = seconds * len(variants) / max(workers, 1)
    return Estimate(len(variants), years, seconds, total, workers, basis)


def look_at_holdout(
    stores: Stores, campaign_id: str, sleeve_id: str, progress: Progress | None = None
) -> tuple[RunSummary, int]:
    """Run one variant on the sealed window; return the run, and how many looks there were by then.

    The look is sealed in the ledger before anything of it is known, each time anew; the run is a
    trial like any other.

    Raises
    ------
    ConfigError
        If the campaign sealed no window.
    """
    store = CampaignStore(stores.runtime.database)
    campaign = store.campaign(campaign_id)
    holdout = plan_of(campaign.plan).config.holdout
    if holdout is None:
        raise ConfigError(f"{campaign.campaign_id}: its file seals no hold-out")
    trial = store.trial(campaign.campaign_id, sleeve_id)
    node = {**trial.node, "sessions": holdout.model_dump(mode="json")}
    config = validated(NodeConfig, node, f"{campaign.campaign_id}: {sleeve_id}")
    looks = stores.trials.look(
        {
            "family": trial.strategy_id,
            "start": holdout.start.isoformat(),
            "end": holdout.end.isoformat(),
            "campaign_id": campaign.campaign_id,
            "sleeve_id": sleeve_id,
        }
    )
    (summary,) = run_backtest(config, stores, progress=progress)
    return summary, looks


def run_sleeve_backtest(
    strategy_id: str,
    start_date: date,
    end_date: date,
    market_ids: Sequence[str],
    *,
    horizon: int = 21,
    settings: Settings | None = None,
) -> str:
    """Run one sleeve of a strategy on the default node's data; return the run id.

    Raises
    ------
    ConfigError
        If the strategy is unknown or does not trade on the one market named.
    DataError
        If the data do not reach that far.
    """
    if len(market_ids) != 1:
        raise ConfigError(f"market_ids: a sleeve trades on one market, found {list(market_ids)}")
    plan = plan_campaign(
        horizon_campaign(strategy_id, market_ids[0], (start_date, end_date), horizons=(horizon,)),
        [DEFAULT_BASE],
    )
    (variant,) = plan.variants()
    # The sleeve itself, under its own name: it is nobody's variant.
    sleeve = variant.sleeve.model_copy(update={"variant": None})
    node = variant.node.model_copy(update={"sleeves": (sleeve,)})
    with open_stores(settings or Settings.from_environment(), upgrade=True) as stores:
        return run_backtest(node, stores)[0].run_id


def horizon_campaign(
    strategy_id: str,
    market_id: str,
    window: tuple[date, date],
    *,
    horizons: Sequence[int] | None = None,
    disable_risk: bool = False,
    top_k: int = 3,
) -> CampaignConfig:
    """Return the campaign of a strategy's sleeves on the default node, one a horizon.

    Raises
    ------
    ConfigError
        If the strategy is unknown.
    """
    if strategy_id not in CATALOG:
        raise ConfigError(
            f"--strategy-id: unknown strategy {strategy_id!r}; known: {', '.join(CATALOG)}"
        )
    content = {
        "campaign": f"{strategy_id}_horizons".lower()[:40],
        "base": [str(DEFAULT_BASE)],
        "families": [strategy_id],
        "markets": {market_id: {}},
        "sessions": {"start": window[0], "end": window[1]},
        "grid": {"sleeve.horizon": list(horizons or CATALOG[strategy_id].schedules)},
        "disable_risk": disable_risk,
        "selection": {"top_k": top_k},
    }
    return validated(CampaignConfig, content, "campaign")


def _node(trial: TrialRow) -> NodeConfig:
    return validated(NodeConfig, trial.node, f"{trial.campaign_id}: {trial.sleeve_id}")


def _count(stores: Stores, trial: TrialRow, reason: str) -> None:
    """Count a variant that failed before its run could count itself."""
    node = _node(trial)
    sleeve = node.sleeves[0]
    params = node.config_hash(sleeve)
    if stores.trials.knows(trial.strategy_id, params):
        return
    identity = RunIdentity(
        strategy_id=trial.strategy_id,
        sleeve_id=trial.sleeve_id,
        mode=Mode.BACKTEST,
        code_hash=code_hash(),
        config_hash=params,
        data_fingerprint="unknown",
        seed=node.seed,
    )
    window = {"start_date": node.sessions.start, "end_date": node.sessions.end}
    stores.trials.begin(identity, {"market_id": trial.market_id, **window})
    stores.trials.fail(identity, reason)
