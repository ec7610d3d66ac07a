"""The market that is replayed: prices by session, and a clock that moves from stage to stage.

A session has three stages, which begin at 04:00 of its exchange, at its open and at its close.
Nothing is known before its stage: the open from the open on, the rest of a bar from the close on.
Prices between the two are not in daily data and are not made up: the last trade stays the open.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np

from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray

NIGHT_BEFORE_OPEN_NS = int(5.5 * 3600 * 1e9)


class Stage(IntEnum):
    """Where a session stands."""

    NIGHT = 0
    OPEN = 1
    CLOSED = 2


@dataclass(frozen=True, eq=False)
class Prices:
    """Daily history as traded, and the hours of its sessions.

    Attributes
    ----------
    sessions : (T,) array of datetime64[D]
    opens_ns, closes_ns : (T,) int64 arrays, UNIX nanoseconds
    open, high, low, close, volume : (T, N) arrays; NaN where an instrument did not trade
    split : (T, N) array, new shares per old share at the session's open
    dividend : (T, N) array, cash per new share
    time_zone : str
    """

    sessions: SessionArray
    opens_ns: IntArray
    closes_ns: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    split: FloatArray
    dividend: FloatArray
    time_zone: str = "America/New_York"

    @cached_property
    def shares(self) -> FloatArray:
        """Shares at each session that one share of the first session became, (T, N)."""
        return np.cumprod(self.split, axis=0).astype(np.float64)

    @cached_property
    def carried(self) -> FloatArray:
        """The last close at or before each session, in that session's shares, (T, N)."""
        adjusted = self.close * self.shares
        rows = np.where(np.isfinite(adjusted), np.arange(len(adjusted))[:, None], 0)
        newest = np.maximum.accumulate(rows, axis=0)
        filled: FloatArray = np.take_along_axis(adjusted, newest, axis=0) / self.shares
        return filled

    def row(self, session: date) -> int:
        """Return the row of a session; DataError if there is none."""
        wanted = np.datetime64(session, "D")
        row = int(np.searchsorted(self.sessions, wanted))
        if row == len(self.sessions) or self.sessions[row] != wanted:
            raise DataError(f"{session} is not a session of these prices")
        return row

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


@dataclass
class Clock:
    """The stage that the replay stands at.

    Begins after the close of the session before `first`. Between two stages its time runs with
    the wall clock and never reaches the next stage by itself.

    settle_seconds : how long after a close its stage begins. A clock that skips the hours between
    stages has to skip those minutes too in which an exchange takes no order for the next open.
    """

    prices: Prices
    first: int
    last: int
    settle_seconds: float = 0.0
    monotonic: Callable[[], float] = time.monotonic
    row: int = field(init=False)
    stage: Stage = field(init=False, default=Stage.CLOSED)

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last < len(self.prices.sessions):
            raise ConfigError(
                f"gateway: sessions {self.first} to {self.last} of {len(self.prices.sessions)}: "
                "the first one needs a session before it, whose close is where the replay begins"
            )
        self.move_to(self.first - 1, Stage.CLOSED)

    def move_to(self, row: int, stage: Stage) -> None:
        """Stand at the beginning of a stage."""
        self.row, self.stage = row, stage
        self._since = self.monotonic()

    def upcoming(self) -> tuple[int, Stage] | None:
        """Return the next row and stage; None at the end of the replay."""
        if self.stage is not Stage.CLOSED:
            return self.row, Stage(self.stage + 1)
        return None if self.row >= self.last else (self.row + 1, Stage.NIGHT)

    def starts_ns(self, row: int, stage: Stage) -> int:
        """Return when a stage begins, UNIX nanoseconds."""
        if stage is Stage.CLOSED:
            return int(self.prices.closes_ns[row])
        opened = int(self.prices.opens_ns[row])
        return opened if stage is Stage.OPEN else opened - NIGHT_BEFORE_OPEN_NS

    def now_ns(self) -> int:
        """Return the time of the market, UNIX nanoseconds."""
        began = self.starts_ns(self.row, self.stage)
        if self.stage is Stage.CLOSED:
            began += int(self.settle_seconds * 1e9)
        now = began + int((self.monotonic() - self._since) * 1e9)
        coming = self.upcoming()
        return now if coming is None else min(now, self.starts_ns(*coming) - 1)

    def seconds_to_next(self) -> float | None:
        """Return the market's seconds from now to the next stage; None at the end."""
        coming = self.upcoming()
        return None if coming is None else (self.starts_ns(*coming) - self.now_ns()) / 1e9

    def since_close(self) -> float:
        """Return the seconds after the last close."""
        return (self.now_ns() - int(self.prices.closes_ns[self.last_closed])) / 1e9

    def to_open(self) -> float:
        """Return the seconds before the next open; infinity if none is known."""
        row = self.row + (self.stage is not Stage.NIGHT)
        if row == len(self.prices.sessions):
            return float("inf")
        return (int(self.prices.opens_ns[row]) - self.now_ns()) / 1e9

    @property
    def session(self) -> date:
        """The session whose stage it is."""
        day: date = self.prices.sessions[self.row].astype(object)
        return day

    @property
    def last_closed(self) -> int:
        """The newest row whose bar is known."""
        return self.row if self.stage is Stage.CLOSED else self.row - 1

    def local(self, ns: int | None = None) -> datetime:
        """Return a time, by default now, on the exchange's clock."""
        moment = (self.now_ns() if ns is None else ns) / 1e9
        return datetime.fromtimestamp(moment, tz=UTC).astimezone(self.prices.zone)

    def previous_close(self, column: int) -> float:
        """Return the close before the session, in today's shares; NaN if it never traded."""
        if self.stage is Stage.CLOSED:
            return float(self.prices.carried[max(self.row - 1, 0), column])
        grown = self.prices.split[self.row, column]
        return float(self.prices.carried[self.row - 1, column] / grown)

    def price(self, column: int) -> float:
        """Return the newest price that is known; NaN if it never traded."""
        opened = self.prices.open[self.row, column]
        if self.stage is Stage.OPEN and np.isfinite(opened):
            return float(opened)
        if self.stage is Stage.CLOSED:
            return float(self.prices.carried[self.row, column])
        return self.previous_close(column)

    def traded(self, column: int) -> bool:
        """Return whether the instrument trades in this session, as far as it has begun."""
        return self.stage is not Stage.NIGHT and bool(
            np.isfinite(self.prices.open[self.row, column])
        )


class Bars:
    """Daily bars as a client is told them: adjusted for the splits known now."""

    def __init__(self, prices: Prices, clock: Clock) -> None:
        self._prices, self._clock = prices, clock

    def rows(self, column: int, start: date | None, end: date, most: int | None) -> IntArray:
        """Return the known rows with a bar from `start` to `end`, at most the newest `most`."""
        known = self._clock.last_closed + 1
        days = self._prices.sessions[:known]
        wanted = np.isfinite(self._prices.close[:known, column]) & (days <= np.datetime64(end))
        if start is not None:
            wanted &= days > np.datetime64(start)
        found: IntArray = np.flatnonzero(wanted)
        return found if most is None else found[-most:]

    def values(self, column: int, rows: IntArray, *, total: bool) -> dict[str, FloatArray]:
        """Return open, high, low, close and volume of rows; `total` adjusts for dividends too."""
        shares = self._prices.shares[:, column]
        scale = shares[rows] / shares[self._clock.row]
        paid = self._paid(column)[rows] if total else 1.0
        names = ("open", "high", "low", "close")
        found = {name: getattr(self._prices, name)[rows, column] * scale * paid for name in names}
        return found | {"volume": self._prices.volume[rows, column] / scale}

    def _paid(self, column: int) -> FloatArray:
        """Return what later dividends leave of each row's price, from facts known now."""
        known = self._clock.row + 1
        before = self._prices.carried[: known - 1, column]
        dividend, grown = (
            self._prices.dividend[1:known, column],
            self._prices.split[1:known, column],
        )
        kept = np.ones(known)
        kept[:-1] = 1.0 - np.nan_to_num(dividend * grown / before)
        return np.cumprod(kept[::-1])[::-1].astype(np.float64)
