"""Settings of the simulated venue: what a configuration holds, without the exchange itself."""

from typing import Literal

from pydantic import Field

from prometheus_nt.domain.record import Params

Replay = Literal["sparse", "full"]


class FeeParams(Params):
    """Interactive Brokers "fixed" US stock pricing: per share as traded, with a floor and a cap.

    Source: the broker's public price list for US stocks and ETFs, fixed pricing.
    """

    per_share_usd: float = Field(0.005, ge=0)
    minimum_usd: float = Field(1.00, ge=0)
    cap_fraction: float = Field(0.01, ge=0, le=1, description="of the trade's value")


class QuoteParams(Params):
    """Trading costs inside the opening price.

    impact_coefficient : multiple of (volatility per session * square root of participation);
    0 switches impact off, which is the only honest choice for data without volume.
    """

    half_spread_bps: float = Field(2.5, ge=0, le=500)
    impact_coefficient: float = Field(0.0, ge=0, le=10)


class RouterParams(Params):
    """What becomes of an order whose instrument has no opening quote (a halt, a missing bar).

    unquoted : `carry` keeps it for the next open, `drop` cancels it at once.
    max_carry_sessions : opens a carried order may miss before it is cancelled.
    """

    unquoted: Literal["carry", "drop"] = "carry"
    max_carry_sessions: int = Field(5, ge=1)

    @property
    def patience(self) -> int:
        """Opens without a quote that an order survives."""
        return self.max_carry_sessions if self.unquoted == "carry" else 0
