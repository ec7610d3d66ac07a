"""The order desk for a caller that is not asynchronous: it lives in a loop and a thread of its own.

1. `place` sends each order once, whatever happened before: an order that was written is looked up.
2. `outcome` says what became of a reference, as far as the broker has said it.
3. `look` reads the broker's lists and the account anew.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from ib_async.client import Client

from adapters.ib.config import DeskParams, LinkParams, masked
from adapters.ib.desk import NEVER_REACHED, NEVER_WRITTEN, OrderDesk
from adapters.ib.errors import LinkDown, NoAnswer
from adapters.ib.halt import Halt, HaltReason
from adapters.ib.journal import Journal
from adapters.ib.link import Link, Position
from adapters.ib.orders import Alert, Event, OwnOrder, Standing
from adapters.ib.provider import IbInstrumentProvider, MakeEquity
from prometheus_nt.domain.answers import ToldFill
from prometheus_nt.domain.errors import GateRefusal, TradingHalted, VenueError
from prometheus_nt.domain.instruments import BrokerContract

log = logging.getLogger(__name__)

Answered = TypeVar("Answered")

CASH, DIVIDENDS = "TotalCashValue", "AccruedDividend"
UNSENT_REASONS = frozenset({NEVER_REACHED, NEVER_WRITTEN})
SECONDS = 30.0
"""Most that one question to the broker may take before it is asked again by whoever wants it."""

TRANSIENT = (GateRefusal, LinkDown, NoAnswer)
"""What may be tried again while there is time; everything else is an error."""


@dataclass(frozen=True)
class OpenOrder:
    """A market order for the next open; `shares` are signed."""

    ref: str
    plan: str
    instrument_id: str
    shares: int
    strategy: str


@dataclass(frozen=True)
class Outcome:
    """What the broker has said of an order.

    Attributes
    ----------
    final : bool
        Whether nothing more will come of it, and every fill has its commission.
    never_arrived : bool
        Whether it is proven that the broker never had it.
    """

    standing: Standing
    final: bool
    never_arrived: bool
    fills: tuple[ToldFill, ...]
    reason: str | None


@dataclass(frozen=True)
class Look:
    """The broker's account: signed shares by store id or contract, cash, and open references.

    Dividends count as cash from their ex-date on, as in the books; they are paid weeks later.
    """

    shares: Mapping[str, int]
    cash: float
    open_refs: frozenset[str]


class Broker:
    """One account at one gateway, for one process.

    Parameters
    ----------
    params : LinkParams
    journal : Path
        File of the account and the client id.
    wanted : mapping of store id to how the store names it to the broker
    equity : function that makes the node's instrument of a store id and a currency
    patience : DeskParams
    """

    def __init__(
        self,
        params: LinkParams,
        journal: Path,
        wanted: Mapping[str, BrokerContract],
        equity: MakeEquity,
        patience: DeskParams,
    ) -> None:
        self.account = params.account
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="ib desk", daemon=True)
        self._journal = Journal(journal, params.account, params.client_id)
        self._link = Link(params)
        self._provider = IbInstrumentProvider(self._link, wanted, equity)
        self._desk = OrderDesk(self._link, self._journal, self._on_told, patience)

    def open(self) -> None:
        """Connect, and learn what became of what the journal knows; raise what the desk does."""
        self._thread.start()
        self._run(self._desk.start())

    def close(self) -> None:
        """Disconnect; orders at the broker live on."""
        if self._thread.is_alive():
            self._run(self._desk.stop())
            self._run(self._link.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._journal.close()

    def require_calm(self) -> None:
        """Raise TradingHalted if there is a halt that nobody has acknowledged."""
        halts = list(self._desk.halts)
        if halts:
            raise TradingHalted(
                f"{masked(self.account)}: {halts[0]}"
                + (f" (and {len(halts) - 1} more)" if len(halts) > 1 else "")
                + "; look at the broker's own screen, arm what was halted, then start again with "
                "--acknowledge NAME"
            )

    def acknowledge(self, by: str) -> None:
        """Note that somebody has looked at every halt, and let orders be sent again."""
        self._call(lambda: self._desk.acknowledge(by))

    def halt(self, reason: HaltReason, about: str, detail: str) -> None:
        """Halt for a reason that was found elsewhere; it survives a restart."""
        self._call(lambda: self._desk.halt(reason, about, detail))
        self.require_calm()

    def note(self, kind: str, **fact: Any) -> None:
        """Write a fact of the account to the journal, for good."""
        self._call(lambda: self._journal.write(kind, **fact))

    def noted(self, kind: str) -> list[dict[str, Any]]:
        """Return the facts of a kind, oldest first."""
        return self._call(
            lambda: [each for each in self._journal.records() if each["kind"] == kind]
        )

    def place(self, orders: Sequence[OpenOrder]) -> None:
        """Send orders of which none was written before.

        Raises
        ------
        GateRefusal
            If nothing may be sent now; nothing was sent.
        VenueError
            If a reference was written before; nothing was sent.
        """
        self._run(self._place(orders))

    def working(self) -> list[str]:
        """Return the references of our orders of which the end was not told."""
        return self._call(
            lambda: [
                ref for ref, order in self._desk.orders.by_ref.items() if not order.told.is_final
            ]
        )

    def withdraw(self, ref: str) -> None:
        """Ask for the end of an order; what comes of it, `outcome` says.

        Raises
        ------
        GateRefusal
            If that cannot be asked now.
        """
        self._call(lambda: self._desk.cancel(ref))

    def outcome(self, ref: str) -> Outcome | None:
        """Return what is known of an order, or None if it was never written."""
        return self._call(lambda: outcome_of(self._desk.orders.by_ref.get(ref)))

    def look(self, held: Sequence[str] = ()) -> Look:
        """Read the broker's lists and the account.

        Parameters
        ----------
        held : store ids by which positions shall be called

        Raises
        ------
        NoAnswer
            If the broker does not answer.
        LinkDown
            If there is no link.
        """
        return self._run(self._look(held))

    async def _place(self, orders: Sequence[OpenOrder]) -> None:
        await self._provider.resolve([order.instrument_id for order in orders])
        intents = [
            self._desk.intent(
                ref=order.ref,
                plan=order.plan,
                instrument=order.instrument_id,
                contract=self._provider.known(order.instrument_id).contract.conId,
                side=1 if order.shares > 0 else -1,
                quantity=abs(order.shares),
                kind="MKT",
                tif="OPG",
                limit=None,
                stop=None,
                strategy=order.strategy,
            )
            for order in orders
        ]
        self._desk.submit(*intents)

    async def _look(self, held: Sequence[str]) -> Look:
        await self._provider.resolve(held)
        try:
            picture = await self._desk.refreshed(SECONDS)
            cash = await cash_of(self._link)
        except TimeoutError:
            raise NoAnswer("the broker's lists", SECONDS) from None
        return Look(shares_of(picture.positions, self._provider), cash, picture.open_refs)

    def _on_told(self, event: Event) -> None:
        match event:
            case Halt():
                log.critical("ib %s", event)
            case Alert(ref, text):
                log.warning("ib order %s: %s", ref, text)
            case _:
                log.info("ib order %s: %s", event.ref, type(event).__name__)

    def _call(self, function: Callable[[], Answered]) -> Answered:
        async def asked() -> Answered:
            return function()

        return self._run(asked())

    def _run(self, asked: Coroutine[Any, Any, Answered]) -> Answered:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()


def outcome_of(order: OwnOrder | None) -> Outcome | None:
    """Return what is known of an order, or None if there is none."""
    if order is None:
        return None
    fills = tuple(
        ToldFill(trade, each.shares, each.price, fee, each.at_ns)
        for each, trade, fee in order.told_fills.values()
        if fee is not None
    )
    complete = len(fills) == len(order.told_fills)
    settled = order.told is order.standing or order.told is Standing.REJECTED
    reasons = [text for _, text in sorted(order.refusals.items())]
    return Outcome(
        standing=order.told,
        final=order.told.is_final and settled and complete,
        never_arrived=_never_arrived(order),
        fills=fills,
        reason=reasons[0] if reasons else None,
    )


def shares_of(positions: Iterable[Position], provider: IbInstrumentProvider) -> dict[str, int]:
    """Return the signed shares of positions, by store id where the provider knows the contract."""
    shares = {}
    for row in positions:
        known = provider.by_con_id(row.contract.conId)
        name = f"{row.contract.symbol} ({row.contract.conId})"
        if row.shares:
            shares[name if known is None else known.instrument_id] = int(row.shares)
    return shares


async def cash_of(link: Link) -> float:
    """Return the account's cash and its accrued dividends, USD.

    Raises
    ------
    VenueError
        If the account does not say its cash.
    NoAnswer, LinkDown
        If the broker does not answer.
    """
    numbers: list[int] = []

    def call(client: Client, number: int) -> None:
        numbers.append(number)
        client.reqAccountSummary(number, "All", f"{CASH},{DIVIDENDS}")

    account = link.params.account
    rows = await link.ask("account", call, "accountSummary", "accountSummaryEnd")
    if link.ready:
        # The request is a subscription, of which we want the first answer.
        link.send("end of account", lambda c: c.cancelAccountSummary(numbers[0]))
    told = {tag: float(text) for _, whose, tag, text, _ in rows if whose == account}
    if CASH not in told:
        raise VenueError(
            f"ib: the account {masked(account)} does not say its {CASH}, so the books cannot be "
            "compared with it; look at the account in the gateway's own program, then start again"
        )
    return told[CASH] + told.get(DIVIDENDS, 0.0)


def _never_arrived(order: OwnOrder) -> bool:
    unsent = set(order.refusals.values()) <= UNSENT_REASONS
    return order.told is Standing.REJECTED and bool(order.refusals) and unsent
