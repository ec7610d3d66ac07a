"""Compare what is recorded of a sleeve with what its venue has: positions, open orders and cash.

1. The record is added up from rows alone (`rebuild_books`).
2. The venue of a paper run is the simulated exchange: it is run again from the tape, up to the last
   recorded close, and asked for its own positions and waiting orders (`sandbox_books`).
3. At a broker its own lists are asked for, beside the node (`ib_books`); the record is brought up
   to now by what the node's journal has heard since.
4. `breaks_of` lists every difference, by name; nothing is ever corrected here. A break halts the
   sleeve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from threading import Event
from typing import Any

from persistence.broker_reports import BrokerReport
from persistence.rebuild import Books, rebuild_books
from prometheus_nt.actors.session_clock import wall_clock
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.ledger import MICROS, CashFlowKind
from prometheus_nt.domain.safety import HaltCause, SwitchState
from prometheus_nt.jobs.broker_reports import keep_report
from prometheus_nt.jobs.ib_books import compare_account
from prometheus_nt.jobs.ib_nodes import node_of_sleeve
from prometheus_nt.jobs.paper_rehearsal import rehearsal
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.preview import newest_traded_run
from prometheus_nt.jobs.safety import halt, switch_state
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.venues import SandboxVenue
from strategies.catalog import SleeveParams

SANDBOX = "sandbox"
"""Account of what the simulated exchange holds."""


@dataclass(frozen=True)
class Break:
    """One thing of which the record and the venue say different things; None is nothing there."""

    kind: str
    subject: str
    recorded: float | str | None
    at_venue: float | str | None
    difference: float | None


@dataclass(frozen=True)
class Reconciliation:
    """What was compared after the close of `as_of`, and what differs.

    switch : the kill switch afterwards
    notes : what was not compared, and why
    """

    sleeve_id: str
    run_id: str
    as_of: date | None
    positions: int
    open_orders: int
    breaks: tuple[Break, ...]
    switch: SwitchState
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Compared:
    """What two sides say, and what they were asked after the close of `as_of`."""

    as_of: date | None
    recorded: Books
    breaks: tuple[Break, ...]
    sleeves: tuple[str, ...]
    report: BrokerReport
    notes: tuple[str, ...] = ()


def reconcile(
    stores: Stores,
    sleeve_id: str,
    by: str,
    *,
    pull: bool = True,
    now: Callable[[], datetime] = wall_clock,
) -> Reconciliation:
    """Compare the newest run of a sleeve with its venue; a break halts it unless told not to.

    At a broker all sleeves of the node are compared together, because they share its account, and
    a break halts them all.

    Raises
    ------
    ConfigError
        If the sleeve has traded nothing, or nothing is known of the node that does.
    VenueError
        If the broker cannot be asked.
    """
    config, sleeve, run = newest_traded_run(stores, sleeve_id)
    if config.venue == "sandbox":
        found = _with_sandbox(config, sleeve, stores, run)
    else:
        found = _with_broker(config, stores, sleeve_id, now)
    keep_report(stores, found.report)
    if found.breaks and pull:
        first = found.breaks[0]
        reason = (
            f"{len(found.breaks)} breaks, the first: {first.kind} of {first.subject} is "
            f"{first.recorded} in the record and {first.at_venue} at the venue"
        )
        for each in found.sleeves:
            halt(stores, each, reason, by, HaltCause.RECONCILE_BREAK)
    return Reconciliation(
        sleeve_id=sleeve_id,
        run_id=run["run_id"],
        as_of=found.as_of,
        positions=len(found.recorded.shares),
        open_orders=len(found.recorded.open_orders),
        breaks=found.breaks,
        switch=switch_state(stores, sleeve_id),
        notes=found.notes,
    )


def _with_sandbox(
    config: NodeConfig, sleeve: SleeveParams, stores: Stores, run: Mapping[str, Any]
) -> _Compared:
    recorded = rebuild_books(stores.runtime.database, run["run_id"], sleeve.capital_usd)
    with rehearsal(config, sleeve, stores, run["start_date"], SandboxVenue()) as trader:
        venue = sandbox_books(trader, run["end_date"])
        holdings = trader.node.mirror.holdings
    as_of = holdings[-1].as_of if holdings else None
    report = _report(run["run_id"], as_of, recorded, venue)
    breaks = breaks_of(recorded, venue)
    return _Compared(as_of, recorded, breaks, (sleeve.sleeve_id,), report)


def _with_broker(
    config: NodeConfig, stores: Stores, sleeve_id: str, now: Callable[[], datetime]
) -> _Compared:
    node = node_of_sleeve(stores.settings.home, config.mode, sleeve_id)
    if node is None:
        raise ConfigError(
            f"{sleeve_id}: no node has traded it at the broker from {stores.settings.home}; "
            "reconcile where the node runs"
        )
    found = compare_account(stores, node, now)
    breaks = breaks_of(found.expected, found.at_broker)
    return _Compared(
        found.report.as_of, found.expected, breaks, node.sleeves, found.report, found.notes
    )


def sandbox_books(trader: PaperTrader, until: date) -> Books:
    """Run a rehearsal up to a session, and return what the simulated exchange then has."""
    stop = Event()
    trader.trade(stop, lambda status: stop.set() if status.session >= until else None)
    sleeve, cache = trader.node.sleeve, trader.node.engine.cache
    mirror = trader.node.mirror
    ledger = mirror.ledger
    shares = dict.fromkeys(ledger.instruments, 0)
    for name, instrument in zip(ledger.instruments, sleeve.parts.instruments, strict=True):
        positions = cache.positions(instrument_id=instrument.id)
        shares[name] = sum(round(each.signed_qty) for each in positions)
    # The exchange knows fills alone: splits and delistings move shares without one.
    for flow in ledger.cash_flows:
        moved = {CashFlowKind.SPLIT: 1, CashFlowKind.DELISTING: -1}.get(flow.kind, 0)
        if flow.instrument_id is not None:
            shares[flow.instrument_id] += moved * flow.shares
    orders, known = [*trader.node.feed.router.waiting(), *cache.orders_open()], mirror.orders
    still_open = {known[order.client_order_id.value].order_id for order in orders}
    held = {name: count for name, count in shares.items() if count}
    return Books(mirror.ledger.cash_micros, held, frozenset(still_open))


def _report(run_id: str, as_of: date | None, recorded: Books, venue: Books) -> BrokerReport:
    return BrokerReport(
        account_id=SANDBOX,
        at=datetime.now(UTC),
        as_of=as_of,
        runs=(run_id,),
        shares=venue.shares,
        books=recorded.shares,
        cash=venue.cash_micros / MICROS,
    )


def breaks_of(recorded: Books, venue: Books) -> tuple[Break, ...]:
    """Return every difference between the record and a venue, by kind and name."""
    found = []
    for name in sorted(recorded.shares.keys() | venue.shares.keys()):
        ours, theirs = recorded.shares.get(name, 0), venue.shares.get(name, 0)
        if ours != theirs:
            found.append(Break("position", name, ours, theirs, theirs - ours))
    for order_id in sorted(recorded.open_orders ^ venue.open_orders):
        ours_open = "open" if order_id in recorded.open_orders else None
        theirs_open = "open" if order_id in venue.open_orders else None
        found.append(Break("open order", order_id, ours_open, theirs_open, None))
    if recorded.cash_micros != venue.cash_micros:
        ours_usd, theirs_usd = recorded.cash_micros / MICROS, venue.cash_micros / MICROS
        found.append(Break("cash", "USD", ours_usd, theirs_usd, theirs_usd - ours_usd))
    return tuple(found)
