"""Run a campaign: every variant once, in parallel, through crashes, each one counted.

1. `plan_rows` writes the campaign and its variants, all of them waiting;
2. `resume_campaign` claims it;
3. where the campaign screens, every variant is screened, and those that could not be selected end
   there (`_Runner.screen`);
4. the others go to an executor: `trial.run_trial` makes one run, in whatever process, and records
   how it ended;
5. a variant whose worker died is tried again, until its attempts are used up.

Nothing that ended is done twice: a stopped campaign goes on where it was, from its rows alone.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Any

from persistence.campaigns import ENDED, CampaignRow, CampaignStore, TrialRow
from prometheus_nt.campaign_config import CampaignConfig, CampaignPlan, plan_campaign, plan_of
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import ExecutorKind
from prometheus_nt.jobs.backtest import Progress, RunSummary, run_backtest
from prometheus_nt.jobs.day import worker_name
from prometheus_nt.jobs.executor import Ending, Executor, Handle, new_executor
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.observability import about_run
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.jobs.trial import (
    TrialSpec,
    count_failure,
    run_trial,
    screen_trial,
    variants_to_run,
)
from prometheus_nt.meta.findings import Finding, screen_gap
from prometheus_nt.settings import Settings
from prometheus_nt.yaml_models import validated
from strategies.catalog import CATALOG

log = logging.getLogger(__name__)

DEFAULT_BASE = Path("configs/us_core_long_eq_ohlcv.yaml")

SECONDS_PER_YEAR = 0.9
"""Stated default: seconds of one run per calendar year of a market of twenty names."""

NEAREST = 20
"""Measured runs that an estimate rests on."""

WAITING = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign has come; `eta_seconds` is None until a run was measured.

    Attributes
    ----------
    screened : int
        Variants that ended with their screen: counted, and never selected.
    largest_gap_bps : float or None
        Of any run from its screen, basis points a year; None until one was compared.
    gap_findings : tuple of str
        Gaps beyond the campaign's bound.
    """

    campaign_id: str
    status: str
    total: int
    ok: int
    cached: int
    failed: int
    screened: int
    running: int
    pending: int
    largest_gap_bps: float | None
    gap_findings: tuple[str, ...]
    seconds_mean: float | None
    eta_seconds: float | None

    @property
    def done(self) -> int:
        return self.ok + self.cached + self.failed + self.screened

    def line(self) -> str:
        """Return the counts as words."""
        eta = "" if self.eta_seconds is None else f", {self.eta_seconds:,.0f} s to go"
        screened = f", {self.screened} screened only" if self.screened else ""
        return f"{self.failed} failed, {self.cached} cached{screened}{eta}"


@dataclass(frozen=True)
class Estimate:
    """How much work a campaign is, and what the estimate rests on."""

    variants: int
    runs: int
    years: float
    seconds_per_run: float
    seconds: float
    workers: int
    basis: str


def run_campaign(
    plan: CampaignPlan,
    stores: Stores,
    *,
    workers: int = 0,
    executor: ExecutorKind | None = None,
    progress: Progress | None = None,
) -> CampaignStatus:
    """Run every variant of a plan that has not been run; return how it ended.

    Parameters
    ----------
    workers : int
        Processes; 0 runs in this one, and uses the whole of a Ray cluster.
    executor : where it runs; else where the settings say, else here if there are no workers.

    Raises
    ------
    PrometheusError
        If the plan makes no sense, its data are missing, or somebody else is running it.
    """
    campaign_id = plan_rows(plan, stores)
    return resume_campaign(
        campaign_id, stores, workers=workers, executor=executor, progress=progress
    )


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
    executor: ExecutorKind | None = None,
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
    began = monotonic()
    log.info("campaign=%s workers=%d began", campaign.campaign_id, workers)
    try:
        with about_run(campaign.campaign_id):
            runner.run_on(executor or stores.settings.executor, workers, retry)
    finally:
        found = Counter(status for status, _ in store.progress(campaign.campaign_id))
        status = "COMPLETED" if set(found) <= set(ENDED) else "STOPPED"
        store.release(campaign.campaign_id, status)
        counts = " ".join(f"{name.lower()}={count}" for name, count in sorted(found.items()))
        seconds = monotonic() - began
        log.info("campaign=%s %s seconds=%.1f %s", campaign.campaign_id, counts, seconds, status)
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

    def run_on(self, kind: ExecutorKind | None, workers: int, retry: bool) -> None:
        executor = new_executor(workers, kind, self.stores.settings)
        try:
            self.run(executor, workers, retry)
        finally:
            executor.close()

    def run(self, executor: Executor, workers: int, retry: bool) -> None:
        config = plan_of(self.campaign.plan).config
        if config.screens:
            self.screen(executor, config)
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

    def screen(self, executor: Executor, config: CampaignConfig) -> None:
        """Screen what waits and was not screened; end what is not worth a run."""
        trials = self.store.trials(self.campaign_id)
        unknown = [one for one in trials if one.status in WAITING and one.screen is None]
        if not unknown:
            return
        handles = [
            executor.submit(screen_trial, self._spec(trial), timeout=config.timeout_seconds)
            for trial in unknown
        ]
        for handle in executor.as_completed(handles, self._renew):
            self._settle_screen(handle)
        trials = self.store.trials(self.campaign_id)
        chosen = variants_to_run(self.stores, config, trials)
        for trial in trials:
            if trial.status in WAITING and trial.sleeve_id not in chosen:
                self.store.end(self.campaign_id, trial.sleeve_id, "SCREENED")

    def _settle_screen(self, handle: Handle) -> None:
        """Record that a screen could not record itself: its run will have to say why."""
        outcome = handle.outcome
        if outcome is not None and outcome.ending is not Ending.DONE:
            found = {"error": outcome.error, "message": outcome.message}
            self.store.screened(self.campaign_id, handle.spec.sleeve_id, found)

    def _spec(self, trial: TrialRow) -> TrialSpec:
        return TrialSpec(self.stores.settings.absolute(), self.campaign_id, trial.sleeve_id)

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
        count_failure(self.stores, trial, f"{outcome.error}: {outcome.message}")
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


def campaign_status(stores: Stores, campaign_id: str, workers: int = 0) -> CampaignStatus:
    """Return how far a campaign has come."""
    store = CampaignStore(stores.runtime.database)
    campaign = store.campaign(campaign_id)
    trials = store.progress(campaign.campaign_id)
    counts = Counter(status for status, _ in trials)
    measured = [seconds for _, seconds in trials if seconds is not None]
    mean = sum(measured) / len(measured) if measured else None
    left = counts["PENDING"] + counts["RUNNING"]
    gaps = [gap for _, gap in store.gaps(campaign.campaign_id) if gap is not None]
    return CampaignStatus(
        campaign_id=campaign.campaign_id,
        status=campaign.status,
        total=len(trials),
        ok=counts["OK"],
        cached=counts["CACHED"],
        failed=counts["FAILED"],
        screened=counts["SCREENED"],
        running=counts["RUNNING"],
        pending=counts["PENDING"],
        largest_gap_bps=max(gaps, default=None),
        gap_findings=tuple(
            f"{one.code} {one.subject}: {one.message}" for one in gap_findings(stores, campaign)
        ),
        seconds_mean=mean,
        eta_seconds=None if mean is None else mean * left / max(workers, counts["RUNNING"], 1),
    )


def gap_findings(stores: Stores, campaign: CampaignRow) -> tuple[Finding, ...]:
    """Return what is to be said of runs that are further from their screens than allowed."""
    config = plan_of(campaign.plan).config
    if config.screen is None:
        return ()
    most = config.screen.max_gap_bps
    gaps = CampaignStore(stores.runtime.database).gaps(campaign.campaign_id)
    told = (screen_gap(sleeve_id, gap, most) for sleeve_id, gap in gaps)
    return tuple(one for one in told if one is not None)


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
    runs = _runs_of(plan.config, len(variants))
    total = seconds * runs / max(workers, 1)
    return Estimate(len(variants), runs, years, seconds, total, workers, basis)


def _runs_of(config: CampaignConfig, variants: int) -> int:
    """Return how many of so many variants will be run; a screen takes next to no time."""
    if config.screen is None or not config.screen.enabled:
        return variants
    return config.screen.kept(variants, config.selection.top_k)


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
