"""EODHD as a source of prices, corporate actions and reference facts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property, lru_cache
from itertools import count
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from adapters.eodhd.accounts import read_sectors, read_statements
from adapters.eodhd.answers import Cells
from adapters.eodhd.listings import (
    COMMON_STOCK,
    Stay,
    memberships_of,
    read_articles,
    read_holidays,
    read_stays,
    read_symbols,
)
from adapters.eodhd.prices import (
    Quoted,
    actions_of,
    read_bars,
    read_dividends,
    read_splits,
)
from adapters.http import Clock, NotServed, SchemaChanged, Secret, Vendor, VendorClient
from adapters.reference import (
    Holiday,
    IndexMembership,
    NewsArticle,
    SectorAssignment,
    Statement,
)
from adapters.source import Action, Adjustment, DatasetInfo, InstrumentInfo, Issue, PriceTable
from prometheus_nt.domain.errors import ConfigError, DataError, SourceError
from prometheus_nt.domain.instruments import store_id

BASE_URL = "https://eodhd.com/api"
KEY_VARIABLE, URL_VARIABLE = "EODHD_API_KEY", "PROMETHEUS_EODHD_URL"

PAGE = 1000
"""Articles a page; the vendor gives out no more."""
FIRST_HOLIDAY = date(2000, 1, 1)


@dataclass(frozen=True)
class Place:
    """A market as the vendor knows it: exchange code (also the suffix), currency, time zone."""

    exchange: str
    currency: str
    zone: ZoneInfo


PLACES = {
    "US_EQ": Place("US", "USD", ZoneInfo("America/New_York")),
    "EU_EQ": Place("LSE", "GBX", ZoneInfo("Europe/London")),
    "ASIA_EQ": Place("TSE", "JPY", ZoneInfo("Asia/Tokyo")),
}


@dataclass(frozen=True)
class Selection:
    """Which instruments, and which days of them; exactly one of the first three is given.

    Attributes
    ----------
    symbols : tuple of names, optional
        `AAPL` or `AAPL.US`.
    forgiving : bool
        Leave out the symbols that the vendor does not have, instead of refusing them.
    index : str, optional
        Every past and present member of an index, `GSPC` for example, and the index itself.
    exchange : str, optional
        Every common stock of an exchange, `US` for example.
    delisted : bool
        With `exchange`: those that no longer trade as well.
    limit, offset : int, optional
        With `exchange`: a part of the list, by instrument id.
    first, last : date, optional
        Days to ask for; with `index` also the days on which a name was a member.
    """

    symbols: tuple[str, ...] | None = None
    index: str | None = None
    exchange: str | None = None
    delisted: bool = True
    limit: int | None = None
    offset: int = 0
    first: date | None = None
    last: date | None = None
    forgiving: bool = False

    def __post_init__(self) -> None:
        given = [name for name in ("symbols", "index", "exchange") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError(
                f"eodhd: expected one of --symbols, --index and --exchange, found"
                f" {' and '.join(f'--{name}' for name in given) or 'none'}; for example"
                " --symbols AAPL,MSFT"
            )
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ConfigError(f"eodhd: --start {self.first} is after --end {self.last}")

    @property
    def survivorship(self) -> str:
        """What the choice means for a backtest, in words."""
        if self.index:
            return (
                f"Past and present members of {self.index} as the vendor knows them, delisted ones"
                " included; members whose prices the vendor lacks are missing"
            )
        if self.exchange and self.delisted:
            return "Delisted names included as far as the vendor has them; thin before 2000"
        if self.exchange:
            return (
                "Survivorship-biased: only names that trade today; the dead are missing and returns"
                " are flattered"
            )
        return "Unknown: the symbols were chosen by hand, perhaps because they survived"


def eodhd(key: str | None, base_url: str | None = None) -> Vendor:
    """Return the vendor as the HTTP client needs to know it; None: its own address."""
    return Vendor(
        "EODHD",
        base_url or BASE_URL,
        Secret((key or "").strip()),
        "api_token",
        KEY_VARIABLE,
        URL_VARIABLE,
        "exceeded your daily api requests limit",
    )


@dataclass(frozen=True)
class _Actions:
    """All splits and dividends: those after the last day asked for change volumes as well."""

    splits: Mapping[date, float]
    dividends: Mapping[date, float]
    issues: tuple[Issue, ...]


class EodhdSource:
    """Market data and reference facts of EODHD.

    Prices of an instrument take three requests (bars, splits, dividends), its accounts and sector
    one, which the vendor counts as ten. Issuers are known by their ticker.

    Raises
    ------
    ConfigError
        If the market is unknown.
    """

    def __init__(
        self,
        client: VendorClient,
        dataset_id: str,
        market_id: str,
        selection: Selection,
        clock: Clock | None = None,
    ) -> None:
        if market_id not in PLACES:
            raise ConfigError(
                f"market: unknown market {market_id!r}; known markets: {', '.join(PLACES)}"
            )
        self._client, self._selection = client, selection
        self._place, self._clock = PLACES[market_id], clock or Clock()
        self.info = DatasetInfo(
            dataset_id=dataset_id,
            source="eodhd",
            market_id=market_id,
            adjustment=Adjustment.AS_TRADED,
            synthetic_bars=False,
            description="Daily bars, splits and dividends from EODHD.",
            survivorship=selection.survivorship,
        )
        self._pending: dict[str, _Actions] = {}
        self._fundamentals = lru_cache(maxsize=16)(self._ask_fundamentals)

    @property
    def first(self) -> date | None:
        return self._selection.first

    @property
    def last(self) -> date | None:
        return self._selection.last

    def close(self) -> None:
        self._client.close()

    def instruments(self) -> Sequence[InstrumentInfo]:
        """Return what was chosen, by instrument id.

        Raises
        ------
        DataError
            If a symbol is unknown to the vendor.
        """
        return sorted(self._listing.values(), key=lambda info: info.instrument_id)

    def refused(self) -> Sequence[Issue]:
        return ()

    def read(self, instrument_id: str) -> PriceTable:
        """Return the bars of one instrument between the days chosen.

        Raises
        ------
        SourceError
            If there is none, or the vendor's answers cannot be read.
        """
        self._pending.pop(instrument_id, None)
        table = self.read_part(instrument_id, self.first, self.last)
        if not len(table) and not table.issues:
            raise SourceError(
                table.source_file,
                f"no bar{self._period()}",
                "choose other days, or leave the symbol out",
            )
        return table

    def read_part(self, instrument_id: str, first: date | None, last: date | None) -> PriceTable:
        known = self._pending.get(instrument_id)
        if known is None:
            known = self._read_actions(instrument_id)
            # Kept for the call of `actions` that follows: they are then asked for once.
            self._pending[instrument_id] = known
        days = {"from": first, "to": last}
        params = {name: str(day) for name, day in days.items() if day is not None}
        where, answer = self._get("eod", instrument_id, params)
        quoted = self._quoted(instrument_id, where)
        table = read_bars(quoted, answer, known.splits, self._today())
        return replace(table, issues=(*table.issues, *known.issues))

    def actions(self, instrument_id: str) -> Sequence[Action]:
        known = self._pending.pop(instrument_id, None) or self._read_actions(instrument_id)
        until = min(self._today(), self.last or date.max)
        return actions_of(instrument_id, known.splits, known.dividends, until)

    def statements(self, instrument_id: str) -> Sequence[Statement]:
        where, document = self._fundamentals(instrument_id)
        financials = document.values.get("Financials")
        issuer_id = _issuer(instrument_id)
        return list(read_statements(where, issuer_id, financials, self._place.zone))

    def sectors(self, instrument_id: str) -> Sequence[SectorAssignment]:
        where, document = self._fundamentals(instrument_id)
        general = document.values.get("General")
        return read_sectors(where, _issuer(instrument_id), general, self._clock.now())

    def news(self, instrument_id: str, start: date, end: date) -> Iterator[NewsArticle]:
        """Yield the articles about an instrument from `start` to `end`, newest first, once each."""
        seen: set[tuple[datetime, str, str | None]] = set()
        for offset in count(0, PAGE):
            span = {"from": str(start), "to": str(end)}
            page = {"limit": str(PAGE), "offset": str(offset)}
            where, answer = self._get("news", None, {"s": instrument_id} | span | page)
            articles = list(read_articles(where, answer))
            before = len(seen)
            for article in articles:
                identity = (article.known_at, article.headline, article.metadata.get("link"))
                if identity not in seen:
                    seen.add(identity)
                    yield article
            if len(articles) < PAGE:
                return
            if len(seen) == before:
                raise SchemaChanged(where, "offset", offset, "a page of other articles")

    def memberships(self, index_id: str) -> Sequence[IndexMembership]:
        index = index_id.removesuffix(".INDX")
        stays = self._stays(index)
        place = self._place
        return memberships_of(index, stays, place.exchange, place.zone, self._clock.now())

    def holidays(self, market_id: str) -> Sequence[Holiday]:
        if market_id not in PLACES:
            raise ConfigError(
                f"market: unknown market {market_id!r}; known markets: {', '.join(PLACES)}"
            )
        last = date(self._today().year + 1, 12, 31)
        where, answer = self._get(
            "exchange-details",
            PLACES[market_id].exchange,
            {"from": str(FIRST_HOLIDAY), "to": str(last)},
        )
        return read_holidays(where, market_id, answer)

    @cached_property
    def _listing(self) -> Mapping[str, InstrumentInfo]:
        if self._selection.symbols:
            return self._named(self._selection.symbols)
        if self._selection.index:
            return self._members(self._selection.index.removesuffix(".INDX"))
        return self._exchange(str(self._selection.exchange))

    def _named(self, symbols: Iterable[str]) -> dict[str, InstrumentInfo]:
        wanted = [store_id(symbol, self.info.market_id) for symbol in symbols]
        found: dict[str, InstrumentInfo] = {}
        for delisted in (False, True):
            missing = [name for name in wanted if name not in found]
            for exchange in sorted({name.rpartition(".")[2] for name in missing}):
                try:
                    listed = self._symbols(exchange, delisted)
                except NotServed:
                    continue  # no such exchange: its symbols are named below
                found |= {name: listed[name][1] for name in missing if name in listed}
        unknown = sorted(set(wanted) - set(found))
        if unknown and not self._selection.forgiving:
            raise DataError(
                f"{self.info.dataset_id}: EODHD has no {', '.join(unknown)}, listed or delisted;"
                " check the spelling"
            )
        return found

    def _members(self, index: str) -> dict[str, InstrumentInfo]:
        first, last = self.first or date.min, self.last or date.max
        found = {
            info.instrument_id: info
            for stay in self._stays(index)
            if (stay.start or date.min) <= last and (stay.end or date.max) > first
            for info in [self._member(stay)]
        }
        name, currency = f"{index}.INDX", self._place.currency
        benchmark = InstrumentInfo(name, index, index, index, None, "INDEX", None, currency)
        return found | {name: benchmark}

    def _member(self, stay: Stay) -> InstrumentInfo:
        name = f"{stay.code}.{self._place.exchange}"
        return InstrumentInfo(name, stay.code, stay.code, stay.name, currency=self._place.currency)

    def _exchange(self, exchange: str) -> dict[str, InstrumentInfo]:
        listed = self._symbols(exchange, delisted=False)
        if self._selection.delisted:
            # A ticker that was given again belongs to the company that trades under it.
            listed = self._symbols(exchange, delisted=True) | listed
        stocks = sorted(name for name, (kind, _) in listed.items() if kind == COMMON_STOCK)
        start, limit = self._selection.offset, self._selection.limit
        chosen = stocks[start:] if limit is None else stocks[start : start + limit]
        return {name: listed[name][1] for name in chosen}

    def _symbols(self, exchange: str, delisted: bool) -> dict[str, tuple[str, InstrumentInfo]]:
        params = {"delisted": "1"} if delisted else {}
        where, answer = self._get("exchange-symbol-list", exchange, params)
        return read_symbols(where, exchange, answer)

    def _stays(self, index: str) -> list[Stay]:
        where, answer = self._get("fundamentals", f"{index}.INDX")
        return read_stays(where, answer)

    def _read_actions(self, instrument_id: str) -> "_Actions":
        where, answer = self._get("splits", instrument_id)
        splits = read_splits(self._quoted(instrument_id, where), answer)
        where, answer = self._get("div", instrument_id)
        quoted = self._quoted(instrument_id, where)
        dividends, issues = read_dividends(quoted, answer, splits)
        return _Actions(splits, dividends, tuple(issues))

    def _quoted(self, instrument_id: str, where: str) -> Quoted:
        info = self._listing.get(instrument_id)
        currency = None if info is None else info.currency
        return Quoted(where, self.info.dataset_id, instrument_id, currency)

    def _ask_fundamentals(self, instrument_id: str) -> tuple[str, Cells]:
        where, answer = self._get("fundamentals", instrument_id)
        return where, Cells.of(where, "", answer)

    def _get(
        self, endpoint: str, name: str | None, params: Mapping[str, str] | None = None
    ) -> tuple[str, Any]:
        path = endpoint if name is None else f"{endpoint}/{quote(name, safe='')}"
        answer = self._client.get_json(path, {"fmt": "json", **(params or {})})
        return self._client.where(path), answer

    def _today(self) -> date:
        return self._clock.now().astimezone(self._place.zone).date()

    def _period(self) -> str:
        bounds = [("from", self.first), ("to", self.last)]
        return "".join(f" {word} {day}" for word, day in bounds if day is not None)


def _issuer(instrument_id: str) -> str:
    return instrument_id.rpartition(".")[0]
