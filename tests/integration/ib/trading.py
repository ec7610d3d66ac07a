"""An order desk on a simulated gateway's socket, and the oracle that every scenario ends with."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from adapters.ib.config import DeskParams
from adapters.ib.desk import OrderDesk
from adapters.ib.halt import Halt, HaltReason
from adapters.ib.journal import Intent, Journal
from adapters.ib.link import Link, LinkEvent
from adapters.ib.orders import TELLS, Filled, Standing
from adapters.ib_gateway.contracts import contract_id
from adapters.ib_gateway.server import Server
from tests.integration.ib.session import params_for, until
from tests.integration.ib_gateway.market import ACCOUNT

QUICK = DeskParams(
    tick_seconds=0.02,
    answer_seconds=0.5,
    apart_seconds=0.3,
    resync_seconds=0.5,
    retry_seconds=0.1,
)


class Trader:
    """A desk, and everything that it told."""

    def __init__(self, link: Link, journal: Journal) -> None:
        self.told: list[Any] = []
        self.desk = OrderDesk(link, journal, self.told.append, QUICK)
        self.before = {ref: order.told for ref, order in self.desk.orders.by_ref.items()}
        self.shares = {ref: order.filled for ref, order in self.desk.orders.by_ref.items()}
        self.losses = 0
        link.on_event(lambda event, _: self._count(event))

    def _count(self, event: LinkEvent) -> None:
        self.losses += event is LinkEvent.LOST

    async def loses(self, losses: int = 1) -> None:
        """Wait until the link was lost so often."""
        await until(lambda: self.losses >= losses)

    def intent(self, ref: str, symbol: str = "AAPL", shares: int = 100, **terms: Any) -> Intent:
        plain = {
            "plan": "plan",
            "instrument": f"{symbol}.NASDAQ",
            "contract": contract_id(symbol, "STK", "USD"),
            "side": 1 if shares > 0 else -1,
            "quantity": abs(shares),
            "kind": "MKT",
            "tif": "OPG",
            "limit": None,
            "stop": None,
        }
        return self.desk.intent(ref=ref, **(plain | terms))

    def send(self, ref: str, symbol: str = "AAPL", shares: int = 100, **terms: Any) -> None:
        self.desk.submit(self.intent(ref, symbol, shares, **terms))

    def standing(self, ref: str) -> Standing:
        return self.desk.orders.by_ref[ref].told

    def names(self, ref: str | None = None) -> list[str]:
        return [type(event).__name__ for event in self.told if ref in (None, event.ref)]

    def halts(self) -> list[HaltReason]:
        return [event.reason for event in self.told if isinstance(event, Halt)]

    async def reaches(self, ref: str, standing: Standing) -> None:
        await until(lambda: self.standing(ref) is standing)

    async def learns(self, *, again: bool = True) -> None:
        """Wait for lists that were asked for from now on."""
        before = self.desk.picture
        self.desk._want_resync()
        await until(lambda: self.desk.picture is not before and self.desk._fresh)


@asynccontextmanager
async def trading(server: Server, path: Path, **changed: Any) -> AsyncIterator[Trader]:
    """Yield a desk that is in step with the broker."""
    link = Link(params_for(server.port, **({"slow_seconds": 0.1} | changed)))
    journal = Journal(path / "orders.journal", ACCOUNT, link.params.client_id)
    trader = Trader(link, journal)
    try:
        await trader.desk.start()
        yield trader
    finally:
        await trader.desk.stop()
        await link.close()
        journal.close()


def require_agreement(server: Server, trader: Trader) -> None:
    """Raise AssertionError unless the broker and the desk believe the same, in legal steps."""
    book = server.gateway.book
    references = Counter(order.reference for order in book.orders.values())
    assert not [ref for ref, count in references.items() if count > 1], "an order was sent twice"
    own = {order.perm_id: order for order in trader.desk.orders.by_ref.values() if order.perm_id}
    for order in book.orders.values():
        mine = own[order.perm_id]
        assert mine.filled == order.filled, (order.reference, mine)
        if order.is_open:
            assert not mine.standing.is_final, (order, mine)
        else:
            assert mine.told.value == order.status.lower(), (order, mine)
    executed = {fill.exec_id for fill in book.todays_fills()}
    known = {execution.exec_id for mine in own.values() for execution in mine.executions.values()}
    assert executed <= known
    require_legal(trader)


def require_legal(trader: Trader) -> None:
    """Raise AssertionError if an order was told something that may not follow what was told."""
    told = dict(trader.before)
    shares: Counter[str] = Counter(trader.shares)
    ends = {"Accepted": Standing.ACCEPTED, "Rejected": Standing.REJECTED}
    ends |= {"Cancelled": Standing.CANCELLED}
    trades: set[str] = set()
    for event in trader.told:
        if type(event) not in TELLS:
            continue
        at = told.get(event.ref, Standing.SENT)
        assert at in TELLS[type(event)], (event, at)
        if isinstance(event, Filled):
            assert event.trade_id not in trades
            trades.add(event.trade_id)
            shares[event.ref] += event.execution.shares
            whole = shares[event.ref] >= trader.desk.orders.by_ref[event.ref].quantity
            told[event.ref] = Standing.FILLED if whole else Standing.PARTLY_FILLED
        else:
            told[event.ref] = ends.get(type(event).__name__, at)
