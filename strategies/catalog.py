"""The sleeve families a node can name, and what distinguishes their members."""

import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, field_validator, model_validator

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params
from strategies.schedule import Rebalance

META_BOOK = "META_BOOK"
"""The family whose target is that of a meta-portfolio."""

VARIANT = re.compile(r"[A-Z0-9_]{1,24}")


class SleeveParams(Params):
    """One sleeve of a node: which family, at which horizon, with how much money.

    Attributes
    ----------
    rebalance
        How often the sleeve follows its target; None follows the family's default.
    metas
        Of a META_BOOK: the meta-portfolios it follows, each from the close at which its weights
        were decided until the next one's.
    variant
        Tells sleeves of one family and horizon apart; part of the sleeve's id.
    engines, planner, gate
        Settings of this sleeve alone, over those of its family and of the node.
    """

    family: str = "US_CORE_LONG_EQ"
    horizon: int = Field(21, description="sessions; one of the family's horizons")
    capital_usd: float = Field(1_000_000.0, gt=0)
    rebalance: Rebalance | None = None
    metas: tuple[str, ...] = ()
    variant: str | None = None
    engines: dict[str, dict[str, Any]] = Field({})
    planner: dict[str, Any] = Field({})
    gate: dict[str, Any] = Field({})

    @field_validator("variant")
    @classmethod
    def _fits_an_id(cls, variant: str | None) -> str | None:
        if variant is not None and not VARIANT.fullmatch(variant):
            raise ValueError("must be 1 to 24 capital letters, digits or underscores, as ids are")
        return variant

    @model_validator(mode="after")
    def _follows_what_it_should(self) -> "SleeveParams":
        if self.follows_members and not self.metas:
            raise ValueError(f"metas: {META_BOOK} follows at least one finished meta-portfolio")
        if self.metas and not self.follows_members:
            raise ValueError(f"metas: only {META_BOOK} follows meta-portfolios")
        return self

    @property
    def follows_members(self) -> bool:
        """Whether its target is what the members of a meta-portfolio hold."""
        return self.family == META_BOOK

    @property
    def sleeve_id(self) -> str:
        ending = f"_{self.variant}" if self.variant else ""
        return f"{self.family}_H{self.horizon}{ending}"

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


SCHEDULES: dict[int, Rebalance] = {5: "weekly", 21: "monthly", 63: "quarterly"}

# Horizons must differ in what they see, not only in name: each looks back over a span proportional
# to how long it means to hold.
LOOKBACKS: dict[int, dict[str, Any]] = {
    5: {
        "momentum_lookback": 63,
        "momentum_skip": 5,
        "reversal_lookback": 5,
        "volatility_lookback": 21,
        "beta_lookback": 126,
    },
    21: {
        "momentum_lookback": 252,
        "momentum_skip": 21,
        "reversal_lookback": 21,
        "volatility_lookback": 63,
        "beta_lookback": 252,
    },
    63: {
        "momentum_lookback": 252,
        "momentum_skip": 63,
        "reversal_lookback": 63,
        "volatility_lookback": 189,
        "beta_lookback": 252,
    },
}


def _assessing(**settings: Any) -> dict[int, dict[str, dict[str, Any]]]:
    """Return the assessment of every horizon, with the same other settings for each."""
    return {
        horizon: {"assessment": {"horizon": horizon, **lookbacks, **settings}}
        for horizon, lookbacks in LOOKBACKS.items()
    }


def _long_only(strategy_id: str, **assessment: Any) -> Family:
    return Family(strategy_id, "US_EQ", SCHEDULES, _assessing(**assessment))


def _signed(
    strategy_id: str, horizons: tuple[int, ...], portfolio: dict[str, Any], limits: dict[str, Any]
) -> Family:
    """Return a family that sells short; `limits` are its gross and its band of net exposure."""
    risk = {"long_only": False, "max_gross": limits["max_gross"]}
    assessments = _assessing()
    return Family(
        strategy_id=strategy_id,
        market_id="US_EQ",
        schedules={horizon: SCHEDULES[horizon] for horizon in horizons},
        engine_overrides={
            horizon: {**assessments[horizon], "portfolio": portfolio, "risk": risk}
            for horizon in horizons
        },
        planner_overrides=limits,
        # Prices move between the plan and the fill: the gate allows a little more than the planner.
        gate_overrides={"long_only": False, **{name: 1.1 * of for name, of in limits.items()}},
    )


def _following_members() -> Family:
    """Return the family that follows a meta-portfolio, whose sleeves may be short as well."""
    return Family(
        strategy_id=META_BOOK,
        market_id="US_EQ",
        schedules={1: "daily"},
        engine_overrides={
            1: {
                "assessment": {"horizon": 1},
                # Its members chose by a universe of theirs: it has none.
                "universe": {"min_price": None},
                # What one instrument may weigh is a gate of the meta-portfolio itself.
                "risk": {"long_only": False, "max_gross": 2.0, "max_abs_weight_per_name": 0.25},
            }
        },
        planner_overrides={"max_gross": 2.0},
        gate_overrides={"long_only": False, "max_gross": 2.2},
    )


CATALOG = {
    "US_CORE_LONG_EQ": _long_only("US_CORE_LONG_EQ"),
    "US_LONG_SHORT_EQ": _signed(
        "US_LONG_SHORT_EQ",
        (5, 21, 63),
        {
            "construction": "long_short",
            "max_names": 20,
            "max_names_short": 20,
            "gross_long": 1.0,
            "gross_short": 1.0,
            "max_weight_short": 0.10,
        },
        {"max_gross": 2.0, "min_net": -0.25, "max_net": 0.25},
    ),
    "US_SHORT_HEDGE_EQ": _signed(
        "US_SHORT_HEDGE_EQ",
        (21,),
        {"construction": "short_hedge", "gross_short": 0.5},
        {"max_gross": 0.5, "min_net": -0.5, "max_net": 0.05},
    ),
    META_BOOK: _following_members(),
    "US_CONTROL_RANDOM_EQ": _long_only("US_CONTROL_RANDOM_EQ", control="random"),
    "US_CONTROL_REVERSED_EQ": _long_only("US_CONTROL_REVERSED_EQ", control="reversed"),
}
"""Long the best; long the best and short the worst; short the fragile; what a meta-portfolio of
such sleeves holds; and two controls that trade like the first on scores that must not work."""


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
