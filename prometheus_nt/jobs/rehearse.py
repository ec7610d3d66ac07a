"""Rehearse a node at a simulated broker over past sessions, and compare it with the backtest.

1. A folder of its own: neither the stored runs nor the real account's journal are touched.
2. The paper node as it is, with `venue: ib`, trades at the simulator, whose market moves on
   whenever the node waits; the simulator replays the node's dataset at the backtest's costs.
3. The divergence report compares what was traded with the backtest of the same sessions, and
   attributes the gap; the faults that struck (`events_of`) are events that it knows of.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from adapters.ib.config import DeskParams
from adapters.ib_gateway.fault import Struck
from adapters.ib_gateway.fault_table import FAULTS
from persistence import schema
from persistence.database import Database
from persistence.instruments import InstrumentStore
from persistence.runtime import RuntimeStore
from persistence.traded_rows import equity_rows_of
from prometheus_nt.config import IbConfig, NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import TradingHalted, VenueError
from prometheus_nt.domain.instruments import IB
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.divergence import DivergenceReport, DivergenceRequest, measure_divergence
from prometheus_nt.jobs.gateway import GatewayRequest, build_gateway
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest, Tell
from prometheus_nt.jobs.simulated_market import SimulatedMarket, simulated_market
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.divergence_records import Cause, RunEvent

ACCOUNT = "DU1234567"
QUICK = DeskParams(
    tick_seconds=0.02,
    answer_seconds=1.0,
    apart_seconds=0.5,
    resync_seconds=2.0,
    retry_seconds=0.1,
)
"""A fast clock's patience: the simulator is on the same machine."""

AND = " and "
"""Between the names of faults that struck the same thing together."""


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
class Rehearsal:
    """What a rehearsal came to; `folder` keeps its databases, tapes and journal.

    Attributes
    ----------
    reports : of each sleeve, how far what it traded is from its backtest, and why; none of a
        sleeve that closed no session
    struck : faults, oldest first
    halted : why trading halted, before the last session; None if it did not
    """

    folder: Path
    reports: tuple[DivergenceReport, ...]
    struck: tuple[Struck, ...]
    halted: str | None = None

    @property
    def effects(self) -> frozenset[str]:
        """The faults that changed something."""
        named = {item.event for report in self.reports for item in report.found.evidence}
        return frozenset(fault for names in named for fault in names.split(AND) if fault)

    def is_within(self, tolerance_bps: float) -> bool:
        """Return whether nothing differs, or no gap of a session is larger than this."""
        return self.halted is None and all(
            not report.found.named
            or max(report.found.worst_bps, report.found.residual_bps) <= tolerance_bps
            for report in self.reports
        )


def rehearse(
    config: NodeConfig, stores: Stores, request: RehearsalRequest, tell: Tell | None = None
) -> Rehearsal:
    """Run a node at the simulator, and compare it with its backtest.

    A node that halts, as it must on what it cannot explain, ends the rehearsal; the sessions
    before are compared.
    """
    calendar = MarketCalendar.of(config.market)
    start = calendar.require_session(request.start)
    end = calendar.require_session(request.end)
    plain = config.model_dump(mode="json") | {"sessions": {"start": start, "end": end}}
    # What the simulator replays is stored, and is never written back.
    plain["data"]["collect"] = None
    with _own_stores(stores) as own:
        halted = None
        with simulated_market(build_gateway(own, _gateway_of(config, request))) as market:
            node = _node(plain, market)
            asked = PaperRequest(start=start, until=end)
            try:
                run_paper(node, own, asked, market, tell, market.now)
            except (TradingHalted, VenueError) as failure:
                halted = str(failure)
        known = InstrumentStore(own.historical.database).read()
        events = tuple(events_of(market.struck, partial(known.resolve, as_of=end, scheme=IB)))
        reports = tuple(
            measure_divergence(own, DivergenceRequest(run_id, events=events))
            for run_id in _traded_runs(own, node)
        )
        return Rehearsal(own.settings.home, reports, market.struck, halted)


def events_of(struck: Sequence[Struck], id_of: Callable[[str], str]) -> Iterator[RunEvent]:
    """Yield what struck as the events of a divergence, one a session, stock and cause.

    Faults that struck the same thing together are one event with all their names. `id_of` returns
    the store's id of a broker's symbol.
    """
    together: dict[tuple[date, str, Cause], set[str]] = {}
    for hit in struck:
        cause = Cause.MANUAL if FAULTS[hit.fault].by_hand else Cause.FAULT
        together.setdefault((hit.session, hit.symbol, cause), set()).add(hit.fault)
    for (session, symbol, cause), faults in together.items():
        yield RunEvent(
            session=session,
            name=AND.join(sorted(faults)),
            cause=cause,
            instrument_id=id_of(symbol) if symbol else None,
        )


def _traded_runs(stores: Stores, node: NodeConfig) -> Iterator[str]:
    """Yield the run of each sleeve that has closed a session."""
    for sleeve in node.sleeves:
        for run in stores.runtime.trading_runs(sleeve.sleeve_id, Mode.PAPER.value):
            if equity_rows_of(stores.runtime.database, run["run_id"]):
                yield run["run_id"]


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
            "answer_minutes": min(plain["ib"]["answer_minutes"], 1.0),
        }
    )
    changed = {"mode": "paper", "venue": "ib", "ib": broker.model_dump()}
    return NodeConfig.model_validate(plain | changed)
