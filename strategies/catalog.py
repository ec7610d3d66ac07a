"""The sleeve families a node can name, and what distinguishes their members."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params
from strategies.schedule import Rebalance


class SleeveParams(Params):
    """One sleeve of a node: which family, at which horizon, with how much money.

    rebalance : how often the sleeve follows its target; None follows the family's default.
    """

    family: str = "US_CORE_LONG_EQ"
    horizon: int = Field(21, description="sessions; one of the family's horizons")
    capital_usd: float = Field(1_000_000.0, gt=0)
    rebalance: Rebalance | None = None

    @property
    def sleeve_id(self) -> str:
        return f"{self.family}_H{self.horizon}"

    @property
    def portfolio_id(self) -> str:
        return f"{self.sleeve_id}_PORTFOLIO"


@dataclass(frozen=True)
class Family:
    """A sleeve family and what it implies; a node's file may override any setting.

    Attributes
    ----------
    schedules : rebalance schedule per horizon
    engine_overrides : settings per horizon and stage
    planner_overrides, gate_overrides : settings of `PlannerParams` and `GateParams`
        A book that is short or levered needs its own limits in both: the planner cuts a plan to
        its limits, the gate refuses one beyond its own.
    """

    strategy_id: str
    market_id: str
    schedules: dict[int, Rebalance]
    engine_overrides: dict[int, dict[str, dict[str, Any]]]
    planner_overrides: dict[str, Any] = field(default_factory=dict)
    gate_overrides: dict[str, Any] = field(default_factory=dict)


CATALOG = {
    "US_CORE_LONG_EQ": Family(
        strategy_id="US_CORE_LONG_EQ",
        market_id="US_EQ",
        schedules={5: "weekly", 21: "monthly", 63: "quarterly"},
        # Horizons must differ in what they see, not only in name: each looks back over a span
        # proportional to how long it means to hold.
        engine_overrides={
            5: {
                "assessment": {
                    "horizon": 5,
                    "momentum_lookback": 63,
                    "momentum_skip": 5,
                    "reversal_lookback": 5,
                }
            },
            21: {
                "assessment": {
                    "horizon": 21,
                    "momentum_lookback": 252,
                    "momentum_skip": 21,
                    "reversal_lookback": 21,
                }
            },
            63: {
                "assessment": {
                    "horizon": 63,
                    "momentum_lookback": 252,
                    "momentum_skip": 63,
                    "reversal_lookback": 63,
                }
            },
        },
    ),
}


def family(sleeve: SleeveParams) -> Family:
    """Return the family of a sleeve.

    Raises
    ------
    ConfigError
        If the family or the horizon is unknown.
    """
    if sleeve.family not in CATALOG:
        raise ConfigError(
            f"sleeves.family: unknown family {sleeve.family!r}; known: {', '.join(CATALOG)}"
        )
    found = CATALOG[sleeve.family]
    if sleeve.horizon not in found.schedules:
        known = ", ".join(str(horizon) for horizon in found.schedules)
        raise ConfigError(
            f"sleeves.horizon: {sleeve.family} has no horizon {sleeve.horizon}; known: {known}"
        )
    return found
