"""The day's table where the last session alone is kept: what nobody hears is not made.

1. A day replays its sleeve's sessions, to know what is held; between two rebalances the sleeve
   follows no target, and nothing of those sessions is written.
2. `silent_between` finds the stages that only a target hears and that remember nothing of the
   session before; on such sessions they make nothing (`OrderSessions.unheard`).
3. They speak again on the last session and on the one before it, whose book the last one's turnover
   is measured from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Protocol

from prometheus_nt.actors.pipeline import Stage
from prometheus_nt.domain.books import BookTarget, TargetPortfolio
from prometheus_nt.domain.market import FragilityMeasures
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.engines.portfolio import PortfolioParams
from prometheus_nt.engines.risk import RiskParams, remembers

WRITTEN = 2
"""Sessions at the end on which every stage speaks."""


class Follower(Protocol):
    """Who trades targets, on sessions of its own."""

    def follows_target(self, as_of: date) -> bool: ...


@dataclass
class OrderSessions:
    """The sessions of a replay on which somebody hears a target.

    follower : the sleeve, told once it is made
    """

    panel: MarketPanel
    follower: Follower | None = None
    _last: frozenset[date] = field(init=False)

    def __post_init__(self) -> None:
        self._last = frozenset(self.panel.sessions[-WRITTEN:].astype(object))

    def unheard(self, made: Mapping[type, Any]) -> bool:
        """Return whether nobody hears a target of the session of these records."""
        as_of = made[MarketPanel].as_of
        if self.follower is None or as_of in self._last:
            return False
        return not self.follower.follows_target(as_of)


def silent_between(
    table: Sequence[Stage],
    portfolio: PortfolioParams,
    risk: RiskParams,
    sessions: OrderSessions,
) -> tuple[Stage, ...]:
    """Return the table with the stages that only a target hears silent where nobody hears it."""
    silent = _silent(portfolio, risk)
    return tuple(
        replace(stage, unheard=sessions.unheard)
        if stage.output in silent and stage.unheard is None
        else stage
        for stage in table
    )


def _silent(portfolio: PortfolioParams, risk: RiskParams) -> set[type]:
    if remembers(risk):
        return set()
    # A book that is solved now and then repeats its weights, and a limit on turnover starts there.
    if portfolio.solved or portfolio.solver.max_turnover is not None:
        return {TargetPortfolio}
    return {FragilityMeasures, BookTarget, TargetPortfolio}
