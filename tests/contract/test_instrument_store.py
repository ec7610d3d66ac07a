"""What the store of instruments promises, on either engine."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from persistence.historical import HistoricalStore
from persistence.instruments import InstrumentStore
from prometheus_nt.domain.errors import ConfigError, UnknownInstrument
from prometheus_nt.domain.instruments import InstrumentMap, Listing, RecordedSpec, SymbolUse

DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}
THEN, LATER = datetime(2022, 6, 9, tzinfo=UTC), datetime(2024, 1, 2, 9, 30, tzinfo=UTC)
FB = SymbolUse("exchange", "FB", "META.US", None, date(2022, 6, 9), "test", THEN)
META = SymbolUse("exchange", "META", "META.US", date(2022, 6, 9), None, "test", THEN)
LISTED = Listing("META.US", "XNAS", date(2012, 5, 18), None, None, None, "test", THEN)
GONE = Listing("LEH.US", "XNYS", None, date(2008, 9, 18), "bankruptcy", -0.95, "test", THEN)
SPEC = RecordedSpec("META.US", Decimal("0.0001"), 10, None, "test", THEN)
FOUND = InstrumentMap({}, [FB, META], [GONE, LISTED], [SPEC])


@pytest.fixture
def store(database):
    historical = HistoricalStore(database)
    historical.write_dataset(DATASET)
    facts = {"asset_class": "EQUITY", "exchange": None, "currency": "USD", "sector": None}
    members = [
        facts | {"instrument_id": f"{name}.US", "symbol": name, "issuer_id": name, "name": name}
        for name in ("META", "LEH")
    ]
    historical.write_instruments("demo", members)
    return InstrumentStore(database)


def test_what_was_written_is_read_back_whole(store):
    assert store.write(FOUND) == 5

    read = store.read()

    assert (read.symbols, read.listings, read.specs) == ([FB, META], [GONE, LISTED], [SPEC])
    assert read.instruments["META.US"].market_id == "US_EQ"
    assert read.resolve("FB", date(2010, 1, 4)) == "META.US"
    assert read.delisting("LEH.US").delisting_return == -0.95


def test_writing_the_same_again_changes_nothing_and_keeps_when_it_was_known(store):
    store.write(FOUND)

    again = InstrumentMap({}, [replace(FB, known_at=LATER)], [replace(GONE, known_at=LATER)])

    assert store.write(again) == 0
    assert {use.known_at for use in store.read().symbols} == {THEN}


def test_a_correction_replaces_what_was_known_and_has_its_own_time(store):
    store.write(FOUND)
    corrected = replace(GONE, delisting_return=-1.0, known_at=LATER)

    assert store.write(InstrumentMap({}, listings=[corrected])) == 1

    assert store.read().listings == [corrected, LISTED]


def test_an_unknown_instrument_is_refused_and_nothing_is_written(store):
    stray = replace(FB, symbol="X", instrument_id="METV.US")

    with pytest.raises(UnknownInstrument, match=r"'METV.US': the store has no such.*META\.US"):
        store.write(InstrumentMap({}, [META, stray]))

    assert store.read().symbols == []


def test_a_name_cannot_come_to_mean_two_instruments(store):
    store.write(FOUND)

    with pytest.raises(ConfigError, match="at once they mean two instruments"):
        store.write(InstrumentMap({}, [replace(META, instrument_id="LEH.US")]))
