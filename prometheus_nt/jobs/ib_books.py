"""What the books of a node say that the broker's account should hold now, and what it holds.

1. `_expected` adds up the rows of each sleeve, and what the node's journal has heard since they
   were written: fills of orders that the sleeve still waits for, and which of them work.
2. `look_beside` asks the broker, on a connection that can send nothing.
3. Cash is compared in the evening alone, as the node does it: by day and at night the broker books
   what the books get with the session's data.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from threading import Event
from zoneinfo import ZoneInfo

from adapters.ib.broker import Look
from adapters.ib.look import look_beside
from persistence.broker_reports import BrokerReport
from persistence.instruments import InstrumentStore
from persistence.rebuild import Books, rebuild_books
from prometheus_nt.domain.calendar import TIMEZONES, MarketCalendar
from prometheus_nt.domain.ledger import micros
from prometheus_nt.domain.runs import Mode
from prometheus_nt.jobs.ib_nodes import IbNode
from prometheus_nt.jobs.ib_venue import BASELINE
from prometheus_nt.jobs.order_trail import router_of
from prometheus_nt.jobs.paper_rehearsal import rehearsal
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.preview import newest_traded_run
from prometheus_nt.jobs.recorded_venue import RecordedVenue
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.venue.prices import equity_instrument


@dataclass(frozen=True)
class AccountComparison:
    """Two sides of one account; open orders by reference, cash less what was never the node's.

    report : what the broker said, as the desk keeps it
    """

    expected: Books
    at_broker: Books
    report: BrokerReport
    notes: tuple[str, ...]


@dataclass
class _Expected:
    """The books of all sleeves of a node, added up."""

    shares: dict[str, int] = field(default_factory=dict)
    cash_micros: int = 0
    open_refs: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)
    capital: float = 0.0
    as_of: date | None = None
    market: str = ""

    def books(self) -> Books:
        held = {name: count for name, count in self.shares.items() if count}
        return Books(self.cash_micros, held, frozenset(self.open_refs))


def compare_account(stores: Stores, node: IbNode, now: Callable[[], datetime]) -> AccountComparison:
    """Return what the account of a node should hold, and what it does.

    Raises
    ------
    VenueError
        If the broker cannot be asked.
    """
    expected = _expected(stores, node)
    books = expected.books()
    wanted = InstrumentStore(stores.historical.database).read()
    today = now().date()
    contracts = {name: wanted.contract(name, today) for name in books.shares}
    look = look_beside(node.params, contracts, equity_instrument)
    cash, notes = _cash_at_broker(node, expected, look, now())
    there = Books(cash, dict(look.shares), look.open_refs)
    report = BrokerReport(
        account_id=f"IB-{node.params.account}",
        at=now(),
        as_of=expected.as_of,
        runs=tuple(sorted(expected.runs)),
        shares=look.shares,
        books=books.shares,
        cash=look.cash,
    )
    return AccountComparison(books, there, report, notes)


def _expected(stores: Stores, node: IbNode) -> _Expected:
    total = _Expected()
    mode = Mode[node.params.mode.upper()]
    for sleeve_id in node.sleeves:
        if not stores.runtime.trading_runs(sleeve_id, mode.value):
            continue
        config, sleeve, run = newest_traded_run(stores, sleeve_id, mode)
        venue, until = RecordedVenue(node), run["end_date"]
        total.runs.append(run["run_id"])
        total.capital += sleeve.capital_usd
        total.market, total.as_of = config.market, until
        rows = rebuild_books(stores.runtime.database, run["run_id"], sleeve.capital_usd)
        total.cash_micros += rows.cash_micros
        _add(total.shares, rows.shares.items())
        with rehearsal(config, sleeve, stores, run["start_date"], venue) as trader:
            _run_to(trader, until)
            _add_since(total, trader, venue)
    return total


def _run_to(trader: PaperTrader, until: date) -> None:
    stop = Event()
    trader.trade(stop, lambda status: stop.set() if status.session >= until else None)


def _add_since(total: _Expected, trader: PaperTrader, venue: RecordedVenue) -> None:
    """Add what was heard of the orders that wait."""
    for order in router_of(trader).waiting():
        ref, outcome = venue.trail.newest(trader, order)
        if outcome is None:
            continue
        if not outcome.standing.is_final:
            total.open_refs.add(ref)
        sign = 1 if order.is_buy else -1
        for fill in outcome.fills:
            _add(total.shares, [(order.instrument_id.value, sign * fill.shares)])
            total.cash_micros -= sign * fill.shares * micros(fill.price) + micros(fill.commission)


def _add(shares: dict[str, int], more: Iterable[tuple[str, int]]) -> None:
    for name, count in more:
        shares[name] = shares.get(name, 0) + count


def _cash_at_broker(
    node: IbNode, expected: _Expected, look: Look, now: datetime
) -> tuple[int, tuple[str, ...]]:
    """Return the broker's cash as far as it is the node's, micro-dollars, and what to know of it.

    What is within the tolerance, or cannot be compared, is as expected.
    """
    runs = sorted(expected.runs)
    begun = [each for each in node.orders().noted(BASELINE) if each["runs"] == runs]
    if not begun:
        return expected.cash_micros, ("cash is not compared: the node noted none when it began",)
    if not _is_evening(expected, now):
        return expected.cash_micros, (
            "cash is not compared: only on the evening of the last booked session, because the "
            "broker books dividends and splits before the data of their session are here",
        )
    theirs = micros(look.cash - float(str(begun[-1]["other_cash"])))
    tolerated = node.cash_tolerance * expected.capital
    if abs(theirs - expected.cash_micros) <= micros(tolerated):
        return expected.cash_micros, ()
    return theirs, ()


def _is_evening(expected: _Expected, now: datetime) -> bool:
    if expected.as_of is None:
        return False
    calendar, zone = MarketCalendar.of(expected.market), ZoneInfo(TIMEZONES[expected.market])
    after = calendar.close_time(expected.as_of) <= now.astimezone(UTC)
    return after and now.astimezone(zone).date() == expected.as_of
