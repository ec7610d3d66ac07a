"""The phases of a trading day, from waiting for its data to its books, and the moves between them.

::

    WAITING_FOR_DATA -> DATA_READY -> SIGNALS_DONE -> UNIVERSES_DONE -> BOOKS_DONE -> COMPLETED
           `--------------`--------------`--------------`----------------`-> FAILED
    FAILED -> the phase it failed in, by a retry
"""

from enum import StrEnum

from prometheus_nt.domain.errors import PhaseError


class RunPhase(StrEnum):
    """How far a day has come."""

    WAITING_FOR_DATA = "WAITING_FOR_DATA"
    DATA_READY = "DATA_READY"
    SIGNALS_DONE = "SIGNALS_DONE"
    UNIVERSES_DONE = "UNIVERSES_DONE"
    BOOKS_DONE = "BOOKS_DONE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


CHAIN = tuple(phase for phase in RunPhase if phase is not RunPhase.FAILED)

TERMINAL = (RunPhase.COMPLETED, RunPhase.FAILED)


def next_phase(phase: RunPhase) -> RunPhase:
    """Return the phase that follows when the work of the present one is done.

    Raises
    ------
    PhaseError
        If nothing follows.
    """
    if phase in TERMINAL:
        remedy = "retry it first" if phase is RunPhase.FAILED else "nothing is left to do"
        raise PhaseError(f"{phase}: nothing follows; {remedy}")
    return CHAIN[CHAIN.index(phase) + 1]


def require_move(before: RunPhase, after: RunPhase, failed_phase: RunPhase | None = None) -> None:
    """Raise `PhaseError` unless a run may move from `before` to `after`.

    Parameters
    ----------
    failed_phase : RunPhase or None
        Where a FAILED run was when it failed: the only phase it may return to.
    """
    if before is RunPhase.FAILED:
        if after is not failed_phase:
            raise PhaseError(f"FAILED -> {after}: a failed run goes back to {failed_phase} only")
        return
    if after is RunPhase.FAILED and before is not RunPhase.COMPLETED:
        return
    if before in TERMINAL or after is not next_phase(before):
        raise PhaseError(f"{before} -> {after}: no such move; see the order of the phases")
