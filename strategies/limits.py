"""What the pre-trade gate allows: its settings, and what each mode adds to them."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from prometheus_nt.domain.record import Params
from strategies.planner import require_band


class GateParams(Params):
    """Hard limits on what may leave a sleeve, whatever its target says; None is no limit.

    max_position_weight : largest |position| after the order, as a fraction of equity.
    max_position_notional_usd : the same in USD.
    max_gross : largest gross exposure after all orders, as a fraction of equity.
    min_net, max_net : net exposure once all orders have filled, as fractions of equity. A book
        outside may come nearer, and may always close positions.
    max_sector_weight : largest gross exposure to one sector after all orders, as a fraction of
        equity; an instrument of unknown sector then cannot be bought.
    max_order_notional_usd, max_order_shares : largest single order.
    max_price_move : largest change of the price that sized an order against the close before it;
        beyond, it is more likely wrong than news.
    max_unchanged_sessions : sessions for which a close may have stayed the same to the last digit;
        beyond, the feed is more likely dead than the market.
    max_orders_per_minute : orders within any 60 seconds of the session's clock.
    duplicate_window_seconds : within which no order may repeat one, share by share.
    restricted : instruments that may not be bought or sold short.
    allowed : the only ones that may; None is all.
    between_sessions : orders leave only after the close that they were decided on, and before the
        next session opens.
    max_daily_loss, max_drawdown : loss since the close before, and below the highest close, as
        fractions of equity; beyond, orders may only close positions.
    halt_daily_loss, halt_drawdown : the same; when crossed, the kill switch halts the sleeve.
    halt_after_refusals : plans refused one after the other before the kill switch halts the sleeve.
    """

    long_only: bool = True
    max_position_weight: float = Field(0.25, gt=0, le=1)
    max_position_notional_usd: float | None = Field(None, gt=0)
    max_gross: float = Field(1.0, gt=0, le=10)
    min_net: float | None = Field(None, ge=-10, le=10)
    max_net: float | None = Field(None, ge=-10, le=10)
    max_sector_weight: float | None = Field(None, gt=0, le=10)
    max_order_notional_usd: float | None = Field(None, gt=0)
    max_order_shares: int | None = Field(None, ge=1)
    max_price_move: float | None = Field(None, gt=0)
    max_unchanged_sessions: int | None = Field(None, ge=1, le=260)
    max_orders_per_minute: int | None = Field(None, ge=1)
    duplicate_window_seconds: float | None = Field(None, gt=0)
    restricted: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    between_sessions: bool = False
    max_daily_loss: float | None = Field(None, gt=0, le=1)
    max_drawdown: float | None = Field(None, gt=0, le=1)
    halt_daily_loss: float | None = Field(None, gt=0, le=1)
    halt_drawdown: float | None = Field(None, gt=0, le=1)
    halt_after_refusals: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "GateParams":
        require_band(self.min_net, self.max_net)
        return self


TRADING: Mapping[str, Any] = {
    "max_price_move": 0.4,
    "max_unchanged_sessions": 5,
    "max_orders_per_minute": 2000,
    "duplicate_window_seconds": 3600.0,
    "between_sessions": True,
    "max_daily_loss": 0.1,
    "halt_daily_loss": 0.15,
    "halt_drawdown": 0.5,
    "halt_after_refusals": 5,
}
"""Paper has the limits of live, so that a rehearsal is one."""

MODE_LIMITS: Mapping[str, Mapping[str, Any]] = {"backtest": {}, "paper": TRADING, "live": TRADING}
"""What is not set in a mode: a backtest judges a strategy, not the day's data or a broken feed."""
