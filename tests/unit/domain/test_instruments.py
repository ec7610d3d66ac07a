from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from prometheus_nt.domain.errors import ConfigError, MissingMetadata, UnknownInstrument
from prometheus_nt.domain.instruments import (
    BrokerContract,
    Instrument,
    InstrumentMap,
    Listing,
    RecordedSpec,
    SymbolUse,
    decimals,
    nautilus_id,
    require_disjoint,
    spelled,
    store_id,
)

RENAMED = date(2022, 6, 9)
THEN = datetime(2022, 6, 9, tzinfo=UTC)


def use(scheme, symbol, instrument_id, first=None, end=None, known_at=THEN):
    return SymbolUse(scheme, symbol, instrument_id, first, end, "test", known_at)


def equity(instrument_id, market_id="US_EQ", currency="USD", **facts):
    asset_class = facts.pop("asset_class", "EQUITY")
    return Instrument(instrument_id, market_id, asset_class, currency, **facts)


def stay(instrument_id, first, end, exchange="XNAS", gain=None):
    return Listing(instrument_id, exchange, first, end, None, gain, "test", THEN)


@pytest.fixture
def known() -> InstrumentMap:
    names = ("META.US", "BRK-B.US", "AAPL.US", "VOD.US", "GME.US")
    return InstrumentMap(
        {name: equity(name) for name in names}
        | {"VOD.LSE": equity("VOD.LSE", "EU_EQ", "GBP")}
        | {"SPX.INDX": equity("SPX.INDX", asset_class="INDEX", exchange="CBOE")},
        symbols=[
            use("exchange", "FB", "META.US", date(2012, 5, 18), RENAMED),
            use("exchange", "META", "META.US", RENAMED),
            use("ib_conid", "107113386", "META.US"),
        ],
        listings=[stay("META.US", date(2012, 5, 18), None)],
    )


def test_a_ticker_is_looked_up_as_of_a_day(known):
    assert known.resolve("FB", date(2022, 6, 8), "exchange") == "META.US"
    assert known.resolve("META", RENAMED, "exchange") == "META.US"
    assert known.symbol("META.US", "exchange", date(2022, 6, 8)) == "FB"
    assert known.symbol("META.US", "exchange", RENAMED) == "META"
    assert known.resolve("META.US", date(2015, 1, 2)) == "META.US"


def test_an_old_ticker_is_refused_with_what_it_was(known):
    with pytest.raises(UnknownInstrument) as refused:
        known.resolve("FB", RENAMED)

    assert str(refused.value) == (
        "'FB': no instrument goes by that name on 2022-06-09; "
        "near it: FB (exchange) is META.US from 2012-05-18 until 2022-06-09"
    )
    with pytest.raises(UnknownInstrument, match=r"META\.US': has no exchange symbol on 2011-01-03"):
        known.symbol("META.US", "exchange", date(2011, 1, 3))


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("store", "BRK-B.US"),
        ("nautilus", "BRK-B.US"),
        ("exchange", "BRK.B"),
        ("ib", "BRK B"),
        ("yahoo", "BRK-B"),
        ("eodhd", "BRK-B.US"),
        ("stooq", "brk-b.us"),
    ],
)
def test_share_classes_are_spelled_as_each_scheme_spells_them(known, scheme, name):
    day = date(2024, 1, 2)

    assert known.symbol("BRK-B.US", scheme, day) == name
    assert known.resolve(name, day, scheme) == "BRK-B.US"
    assert known.resolve(name, day) == "BRK-B.US"


def test_other_markets_have_other_suffixes():
    assert spelled("VOD.LSE", "yahoo") == "VOD.L"
    assert spelled("7203.TSE", "yahoo") == "7203.T"
    assert spelled("7203.TSE", "stooq") == "7203.jp"
    assert nautilus_id("7203.TSE") == "7203.TSE"


def test_a_name_of_two_instruments_is_refused_with_both(known):
    with pytest.raises(UnknownInstrument, match=r"more than one.*VOD\.LSE; VOD\.US"):
        known.resolve("VOD", date(2024, 1, 2))
    assert known.resolve("VOD.L", date(2024, 1, 2)) == "VOD.LSE"


def test_an_unknown_name_is_refused_with_the_nearest(known):
    with pytest.raises(UnknownInstrument, match=r"'APPL.US': no instrument.*near it: .*AAPL\.US"):
        known.resolve("APPL.US", date(2024, 1, 2))
    with pytest.raises(UnknownInstrument, match="nothing near it is known"):
        known.resolve("QQQQQQQQ", date(2024, 1, 2))
    with pytest.raises(ConfigError, match="scheme: unknown 'bloomberg'; known: store"):
        known.resolve("AAPL", date(2024, 1, 2), "bloomberg")


def test_only_what_was_known_by_a_time_counts(known):
    before = known.known_by(datetime(2022, 6, 8, tzinfo=UTC))

    assert (len(before.symbols), len(before.listings)) == (0, 0)
    assert len(known.known_by(THEN).symbols) == 3


def test_the_broker_gets_the_symbol_of_the_day_and_the_home_exchange(known):
    assert known.contract("META.US", date(2015, 1, 2)) == BrokerContract(
        "META", "STK", "SMART", "NASDAQ", "USD", 107113386
    )
    assert known.contract("BRK-B.US", date(2024, 1, 2)) == BrokerContract(
        "BRK B", "STK", "SMART", None, "USD", None
    )
    assert known.contract("SPX.INDX", date(2024, 1, 2)).sec_type == "IND"
    assert known.contract("SPX.INDX", date(2024, 1, 2)).exchange == "CBOE"


def test_a_contract_of_an_unknown_kind_is_refused():
    known = InstrumentMap({"ES.FUT": equity("ES.FUT", asset_class="FUTURE")})

    with pytest.raises(ConfigError, match="no contract for asset class FUTURE"):
        known.contract("ES.FUT", date(2024, 1, 2))


def test_listings_are_dated_and_the_last_one_may_end():
    moved = [
        stay("X.US", date(2000, 1, 3), date(2010, 1, 4), "XNYS"),
        stay("X.US", date(2010, 1, 4), date(2020, 1, 2), "XNAS", gain=-0.3),
    ]
    known = InstrumentMap({"X.US": equity("X.US")}, listings=moved[::-1])

    assert known.listing("X.US", date(2009, 12, 31)).exchange == "XNYS"
    assert known.listing("X.US", date(2010, 1, 4)).exchange == "XNAS"
    assert known.listing("X.US", date(2020, 1, 2)) is None
    assert known.delisting("X.US").delisting_return == -0.3
    assert (
        InstrumentMap(
            known.instruments, listings=[*moved[:1], stay("X.US", date(2010, 1, 4), None)]
        ).delisting("X.US")
        is None
    )


def test_a_market_without_a_record_trades_by_its_conventions(known):
    (spec,) = known.trading_specs(["AAPL.US"])

    assert (spec.tick_size, spec.lot_size, spec.price_precision) == (Decimal("0.01"), 1, 2)
    assert (spec.currency, spec.market_id, spec.source) == ("USD", "US_EQ", "default of US_EQ")


def test_a_record_replaces_the_convention_it_names():
    record = RecordedSpec("A.US", Decimal("0.0001"), None, None, "the exchange", THEN)
    known = InstrumentMap({"A.US": equity("A.US")}, specs=[record])

    (spec,) = known.trading_specs(["A.US"])

    assert (spec.tick_size, spec.lot_size, spec.price_precision) == (Decimal("0.0001"), 1, 4)
    assert spec.source == "the exchange"


def test_whatever_is_missing_is_listed_for_every_instrument(known):
    instruments = dict(known.instruments)
    instruments["N.US"] = equity("N.US", currency=None)
    instruments["M.US"] = equity("M.US", market_id=None)

    with pytest.raises(MissingMetadata) as refused:
        InstrumentMap(instruments).trading_specs(["AAPL.US", "VOD.LSE", "N.US", "M.US"])

    assert str(refused.value) == (
        "metadata: 1 of 4 instruments have what trading needs: "
        "VOD.LSE lacks tick_size, price_precision; N.US lacks currency; "
        "M.US lacks market_id, tick_size, lot_size, price_precision; give it in a CSV file of "
        "these columns and `prometheus instruments import FILE`"
    )
    assert (refused.value.covered, refused.value.wanted) == (1, 4)


@pytest.mark.parametrize(
    ("tick", "places"), [("0.01", 2), ("0.0100", 2), ("1", 0), ("5", 0), ("10", 0), ("0.005", 3)]
)
def test_a_tick_needs_as_many_decimals_as_it_has(tick, places):
    assert decimals(Decimal(tick)) == places


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (use("exchange", "fb", "OTHER.US", date(2020, 1, 2)), "mean two instruments"),
        (use("exchange", "MVRS", "META.US", date(2021, 1, 4)), "name one instrument twice"),
    ],
)
def test_names_that_hold_at_once_are_refused(other, problem):
    first = use("exchange", "FB", "META.US", date(2012, 5, 18), RENAMED)

    with pytest.raises(ConfigError, match=f"FB .exchange. is META.US from 2012-05-18.*{problem}"):
        require_disjoint([other, first])


def test_a_ticker_may_pass_to_another_instrument_when_it_is_free():
    require_disjoint(
        [
            use("exchange", "FB", "META.US", None, RENAMED),
            use("exchange", "META", "META.US", RENAMED),
            use("exchange", "FB", "FUND.US", RENAMED),
            use("yahoo", "FB", "OTHER.US"),
        ]
    )


def test_an_id_without_a_suffix_is_refused():
    with pytest.raises(ConfigError, match=r"'AAPL': an instrument id is a symbol, a dot"):
        nautilus_id("AAPL")
    with pytest.raises(ConfigError, match="a name in scheme ib_conid has to be recorded"):
        spelled("AAPL.US", "ib_conid")


@pytest.mark.parametrize(
    ("written", "market", "expected"),
    [
        ("brk.b", "US_EQ", "BRK-B.US"),
        ("BRK-B", "US_EQ", "BRK-B.US"),
        ("BRK.B.US", "US_EQ", "BRK-B.US"),
        ("BRK-B.US", "US_EQ", "BRK-B.US"),
        ("aapl.us", "US_EQ", "AAPL.US"),
        ("A", "US_EQ", "A.US"),
        ("GSPC.INDX", "US_EQ", "GSPC.INDX"),
        ("VOD", "EU_EQ", "VOD.LSE"),
        ("BMW.F", "EU_EQ", "BMW.F"),
    ],
)
def test_a_symbol_as_written_has_one_id_in_the_store(written, market, expected):
    assert store_id(written, market) == expected
