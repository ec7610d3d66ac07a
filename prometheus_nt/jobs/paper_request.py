"""What a paper or live session is asked to do, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class PaperRequest:
    """How far to trade.

    fast : stop where the stored data end, instead of waiting for the next session.
    start : first session of a run; None goes on with the run of this configuration, or begins at
        the node's first session.
    until : last session to trade; None is the node's.
    acknowledge : who has looked at the halts of the broker's account, so that it may go on.
    """

    fast: bool = False
    start: date | None = None
    until: date | None = None
    acknowledge: str | None = None


@dataclass(frozen=True)
class SessionStatus:
    """Where a sleeve stands after a session; `replayed` if it had been recorded before."""

    session: date
    sleeve_id: str
    equity: float
    cash: float
    positions: int
    fills: int
    waiting_orders: int
    replayed: bool


@dataclass(frozen=True)
class PaperSummary:
    """What a paper run amounts to when it stops."""

    run_id: str
    sleeve_id: str
    strategy_id: str
    start: date
    last: date | None
    sessions: int
    new_sessions: int
    equity: float
    cash: float
    positions: int
    orders: int
    fills: int


Tell = Callable[[SessionStatus], None]
