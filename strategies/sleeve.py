"""A sleeve: follows its target portfolio, keeps its books, and knows no venue.

After each close, in `on_data`:

1. `MarketPanel` marks the ledger and publishes the `BookState`;
2. `TargetPortfolio` of the same session, when a rebalance is due or its drawdown breaker has
   tripped or let go, becomes a plan (`planner`);
3. the plan passes the gate (`gate`) whole, or nothing is sent but, after a large loss, the part of
   it that closes positions;
4. approved orders go to the router, which alone decides when the venue sees them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from nautilus_trader.config import StrategyConfig
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import ExecAlgorithmId
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy

from prometheus_nt.bus import AsOfJoin, Published, publish, subscribe
from prometheus_nt.domain.books import RiskActionType, TargetPortfolio
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import GateRefusal
from prometheus_nt.domain.ledger import Ledger, micros
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray
from prometheus_nt.domain.runs import OrderRefusal, SleeveDecision
from prometheus_nt.domain.safety import CLOSING, Guard, TradingState, always_armed
from prometheus_nt.domain.sessions import CorporateActions, OvernightFinancing
from prometheus_nt.domain.units import ShareUnits
from strategies.checks import REDUCE_ONLY, MarketFacts
from strategies.gate import Approved, OrderGate
from strategies.planner import BookView, Plan, PlannerParams, closing_plan, plan_orders
from strategies.schedule import Rebalance, period

UsualValue = Callable[[MarketPanel], FloatArray]
"""Returns the (N,) usual traded value per session, USD, from a panel that ends now."""


@dataclass(frozen=True)
class SleeveParts:
    """What a sleeve is made of; `instruments` are Nautilus instruments in panel order.

    guard : what the kill switch lets leave; asked at each close and before each plan.
    calendar : tells the gate when the next session opens; None if it need not know.
    """

    sleeve_id: str
    book_id: str
    rebalance: Rebalance
    instruments: tuple[Any, ...]
    ledger: Ledger
    units: ShareUnits
    planner: PlannerParams
    gate: OrderGate
    usual_value: UsualValue
    route: str = "OPEN"
    guard: Guard = always_armed
    calendar: MarketCalendar | None = None


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a sleeve asked its gate last: `verdict` is what was said of it."""

    as_of: date
    plan: Plan
    book: BookView
    verdict: str


class SleeveStrategy(Strategy):
    """Turns one book's target portfolios into orders, and orders into a ledger."""

    def __init__(self, parts: SleeveParts) -> None:
        super().__init__(StrategyConfig(strategy_id=parts.sleeve_id, order_id_tag="001"))
        self.parts = parts
        self.ledger = parts.ledger
        self._columns = {item.id: column for column, item in enumerate(parts.instruments)}
        self._join = AsOfJoin(MarketPanel, TargetPortfolio)
        self._working: dict[object, int] = {}
        self._period: tuple[int, int] | None = None
        self._target: TargetPortfolio | None = None
        self._unfinished: BoolArray = np.zeros(len(parts.instruments), dtype=bool)
        self._equities: tuple[float | None, float | None] = (None, None)
        self.proposed: Proposal | None = None

    def on_start(self) -> None:
        subscribe(self, OvernightFinancing, CorporateActions, MarketPanel, TargetPortfolio)

    def on_data(self, data: Published) -> None:
        match data.record:
            case OvernightFinancing() as overnight:
                self.ledger.finance(overnight)
                return
            case CorporateActions() as actions:
                if actions.split is not None:
                    self.ledger.split(actions.session, actions.split)
                self.ledger.pay_dividends(actions.session, actions.dividend_per_share)
                self.ledger.close_delisted(
                    actions.session, actions.delisted, actions.delisting_return
                )
                return
            case MarketPanel() as panel:
                self._mark(panel)
                if self.parts.guard() is TradingState.FLATTENING:
                    self._wind_down(panel)
                else:
                    self._finish(panel)
            case TargetPortfolio(book_id=self.parts.book_id):
                pass
            case _:
                return
        ready = self._join.add(data)
        if ready is not None:
            self._follow(*ready)

    def on_order_filled(self, event: OrderFilled) -> None:
        shares = int(event.last_qty.as_decimal())
        signed = shares if event.order_side == OrderSide.BUY else -shares
        price = micros(event.last_px.as_decimal())
        paid = micros(event.commission.as_decimal())
        self.ledger.fill(self._columns[event.instrument_id], signed, price, paid)
        self._forget_if_closed(event.client_order_id)

    def on_order_canceled(self, event: Any) -> None:
        self._retry(event)

    def on_order_expired(self, event: Any) -> None:
        self._retry(event)

    def _retry(self, event: Any) -> None:
        """Ask again at the next close: the order is gone, the target still stands."""
        self._unfinished[self._columns[event.instrument_id]] = True
        self._forget_if_closed(event.client_order_id)

    def on_order_rejected(self, event: Any) -> None:
        self.log.error(f"order={event.client_order_id} rejected: {event.reason}")
        self._forget_if_closed(event.client_order_id)

    def on_order_denied(self, event: Any) -> None:
        self.log.error(f"order={event.client_order_id} denied: {event.reason}")
        self._forget_if_closed(event.client_order_id)

    def _forget_if_closed(self, client_order_id: object) -> None:
        order = self.cache.order(client_order_id)
        if order is None or order.is_closed:
            self._working.pop(client_order_id, None)

    def _mark(self, panel: MarketPanel) -> None:
        self.ledger.mark(panel.close[-1] / self.parts.units.factor_at(panel.as_of))
        self._equities = (self._equities[1], self.ledger.equity)
        due = self.follows_target(panel.as_of)
        state = self.ledger.state(panel.as_of, self.parts.book_id, follows_target=due)
        publish(self, state)

    def follows_target(self, as_of: date) -> bool:
        """Return whether the schedule lets this sleeve follow the target of a session."""
        return period(as_of, self.parts.rebalance) != self._period

    def _follow(self, panel_item: Published, target_item: Published) -> None:
        target: TargetPortfolio = target_item.record
        current = period(target.as_of, self.parts.rebalance)
        if current == self._period and not self._breaker_turned(target):
            return
        self._period, self._target = current, target
        self._trade(panel_item.record, target, None, (panel_item, target_item))

    def _breaker_turned(self, target: TargetPortfolio) -> bool:
        """Return whether the drawdown breaker tripped or let go: that waits for no schedule."""
        followed = self._target
        return followed is not None and followed.breaker_tripped != target.breaker_tripped

    def _finish(self, panel: MarketPanel) -> None:
        superseded = period(panel.as_of, self.parts.rebalance) != self._period
        if self._target is not None and self._unfinished.any() and not superseded:
            self._trade(panel, self._target, self._unfinished, ())

    def _trade(
        self,
        panel: MarketPanel,
        target: TargetPortfolio,
        only: BoolArray | None,
        inputs: tuple[Published, ...],
    ) -> None:
        book = self.book(panel)
        plan = plan_orders(target.weights, book, self.parts.planner, only)
        try:
            approved = self._approve(panel, plan, book)
        except GateRefusal as refusal:
            # Not one order was sent: all of it is still to be done at the next close.
            self._unfinished = np.ones(len(self._columns), dtype=bool) if only is None else only
            self._refused(panel.as_of, plan, refusal)
            if refusal.limit in REDUCE_ONLY:
                self._submit_closing(panel, closing_plan(book, plan), book)
            return
        self._unfinished = np.zeros(len(self._columns), dtype=bool)
        self._unfinished[plan.deferred] = True
        self._unfinished[plan.held] = True
        self._submit(approved, panel.as_of)
        if only is None or len(plan.rows):
            self._record_decision(panel.as_of, plan, inputs)

    def _wind_down(self, panel: MarketPanel) -> None:
        """Close what is held; what the target asked for is still to be done once armed again."""
        book = self.book(panel)
        self._unfinished = np.ones(len(self._columns), dtype=bool)
        self._submit_closing(panel, closing_plan(book), book)

    def _submit_closing(self, panel: MarketPanel, plan: Plan, book: BookView) -> None:
        try:
            approved = self._approve(panel, plan, book)
        except GateRefusal as refusal:
            self._refused(panel.as_of, plan, refusal)
            return
        self._submit(approved, panel.as_of, CLOSING)
        if len(plan.rows):
            self._record_decision(panel.as_of, plan, ())

    def _approve(self, panel: MarketPanel, plan: Plan, book: BookView) -> Approved:
        try:
            approved = self.parts.gate.approve(plan, book, lambda: self.facts(panel))
        except GateRefusal as refusal:
            self.proposed = Proposal(panel.as_of, plan, book, str(refusal))
            raise
        self.proposed = Proposal(panel.as_of, plan, book, "passes")
        return approved

    def facts(self, panel: MarketPanel) -> MarketFacts:
        """Return what the gate may know after the panel's last close."""
        calendar, as_of = self.parts.calendar, panel.as_of
        equity, peak = self.ledger.equity, self.ledger.peak_equity
        sessions = (self.parts.gate.params.max_unchanged_sessions or 0) + 2
        after = None if calendar is None else calendar.open_ns(calendar.next_session(as_of))
        return MarketFacts(
            instruments=panel.instruments,
            sectors=panel.sectors,
            closes=_comparable_closes(panel.last(sessions)) / self.parts.units.factor_at(as_of),
            state=self.parts.guard(),
            now_ns=self.clock.timestamp_ns(),
            closed_ns=None if calendar is None else calendar.close_ns(as_of),
            opens_ns=after,
            # Before the first close there is the capital alone, and nothing to lose.
            equity_before=equity if self._equities[0] is None else self._equities[0],
            drawdown=equity / max(peak, equity) - 1.0,
        )

    def book(self, panel: MarketPanel) -> BookView:
        """Return the books as the planner and the gate see them after the panel's last close."""
        units, as_of = self.parts.units, panel.as_of
        working = np.zeros(len(self._columns), dtype=bool)
        working[list(self._working.values())] = True
        pending = np.zeros(len(self._columns), dtype=np.int64)
        for order_id, column in self._working.items():
            left = int(self.cache.order(order_id).leaves_qty.as_decimal())
            pending[column] += left if self.cache.order(order_id).is_buy else -left
        return BookView(
            equity=self.ledger.equity,
            shares=self.ledger.shares.copy(),
            prices=panel.close[-1] / units.factor_at(as_of),
            marks=self.ledger.marks.copy(),
            lots=units.lots_at(as_of),
            working=working,
            pending=pending,
            usual_value=self.parts.usual_value(panel),
        )

    def _submit(self, approved: Approved, as_of: date, *marks: str) -> None:
        plan = approved.plan
        route = ExecAlgorithmId(self.parts.route)
        tags = [f"as_of:{as_of}", *marks]
        for column, quantity in zip(plan.rows.tolist(), plan.quantities.tolist(), strict=True):
            order = self.order_factory.market(
                instrument_id=self.parts.instruments[column].id,
                order_side=OrderSide.BUY if quantity > 0 else OrderSide.SELL,
                quantity=Quantity.from_int(abs(quantity)),
                exec_algorithm_id=route,
                tags=tags,
            )
            self._working[order.client_order_id] = column
            self.submit_order(order)

    def _refused(self, as_of: date, plan: Plan, refusal: GateRefusal) -> None:
        self.log.error(f"book={self.parts.book_id} as_of={as_of} plan {refusal}")
        publish(
            self,
            OrderRefusal(
                as_of=as_of,
                book_id=self.parts.book_id,
                action_type=RiskActionType.EXECUTION_REJECT,
                limit=refusal.limit,
                detail=refusal.detail,
                orders=len(plan.rows),
            ),
        )

    def _record_decision(self, as_of: date, plan: Plan, inputs: tuple[Published, ...]) -> None:
        names = self.ledger.instruments
        publish(
            self,
            SleeveDecision(
                as_of=as_of,
                book_id=self.parts.book_id,
                orders=len(plan.rows),
                held=tuple(names[row] for row in plan.held),
                deferred=tuple(names[row] for row in plan.deferred),
            ),
            engine="sleeve",
            params_hash=self.parts.planner.digest(),
            inputs=inputs,
        )


def _comparable_closes(panel: MarketPanel) -> FloatArray:
    """Return the closes of a panel in shares of its last session, whatever was split, (T, N)."""
    ratios = np.nan_to_num(panel.split, nan=1.0)
    after = np.vstack([ratios[1:], np.ones((1, ratios.shape[1]))])
    closes: FloatArray = panel.close / np.cumprod(after[::-1], axis=0)[::-1]
    return closes
