"""The pre-trade gate: every order passes here or goes nowhere."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_nt.domain.errors import GateRefusal
from strategies.checks import CHECKS, MINUTE_NS, NANOS, Breach, Case, MarketFacts, SentOrder
from strategies.limits import GateParams
from strategies.planner import BookView, Plan

__all__ = ["GATE_FAILURE", "Approved", "GateParams", "MarketFacts", "OrderGate"]

GATE_FAILURE = "gate_failure"
"""The limit that a plan breaks when the gate itself fails."""


@dataclass(frozen=True, eq=False)
class Approved:
    """A plan that passed the gate; `OrderGate` alone makes one, and sleeves submit nothing else."""

    plan: Plan


def nothing_known() -> MarketFacts:
    """Return facts of which none is known."""
    return MarketFacts()


class OrderGate:
    """Checks a whole plan before any of it is sent, so that nothing is ever half sent.

    Parameters
    ----------
    params : GateParams
    """

    def __init__(self, params: GateParams) -> None:
        self.params = params
        self.passed_orders = 0
        self._sent: list[SentOrder] = []

    def approve(
        self, plan: Plan, book: BookView, facts: Callable[[], MarketFacts] = nothing_known
    ) -> Approved:
        """Return the plan as approved.

        Parameters
        ----------
        facts : callable
            Asked once, and if it fails the plan is refused: nothing leaves unjudged.

        Raises
        ------
        GateRefusal
            If any order breaks any limit, or cannot be judged. Orders that only reduce a
            position are never the reason, but for the kill switch: they must always be possible.
        """
        breach, market = self._judge(plan, book, facts)
        if breach is not None:
            raise breach.refusal()
        self._remember(plan, market.now_ns)
        return Approved(plan)

    def verdict(self, plan: Plan, book: BookView, facts: Callable[[], MarketFacts]) -> str:
        """Return `passes`, or why a plan would be refused; nothing is approved or remembered."""
        try:
            breach, _ = self._judge(plan, book, facts)
        except GateRefusal as refusal:
            return str(refusal)
        return "passes" if breach is None else str(breach.refusal())

    def _judge(
        self, plan: Plan, book: BookView, facts: Callable[[], MarketFacts]
    ) -> tuple[Breach | None, MarketFacts]:
        try:
            market = facts()
            case = Case(plan, book, market, self.params, self._sent)
            found = (check(case) for check in CHECKS)
            return next((breach for breach in found if breach is not None), None), market
        # Whatever it is: what was not judged may not leave.
        except Exception as failure:
            raise GateRefusal(
                GATE_FAILURE,
                f"the gate failed with {type(failure).__name__}: {failure}; a plan that cannot be "
                "judged is refused: mend the cause, the next close tries again",
            ) from failure

    def _remember(self, plan: Plan, now_ns: int | None) -> None:
        self.passed_orders += len(plan.rows)
        if now_ns is None:
            return
        window = int((self.params.duplicate_window_seconds or 0.0) * NANOS)
        oldest = now_ns - max(window, MINUTE_NS)
        self._sent = [each for each in self._sent if each.ts_ns > oldest]
        orders = zip(plan.rows.tolist(), plan.quantities.tolist(), strict=True)
        self._sent += [SentOrder(now_ns, column, quantity) for column, quantity in orders]
