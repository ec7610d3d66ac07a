"""A gateway simulator over a stored dataset: who trades what, at whose prices and fees."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from adapters.ib_gateway.account import Account, require_paper
from adapters.ib_gateway.book import FillPrice, Terms
from adapters.ib_gateway.contracts import Contracts, Stock, contract_id, made_up_isin
from adapters.ib_gateway.control import Control
from adapters.ib_gateway.fault_table import FAULTS
from adapters.ib_gateway.faults import (
    Faults,
    Script,
    ScriptEntry,
    random_rules,
    read_rule,
)
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.market import Clock, Prices
from adapters.ib_gateway.server import HIGHEST_VERSION, Limits, Pace, Server
from persistence.instruments import InstrumentStore
from prometheus_nt.domain.calendar import TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.instruments import InstrumentMap
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings
from prometheus_nt.venue.fees import commission
from prometheus_nt.venue.params import FeeParams, QuoteParams
from prometheus_nt.venue.prices import PRICE_DECIMALS
from prometheus_nt.venue.quotes import ImpactModel
from prometheus_nt.yaml_models import read_yaml, validated

SETTLE_SECONDS = 600.0
"""After a close, where a clock that skips hours begins: orders for the next open are taken then."""

JOURNAL = "gateway.jsonl"


@dataclass(frozen=True)
class GatewayRequest:
    """What to simulate.

    Attributes
    ----------
    start, end : first and last session that clients can trade
    fast : the replay waits for commands; otherwise it runs at the speed of life
    seconds_per_session : or takes so many wall seconds for each session
    run_seconds, idle_seconds : when it ends by itself; None is never
    faults : rules as text
    script : YAML file of faults by their moments
    random_faults : seed and count of faults chosen by chance
    state : folder in which orders outlive the process; None forgets them
    """

    dataset_id: str
    start: date
    end: date
    port: int = 0
    version_cap: int = HIGHEST_VERSION
    account: str = "DU1234567"
    cash_usd: float = 1_000_000.0
    fast: bool = False
    seconds_per_session: float | None = None
    run_seconds: float | None = None
    idle_seconds: float | None = None
    faults: tuple[str, ...] = ()
    script: Path | None = None
    random_faults: tuple[int, int] | None = None
    state: Path | None = None
    read_only: bool = False
    quotes: QuoteParams = field(default_factory=QuoteParams)
    fees: FeeParams = field(default_factory=FeeParams)


def run_gateway(
    settings: Settings, request: GatewayRequest, announce: Callable[[dict[str, Any]], None]
) -> str:
    """Serve a gateway until it ends; return why it did.

    Parameters
    ----------
    announce : function that is told the ports, the account and the faults once it listens
    """
    with open_stores(settings) as stores:
        gateway = build_gateway(stores, request)
    limits = Limits(request.run_seconds, request.idle_seconds)
    server = Server(gateway, request.port, request.version_cap, pace_of(request), limits)
    return asyncio.run(_serve(server, announce))


def build_gateway(stores: Stores, request: GatewayRequest) -> Gateway:
    """Return the gateway of a request.

    Raises
    ------
    ConfigError
        If the account is no paper account, a fault is unknown, or the sessions do not fit.
    NonSession
        If `start` or `end` is no session of the market.
    """
    require_paper(request.account)
    panel = panel_of(stores, request.dataset_id)
    market_id = stores.historical.dataset(request.dataset_id)["market_id"]
    known = InstrumentStore(stores.historical.database).read()
    return gateway_of(panel, market_id, known, request)


def gateway_of(
    panel: MarketPanel, market_id: str, known: InstrumentMap, request: GatewayRequest
) -> Gateway:
    """Return a gateway that replays a panel."""
    panel = _stocks_of(panel, known)
    prices = prices_of(panel, market_id)
    calendar = MarketCalendar.of(market_id)
    first, last = (prices.row(calendar.require_session(d)) for d in (request.start, request.end))
    settle = 0.0 if pace_of(request).kind == "wall" else SETTLE_SECONDS
    terms = Terms(
        Contracts([_stock(name, known, request.end) for name in panel.instruments]),
        open_prices(panel, request.quotes),
        # As the simulated venue does: half a cent of a numpy float rounds otherwise.
        lambda shares, value: commission(np.float64(shares), value, request.fees),
        request.read_only,
    )
    return Gateway(
        terms,
        Clock(prices, first, last, settle_seconds=settle),
        Account(request.account, request.cash_usd),
        _faults(request),
        None if request.state is None else request.state / JOURNAL,
        f"{panel.fingerprint} {request.start} {request.end}",
    )


def pace_of(request: GatewayRequest) -> Pace:
    """Return how a request's replay moves on; ConfigError if it asks for two ways."""
    if request.fast and request.seconds_per_session is not None:
        raise ConfigError("gateway: give --fast or --seconds-per-session, not both")
    if request.seconds_per_session is not None:
        return Pace("sessions", request.seconds_per_session)
    return Pace("command" if request.fast else "wall")


def prices_of(panel: MarketPanel, market_id: str) -> Prices:
    """Return a panel as the simulator replays it."""
    calendar = MarketCalendar.of(market_id)
    rows = calendar.rows(panel.sessions)
    arrays = {name: getattr(panel, name) for name in PANEL_FIELDS}
    return Prices(
        panel.sessions,
        calendar.opens_ns[rows],
        calendar.closes_ns[rows],
        time_zone=TIMEZONES[market_id],
        **arrays,
    )


def open_prices(panel: MarketPanel, params: QuoteParams) -> FillPrice:
    """Return the fill prices of the backtest: half a spread and the order's own impact."""
    model = ImpactModel(panel, params)
    half_spread = params.half_spread_bps / 10_000

    def fill_price(row: int, column: int, side: int, shares: int, middle: float) -> float:
        # As in a backtest, the newest fact that may price a fill is the close before it.
        value = np.array([shares * middle])
        impact = float(model.fraction(max(row - 1, 0), np.array([column]), value)[0])
        return round(middle * max(0.0, 1.0 + side * (half_spread + impact)), PRICE_DECIMALS)

    return fill_price


def faults_listing() -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return every fault that can be injected: what it does, when, and its arguments."""
    rows = [
        (
            name,
            fault.about,
            " ".join(fault.hooks) or "start",
            " ".join(f"{key}={value}" for key, value in fault.args.items()),
        )
        for name, fault in FAULTS.items()
    ]
    return ("fault", "what happens", "waits for", "arguments"), rows


def _stocks_of(panel: MarketPanel, known: InstrumentMap) -> MarketPanel:
    """Return the panel without indices, which nobody can trade."""
    names = tuple(name for name in panel.instruments if known.require(name).asset_class != "INDEX")
    if not names:
        raise DataError("gateway: the dataset has no instrument that can be traded")
    return panel.select(names)


def _stock(name: str, known: InstrumentMap, as_of: date) -> Stock:
    contract = known.contract(name, as_of)
    [spec] = known.trading_specs([name])
    number = contract.con_id
    if number is None:
        number = contract_id(contract.symbol, contract.sec_type, contract.currency)
    return Stock(
        con_id=number,
        symbol=contract.symbol,
        currency=contract.currency,
        primary_exchange=contract.primary_exchange or "",
        min_tick=float(spec.tick_size),
        isin=made_up_isin(number),
    )


def _faults(request: GatewayRequest) -> Faults:
    rules = [read_rule(text) for text in request.faults]
    if request.random_faults is not None:
        rules += random_rules(*request.random_faults)
    return Faults(rules, _script(request.script))


def _script(path: Path | None) -> tuple[ScriptEntry, ...]:
    if path is None:
        return ()
    entries = validated(Script, read_yaml(path), str(path)).faults
    for entry in entries:
        at = entry.at
        if at.session is None and at.orders is None and at.seconds is None:
            raise ConfigError(f"{path}: {entry.fault}: at: give a session, orders or seconds")
    return entries


async def _serve(server: Server, announce: Callable[[dict[str, Any]], None]) -> str:
    control = Control(server)
    try:
        port = await server.start()
        _stop_on_signals(server)
        rules = [f"{rule.name} nth={rule.nth}" for rule in server.gateway.faults.rules]
        announce(
            {
                "port": port,
                "control_port": await control.start(),
                "account": server.gateway.book.account.account_id,
                "faults": rules,
                **control.status(),
            }
        )
        return await server.wait()
    finally:
        await control.close()
        await server.close()


def _stop_on_signals(server: Server) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only a main thread may handle signals; elsewhere whoever started us ends us.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, server.stop, "interrupted")
