"""Interactive Brokers as a source of daily history, at the pace its gateway bears.

The broker lists no splits and no dividends, and its trades are already divided by later splits:

- Prices and volumes are in today's shares. A new split restates all of them, so that a history is
  always read whole.
- Dividends are inferred from trades that are adjusted for them as well; a step that looks like a
  split is none, and is reported.

It knows nobody who is no longer listed.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from threading import Lock, Thread
from typing import Any, TypeVar

import numpy as np
from ib_async import ContractDetails

from adapters.ib.config import LinkParams
from adapters.ib.errors import LinkDown
from adapters.ib.history import DailyBars, History
from adapters.ib.link import Link
from adapters.ib.pacing import HistoryBudget
from adapters.ib.provider import UnresolvedContracts, asked_for, chosen, problem_of
from adapters.inference import DividendBasis, infer_actions
from adapters.source import (
    Action,
    ActionType,
    Adjustment,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    PriceTable,
    Severity,
)
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.instruments import PRIMARY_EXCHANGES, BrokerContract

SOURCE = "ib"

SURVIVORSHIP = (
    "Survivorship-biased: the broker has no delisted names; the dead are missing and returns are"
    " flattered"
)

EXCHANGES = {ours: code for code, ours in PRIMARY_EXCHANGES.items()}
"""The broker's name of an exchange -> its ISO 10383 code."""

Answer = TypeVar("Answer")


class LinkThread:
    """A link in a loop and a thread of its own, for callers that are not asynchronous.

    What it asks for history is counted in `budget`, which outlives it where others ask after it.
    """

    def __init__(self, params: LinkParams, budget: HistoryBudget) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="ib link", daemon=True)
        self._waiting: set[Future[Any]] = set()
        self._given_up = False
        self.link = Link(params)
        self.history = History(self.link, budget)

    def start(self) -> None:
        """Connect; raise what `Link.start` does."""
        self._thread.start()
        self.run(self.link.start())

    def close(self) -> None:
        """Disconnect and end the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.link.close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def run(self, asked: Coroutine[Any, Any, Answer]) -> Answer:
        """Return the answer of a coroutine of the link's loop; any thread may wait for one.

        Raises
        ------
        LinkDown
            If it was given up.
        """
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        self._waiting.add(future)
        if self._given_up:
            future.cancel()
        try:
            return future.result()
        except CancelledError:
            raise LinkDown("question", "given up", "nobody waits for the answer") from None
        finally:
            self._waiting.discard(future)

    def give_up(self) -> None:
        """Let whoever waits for an answer, and whoever asks from now on, get `LinkDown`."""
        self._given_up = True
        for future in list(self._waiting):
            future.cancel()


@contextmanager
def link_thread(params: LinkParams, requests_per_ten_minutes: int = 55) -> Iterator[LinkThread]:
    """Yield a link that is up, in a thread of its own, and close it."""
    thread = LinkThread(params, HistoryBudget(time.monotonic, most=requests_per_ten_minutes))
    try:
        thread.start()
        yield thread
    finally:
        thread.close()


@dataclass(frozen=True)
class IbSource:
    """Daily bars of chosen instruments between two days, both included.

    Attributes
    ----------
    thread : LinkThread
    wanted : store id -> how the store names the instrument to the broker
    forgiving : leave out names that the broker does not have, instead of refusing them all
    """

    thread: LinkThread
    dataset_id: str
    market_id: str
    wanted: Mapping[str, BrokerContract]
    first: date | None = None
    last: date | None = None
    forgiving: bool = False
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)
    _begun: dict[str, date] = field(default_factory=dict, init=False, repr=False, compare=False)
    _pending: dict[str, Sequence[Action]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.wanted:
            raise ConfigError("ib: no symbols; for example --symbols AAPL,MSFT")

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo(
            dataset_id=self.dataset_id,
            source=SOURCE,
            market_id=self.market_id,
            adjustment=Adjustment.AS_TRADED,
            synthetic_bars=False,
            description=(
                "Daily trades from Interactive Brokers in today's shares: divided by later splits, "
                "which it does not list; dividends are inferred from its adjusted trades."
            ),
            survivorship=SURVIVORSHIP,
        )

    def instruments(self) -> Sequence[InstrumentInfo]:
        """Return what can be read, by instrument id.

        Raises
        ------
        UnresolvedContracts
            If the broker does not know a symbol, or it means several contracts; all are named.
        """
        found, problems = self._resolved
        if problems and not self.forgiving:
            raise UnresolvedContracts(problems)
        return [self._info_of(name, details) for name, details in sorted(found.items())]

    def refused(self) -> Sequence[Issue]:
        _, problems = self._resolved
        return [self._issue(name, None, "no_contract", why) for name, why in problems.items()]

    def read(self, instrument_id: str) -> PriceTable:
        bars = self._bars(instrument_id)
        actions, issues = self._inferred(instrument_id, bars)
        self._pending[instrument_id] = actions
        return replace(self._table(instrument_id, bars), issues=tuple(issues))

    def actions(self, instrument_id: str) -> Sequence[Action]:
        if instrument_id in self._pending:
            return self._pending.pop(instrument_id)
        bars = self._bars(instrument_id)
        return self._inferred(instrument_id, bars)[0]

    def _inferred(
        self, instrument_id: str, plain: DailyBars
    ) -> tuple[Sequence[Action], Sequence[Issue]]:
        """Return the dividends behind the adjustment, and its steps that are none."""
        if not len(plain):
            return [], []
        first: date = plain.sessions[0].astype(object)
        adjusted = self.thread.run(
            self.thread.history.daily(
                self._contract(instrument_id), first, self.last, adjusted=True
            )
        )
        both, at, also = np.intersect1d(plain.sessions, adjusted.sessions, return_indices=True)
        close, factor = plain.close[at], adjusted.close[also]
        usable = (close > 0) & (factor > 0)
        found, steps = infer_actions(
            instrument_id,
            both[usable],
            close[usable],
            factor[usable],
            DividendBasis.PRIOR_CLOSE,
        )
        dividends = [action for action in found if action.action_type is ActionType.DIVIDEND]
        days = [action.ex_date for action in found if action.action_type is ActionType.SPLIT]
        days += [step.ex_date for step in steps]
        why = "the broker's adjustment changes as no dividend does; look at that day"
        issues = [self._issue(instrument_id, day, "unexplained_adjustment", why) for day in days]
        return dividends, issues

    def _bars(self, instrument_id: str) -> DailyBars:
        first, last = self.first, self.last
        if first is None or last is not None:
            # The broker answers a question about nothing with an error that also means others.
            begun = self._beginning(instrument_id)
            if last is not None and last < begun:
                return _NOTHING
            first = begun if first is None else max(first, begun)
        asked = self.thread.history.daily(self._contract(instrument_id), first, last)
        return self.thread.run(asked)

    def begins(self, instrument_id: str) -> date:
        """Return the first session of an instrument that can be read, as far as was asked for."""
        begun = self._beginning(instrument_id)
        first = begun if self.first is None else max(self.first, begun)
        calendar = MarketCalendar.of(self.market_id)
        return first if calendar.is_session(first) else calendar.next_session(first)

    def _beginning(self, instrument_id: str) -> date:
        if instrument_id not in self._begun:
            found = self.thread.history.earliest(self._contract(instrument_id))
            self._begun[instrument_id] = self.thread.run(found)
        return self._begun[instrument_id]

    def _table(self, instrument_id: str, bars: DailyBars) -> PriceTable:
        columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
        return PriceTable(
            instrument_id,
            bars.sessions,
            **columns,
            adjusted_close=np.full(len(bars), np.nan),
            source_file=f"ib {self.wanted[instrument_id].symbol}",
            source_rows=np.arange(1, len(bars) + 1),
        )

    def _contract(self, instrument_id: str) -> Any:
        found, problems = self._resolved
        if instrument_id not in found:
            problem = problems.get(instrument_id, "it was not asked for")
            raise UnresolvedContracts({instrument_id: problem})
        return found[instrument_id].contract

    @cached_property
    def _resolved(self) -> tuple[dict[str, ContractDetails], dict[str, str]]:
        with self._lock:
            return self.thread.run(self._resolve())

    async def _resolve(self) -> tuple[dict[str, ContractDetails], dict[str, str]]:
        link = self.thread.link
        asked = (link.contract_details(asked_for(each)) for each in self.wanted.values())
        found, problems = {}, {}
        for name, answer in zip(self.wanted, await asyncio.gather(*asked), strict=True):
            fitting = chosen(self.wanted[name], answer)
            if len(fitting) == 1:
                found[name] = fitting[0]
            else:
                problems[name] = problem_of(self.wanted[name], fitting)
        for name, details in found.items():
            assert details.contract is not None
            details.contract.exchange = self.wanted[name].exchange
        return found, problems

    def _info_of(self, name: str, details: ContractDetails) -> InstrumentInfo:
        contract = details.contract
        assert contract is not None
        symbol = name.rpartition(".")[0]
        return InstrumentInfo(
            name,
            symbol,
            symbol,
            details.longName or symbol,
            exchange=EXCHANGES.get(contract.primaryExchange),
            currency=contract.currency,
        )

    def _issue(self, name: str, day: date | None, rule: str, why: str) -> Issue:
        message = f"ib {name}: {why}"
        return Issue(self.dataset_id, name, day, rule, Severity.WARNING, name, message)


_NOTHING = DailyBars(np.array([], dtype="datetime64[D]"), *(np.array([]) for _ in range(5)))
