"""Rehearse a node at a simulated broker over past sessions, and compare it with the backtest.

1. A folder of its own: neither the stored runs nor the real account's journal are touched.
2. The paper node as it is, with `venue: ib`, trades at the simulator, whose market moves on
   whenever the node waits; the simulator replays the node's dataset at the backtest's costs.
3. The backtest of the same sessions.
4. `differences` compares them, order for order and fill for fill.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from adapters.ib.config import DeskParams
from adapters.ib_gateway.fault import Struck
from persistence import schema
from persistence.database import Database
from persistence.runtime import RuntimeStore
from persistence.trades import StoredFill, StoredOrder, last_equity, stored_fills, stored_orders
from prometheus_nt.config import IbConfig, NodeConfig
from prometheus_nt.domain.calendar import TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import TradingHalted
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.gateway import GatewayRequest, build_gateway
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest, PaperSummary, Tell
from prometheus_nt.jobs.simulated_market import SimulatedMarket, simulated_market
from prometheus_nt.jobs.stores import Stores

ACCOUNT = "DU1234567"
QUICK = DeskParams(
    tick_seconds=0.02,
    answer_seconds=1.0,
    apart_seconds=0.5,
    resync_seconds=2.0,
    retry_seconds=0.1,
)
"""A fast clock's patience: the simulator is on the same machine."""


@dataclass(frozen=True)
class RehearsalRequest:
    """What to rehearse.

    Attributes
    ----------
    start, end : first and last session
    script : YAML file of faults by moment, as `prometheus gateway` reads it
    seed, count : a choice of so many faults by chance; a seed of None is none
    faults : rules as text
    """

    start: date
    end: date
    script: Path | None = None
    seed: int | None = None
    count: int = 5
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One thing that the rehearsal and the backtest did otherwise; None where one did nothing.

    Attributes
    ----------
    what : "order" or "fill"
    cause : the faults that struck then, or that it follows from what differed before
    """

    session: date
    instrument_id: str
    what: str
    rehearsed: str | None
    backtested: str | None
    cause: str = "unexplained"


@dataclass(frozen=True)
class Comparison:
    """A sleeve's rehearsal beside its backtest.

    Attributes
    ----------
    orders, fills : how many the backtest has
    gap_bps : of the last equity, over that of the backtest
    """

    sleeve_id: str
    rehearsal: str
    backtest: str
    sessions: int
    orders: int
    fills: int
    gap_bps: float | None
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal came to; `folder` keeps its databases, tapes and journal.

    Attributes
    ----------
    struck : faults, oldest first
    halted : why trading halted, so that there is nothing to compare; None if it did not
    """

    folder: Path
    comparisons: tuple[Comparison, ...]
    struck: tuple[Struck, ...]
    halted: str | None = None

    def is_within(self, tolerance_bps: float) -> bool:
        """Return whether nothing differs, or every gap of equity is at most so large."""
        return self.halted is None and all(
            not each.differences
            or (each.gap_bps is not None and abs(each.gap_bps) <= tolerance_bps)
            for each in self.comparisons
        )


def rehearse(
    config: NodeConfig, stores: Stores, request: RehearsalRequest, tell: Tell | None = None
) -> Rehearsal:
    """Run a node at the simulator, and compare it with its backtest.

    A node that halts, as it must on what it cannot explain, ends the rehearsal.
    """
    calendar = MarketCalendar.of(config.market)
    start = calendar.require_session(request.start)
    end = calendar.require_session(request.end)
    plain = config.model_dump(mode="json") | {"sessions": {"start": start, "end": end}}
    with _own_stores(stores) as own:
        with simulated_market(build_gateway(own, _gateway_of(config, request))) as market:
            node = _node(plain, market)
            asked = PaperRequest(start=start, until=end)
            try:
                runs = run_paper(node, own, asked, market, tell, market.now)
            except TradingHalted as halted:
                return Rehearsal(own.settings.home, (), market.struck, str(halted))
        backtest = NodeConfig.model_validate(plain | {"mode": "backtest", "venue": "sandbox"})
        tests = run_backtest(backtest, own)
        zone = ZoneInfo(TIMEZONES[config.market])
        pairs = zip(runs, tests, strict=True)
        compared = [_compared(own, run, test, zone) for run, test in pairs]
        found = tuple(
            replace(each, differences=explained(each.differences, market.struck, calendar))
            for each in compared
        )
        return Rehearsal(own.settings.home, found, market.struck)


@contextmanager
def _own_stores(stores: Stores) -> Iterator[Stores]:
    """Yield stores whose runs, tapes and journals are in a new folder; the data are shared."""
    moment = datetime.now(UTC)
    home = stores.settings.home / "rehearsals" / f"{moment:%Y%m%d-%H%M%S-%f}"
    home.mkdir(parents=True)
    # The environment's account is a real one.
    settings = replace(stores.settings, home=home, ib={})
    database = Database.open(f"sqlite:///{home / 'runtime.db'}")
    try:
        schema.upgrade(database, "runtime")
        yield Stores(settings, stores.historical, RuntimeStore(database))
    finally:
        database.close()


def _gateway_of(config: NodeConfig, request: RehearsalRequest) -> GatewayRequest:
    return GatewayRequest(
        dataset_id=config.data.dataset,
        start=request.start,
        end=request.end,
        account=ACCOUNT,
        cash_usd=sum(sleeve.capital_usd for sleeve in config.sleeves),
        fast=True,
        faults=request.faults,
        script=request.script,
        random_faults=None if request.seed is None else (request.seed, request.count),
        quotes=config.execution.quotes,
        fees=config.execution.fees,
    )


def _node(plain: dict[str, Any], market: SimulatedMarket) -> NodeConfig:
    broker = IbConfig.model_validate(plain["ib"]).model_copy(
        update={
            "account": ACCOUNT,
            "host": "127.0.0.1",
            "port": market.port,
            "also_ports": (market.port,),
            "patience": QUICK,
            "answer_minutes": 1.0,
        }
    )
    changed = {"mode": "paper", "venue": "ib", "ib": broker.model_dump()}
    return NodeConfig.model_validate(plain | changed)


def _compared(stores: Stores, run: PaperSummary, test: Any, zone: ZoneInfo) -> Comparison:
    database = stores.runtime.database
    orders = [stored_orders(database, each, zone) for each in (run.run_id, test.run_id)]
    fills = [stored_fills(database, each, zone) for each in (run.run_id, test.run_id)]
    found = [*differences("order", *orders), *differences("fill", *fills)]
    return Comparison(
        sleeve_id=run.sleeve_id,
        rehearsal=run.run_id,
        backtest=test.run_id,
        sessions=run.sessions,
        orders=len(orders[1]),
        fills=len(fills[1]),
        gap_bps=_gap(run.equity, last_equity(database, test.run_id)),
        differences=tuple(sorted(found, key=lambda each: (each.session, each.instrument_id))),
    )


def _gap(found: float, expected: float | None) -> float | None:
    """Return how much more a rehearsal came to than its backtest, basis points."""
    return None if not expected else (found / expected - 1.0) * 1e4


def differences(
    what: str,
    rehearsed: Sequence[StoredOrder | StoredFill],
    backtested: Sequence[StoredOrder | StoredFill],
) -> Iterator[Difference]:
    """Yield what is not the same in both, however often it is there."""
    left, right = Counter(rehearsed), Counter(backtested)
    extra = sorted((left - right).elements(), key=_key)
    missing: dict[tuple[date, str, str], list[StoredOrder | StoredFill]] = {}
    for row in (right - left).elements():
        missing.setdefault(_key(row), []).append(row)
    for row in extra:
        alike = missing.get(_key(row))
        other = _words(alike.pop()) if alike else None
        yield Difference(row.session, row.instrument_id, what, _words(row), other)
    for row in (row for alike in missing.values() for row in alike):
        yield Difference(row.session, row.instrument_id, what, None, _words(row))


def explained(
    found: Sequence[Difference], struck: Sequence[Struck], calendar: MarketCalendar
) -> tuple[Difference, ...]:
    """Return differences, oldest first, with the faults that struck meanwhile as causes.

    A book that differs decides otherwise from then on: what has no fault of its own follows from
    the first difference that has one.
    """
    told: list[Difference] = []
    first: str | None = None
    for each in found:
        faults = _faults_of(each, struck, calendar)
        if faults:
            cause = ", ".join(faults)
            first = first or f"follows from {cause} of {each.session}"
        else:
            cause = first or each.cause
        told.append(replace(each, cause=cause))
    return tuple(told)


def _faults_of(each: Difference, struck: Sequence[Struck], calendar: MarketCalendar) -> list[str]:
    """Return the faults from an order's decision to its open: its own, or else any."""
    since, until = each.session, each.session
    if each.what == "order":
        until = calendar.next_session(until)
    else:
        since = calendar.previous_session(since)
    hits = [hit for hit in struck if since <= hit.session <= until]
    symbol = each.instrument_id.rpartition(".")[0]
    own = [hit for hit in hits if hit.symbol == symbol]
    return sorted({hit.fault for hit in own or hits})


def _key(row: StoredOrder | StoredFill) -> tuple[date, str, str]:
    return row.session, row.instrument_id, row.side


def _words(row: StoredOrder | StoredFill) -> str:
    if isinstance(row, StoredOrder):
        return f"{row.side} {row.quantity}, {row.filled} filled, {row.status}"
    return f"{row.side} {row.quantity} at {row.price:.6f}, fee {row.commission:.2f}"
