"""One command for a whole day: its phases, then the campaign of its strategy, then the decision.

1. `run_day` takes the session through the engine's phases, a bounded number of steps;
2. `run_horizons` runs the strategy's sleeves over the campaign's window;
3. `jobs.meta.rank_campaign` decides.

The campaign is not run if the day did not complete: a broken day is looked at first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from persistence.engine_runs import EngineRun
from prometheus_nt.campaign_config import plan_campaign
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.domain.runs import ExecutorKind
from prometheus_nt.jobs.backtest import Progress
from prometheus_nt.jobs.campaign import CampaignStatus, horizon_campaign, run_campaign
from prometheus_nt.jobs.day import DayRunner, ensure_day, worker_name
from prometheus_nt.jobs.meta import Decision, rank_campaign
from prometheus_nt.jobs.stores import Stores
from strategies.catalog import family


@dataclass(frozen=True)
class Horizons:
    """The campaign of a strategy's sleeves, one a horizon, over a window.

    initial_cash : what each sleeve begins with, USD; None is what a sleeve has by default.
    """

    strategy_id: str
    market_id: str
    start: date
    end: date
    base: Path
    top_k: int = 3
    disable_risk: bool = False
    workers: int = 0
    executor: ExecutorKind | None = None
    initial_cash: float | None = None


def run_day(
    config: NodeConfig,
    as_of: date,
    stores: Stores,
    max_steps: int,
    tell: Callable[[EngineRun], None] | None = None,
) -> EngineRun:
    """Advance a session by at most `max_steps` phases; return where it stands then."""
    run = ensure_day(config, as_of, stores)
    return DayRunner(config, stores, worker_name()).run_to_end(run, tell, max_steps)


def run_horizons(
    asked: Horizons, stores: Stores, progress: Progress | None = None
) -> tuple[CampaignStatus, Decision]:
    """Run the sleeves of a strategy, one a horizon, and decide which of them go on.

    Raises
    ------
    PrometheusError
        If the window, the strategy or the market make no sense, or not one run was finished.
    """
    config = horizon_campaign(
        asked.strategy_id,
        asked.market_id,
        (asked.start, asked.end),
        disable_risk=asked.disable_risk,
        top_k=asked.top_k,
    )
    cash = {} if asked.initial_cash is None else {"sleeve.capital_usd": asked.initial_cash}
    markets = {asked.market_id: cash}
    config = config.model_copy(update={"base": (str(asked.base),), "markets": markets})
    plan = plan_campaign(config, [asked.base])
    status = run_campaign(
        plan, stores, workers=asked.workers, executor=asked.executor, progress=progress
    )
    return status, rank_campaign(stores, status.campaign_id)


def require_known_by(as_of: date, campaign_end: date) -> None:
    """Raise `ConfigError` if a campaign would use sessions later than the day it belongs to."""
    if campaign_end > as_of:
        raise ConfigError(
            f"--campaign-end: {campaign_end} is later than --as-of {as_of}; that day could not "
            "have known it"
        )


def require_same_day(config: NodeConfig, region: str, strategy_id: str, market_id: str) -> None:
    """Raise `ConfigError` unless the node is of this region, market and strategy."""
    if REGIONS.get(region) != market_id:
        known = ", ".join(f"{name} trades {market}" for name, market in REGIONS.items())
        raise ConfigError(f"--market-id: {region} does not trade {market_id}; {known}")
    found = sorted({family(sleeve).strategy_id for sleeve in config.sleeves})
    if config.region != region or found != [strategy_id]:
        raise ConfigError(
            f"the node is of {config.region} and {', '.join(found)}, asked was {region} and "
            f"{strategy_id}; name its file with --config"
        )


def completed(run: EngineRun | None) -> bool:
    """Return whether the day is done; a day that was skipped is nobody's obstacle."""
    return run is None or run.phase is RunPhase.COMPLETED
