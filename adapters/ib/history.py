"""Daily history from the broker, at the pace that its gateway bears.

Trades are adjusted for splits, not for dividends; adjusted trades for both, and they cannot be
asked for up to a day in the past. A day that trades now has a bar already, which is not its last.
An empty answer, an error and no answer are three things, and only the first is an empty history.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

import numpy as np
from ib_async import BarData, Contract

from adapters.ib.errors import BrokerRefusal, ErrorKind, LinkDown, NoAnswer
from adapters.ib.link import Link
from adapters.ib.pacing import HistoryBudget
from prometheus_nt.domain.errors import DataError, SourceError
from prometheus_nt.domain.record import FloatArray, SessionArray

TRADES, ADJUSTED = "TRADES", "ADJUSTED_LAST"

IN_FLIGHT = 6
"""Requests for history that are asked at once."""

ATTEMPTS = 3

FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, eq=False)
class DailyBars:
    """Bars of one contract, columns of equal length; volume is NaN where it is unknown."""

    sessions: SessionArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.sessions)

    def between(self, first: date | None, last: date | None) -> "DailyBars":
        """Return the bars from `first` to `last`, both included."""
        kept = np.ones(len(self), dtype=bool)
        if first is not None:
            kept &= self.sessions >= np.datetime64(first, "D")
        if last is not None:
            kept &= self.sessions <= np.datetime64(last, "D")
        return DailyBars(self.sessions[kept], *(getattr(self, name)[kept] for name in FIELDS))


@dataclass(frozen=True)
class SessionBar:
    """One session of one contract, after its close."""

    session: date
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class Collected:
    """The bars of a session, and why others are missing, by the caller's names."""

    session: date
    bars: Mapping[str, SessionBar]
    missing: Mapping[str, str]


Sleep = Callable[[float], Awaitable[None]]


@dataclass
class History:
    """Asks for daily bars over a link.

    Attributes
    ----------
    budget : HistoryBudget
    sleep : how to wait, for tests
    """

    link: Link
    budget: HistoryBudget
    sleep: Sleep = asyncio.sleep
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _flying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    async def daily(
        self,
        contract: Contract,
        first: date,
        last: date | None = None,
        *,
        adjusted: bool = False,
    ) -> DailyBars:
        """Return the daily bars from `first` to `last`, or to the newest.

        Parameters
        ----------
        adjusted : for dividends as well as for splits

        Raises
        ------
        BrokerRefusal
            If the broker has no data, or refuses the question.
        NoAnswer, LinkDown
            If the question was asked again and again and not answered.
        """
        today = datetime.now(UTC).date()
        # Adjusted trades end now, so the question reaches back from today.
        end = None if adjusted or last is None else last
        asked = (
            "" if end is None else f"{end:%Y%m%d} 23:59:59 {self.link.params.time_zone}",
            duration((end or today) - first),
            ADJUSTED if adjusted else TRADES,
        )
        rows = await self._ask(contract, *asked)
        return bars_of([bar for _, bar in rows], _name(contract)).between(first, last)

    async def earliest(self, contract: Contract) -> date:
        """Return the first day of a contract's trades."""
        what = f"beginning of {_name(contract)}"
        rows = await self._paced(
            contract,
            "head",
            lambda: self.link.ask(
                what,
                lambda client, number: client.reqHeadTimeStamp(number, contract, TRADES, True, 2),
                "headTimestamp",
                "headTimestamp",
            ),
        )
        text = rows[-1][1]
        if not text.isdigit():
            raise _unreadable(what, text)
        return datetime.fromtimestamp(int(text), UTC).date()

    async def session_bar(self, contract: Contract, session: date) -> SessionBar:
        """Return the bar of one session; the caller knows that the session has closed.

        Raises
        ------
        DataError
            If there is none, more than one, or one without a price.
        """
        bars = await self.daily(contract, session - timedelta(days=7), session)
        bars = bars.between(session, session)
        if len(bars) != 1:
            found = "no bar" if not len(bars) else f"{len(bars)} bars"
            raise SourceError(
                f"ib: {_name(contract)} on {session}",
                f"{found}; expected one",
                "it may not have traded; ask again later, or look at the contract",
            )
        values = {name: float(getattr(bars, name)[0]) for name in FIELDS}
        prices = np.array([values[name] for name in FIELDS[:4]])
        if not (np.isfinite(prices) & (prices > 0)).all():
            raise SourceError(
                f"ib: {_name(contract)} on {session}",
                f"prices {prices.tolist()}; expected positive ones",
                "ask again later; the broker completes its bars after the close",
            )
        return SessionBar(session, **values)

    async def session_bars(self, contracts: Mapping[str, Contract], session: date) -> Collected:
        """Return one session's bars of many contracts; what has none is named with the reason."""
        asked = (self._tried(contract, session) for contract in contracts.values())
        found = dict(zip(contracts, await asyncio.gather(*asked), strict=True))
        return Collected(
            session,
            {name: bar for name, bar in found.items() if isinstance(bar, SessionBar)},
            {name: problem for name, problem in found.items() if isinstance(problem, str)},
        )

    async def _tried(self, contract: Contract, session: date) -> SessionBar | str:
        try:
            return await self.session_bar(contract, session)
        except DataError as problem:
            return str(problem)

    async def _ask(
        self, contract: Contract, end: str, lasting: str, show: str
    ) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = await self._paced(
            contract,
            (end, lasting, show),
            lambda: self.link.ask(
                f"daily {show} of {_name(contract)}",
                lambda client, number: client.reqHistoricalData(
                    number, contract, end, lasting, "1 day", show, True, 1, False, []
                ),
                "historicalData",
                "historicalDataEnd",
            ),
        )
        return rows

    async def _paced(
        self, contract: Contract, request: object, ask: Callable[[], Awaitable[Any]]
    ) -> Any:
        key = contract.conId or contract.symbol
        async with self._flying:
            for attempt in range(1, ATTEMPTS + 1):
                await self._wait(key, (key, request))
                try:
                    return await ask()
                except (NoAnswer, LinkDown, BrokerRefusal) as problem:
                    if attempt == ATTEMPTS or not _may_pass(problem):
                        raise
                    await self.link.wait_ready(self.link.params.start_timeout_seconds)

    async def _wait(self, contract: object, request: object) -> None:
        # One at a time looks at the budget and takes from it.
        async with self._turn:
            while (wait := self.budget.wait(contract, request)) > 0:
                await self.sleep(wait)
            self.budget.take(contract, request)


def duration(span: timedelta) -> str:
    """Return a duration on the wire that covers a span of days, and never less.

    A day on the wire is a session, so there are more calendar days in it; years are rounded up.
    """
    days = span.days + 1
    return f"{max(days, 1)} D" if days <= 365 else f"{ceil(days / 365)} Y"


def bars_of(rows: Sequence[BarData], name: str) -> DailyBars:
    """Return bars of the wire as columns; -1 is the wire's word for an unknown volume.

    Raises
    ------
    SourceError
        If a date cannot be read.
    """
    texts = [str(bar.date) for bar in rows]
    if bad := [text for text in texts if len(text) != 8 or not text.isdigit()]:
        raise _unreadable(f"daily bars of {name}", bad[0])
    days = np.array([f"{t[:4]}-{t[4:6]}-{t[6:]}" for t in texts], dtype="datetime64[D]")
    columns = [_column(getattr(bar, field) for bar in rows) for field in FIELDS]
    columns[-1][columns[-1] < 0] = np.nan
    return DailyBars(days, *columns)


def _may_pass(problem: NoAnswer | LinkDown | BrokerRefusal) -> bool:
    """Return whether the same question may be answered later."""
    return not isinstance(problem, BrokerRefusal) or problem.kind is ErrorKind.PACING


def _column(values: Iterable[float]) -> FloatArray:
    return np.array(list(values), dtype=np.float64)


def _unreadable(what: str, text: str) -> SourceError:
    return SourceError(
        f"ib: {what}", f"date {text!r} cannot be read", "expected YYYYMMDD or seconds; report it"
    )


def _name(contract: Contract) -> str:
    return contract.symbol or str(contract.conId)
