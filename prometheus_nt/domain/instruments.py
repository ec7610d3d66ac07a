"""Who an instrument is to the store, the venue, the vendors and the broker, on any day.

The store's id (`BRK-B.US`: symbol, a dash before a share class, the market's suffix) never changes.
Every other name is of a scheme and valid for a time. Where nothing is recorded of an instrument in
a scheme, the scheme's own spelling of the store's id holds (`spelled`); what is recorded replaces
it altogether.
"""

import difflib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import pairwise

from prometheus_nt.domain.errors import ConfigError, MissingMetadata, UnknownInstrument


@dataclass(frozen=True)
class Conventions:
    """What holds for every instrument of a market unless its own record says otherwise.

    Attributes
    ----------
    suffix : str
        Of the store's ids.
    currency : str
    tick_size, lot_size : Decimal and int, or None
        None where the market has no single one: it then has to be recorded.
    """

    suffix: str
    currency: str
    tick_size: Decimal | None
    lot_size: int | None


CONVENTIONS: Mapping[str, Conventions] = {
    "US_EQ": Conventions("US", "USD", Decimal("0.01"), 1),
    # London's and Tokyo's ticks depend on the price and on the instrument's liquidity.
    "EU_EQ": Conventions("LSE", "GBP", None, 1),
    "ASIA_EQ": Conventions("TSE", "JPY", None, 100),
}
"""US equities: SEC Rule 612. Lots: London trades single shares, Tokyo 100 since October 2018."""

_US_SHARE_CLASS = re.compile(r"(.+)[.]([A-Z])([.]US)?")


def store_id(symbol: str, market_id: str) -> str:
    """Return the store's id of a symbol that somebody wrote down, with or without a suffix.

    US share classes are written with a dot (`BRK.B`) or a dash: in both cases it is `BRK-B.US`.
    """
    upper, suffix = symbol.upper(), CONVENTIONS[market_id].suffix
    if suffix == "US" and (parts := _US_SHARE_CLASS.fullmatch(upper)):
        upper = f"{parts[1]}-{parts[2]}.US"
    return upper if "." in upper else f"{upper}.{suffix}"


STORE, NAUTILUS, EXCHANGE, IB, IB_CONID = "store", "nautilus", "exchange", "ib", "ib_conid"

SUFFIXES = {
    "yahoo": {"US": "", "LSE": ".L", "TSE": ".T"},
    "eodhd": {"US": ".US", "LSE": ".LSE", "TSE": ".TSE"},
    "stooq": {"US": ".us", "LSE": ".uk", "TSE": ".jp"},
}
"""Vendor -> how it spells the suffix of each market."""

SCHEMES = (STORE, NAUTILUS, EXCHANGE, IB, IB_CONID, *SUFFIXES)

PRIMARY_EXCHANGES = {
    "XNAS": "NASDAQ",
    "XNYS": "NYSE",
    "XASE": "AMEX",
    "ARCX": "ARCA",
    "BATS": "BATS",
    "XLON": "LSE",
    "XTKS": "TSEJ",
}
"""ISO 10383 code of an exchange -> the broker's name of it."""

SECURITY_TYPES = {"EQUITY": "STK", "ETF": "STK", "INDEX": "IND"}


@dataclass(frozen=True)
class Instrument:
    """What the store says of an instrument; None where it does not know."""

    instrument_id: str
    market_id: str | None
    asset_class: str
    currency: str | None
    exchange: str | None = None


@dataclass(frozen=True)
class SymbolUse:
    """A name of an instrument in a scheme, from `valid_from` until before `valid_to`.

    None is since ever, and until further notice.
    """

    scheme: str
    symbol: str
    instrument_id: str
    valid_from: date | None
    valid_to: date | None
    source: str
    known_at: datetime

    def holds(self, day: date) -> bool:
        """Return whether the name is valid on `day`."""
        return _within(day, self.valid_from, self.valid_to)


@dataclass(frozen=True)
class Listing:
    """A stay on an exchange, from `listed_on` until before `delisted_on`.

    Attributes
    ----------
    delisted_on : date or None
        First day on which it is not listed any more; None while it is.
    reason : str or None
        Of the delisting.
    delisting_return : float or None
        What holders got beyond the last price, as a fraction of it: -1 is nothing. None if unknown.
    """

    instrument_id: str
    exchange: str
    listed_on: date | None
    delisted_on: date | None
    reason: str | None
    delisting_return: float | None
    source: str
    known_at: datetime

    def holds(self, day: date) -> bool:
        """Return whether the instrument is listed there on `day`."""
        return _within(day, self.listed_on, self.delisted_on)


@dataclass(frozen=True)
class RecordedSpec:
    """What a record says about how an instrument trades; None leaves it to the market."""

    instrument_id: str
    tick_size: Decimal | None
    lot_size: int | None
    price_precision: int | None
    source: str
    known_at: datetime


@dataclass(frozen=True)
class TradingSpec:
    """Everything needed to trade an instrument.

    Attributes
    ----------
    price_precision : int
        Decimals of a price.
    source : str
        Where tick, lot and precision come from; `default of US_EQ` if the market's were taken.
    """

    instrument_id: str
    market_id: str
    currency: str
    tick_size: Decimal
    lot_size: int
    price_precision: int
    source: str


@dataclass(frozen=True)
class BrokerContract:
    """How Interactive Brokers names an instrument; `con_id` is None until it was looked up."""

    symbol: str
    sec_type: str
    exchange: str
    primary_exchange: str | None
    currency: str
    con_id: int | None


@dataclass(frozen=True)
class InstrumentMap:
    """Every name of every instrument; the only place that turns one into another."""

    instruments: Mapping[str, Instrument]
    symbols: Sequence[SymbolUse] = ()
    listings: Sequence[Listing] = ()
    specs: Sequence[RecordedSpec] = ()

    def known_by(self, moment: datetime) -> "InstrumentMap":
        """Return the map as far as it was known at `moment`."""
        return InstrumentMap(
            self.instruments,
            [use for use in self.symbols if use.known_at <= moment],
            [listing for listing in self.listings if listing.known_at <= moment],
            [spec for spec in self.specs if spec.known_at <= moment],
        )

    def resolve(self, name: str, as_of: date, scheme: str | None = None) -> str:
        """Return the id of the instrument that goes by `name` on a day.

        Parameters
        ----------
        scheme : str, optional
            Whose name it is; any scheme's by default. The store's own id always finds itself.

        Raises
        ------
        UnknownInstrument
            If none goes by it, or more than one; with the nearest names that are known.
        """
        _require_scheme(scheme)
        if name in self.instruments and scheme in (None, STORE, NAUTILUS):
            return name
        found = {
            use.instrument_id
            for use in self._uses.get(name.upper(), ())
            if scheme in (None, use.scheme) and use.holds(as_of)
        }
        if len(found) == 1:
            return found.pop()
        whose = "" if scheme is None else f" in scheme {scheme}"
        if found:
            problem = f"means more than one instrument on {as_of}{whose}"
            raise UnknownInstrument(name, problem, tuple(sorted(found)))
        problem = f"no instrument goes by that name on {as_of}{whose}"
        raise UnknownInstrument(name, problem, self._near(name))

    def symbol(self, instrument_id: str, scheme: str, as_of: date) -> str:
        """Return the name of an instrument in a scheme on a day.

        Raises
        ------
        UnknownInstrument
            If there is no such instrument, or it had no name in the scheme on that day.
        """
        self.require(instrument_id)
        _require_scheme(scheme)
        recorded = self._recorded.get((instrument_id, scheme), [])
        if not recorded:
            return spelled(instrument_id, scheme)
        for use in recorded:
            if use.holds(as_of):
                return use.symbol
        problem = f"has no {scheme} symbol on {as_of}"
        raise UnknownInstrument(instrument_id, problem, tuple(map(_in_words, recorded)))

    def contract(self, instrument_id: str, as_of: date) -> BrokerContract:
        """Return the broker's contract of an instrument on a day.

        Raises
        ------
        UnknownInstrument
            As `symbol` does.
        ConfigError
            If its asset class has no contract here, or its currency is unknown.
        """
        known = self.require(instrument_id)
        if known.asset_class not in SECURITY_TYPES or known.currency is None:
            raise ConfigError(
                f"{instrument_id}: no contract for asset class {known.asset_class} in currency "
                f"{known.currency}; known classes: {', '.join(SECURITY_TYPES)}"
            )
        listing = self.listing(instrument_id, as_of)
        home = known.exchange if listing is None else listing.exchange
        primary = None if home is None else PRIMARY_EXCHANGES.get(home, home)
        security = SECURITY_TYPES[known.asset_class]
        routed = "SMART" if security == "STK" else primary or "SMART"
        numbered = [u for u in self._recorded.get((instrument_id, IB_CONID), ()) if u.holds(as_of)]
        return BrokerContract(
            symbol=self.symbol(instrument_id, IB, as_of),
            sec_type=security,
            exchange=routed,
            primary_exchange=primary,
            currency=known.currency,
            con_id=int(numbered[0].symbol) if numbered else None,
        )

    def listing(self, instrument_id: str, as_of: date) -> Listing | None:
        """Return where an instrument is listed on a day; None if that is not recorded."""
        stays = [stay for stay in self._stays.get(instrument_id, ()) if stay.holds(as_of)]
        return stays[-1] if stays else None

    def delisting(self, instrument_id: str) -> Listing | None:
        """Return the last stay of an instrument if it has ended, else None."""
        stays = self._stays.get(instrument_id, ())
        return stays[-1] if stays and stays[-1].delisted_on is not None else None

    def delisted_by(self, instrument_id: str, day: date) -> bool:
        """Return whether the last recorded stay of an instrument had ended on `day`."""
        end = self.delisting(instrument_id)
        return end is not None and end.delisted_on is not None and end.delisted_on <= day

    def about(self) -> list[str]:
        """Return the ids that names, listings and specs are about, sorted."""
        named = {use.instrument_id for use in self.symbols}
        listed = {stay.instrument_id for stay in self.listings}
        return sorted(named | listed | {spec.instrument_id for spec in self.specs})

    def uses(self, instrument_id: str) -> list[SymbolUse]:
        """Return what is recorded of an instrument's names, by scheme and time."""
        return [
            u for (name, _), used in self._recorded.items() if name == instrument_id for u in used
        ]

    def stays(self, instrument_id: str) -> list[Listing]:
        """Return the recorded listings of an instrument, by time."""
        return self._stays.get(instrument_id, [])

    def require(self, instrument_id: str) -> Instrument:
        """Return an instrument by the store's id, or raise `UnknownInstrument`."""
        if instrument_id not in self.instruments:
            problem = "the store has no such instrument"
            raise UnknownInstrument(instrument_id, problem, self._near(instrument_id))
        return self.instruments[instrument_id]

    def trading_specs(self, instrument_ids: Iterable[str]) -> list[TradingSpec]:
        """Return what trading needs to know of every instrument, in the order given.

        Raises
        ------
        UnknownInstrument
            If one is not in the store.
        MissingMetadata
            If anything is missing of any of them; the message lists it all.
        """
        found = {name: self._spec(self.require(name)) for name in instrument_ids}
        lacking = {name: spec for name, spec in found.items() if isinstance(spec, tuple)}
        if lacking:
            raise MissingMetadata(lacking, len(found) - len(lacking), len(found))
        return [spec for spec in found.values() if isinstance(spec, TradingSpec)]

    @cached_property
    def _uses(self) -> dict[str, list[SymbolUse]]:
        """Every recorded and spelled name in upper case, to its uses."""
        found: dict[str, list[SymbolUse]] = defaultdict(list)
        for use in (*self.symbols, *self._spelled()):
            found[use.symbol.upper()].append(use)
        return found

    def _spelled(self) -> Iterable[SymbolUse]:
        for instrument_id in self.instruments:
            for scheme in SCHEMES:
                if scheme == IB_CONID or (instrument_id, scheme) in self._recorded:
                    continue
                symbol = spelled(instrument_id, scheme)
                yield SymbolUse(scheme, symbol, instrument_id, None, None, "spelling", EVER)

    @cached_property
    def _recorded(self) -> dict[tuple[str, str], list[SymbolUse]]:
        found: dict[tuple[str, str], list[SymbolUse]] = defaultdict(list)
        for use in sorted(self.symbols, key=lambda u: (u.scheme, u.valid_from or date.min)):
            found[use.instrument_id, use.scheme].append(use)
        return dict(found)

    @cached_property
    def _stays(self) -> dict[str, list[Listing]]:
        found: dict[str, list[Listing]] = defaultdict(list)
        for stay in sorted(self.listings, key=lambda each: each.listed_on or date.min):
            found[stay.instrument_id].append(stay)
        return dict(found)

    @cached_property
    def _specs(self) -> dict[str, RecordedSpec]:
        return {spec.instrument_id: spec for spec in self.specs}

    def _spec(self, known: Instrument) -> TradingSpec | tuple[str, ...]:
        """Return how an instrument trades, or the names of what is missing."""
        usual = CONVENTIONS.get(known.market_id or "", _NO_CONVENTIONS)
        record = self._specs.get(known.instrument_id, _NO_RECORD)
        tick = record.tick_size or usual.tick_size
        lot = record.lot_size or usual.lot_size
        places = record.price_precision
        if places is None and tick is not None:
            places = decimals(tick)
        fields = {
            "market_id": known.market_id if known.market_id in CONVENTIONS else None,
            "currency": known.currency,
            "tick_size": tick,
            "lot_size": lot,
            "price_precision": places,
        }
        missing = tuple(name for name, value in fields.items() if value is None)
        if missing:
            return missing
        source = f"default of {known.market_id}" if record is _NO_RECORD else record.source
        return TradingSpec(known.instrument_id, **fields, source=source)  # type: ignore[arg-type]

    def _near(self, name: str) -> tuple[str, ...]:
        wanted = name.upper()
        ids = {each.upper(): each for each in self.instruments}
        close = difflib.get_close_matches(wanted, {*self._uses, *ids}, n=3, cutoff=0.6)
        at_other_times = [_in_words(use) for use in self._uses.get(wanted, ())]
        others = [
            use.instrument_id
            for each in close
            if each != wanted
            for use in self._uses.get(each, ())
        ]
        return tuple(dict.fromkeys([*at_other_times, *others]))[:5]


def spelled(instrument_id: str, scheme: str) -> str:
    """Return how a scheme spells the store's id of an instrument.

    Vendors differ in the sign before a share class: `BRK-B`, `BRK.B` and `BRK B` are one share.

    Raises
    ------
    ConfigError
        If the id is not a symbol and a suffix, or the scheme has no spelling.
    """
    _require_scheme(scheme)
    symbol, dot, suffix = instrument_id.rpartition(".")
    if not dot or not symbol or not suffix:
        raise ConfigError(
            f"{instrument_id!r}: an instrument id is a symbol, a dot and the market's suffix, for "
            "example AAPL.US"
        )
    match scheme:
        case "store" | "nautilus":
            return instrument_id
        case "exchange":
            return symbol.replace("-", ".")
        case "ib":
            return symbol.replace("-", " ")
        case _ if scheme in SUFFIXES:
            name = symbol + SUFFIXES[scheme].get(suffix, f".{suffix}")
            return name.lower() if scheme == "stooq" else name
    raise ConfigError(f"{instrument_id}: a name in scheme {scheme} has to be recorded")


def nautilus_id(instrument_id: str) -> str:
    """Return the venue's id of an instrument: `SYMBOL.VENUE`, the store's suffix as the venue."""
    return spelled(instrument_id, NAUTILUS)


def decimals(tick: Decimal) -> int:
    """Return how many decimals a price needs that moves by `tick`."""
    exponent = tick.normalize().as_tuple().exponent
    return max(0, -int(exponent))


def require_disjoint(symbols: Sequence[SymbolUse]) -> None:
    """Raise `ConfigError` if on some day a name means two instruments, or one has two names."""
    by_name = _grouped(symbols, lambda use: (use.scheme, use.symbol.upper()))
    _require_ends(by_name, "mean two instruments")
    by_instrument = _grouped(symbols, lambda use: (use.scheme, use.instrument_id))
    _require_ends(by_instrument, "name one instrument twice")


def _grouped(
    symbols: Sequence[SymbolUse], key: Callable[[SymbolUse], tuple[str, str]]
) -> Iterable[list[SymbolUse]]:
    groups: dict[tuple[str, str], list[SymbolUse]] = defaultdict(list)
    for use in sorted(symbols, key=lambda each: each.valid_from or date.min):
        groups[key(use)].append(use)
    return groups.values()


def _require_ends(groups: Iterable[list[SymbolUse]], problem: str) -> None:
    for one, other in (pair for uses in groups for pair in pairwise(uses)):
        if (one.valid_to or date.max) > (other.valid_from or date.min):
            raise ConfigError(
                f"{_in_words(one)}, {_in_words(other)}: at once they {problem}; end the first with "
                "valid_to, the day on which the other begins"
            )


EVER = datetime.min.replace(tzinfo=UTC)

_NO_CONVENTIONS = Conventions("", "", None, None)
_NO_RECORD = RecordedSpec("", None, None, None, "", EVER)


def _require_scheme(scheme: str | None) -> None:
    if scheme is not None and scheme not in SCHEMES:
        raise ConfigError(f"scheme: unknown {scheme!r}; known: {', '.join(SCHEMES)}")


def _within(day: date, first: date | None, end: date | None) -> bool:
    return (first is None or first <= day) and (end is None or day < end)


def _in_words(use: SymbolUse) -> str:
    since = "" if use.valid_from is None else f" from {use.valid_from}"
    until = "" if use.valid_to is None else f" until {use.valid_to}"
    return f"{use.symbol} ({use.scheme}) is {use.instrument_id}{since}{until}"
