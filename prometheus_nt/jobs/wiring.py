"""The one place that knows every part: turns a configuration into a node that is ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.cache.config import CacheConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import TraderId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.portfolio.config import PortfolioConfig

from persistence.live_mirror import LiveMirror
from persistence.mirror import Mirror
from persistence.rows import RunContext
from prometheus_nt.actors.engine_actor import EngineActor
from prometheus_nt.actors.market_data import MemberReplay, PanelReplay, ScenarioReplay
from prometheus_nt.actors.pipeline import MEMBERS_DAY, PIPELINE, Stage
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.ledger import BookState, Ledger
from prometheus_nt.domain.market import ScenarioOutlook, SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.domain.runs import RunIdentity
from prometheus_nt.domain.safety import Guard, always_armed
from prometheus_nt.domain.units import ShareUnits
from prometheus_nt.meta.member_books import BookSchedule
from prometheus_nt.venue.carry import Delistings
from prometheus_nt.venue.feed import SessionFeed, VenueParts
from prometheus_nt.venue.fees import PerShareFees
from prometheus_nt.venue.prices import equity_instrument
from prometheus_nt.venue.quotes import ImpactModel, usual_value
from prometheus_nt.venue.router import OpenRouter
from prometheus_nt.venue.told import ToldClient, ToldRouter
from strategies.catalog import SleeveParams, family
from strategies.gate import OrderGate
from strategies.sleeve import SleeveParts, SleeveStrategy

UNLIMITED_RATE = "1000000/00:00:01"


def _nobody_listens(_: object) -> None:
    """Hear a timer of a node that is closed."""


@dataclass(frozen=True)
class BacktestNode:
    """A wired backtest: attach `mirror`, drive `feed`, then read what the mirror collected."""

    engine: BacktestEngine
    feed: SessionFeed
    mirror: Mirror
    sleeve: SleeveStrategy
    market_data: PanelReplay

    def close(self) -> None:
        """Release what Nautilus holds; an engine that is only dropped leaks."""
        kernel = self.engine.kernel
        trader, bus = kernel.trader, kernel.msgbus
        clocks = [part.clock for part in (*trader.actors(), *trader.strategies())]
        clocks += [part.clock for part in trader.exec_algorithms()] + [kernel.clock]
        self.engine.reset()
        self.engine.dispose()
        # Clocks and the bus hold their handlers where the collector cannot see them: through those
        # cycles the whole node would outlive its run, with every tape that its engines read.
        for clock in clocks:
            clock.register_default_handler(_nobody_listens)
        for subscription in bus.subscriptions():
            bus.unsubscribe(subscription.topic, subscription.handler)


@dataclass(frozen=True)
class Recorded:
    """What a node is told besides its panel.

    Attributes
    ----------
    delistings : Delistings or None
        Recorded ends of instruments, and what they returned.
    scenarios : sequence of SimulatedReturns
        The sets of one name that fragility may see, each from the session it was made on.
    guard : callable
        The kill switch: what may leave the sleeve and its router now.
    members : BookSchedule or None
        What a sleeve follows that holds what the members of a meta-portfolio hold.
    told : bool
        Orders become what a broker told of them; the simulated exchange fills none.
    """

    delistings: Delistings | None = None
    scenarios: Sequence[SimulatedReturns] = ()
    guard: Guard = always_armed
    members: BookSchedule | None = None
    told: bool = False


NOTHING_MORE = Recorded()


@dataclass(frozen=True)
class PaperNode(BacktestNode):
    """A wired node whose sessions come one after the other, in shares as traded."""

    mirror: LiveMirror
    router: OpenRouter

    def extend(self, panel: MarketPanel, delistings: Delistings) -> None:
        """Take a panel with the same rows and more sessions after them."""
        units = ShareUnits.as_traded(panel)
        self.feed.extend(panel, units, delistings)
        self.market_data.extend(panel)
        self.sleeve.parts = replace(self.sleeve.parts, units=units)


@dataclass(frozen=True)
class PaperRecord:
    """What a restarted node's rows must have as before.

    began_at : when the run began
    account_id : of the broker that its orders go to; None trades on the simulated venue
    """

    began_at: datetime
    account_id: str | None = None


def wire_paper(
    config: NodeConfig,
    sleeve: SleeveParams,
    panel: MarketPanel,
    identity: RunIdentity,
    recorded: Recorded,
    record: PaperRecord,
) -> PaperNode:
    """Return the node that trades one sleeve as its sessions come.

    The venue counts shares as traded: a split that nobody knows of yet cannot change what is
    recorded today.
    """
    mirror = LiveMirror(
        # A restart writes the rows that were written before: they begin when the run began.
        run=replace(run_context(config, sleeve, identity), began_at=record.began_at),
        ledger=Ledger(panel.instruments, sleeve.capital_usd),
        engine_rows=config.persistence.engine_rows,
        account_id=record.account_id or f"SIM-{identity.run_id}",
    )
    units = ShareUnits.as_traded(panel)
    recorded = replace(recorded, told=record.account_id is not None)
    engine, feed, strategy, data = _wire(config, sleeve, panel, units, PIPELINE, recorded)
    return PaperNode(engine, feed, mirror, strategy, data, feed.router)


def wire_backtest(
    config: NodeConfig,
    sleeve: SleeveParams,
    panel: MarketPanel,
    identity: RunIdentity,
    table: Sequence[Stage] | None = None,
    recorded: Recorded = NOTHING_MORE,
) -> BacktestNode:
    """Return the node that runs one sleeve over a recorded panel; `table` replaces the day's."""
    units, stages = ShareUnits.of(panel), table or PIPELINE
    engine, feed, strategy, data = _wire(config, sleeve, panel, units, stages, recorded)
    mirror = Mirror(
        run=run_context(config, sleeve, identity),
        ledger=Ledger(panel.instruments, sleeve.capital_usd),
        engine_rows=config.persistence.engine_rows,
        positions=config.persistence.positions,
    )
    return BacktestNode(engine, feed, mirror, strategy, data)


def _wire(
    config: NodeConfig,
    sleeve: SleeveParams,
    panel: MarketPanel,
    units: ShareUnits,
    table: Sequence[Stage],
    recorded: Recorded,
) -> tuple[BacktestEngine, SessionFeed, SleeveStrategy, PanelReplay]:
    if sleeve.follows_members:
        _require_members(sleeve, recorded)
        table = MEMBERS_DAY
    instruments = tuple(equity_instrument(name) for name in panel.instruments)
    columns = {instrument.id: column for column, instrument in enumerate(instruments)}
    fees = PerShareFees(config.execution.fees, columns)
    kind = ToldRouter if recorded.told else OpenRouter
    router = kind(config.execution.router, columns, recorded.guard)
    engine = new_engine()
    add_venue(engine, instruments, fees, sleeve.capital_usd)
    if isinstance(router, ToldRouter):
        ToldClient(engine, instruments[0].id.venue, router)
    strategy = _sleeve(config, sleeve, panel, units, recorded.guard)
    data = PanelReplay(panel)
    engine.add_actor(data)
    stages = config.engines_of(sleeve)
    running = [stage for stage in table if stage.name not in config.without]
    available = {stage.output for stage in running} | {BookState}
    if recorded.scenarios:
        engine.add_actor(ScenarioReplay(recorded.scenarios))
        available.add(ScenarioOutlook)
    if recorded.members is not None:
        engine.add_actor(MemberReplay(recorded.members))
    for stage in running:
        engine.add_actor(EngineActor(stage, getattr(stages, stage.name), available))
    engine.add_strategy(strategy)
    engine.add_exec_algorithm(router)
    parts = VenueParts(
        engine=engine,
        instruments=instruments,
        router=router,
        fees=fees,
        impact=ImpactModel(panel, config.execution.quotes),
        half_spread=config.execution.quotes.half_spread_bps / 1e4,
        financing=config.execution.financing,
        delistings=recorded.delistings,
    )
    calendar = MarketCalendar.of(config.market)
    feed = SessionFeed(panel, units, calendar, parts, config.execution.replay)
    return engine, feed, strategy, data


def _require_members(sleeve: SleeveParams, recorded: Recorded) -> None:
    if recorded.members is None:
        raise ConfigError(
            f"sleeves.family: {sleeve.sleeve_id} follows the records of finished runs, which only "
            "a backtest can: `prometheus backtest`"
        )


def new_engine() -> BacktestEngine:
    """Return a Nautilus engine set for speed and without its own opinions on risk or equity."""
    return BacktestEngine(
        BacktestEngineConfig(
            trader_id=TraderId("PROMETHEUS-001"),
            logging=LoggingConfig(bypass_logging=True),
            cache=CacheConfig(bar_capacity=1, tick_capacity=1, drop_instruments_on_reset=False),
            portfolio=PortfolioConfig(bar_updates=False),
            # A rebalance is hundreds of orders at one instant; the default denies all but 100.
            risk_engine=RiskEngineConfig(
                max_order_submit_rate=UNLIMITED_RATE, max_order_modify_rate=UNLIMITED_RATE
            ),
            run_analysis=False,
        )
    )


def add_venue(
    engine: BacktestEngine, instruments: tuple[object, ...], fees: PerShareFees, capital: float
) -> None:
    """Add the simulated exchange and its instruments.

    Raises
    ------
    ConfigError
        If the instruments do not all belong to one venue.
    """
    venues = {str(instrument.id.venue) for instrument in instruments}  # type: ignore[attr-defined]
    if len(venues) != 1:
        raise ConfigError(
            f"instruments: one market has one venue suffix, found {', '.join(sorted(venues))}"
        )
    engine.add_venue(
        venue=Venue(venues.pop()),
        oms_type=OmsType.NETTING,
        # Cash is the ledger's business: a cash account would deny a sale larger than free cash.
        account_type=AccountType.MARGIN,
        starting_balances=[Money(capital, USD)],
        base_currency=USD,
        default_leverage=Decimal(1),
        fee_model=fees,
        use_reduce_only=False,
        use_message_queue=False,
        bar_execution=True,
        trade_execution=False,
    )
    for instrument in instruments:
        engine.add_instrument(instrument)


def run_context(config: NodeConfig, sleeve: SleeveParams, identity: RunIdentity) -> RunContext:
    """Return whose rows the mirror writes."""
    return RunContext(
        run_id=identity.run_id,
        mode=identity.mode.value,
        strategy_id=identity.strategy_id,
        sleeve_id=sleeve.sleeve_id,
        portfolio_id=sleeve.portfolio_id,
        market_id=config.market,
        region=config.region,
        config_hash=identity.config_hash,
        began_at=datetime.now(UTC),
    )


def _sleeve(
    config: NodeConfig,
    sleeve: SleeveParams,
    panel: MarketPanel,
    units: ShareUnits,
    guard: Guard,
) -> SleeveStrategy:
    parts = SleeveParts(
        sleeve_id=sleeve.sleeve_id,
        book_id=sleeve.portfolio_id,
        rebalance=sleeve.rebalance or family(sleeve).schedules[sleeve.horizon],
        instruments=tuple(equity_instrument(name) for name in panel.instruments),
        ledger=Ledger(panel.instruments, sleeve.capital_usd),
        units=units,
        planner=config.planner_of(sleeve),
        gate=OrderGate(config.gate_of(sleeve)),
        usual_value=_usual_value,
        guard=guard,
        calendar=MarketCalendar.of(config.market),
    )
    return SleeveStrategy(parts)


def _usual_value(panel: MarketPanel) -> FloatArray:
    row: FloatArray = panel.derived(usual_value)[-1]
    return row
