"""The kill switch: who may trade, who stopped it, and why."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

ALL = "ALL"
"""The scope of a switch that every sleeve obeys besides its own."""


CLOSING = "closing"
"""Tag of an order that only closes a position: it may leave while a sleeve is flattened."""


class TradingState(StrEnum):
    """What may leave a sleeve: anything the gate lets pass, what closes positions, or nothing."""

    ARMED = "ARMED"
    FLATTENING = "FLATTENING"
    HALTED = "HALTED"

    @property
    def severity(self) -> int:
        """Rank among the states; the highest of all that apply holds."""
        return tuple(TradingState).index(self)


class HaltCause(StrEnum):
    """What kind of thing pulled the switch."""

    OPERATOR = "OPERATOR"
    GATE_REFUSALS = "GATE_REFUSALS"
    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    RECONCILE_BREAK = "RECONCILE_BREAK"
    STALE_DATA = "STALE_DATA"
    BROKER = "BROKER"
    RECORD = "RECORD"


@dataclass(frozen=True)
class SwitchState:
    """A switch as somebody left it.

    Attributes
    ----------
    scope : a sleeve's id, or `ALL`
    cause : None if armed
    by : who did it; a person, or the part of the system that found the cause
    at : aware; None if nobody ever touched the switch
    """

    scope: str
    state: TradingState
    cause: HaltCause | None = None
    reason: str = ""
    by: str = ""
    at: datetime | None = None

    def __str__(self) -> str:
        if self.at is None:
            return f"{self.scope} {self.state}"
        cause = "" if self.cause is None else f" ({self.cause})"
        moment = f"{self.at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.scope} {self.state}{cause} since {moment} by {self.by}: {self.reason}"


Guard = Callable[[], TradingState]
"""Returns what may leave now; asked before every batch of orders."""


def always_armed() -> TradingState:
    """Return ARMED: nobody stops a backtest."""
    return TradingState.ARMED


def worst(states: Iterable[SwitchState]) -> SwitchState:
    """Return the most severe state, the first of several; there must be one."""
    return max(states, key=lambda each: each.state.severity)


def current(scope: str, history: Sequence[SwitchState]) -> SwitchState:
    """Return how a switch stands; `history` is in the order it was moved, whatever clocks said."""
    return history[-1] if history else SwitchState(scope, TradingState.ARMED)


def state_at(scope: str, history: Sequence[SwitchState], moment: datetime) -> SwitchState:
    """Return how a switch stood at a moment; `history` is oldest first."""
    before = [each for each in history if each.at is not None and each.at <= moment]
    return before[-1] if before else SwitchState(scope, TradingState.ARMED)
