"""Trade a node session by session, on the simulated venue or at a broker, recorded exactly once.

1. `run_paper` opens the one run of each sleeve (`paper_run.trading`): its `PaperTrader` becomes the
   only one who trades it, and runs the sessions of its tape again.
2. The `Desk` takes from the dataset the sessions that have closed and are complete (`DataWatch`).
3. `PaperTrader.trade` runs them: the open, its record, the close, its record. Then the venue gets
   the orders that were decided (`jobs.venues`).
4. With `fast` that is all; else the desk waits for the next session, until stopped.
5. Each run has its report (`ReportDesk`), whatever the node stops for.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

from prometheus_nt.actors.session_clock import Stop, wall_clock
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.backtest_market import require_fitting
from prometheus_nt.jobs.paper_data import paper_panel, require_collectable
from prometheus_nt.jobs.paper_desk import Desk
from prometheus_nt.jobs.paper_identity import run_to_trade
from prometheus_nt.jobs.paper_report import ReportDesk
from prometheus_nt.jobs.paper_request import PaperRequest, PaperSummary, Tell
from prometheus_nt.jobs.paper_run import trading
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import PaperVenue, SandboxVenue


def run_paper(
    config: NodeConfig,
    stores: Stores,
    request: PaperRequest,
    stop: Stop,
    tell: Tell | None = None,
    now: Callable[[], datetime] = wall_clock,
) -> list[PaperSummary]:
    """Trade every sleeve of a node, on paper or live; return where they stand in the end.

    Raises
    ------
    ConfigError
        If another run of a sleeve is open; nothing was begun then.
    PrometheusError
        If trading halts: positions stay, and an alert says why.
    """
    _require_possible(config, request)
    panel = paper_panel(config, stores)
    require_collectable(config, stores)
    require_fitting(config, stores.historical.dataset(config.data.dataset), panel)
    with ExitStack() as opened:
        venue = _venue(config, stores, request, panel, now)
        opened.callback(venue.close)
        usual = venue.begins(config)
        runs = [
            run_to_trade(config, sleeve, stores, panel, request.start, usual)
            for sleeve in config.sleeves
        ]
        # None is opened before all are known to be the only ones of their sleeves.
        traders = [
            opened.enter_context(trading(config, sleeve, stores, run, panel, venue))
            for sleeve, run in zip(config.sleeves, runs, strict=True)
        ]
        reports = ReportDesk(config, stores, traders)
        desk = Desk(config, stores, request, traders, venue, now)
        desk.when_idle = reports.when_due
        try:
            desk.trade_stored(stop, tell)
            if not request.fast:
                desk.trade_on(stop, tell)
            desk.settle()
        finally:
            reports.make()
        return [trader.summary() for trader in traders]


def _require_possible(config: NodeConfig, request: PaperRequest) -> None:
    """Refuse what a run would silently do without, and a span in which it would do nothing."""
    first, last = request.start, request.until
    if first is not None and last is not None and last < first:
        raise ConfigError(f"--until: {last} lies before --from, {first}; name a later session")
    if request.fast and config.venue != "sandbox":
        raise ConfigError(
            "--fast: a broker trades at the speed of life; rehearse it with `prometheus rehearse`"
        )
    for sleeve in config.sleeves:
        if config.engines_of(sleeve).fragility.scenario_set is not None:
            raise ConfigError(
                "engines.fragility.scenario_set: a paper run has no stored scenarios; set it to "
                "null, or backtest the node"
            )
    if config.data.revision is not None:
        raise ConfigError(
            "data.revision: a paper run follows the newest data; leave it out, or backtest the node"
        )


def _venue(
    config: NodeConfig,
    stores: Stores,
    request: PaperRequest,
    panel: MarketPanel,
    now: Callable[[], datetime],
) -> PaperVenue:
    if config.venue == "sandbox":
        return SandboxVenue()
    from prometheus_nt.jobs.ib_venue import open_ib_venue

    return open_ib_venue(config, stores, panel.instruments, now, request.acknowledge)
