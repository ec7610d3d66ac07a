"""When a hard limit on losses or refusals was crossed, so that the kill switch has to be pulled."""

from persistence.mirror import Mirror
from prometheus_nt.domain.safety import HaltCause
from strategies.limits import GateParams

KILL_SWITCH = "kill_switch"


class LossWatch:
    """Looks at a run after each close; a limit is told when it is crossed, not while it stays so.

    Parameters
    ----------
    params : GateParams
    """

    def __init__(self, params: GateParams) -> None:
        self._params = params
        self._refused = self._seen_refusals = self._seen_decisions = 0

    def after_close(self, mirror: Mirror) -> tuple[HaltCause, str] | None:
        """Return why trading has to stop after the newest close, as a cause and as words."""
        refused = self._count_refusals(mirror)
        return self._loss(mirror) or self._drawdown(mirror) or refused

    def _loss(self, mirror: Mirror) -> tuple[HaltCause, str] | None:
        most, held = self._params.halt_daily_loss, mirror.holdings
        if most is None or len(held) < 2:
            return None
        loss = 1.0 - held[-1].equity / held[-2].equity
        if loss <= most:
            return None
        found = f"{loss:.2%} were lost on {held[-1].as_of}, limit {most:.2%}"
        return HaltCause.DAILY_LOSS, f"halt_daily_loss: {found}"

    def _drawdown(self, mirror: Mirror) -> tuple[HaltCause, str] | None:
        most, held = self._params.halt_drawdown, mirror.holdings
        if most is None or not held or -held[-1].drawdown <= most:
            return None
        if len(held) > 1 and -held[-2].drawdown > most:
            return None  # somebody has looked at it, and armed the sleeve again
        found = f"{-held[-1].drawdown:.2%} below the highest close on {held[-1].as_of}"
        return HaltCause.DRAWDOWN, f"halt_drawdown: {found}, limit {most:.2%}"

    def _count_refusals(self, mirror: Mirror) -> tuple[HaltCause, str] | None:
        new = [item.record for item in mirror.refusals[self._seen_refusals :]]
        decided = len(mirror.decisions) > self._seen_decisions
        self._seen_refusals, self._seen_decisions = len(mirror.refusals), len(mirror.decisions)
        real = [record for record in new if record.limit != KILL_SWITCH]
        if decided:
            self._refused = 0
        self._refused += len(real)
        most = self._params.halt_after_refusals
        if most is None or not real or self._refused < most:
            return None
        count, self._refused = self._refused, 0
        found = f"{count} plans were refused one after the other, the last by {real[-1].limit}"
        return HaltCause.GATE_REFUSALS, f"halt_after_refusals: {found}: {real[-1].detail}"
