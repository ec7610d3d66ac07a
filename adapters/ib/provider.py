"""Instruments: from the store's records to the broker's contracts, and to what the node trades.

1. `load_all_async` asks for the details of every contract that is not known yet.
2. `chosen` takes the one that fits; none, or more than one, is an error that names them all.
3. The node's instrument is made by the caller's own function, so that it is the backtest's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from ib_async import Contract, ContractDetails
from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.instruments import Equity

from adapters.ib.link import Link
from prometheus_nt.domain.errors import ConfigError, SourceError
from prometheus_nt.domain.instruments import BrokerContract, nautilus_id

MakeEquity = Callable[[str, str], Equity]
"""Of the store's id and the currency."""

Hours = tuple[datetime, datetime]


class UnresolvedContracts(ConfigError):
    """The broker has no contract, or more than one, for some instruments."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        listed = "; ".join(f"{name}: {problem}" for name, problem in sorted(problems.items()))
        super().__init__(
            f"ib: {len(problems)} instruments have no one contract: {listed}; record the broker's "
            "symbol, the exchange or the contract id (scheme ib_conid) with `prometheus "
            "instruments import FILE`"
        )
        self.problems = dict(problems)


@dataclass(frozen=True)
class Known:
    """An instrument as the broker has it.

    Attributes
    ----------
    contract : with its id, routed by SMART
    tick : smallest step of a price; limits must be multiples of it
    """

    instrument_id: str
    contract: Contract
    details: ContractDetails
    equity: Equity

    @property
    def tick(self) -> float:
        return float(self.details.minTick)

    @property
    def isin(self) -> str | None:
        """Return the ISIN, None where the broker does not say it: many accounts may not see it."""
        return next((pair.value for pair in self.details.secIdList if pair.tag == "ISIN"), None)


class IbInstrumentProvider(InstrumentProvider):
    """The broker's contracts of chosen instruments, asked for once.

    Parameters
    ----------
    link : Link
    wanted : mapping
        Store id -> how the store names the instrument to the broker (`InstrumentMap.contract`).
    equity : function of a store id and a currency that makes the node's instrument
    """

    def __init__(
        self, link: Link, wanted: Mapping[str, BrokerContract], equity: MakeEquity
    ) -> None:
        super().__init__()
        self._link, self._wanted, self._equity = link, dict(wanted), equity
        self._known: dict[str, Known] = {}
        self._by_con_id: dict[int, str] = {}

    async def load_all_async(
        self,
        filters: dict[str, object] | None = None,  # noqa: ARG002
    ) -> None:
        """Ask for every contract that is not known yet.

        Raises
        ------
        UnresolvedContracts
            If any has none or several; the message lists them all, and all others are known.
        """
        await self.resolve(sorted(self._wanted))

    async def load_ids_async(
        self,
        instrument_ids: list[InstrumentId],
        filters: dict[str, object] | None = None,  # noqa: ARG002
    ) -> None:
        """Ask for the contracts of some instruments, by the node's ids."""
        names = {nautilus_id(name): name for name in self._wanted}
        unknown = [str(each) for each in instrument_ids if str(each) not in names]
        if unknown:
            raise UnresolvedContracts(dict.fromkeys(unknown, "the node was not given it"))
        await self.resolve([names[str(each)] for each in instrument_ids])

    async def load_async(
        self, instrument_id: InstrumentId, filters: dict[str, object] | None = None
    ) -> None:
        await self.load_ids_async([instrument_id], filters)

    async def resolve(self, names: Sequence[str]) -> None:
        """Ask for the contracts of instruments by the store's ids; see `load_all_async`."""
        missing = [name for name in names if name not in self._known]
        asked = (self._link.contract_details(asked_for(self._wanted[name])) for name in missing)
        problems = {}
        for name, found in zip(missing, await asyncio.gather(*asked), strict=True):
            fitting = chosen(self._wanted[name], found)
            if len(fitting) == 1:
                self._keep(name, fitting[0])
            else:
                problems[name] = problem_of(self._wanted[name], fitting)
        if problems:
            raise UnresolvedContracts(problems)

    def known(self, instrument_id: str) -> Known:
        """Return an instrument by the store's id, or raise `UnresolvedContracts`."""
        if instrument_id not in self._known:
            raise UnresolvedContracts({instrument_id: "it was not asked for yet"})
        return self._known[instrument_id]

    def by_con_id(self, con_id: int) -> Known | None:
        """Return what the broker's contract id stands for; None if it is none of ours."""
        name = self._by_con_id.get(con_id)
        return None if name is None else self._known[name]

    def by_nautilus_id(self, instrument_id: InstrumentId) -> Known | None:
        """Return what the node's id stands for; None if it is none of ours."""
        return next((k for k in self._known.values() if k.equity.id == instrument_id), None)

    def con_ids(self) -> dict[str, int]:
        """Return the contract ids that were found, by store id, for whoever records them."""
        return {name: known.contract.conId for name, known in self._known.items()}

    def _keep(self, name: str, details: ContractDetails) -> None:
        contract = details.contract
        assert contract is not None
        contract.exchange = self._wanted[name].exchange
        other = self._by_con_id.get(contract.conId)
        if other is not None:
            problem = f"it has the contract of {other}, {_described(details)}"
            raise UnresolvedContracts({name: problem})
        equity = self._equity(name, contract.currency)
        self._known[name] = Known(name, contract, details, equity)
        self._by_con_id[contract.conId] = name
        self.add(equity)


def asked_for(wanted: BrokerContract) -> Contract:
    """Return the contract by which the broker is asked for an instrument.

    Its own exchange is left to `chosen`: the broker's names of exchanges change, and a question
    with a wrong one has no answer at all.
    """
    return Contract(
        conId=wanted.con_id or 0,
        symbol=wanted.symbol,
        secType=wanted.sec_type,
        exchange=wanted.exchange,
        currency=wanted.currency,
    )


def chosen(wanted: BrokerContract, found: Sequence[ContractDetails]) -> list[ContractDetails]:
    """Return the answers that fit best: of the right currency and, if any is, the exchange."""
    fitting = {
        details.contract.conId: details
        for details in found
        if details.contract is not None
        and (details.contract.secType, details.contract.currency)
        == (wanted.sec_type, wanted.currency)
    }
    at_home = [
        details
        for details in fitting.values()
        if details.contract is not None
        and wanted.primary_exchange in (details.contract.primaryExchange, None)
    ]
    return at_home or list(fitting.values())


def liquid_hours(details: ContractDetails) -> dict[date, Hours | None]:
    """Return the regular session of each day that the broker tells of, UTC; None if closed.

    Raises
    ------
    SourceError
        If the hours cannot be read.
    """
    zone = ZoneInfo(details.timeZoneId or "America/New_York")
    found: dict[date, Hours | None] = {}
    for part in filter(None, details.liquidHours.split(";")):
        try:
            begin, _, end = part.partition("-")
            day = datetime.strptime(begin[:8], "%Y%m%d").replace(tzinfo=zone).date()
            closed = begin.endswith("CLOSED")
            found[day] = None if closed else (_moment(begin, zone), _moment(end, zone))
        except ValueError as unreadable:
            raise SourceError(
                f"ib: hours {part!r} of {details.longName}",
                "expected YYYYMMDD:HHMM-YYYYMMDD:HHMM or YYYYMMDD:CLOSED",
                "report it with the contract's details",
            ) from unreadable
    return found


def _moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.strptime(text, "%Y%m%d:%H%M").replace(tzinfo=zone).astimezone(UTC)


def problem_of(wanted: BrokerContract, found: Sequence[ContractDetails]) -> str:
    """Return in words why the contracts that fit are not the one that was wanted."""
    if not found:
        return f"the broker knows no {wanted.sec_type} {wanted.symbol} in {wanted.currency}"
    candidates = ", ".join(map(_described, found))
    return f"{wanted.symbol} means {len(found)} contracts: {candidates}"


def _described(details: ContractDetails) -> str:
    contract = details.contract
    assert contract is not None
    return (
        f"{contract.conId} {contract.symbol} {contract.primaryExchange} {contract.currency} "
        f"'{details.longName}'"
    )
