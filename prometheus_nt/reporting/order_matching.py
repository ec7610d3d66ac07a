"""Orders of two runs, paired, and how far the fills of each pair lie apart.

1. `match_orders` pairs orders of the same decision, instrument and side: equal quantities first,
   then in the order in which they were sent.
2. The shares that both orders asked for are compared one by one, in the order of their fills
   (`_common`): at another price, in another session, or filled by one run only.
3. Shares that only one of the orders asked for differ by the plan (`_excess`).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date

from prometheus_nt.reporting.divergence_records import (
    Cause,
    FillRecord,
    Movement,
    OrderCounts,
    OrderRecord,
    TradedRun,
)

EXACT = 1e-9
"""Relative difference of quantities and prices that is rounding alone."""

Key = tuple[date, bool, str, int]


@dataclass(frozen=True)
class OrderPair:
    """An order of run A and the one of run B that asks for the same, with their fills."""

    order_a: OrderRecord | None
    order_b: OrderRecord | None
    fills_a: tuple[FillRecord, ...]
    fills_b: tuple[FillRecord, ...]

    @property
    def order(self) -> OrderRecord:
        found = self.order_a or self.order_b
        assert found is not None, "a pair has at least one order"
        return found

    @property
    def last(self) -> date:
        """The last session in which either order was filled, or that of the decision."""
        return max([self.order.session, *(fill.session for fill in self.fills_a + self.fills_b)])


@dataclass(frozen=True)
class _Piece:
    """Shares of one fill."""

    session: date
    shares: float
    price: float
    commission_per_share: float


def match_orders(run_a: TradedRun, run_b: TradedRun) -> list[OrderPair]:
    """Return every order of both runs once, in pairs where both have one."""
    fills_a, fills_b = _fills_by_order(run_a), _fills_by_order(run_b)
    orders_a, orders_b = _by_key(run_a.orders), _by_key(run_b.orders)
    pairs = []
    for key in sorted(orders_a.keys() | orders_b.keys()):
        for one, other in _paired(orders_a.get(key, []), orders_b.get(key, [])):
            of_a = () if one is None else tuple(fills_a.get(one.order_id, ()))
            of_b = () if other is None else tuple(fills_b.get(other.order_id, ()))
            pairs.append(OrderPair(one, other, of_a, of_b))
    return pairs


def movements_of(pair: OrderPair) -> Iterator[Movement]:
    """Yield how the fills of a pair move the runs apart, the differences of execution first.

    Cash is A less B; commissions are compared share by share, so that those of shares which one
    run alone has go with these shares.
    """
    asked = [order.quantity for order in (pair.order_a, pair.order_b) if order is not None]
    both = min(asked) if len(asked) == 2 else 0.0
    common_a, excess_a = _cut(pair.fills_a, both)
    common_b, excess_b = _cut(pair.fills_b, both)
    yield from _merged(_common(pair, common_a, common_b))
    yield from _merged(_excess(pair, excess_a, 1.0))
    yield from _merged(_excess(pair, excess_b, -1.0))


def count_orders(pairs: Sequence[OrderPair]) -> OrderCounts:
    """Return how many orders and fills of the pairs are the same."""
    both = [pair for pair in pairs if pair.order_a is not None and pair.order_b is not None]
    same = [pair for pair in both if _same_orders(pair)]
    return OrderCounts(
        orders_a=sum(pair.order_a is not None for pair in pairs),
        orders_b=sum(pair.order_b is not None for pair in pairs),
        orders_same=len(same),
        only_a=sum(pair.order_b is None for pair in pairs),
        only_b=sum(pair.order_a is None for pair in pairs),
        fills_a=sum(len(pair.fills_a) for pair in pairs),
        fills_b=sum(len(pair.fills_b) for pair in pairs),
        fills_same=sum(
            _same_fill(one, other)
            for pair in both
            for one, other in zip(pair.fills_a, pair.fills_b, strict=False)
        ),
    )


def _same_orders(pair: OrderPair) -> bool:
    one, other = pair.order_a, pair.order_b
    return one is not None and other is not None and _close(one.quantity, other.quantity)


def _same_fill(one: FillRecord, other: FillRecord) -> bool:
    return (
        one.session == other.session
        and _close(one.quantity, other.quantity)
        and abs(one.price - other.price) <= PRICE_STEP
        and abs(one.commission - other.commission) <= PRICE_STEP
    )


PRICE_STEP = 2e-6
"""USD: prices and commissions are kept in micro-dollars, which a split rounds again."""


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= EXACT * max(abs(one), abs(other))


def _by_key(orders: Sequence[OrderRecord]) -> dict[Key, list[OrderRecord]]:
    found: dict[Key, list[OrderRecord]] = defaultdict(list)
    for order in orders:
        found[order.session, order.planned, order.instrument_id, order.side].append(order)
    return found


def _fills_by_order(run: TradedRun) -> dict[str, list[FillRecord]]:
    found: dict[str, list[FillRecord]] = defaultdict(list)
    for fill in sorted(run.fills, key=lambda fill: fill.session):
        found[fill.order_id].append(fill)
    return found


def _paired(
    of_a: list[OrderRecord], of_b: list[OrderRecord]
) -> Iterator[tuple[OrderRecord | None, OrderRecord | None]]:
    left = list(of_b)
    unequal = []
    for order in of_a:
        equal = next((one for one in left if _close(one.quantity, order.quantity)), None)
        if equal is None:
            unequal.append(order)
            continue
        left.remove(equal)
        yield order, equal
    longer = max(len(unequal), len(left))
    for number in range(longer):
        yield (
            unequal[number] if number < len(unequal) else None,
            left[number] if number < len(left) else None,
        )


def _cut(fills: Sequence[FillRecord], shares: float) -> tuple[list[_Piece], list[_Piece]]:
    """Return the first `shares` that were filled, and the rest."""
    first, rest = [], []
    for fill in fills:
        piece = _Piece(fill.session, fill.quantity, fill.price, fill.commission / fill.quantity)
        inside = min(piece.shares, shares)
        shares -= inside
        if inside > 0.0:
            first.append(replace(piece, shares=inside))
        if piece.shares - inside > EXACT * piece.shares:
            rest.append(replace(piece, shares=piece.shares - inside))
    return first, rest


def _common(pair: OrderPair, of_a: list[_Piece], of_b: list[_Piece]) -> Iterator[Movement]:
    left_a, left_b = list(reversed(of_a)), list(reversed(of_b))
    while left_a and left_b:
        one, other = left_a.pop(), left_b.pop()
        shares = min(one.shares, other.shares)
        yield from _compared(pair, replace(one, shares=shares), replace(other, shares=shares))
        for left, piece in ((left_a, one), (left_b, other)):
            if piece.shares - shares > EXACT * piece.shares:
                left.append(replace(piece, shares=piece.shares - shares))
    for piece in reversed(left_a):
        yield _moved(pair, Cause.MISSED_FILL, piece, 1.0)
    for piece in reversed(left_b):
        yield _moved(pair, Cause.MISSED_FILL, piece, -1.0)


def _compared(pair: OrderPair, one: _Piece, other: _Piece) -> Iterator[Movement]:
    """Yield the differences of the same number of shares, filled by both runs."""
    if one.session == other.session:
        paid = pair.order.side * one.shares * (one.price - other.price)
        found = _movement(pair, Cause.FILL_PRICE, one.session, 0.0, -paid)
        yield replace(found, rounding=abs(one.price - other.price) <= PRICE_STEP)
    for piece, sign in ((one, 1.0), (other, -1.0)):
        fee = piece.shares * piece.commission_per_share
        yield _movement(pair, Cause.COST, piece.session, 0.0, -sign * fee)
        if one.session != other.session:
            yield _moved(pair, Cause.TIMING, replace(piece, commission_per_share=0.0), sign)


def _excess(pair: OrderPair, pieces: list[_Piece], sign: float) -> Iterator[Movement]:
    cause = None if pair.order.planned else Cause.MANUAL
    for piece in pieces:
        yield _moved(pair, cause, piece, sign)


def _moved(pair: OrderPair, cause: Cause | None, piece: _Piece, sign: float) -> Movement:
    """Return the whole of `piece` as what A has and B has not; the other way with `sign` -1."""
    bought = pair.order.side * piece.shares
    cash = -bought * piece.price - piece.shares * piece.commission_per_share
    return _movement(pair, cause, piece.session, sign * bought, sign * cash)


def _movement(
    pair: OrderPair, cause: Cause | None, session: date, shares: float, cash: float
) -> Movement:
    order_a, order_b = pair.order_a, pair.order_b
    return Movement(
        session=session,
        instrument_id=pair.order.instrument_id,
        cause=cause,
        shares=shares,
        cash=cash,
        decided=pair.order.session,
        last=pair.last,
        order_a=None if order_a is None else order_a.order_id,
        order_b=None if order_b is None else order_b.order_id,
        resized=not _same_orders(pair),
    )


def _merged(movements: Iterator[Movement]) -> Iterator[Movement]:
    """Yield one movement a session and cause; nothing where nothing moved."""
    merged: dict[tuple[date, Cause | None], Movement] = {}
    for one in movements:
        before = merged.get((one.session, one.cause))
        merged[one.session, one.cause] = (
            one
            if before is None
            else replace(
                one,
                shares=before.shares + one.shares,
                cash=before.cash + one.cash,
                rounding=before.rounding and one.rounding,
            )
        )
    yield from (one for one in merged.values() if one.shares or one.cash)
