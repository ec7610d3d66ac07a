"""Every check of the pre-trade gate: pure functions of a plan, a book and what the market says.

A check returns the first thing that breaks its limit, or None. What only closes a position is never
the reason: it must always be possible. What a limit needs and nobody knows breaks it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from prometheus_nt.domain.errors import GateRefusal
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray
from prometheus_nt.domain.safety import TradingState
from strategies.limits import GateParams
from strategies.planner import BookView, Plan, closing_part, net_band

NANOS = 1_000_000_000
MINUTE_NS = 60 * NANOS


@dataclass(frozen=True)
class SentOrder:
    """An order that passed the gate before: when, which panel column, signed shares."""

    ts_ns: int
    column: int
    quantity: int


@dataclass(frozen=True, eq=False)
class MarketFacts:
    """What a gate may know besides the book; None is unknown.

    Attributes
    ----------
    instruments : tuple of N ids; empty if unknown
    sectors : tuple of N names; empty if none is known
    closes : (S, N) array or None
        Newest closes, the last one of the session decided on, in venue shares of today.
    state : TradingState
        What the kill switch allows.
    now_ns, closed_ns, opens_ns : int or None
        The session's clock, the close that was decided on, and the open that follows it.
    equity_before : float or None
        Equity at the close before, USD.
    drawdown : float or None
        Equity over its highest close, less one; <= 0.
    """

    instruments: tuple[str, ...] = ()
    sectors: tuple[str | None, ...] = ()
    closes: FloatArray | None = None
    state: TradingState = TradingState.ARMED
    now_ns: int | None = None
    closed_ns: int | None = None
    opens_ns: int | None = None
    equity_before: float | None = None
    drawdown: float | None = None


@dataclass(frozen=True)
class Breach:
    """A limit that a plan breaks.

    Attributes
    ----------
    check : name of the setting or of the rule
    subject : the instruments it is about; empty if the whole plan is
    found, limit : as words
    """

    check: str
    found: str
    limit: str
    remedy: str
    subject: tuple[str, ...] = ()

    def refusal(self) -> GateRefusal:
        """Return the breach as an error."""
        about = ""
        if self.subject:
            more = len(self.subject) - 1
            about = f"{self.subject[0]}{f' and {more} more' if more else ''}: "
        limit = f", limit {self.limit}" if self.limit else ""
        return GateRefusal(self.check, f"{about}{self.found}{limit}; {self.remedy}")


@dataclass(frozen=True, eq=False)
class Case:
    """A plan before the gate; `sent` are the orders that passed it before."""

    plan: Plan
    book: BookView
    market: MarketFacts
    params: GateParams
    sent: Sequence[SentOrder] = field(default=())

    @cached_property
    def after(self) -> IntArray:
        """Signed shares once every order has filled, (N,)."""
        after = self.book.shares.copy()
        np.add.at(after, self.plan.rows, self.plan.quantities)
        return after

    @cached_property
    def closing(self) -> IntArray:
        """The part of each change that closes a position, (N,)."""
        return closing_part(self.after - self.book.shares, self.book.shares)

    @cached_property
    def grows(self) -> BoolArray:
        """Whether each order opens anything, (K,)."""
        grown: BoolArray = (self.after - self.book.shares != self.closing)[self.plan.rows]
        return grown

    @property
    def prices(self) -> FloatArray:
        """The price of each order, USD, (K,)."""
        prices: FloatArray = self.book.prices[self.plan.rows]
        return prices

    def names(self, broken: BoolArray) -> tuple[str, ...]:
        """Return the instruments of the orders that are broken, (K,)."""
        known, columns = self.market.instruments, self.plan.rows[broken].tolist()
        return tuple(known[column] if known else f"column {column}" for column in columns)

    def breach(self, check: str, broken: BoolArray, texts: tuple[str, str, str]) -> Breach | None:
        """Return the breach of the orders that are broken, if any is: found, limit, remedy."""
        if not broken.any():
            return None
        found, limit, remedy = texts
        return Breach(check, found, limit, remedy, self.names(broken))


Check = Callable[[Case], Breach | None]


def _kill_switch(case: Case) -> Breach | None:
    state = case.market.state
    if state is TradingState.ARMED or not len(case.plan.rows):
        return None
    if state is TradingState.FLATTENING and not case.grows.any():
        return None
    remedy = "find out why, then `prometheus arm`"
    return Breach("kill_switch", f"trading is {state}", "", remedy)


def _working_order(case: Case) -> Breach | None:
    broken = case.book.working[case.plan.rows]
    texts = ("an order is still on its way", "one", "wait until it has filled, or cancel it")
    return case.breach("working order", broken, texts)


def _repeated_in_plan(case: Case) -> Breach | None:
    rows = case.plan.rows
    broken = np.bincount(rows, minlength=len(case.after))[rows] > 1
    return case.breach("duplicate order", broken, ("ordered twice", "once", "plan it once"))


def _duplicate(case: Case) -> Breach | None:
    window, now = case.params.duplicate_window_seconds, case.market.now_ns
    if window is None or not len(case.plan.rows):
        return None
    if now is None:
        return _unknown("duplicate_window_seconds", "the time", case)
    recent = {
        (each.column, each.quantity) for each in case.sent if now - each.ts_ns < window * NANOS
    }
    keys = zip(case.plan.rows.tolist(), case.plan.quantities.tolist(), strict=True)
    broken = case.grows & np.fromiter((key in recent for key in keys), bool, len(case.plan.rows))
    texts = ("the same order was sent before", f"one in {window:g} s", "wait, or look why")
    return case.breach("duplicate_window_seconds", broken, texts)


def _message_rate(case: Case) -> Breach | None:
    most, now = case.params.max_orders_per_minute, case.market.now_ns
    if most is None or not case.grows.any():
        return None
    if now is None:
        return _unknown("max_orders_per_minute", "the time", case)
    count = len(case.plan.rows) + sum(now - each.ts_ns < MINUTE_NS for each in case.sent)
    if count <= most:
        return None
    remedy = "split the plan, or raise gate.max_orders_per_minute"
    return Breach("max_orders_per_minute", f"{count:,} orders in a minute", f"{most:,}", remedy)


def _session(case: Case) -> Breach | None:
    market = case.market
    if not case.params.between_sessions or not case.grows.any():
        return None
    if market.now_ns is None or market.closed_ns is None or market.opens_ns is None:
        return _unknown("between_sessions", "the session", case)
    if market.closed_ns <= market.now_ns < market.opens_ns:
        return None
    found = "the time is outside the night that the plan was made for"
    return Breach("between_sessions", found, "", "plan again after the next close")


def _price(case: Case) -> Breach | None:
    broken = case.grows & ~(np.isfinite(case.prices) & (case.prices > 0))
    texts = ("no price of this session", "a fresh one", "ingest it, or leave the instrument out")
    return case.breach("price", broken, texts)


def _price_collar(case: Case) -> Breach | None:
    most, closes = case.params.max_price_move, case.market.closes
    if most is None or not case.grows.any():
        return None
    if closes is None:
        return _unknown("max_price_move", "the close before", case)
    before = _last_before(closes)[case.plan.rows]
    # An instrument on its first day has no close before: there is nothing to compare with.
    moved = np.abs(case.prices / before - 1.0)
    broken = case.grows & (moved > most)
    largest = float(np.nanmax(np.where(broken, moved, 0.0), initial=0.0))
    remedy = "check the price; a true one waits for tomorrow, or raise gate.max_price_move"
    texts = (f"its price moved {largest:.1%}", f"{most:.1%}", remedy)
    return case.breach("max_price_move", broken, texts)


def _stale_data(case: Case) -> Breach | None:
    most, closes = case.params.max_unchanged_sessions, case.market.closes
    if most is None or not case.grows.any():
        return None
    if closes is None:
        return _unknown("max_unchanged_sessions", "the closes before", case)
    window = closes[-(most + 2) :]
    whole = len(window) == most + 2
    same = (window == window[-1]).all(axis=0) if whole else np.zeros(closes.shape[1], dtype=bool)
    found = f"its close is the same for {most + 1} sessions"
    remedy = "look whether its data still come, or raise gate.max_unchanged_sessions"
    broken = case.grows & same[case.plan.rows]
    return case.breach("max_unchanged_sessions", broken, (found, f"{most}", remedy))


def _restricted(case: Case) -> Breach | None:
    params, known = case.params, case.market.instruments
    if not params.restricted and params.allowed is None:
        return None
    if not known:
        return _unknown("restricted", "which instruments these are", case)
    names = [known[column] for column in case.plan.rows.tolist()]
    bad = np.array([_is_restricted(name, params) for name in names], dtype=bool)
    texts = ("is restricted", "may only be closed", "leave it out of the universe")
    return case.breach("restricted", case.grows & bad, texts)


def _long_only(case: Case) -> Breach | None:
    if not case.params.long_only:
        return None
    broken = case.grows & (case.after[case.plan.rows] < 0)
    texts = ("would be short", "0 shares", "plan no shorts, or set gate.long_only to false")
    return case.breach("long_only", broken, texts)


def _order_shares(case: Case) -> Breach | None:
    most = case.params.max_order_shares
    if most is None:
        return None
    shares = np.abs(case.plan.quantities)
    broken = case.grows & (shares > most)
    remedy = "trade in parts, or raise gate.max_order_shares"
    texts = (f"{_largest(shares, broken):,.0f} shares", f"{most:,}", remedy)
    return case.breach("max_order_shares", broken, texts)


def _order_notional(case: Case) -> Breach | None:
    most = case.params.max_order_notional_usd
    if most is None:
        return None
    value = np.abs(case.plan.quantities) * case.prices
    broken = case.grows & ~(value <= most)
    remedy = "trade in parts, or raise gate.max_order_notional_usd"
    texts = (f"an order of {_largest(value, broken):,.2f} USD", f"{most:,.2f} USD", remedy)
    return case.breach("max_order_notional_usd", broken, texts)


def _position_weight(case: Case) -> Breach | None:
    most, equity = case.params.max_position_weight, case.book.equity
    value = np.abs(case.after[case.plan.rows]) * case.prices
    # As a product, not a quotient: equity that is negative or unknown then refuses too.
    broken = case.grows & ~(value <= most * equity)
    found = f"a position of {_largest(value, broken):,.2f} USD on equity of {equity:,.2f} USD"
    remedy = "lower the target, or raise gate.max_position_weight"
    return case.breach("max_position_weight", broken, (found, f"{most:g} times equity", remedy))


def _position_notional(case: Case) -> Breach | None:
    most = case.params.max_position_notional_usd
    if most is None:
        return None
    value = np.abs(case.after[case.plan.rows]) * case.prices
    broken = case.grows & ~(value <= most)
    remedy = "lower the target, or raise gate.max_position_notional_usd"
    texts = (f"a position of {_largest(value, broken):,.2f} USD", f"{most:,.2f} USD", remedy)
    return case.breach("max_position_notional_usd", broken, texts)


def _gross(case: Case) -> Breach | None:
    book, most = case.book, case.params.max_gross
    before = exposure_usd(book, book.committed)
    found = exposure_usd(book, np.where(book.working, book.committed, np.abs(case.after)))
    if found <= max(most * book.equity, before):
        return None
    said = f"{found:,.2f} USD on equity of {book.equity:,.2f} USD"
    remedy = "lower the target, or raise gate.max_gross"
    return Breach("max_gross", said, f"{most} times equity", remedy)


def _net(case: Case) -> Breach | None:
    book, least, most = case.book, case.params.min_net, case.params.max_net
    change = case.after - book.shares
    if (least is None and most is None) or np.array_equal(change, case.closing):
        return None
    closed = exposure_usd(book, book.expected + case.closing)
    low, high = net_band(least, most, book.equity, (exposure_usd(book, book.expected), closed))
    found = exposure_usd(book, book.expected + change)
    if low <= found <= high:
        return None
    limit, value = ("max_net", most) if found > high else ("min_net", least)
    said = f"{found:,.2f} USD on equity of {book.equity:,.2f} USD"
    return Breach(limit, said, f"{value} times equity", f"balance the target, or move gate.{limit}")


def _sector(case: Case) -> Breach | None:
    most, sectors = case.params.max_sector_weight, case.market.sectors
    if most is None or not case.grows.any():
        return None
    named = [sectors[column] if sectors else None for column in case.plan.rows.tolist()]
    unknown = case.grows & np.array([name is None for name in named], dtype=bool)
    if unknown.any():
        remedy = "ingest its sector, or set gate.max_sector_weight to null"
        texts = ("its sector is unknown", f"{most:g} times equity", remedy)
        return case.breach("max_sector_weight", unknown, texts)
    growing = {str(name) for name, grows in zip(named, case.grows, strict=True) if grows}
    largest, name = max((total, name) for name, total in _sector_usd(case, growing).items())
    if largest <= most * case.book.equity:
        return None
    said = f"{name} would be {largest:,.2f} USD on equity of {case.book.equity:,.2f} USD"
    remedy = "lower the target, or raise gate.max_sector_weight"
    return Breach("max_sector_weight", said, f"{most:g} times equity", remedy)


def _sector_usd(case: Case, names: set[str]) -> dict[str, float]:
    """Return the gross exposure to each of some sectors once every order has filled, USD."""
    shares = np.where(case.book.working, case.book.committed, np.abs(case.after))
    value = shares * case.book.known_marks
    of_all = np.array([name or "" for name in case.market.sectors])
    return {name: float(value[of_all == name].sum()) for name in names}


def _daily_loss(case: Case) -> Breach | None:
    most, before = case.params.max_daily_loss, case.market.equity_before
    if most is None or not case.grows.any():
        return None
    if before is None:
        return _unknown("max_daily_loss", "equity at the close before", case)
    loss = 1.0 - case.book.equity / before if before > 0 else np.inf
    if loss <= most:
        return None
    remedy = "only closing orders pass until the next close"
    return Breach(
        "max_daily_loss", f"{loss:.2%} were lost since the close before", f"{most:.2%}", remedy
    )


def _drawdown(case: Case) -> Breach | None:
    most, found = case.params.max_drawdown, case.market.drawdown
    if most is None or not case.grows.any():
        return None
    if found is None:
        return _unknown("max_drawdown", "the highest close", case)
    if -found <= most:
        return None
    remedy = "only closing orders pass; raise gate.max_drawdown to go on"
    return Breach("max_drawdown", f"{-found:.2%} below the highest close", f"{most:.2%}", remedy)


CHECKS: tuple[Check, ...] = (
    *(_kill_switch, _session, _working_order, _repeated_in_plan, _duplicate, _message_rate),
    *(_price, _price_collar, _stale_data, _restricted, _long_only),
    *(_order_shares, _order_notional, _position_weight, _position_notional),
    *(_gross, _net, _sector, _daily_loss, _drawdown),
)
"""In the order they are asked; the first breach is the one that is told."""

REDUCE_ONLY = frozenset({"max_daily_loss", "max_drawdown"})
"""Breaches after which the closing part of a plan is sent all the same."""


def exposure_usd(book: BookView, shares: IntArray) -> float:
    """Return the value of signed or unsigned shares at the book's marks, USD."""
    held = np.flatnonzero(shares)
    return float(shares[held] @ book.marks[held])


def _unknown(check: str, what: str, case: Case) -> Breach | None:
    if not len(case.plan.rows) or not case.grows.any():
        return None
    remedy = f"an order that cannot be judged is refused; set gate.{check} to null without it"
    return Breach(check, f"{what} is unknown", "", remedy)


def _is_restricted(name: str, params: GateParams) -> bool:
    return name in params.restricted or (params.allowed is not None and name not in params.allowed)


def _last_before(closes: FloatArray) -> FloatArray:
    """Return the newest close before the last row, (N,); NaN where there is none."""
    earlier = closes[:-1]
    if not len(earlier):
        return np.full(closes.shape[1], np.nan)
    known = np.isfinite(earlier)
    newest = len(earlier) - 1 - np.argmax(known[::-1], axis=0)
    found: FloatArray = earlier[newest, np.arange(closes.shape[1])]
    return found


def _largest(values: FloatArray | IntArray, broken: BoolArray) -> float:
    return float(np.max(np.where(broken, values, 0), initial=0.0))
