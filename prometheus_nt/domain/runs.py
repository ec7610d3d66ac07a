"""Runs: what identifies one, and what it decided."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Literal

from prometheus_nt.domain.books import RiskActionType
from prometheus_nt.domain.record import content_hash

ExecutorKind = Literal["inline", "process", "ray"]
"""Where many tasks run: in this process, in others of this machine, or on a Ray cluster."""


class Mode(StrEnum):
    """The venue behind a node; the only word that changes between research and trading."""

    BACKTEST = "BACKTEST"
    PAPER = "PAPER"
    LIVE = "LIVE"


@dataclass(frozen=True)
class RunIdentity:
    """Everything that determines the bytes of a run; equal identities, equal results."""

    strategy_id: str
    sleeve_id: str
    mode: Mode
    code_hash: str
    config_hash: str
    data_fingerprint: str
    seed: int

    @property
    def run_id(self) -> str:
        digest = content_hash([self])
        return f"{self.sleeve_id}-{digest[:12]}"


@dataclass(frozen=True)
class TradingIdentity(RunIdentity):
    """What identifies a run that trades on as time goes on.

    Neither the code nor the data are part of it: both grow while it lives. Its configuration is,
    but for the sessions, and so is the first session that it traded.
    """

    started: date

    @property
    def run_id(self) -> str:
        what = (self.strategy_id, self.sleeve_id, self.mode.value, self.config_hash, self.seed)
        digest = content_hash([*what, self.started])
        return f"{self.sleeve_id}-{self.mode.value}-{digest[:12]}"


def day_run_id(day: str, sleeve_id: str) -> str:
    """Return the run that a sleeve's rows of a day belong to."""
    return f"{day}:{sleeve_id}"


@dataclass(frozen=True)
class SleeveDecision:
    """What a sleeve decided after a close: how many orders, and who was left alone.

    `held` could not be acted on (no price, or an order still working); `deferred` was cut to what
    the market can absorb in one session and goes on at the next.
    """

    as_of: date
    book_id: str
    orders: int
    held: tuple[str, ...]
    deferred: tuple[str, ...]


@dataclass(frozen=True)
class OrderRefusal:
    """A whole plan that the gate refused; not one of its orders was sent."""

    as_of: date
    book_id: str
    action_type: RiskActionType
    limit: str
    detail: str
    orders: int


@dataclass(frozen=True)
class Absent:
    """A record that a stage could not make of a session, so that nobody waits for it.

    record_type : name of the record's class.
    """

    as_of: date
    record_type: str
    reason: str
