"""What the historical store promises, on either engine."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from sqlalchemy import text

from persistence.historical import HistoricalStore, Written
from persistence.panel_cache import load_panel, load_series
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, NonSession, StoreError

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}
SPLIT = {"ex_date": date(2024, 1, 5), "action_type": "SPLIT", "value": 2.0, "source": "vendor"}
DIVIDEND = SPLIT | {"action_type": "DIVIDEND", "value": 0.5}


def company(symbol, **facts):
    return {
        "instrument_id": f"{symbol}.US",
        "symbol": symbol,
        "issuer_id": symbol,
        "name": f"{symbol} Inc.",
        "sector": "Energy",
        "asset_class": "EQUITY",
        "exchange": None,
        "currency": "USD",
    } | facts


def bars(rows=slice(None), seed=0):
    rng = np.random.default_rng(seed)
    close = 50 + rng.normal(size=len(SESSIONS)).cumsum()
    prices = {
        "trade_date": SESSIONS,
        "open": close - 0.1,
        "high": close + 1,
        "low": close - 1,
        "close": close,
        "adjusted_close": close * 0.9,
        "volume": np.where(np.arange(len(SESSIONS)) == 3, np.nan, 1000.0),
    }
    return {name: values[rows].copy() for name, values in prices.items()}


def filled(database):
    store = HistoricalStore(database)
    store.write_dataset(DATASET)
    index = company("SPX", instrument_id="SPX.INDX", asset_class="INDEX", sector=None)
    store.write_instruments("demo", [company("B"), company("A"), index])
    for seed, instrument_id in enumerate(("A.US", "B.US", "SPX.INDX")):
        rows = slice(2, None) if instrument_id == "B.US" else slice(None)
        store.write_prices("demo", instrument_id, bars(rows, seed), source="test")
    store.write_actions("demo", "A.US", [SPLIT, DIVIDEND])
    return store


@pytest.fixture
def store(database):
    return filled(database)


def revision(store):
    return store.dataset("demo")["revision"]


def scalar(store, query):
    with store.database.reader() as connection:
        return connection.execute(text(query)).scalar_one()


def test_a_second_identical_ingest_writes_nothing(store):
    before = revision(store), store.coverage("demo")

    store.write_dataset(DATASET)
    instruments = store.write_instruments("demo", [company("A"), company("B")])
    prices = store.write_prices("demo", "A.US", bars(), source="elsewhere")
    actions = store.write_actions("demo", "A.US", [DIVIDEND, SPLIT])

    assert (instruments, prices, actions) == (0, Written(0), Written(0))
    assert (revision(store), store.coverage("demo")) == before


def test_only_changed_and_new_rows_are_written(store):
    prices = bars(slice(0, 7))
    store.write_instruments("demo", [company("C")])
    store.write_prices("demo", "C.US", prices, source="test")
    before = revision(store)

    changed = bars()
    changed["close"][2] += 0.01
    changed["volume"][3] = 5.0
    written = store.write_prices("demo", "C.US", changed, source="test")

    assert written.rows == 2 + len(SESSIONS) - 7
    assert revision(store) == before + 1
    times = "SELECT count(DISTINCT ingested_at) FROM prices_daily WHERE instrument_id = 'C.US'"
    assert scalar(store, times) == 2


def test_rows_the_source_lost_are_kept_and_reported(store):
    rows = np.delete(np.arange(len(SESSIONS)), [1, 4])

    written = store.write_prices("demo", "A.US", bars(rows), source="test")

    assert written.rows == 0
    assert written.vanished == (date(2024, 1, 3), date(2024, 1, 8))
    assert store.coverage("demo")[0]["row_count"] == len(SESSIONS)


def test_a_recorded_action_is_kept_and_an_inferred_one_is_replaced(store):
    inferred = DIVIDEND | {"ex_date": date(2024, 1, 9), "source": "inferred"}
    store.write_actions("demo", "A.US", [SPLIT, DIVIDEND, inferred])

    written = store.write_actions("demo", "A.US", [SPLIT])

    assert written == Written(1, (), (date(2024, 1, 5),))
    assert [action["source"] for action in store.actions("demo")] == ["vendor", "vendor"]


def test_a_bar_is_known_at_its_close_and_an_action_before_its_day(store):
    known = "SELECT min(known_at) FROM prices_daily WHERE instrument_id = 'A.US'"
    first = scalar(store, known)

    assert str(first)[:19] == "2024-01-02 21:00:00"
    action = store.actions("demo", "A.US")[0]
    assert action["known_at"] == datetime(2024, 1, 4, 21, tzinfo=UTC)


def test_coverage_counts_each_instrument(store):
    found = [
        (row["instrument_id"], row["first_date"], row["last_date"], row["row_count"])
        for row in store.coverage("demo")
    ]

    last = date(2024, 1, 12)
    assert found == [
        ("A.US", date(2024, 1, 2), last, 9),
        ("B.US", date(2024, 1, 4), last, 7),
        ("SPX.INDX", date(2024, 1, 2), last, 9),
    ]


def test_what_another_source_does_not_know_is_not_forgotten(store):
    changed = store.write_instruments("demo", [company("A", sector=None, name="Alpha")])

    (alpha, *_) = store.instruments("demo")
    assert changed == 1
    assert (alpha["name"], alpha["sector"]) == ("Alpha", "Energy")


def test_a_finding_is_stored_once(store):
    event = {
        "dataset_id": "demo",
        "instrument_id": "A.US",
        "trade_date": date(2024, 1, 2),
        "rule": "missing_price",
        "severity": "ERROR",
        "value": "nan",
        "message": "a.csv, row 2: no price; fill it in",
        "source_file": "a.csv",
        "source_row": 2,
        "source_column": "Close",
    }
    other = event | {"source_row": 3, "severity": "WARNING"}

    assert store.write_quality_events("demo", "A.US", [event, other]) == 2
    assert store.write_quality_events("demo", "A.US", [event, other]) == 0
    assert [found["severity"] for found in store.quality_events("demo")] == ["ERROR", "WARNING"]
    assert len(store.quality_events(limit=1)) == 1
    assert store.quality_events("other") == []


def test_a_finding_that_is_not_met_again_is_resolved_and_comes_back_if_it_does(store):
    event = {
        "dataset_id": "demo",
        "instrument_id": "A.US",
        "rule": "missing_price",
        "severity": "ERROR",
        "value": "nan",
        "message": "a.csv, row 2: no price; fill it in",
    }
    refused = event | {"instrument_id": None, "rule": "unsafe_symbol"}
    store.write_quality_events("demo", "A.US", [event])
    store.write_quality_events("demo", None, [refused])

    store.write_quality_events("demo", "A.US", [])

    assert [found["rule"] for found in store.quality_events("demo")] == ["unsafe_symbol"]
    (resolved,) = store.quality_events("demo", resolved=True)
    assert resolved["rule"] == "missing_price"
    assert resolved["resolved_at"] >= resolved["created_at"]
    assert store.write_quality_events("demo", "A.US", [event]) == 0
    assert len(store.quality_events("demo")) == 2
    assert store.quality_events("demo", resolved=True) == []


def test_a_dataset_cannot_change_what_its_prices_mean(store):
    with pytest.raises(StoreError, match="its adjustment is AS_TRADED, not TOTAL_RETURN"):
        store.write_dataset(DATASET | {"adjustment": "TOTAL_RETURN"})


def test_what_does_not_exist_is_named(store):
    with pytest.raises(StoreError, match="no dataset 'nope'; known datasets: demo"):
        store.instruments("nope")
    with pytest.raises(StoreError, match=r"Z\.US is no instrument of demo"):
        store.write_prices("demo", "Z.US", bars(), source="test")
    with pytest.raises(ConfigError, match="use at most 64 letters"):
        store.write_dataset(DATASET | {"dataset_id": "../x"})


def test_bars_must_be_sessions_in_order(store):
    weekend = bars(slice(0, 1))
    weekend["trade_date"] = np.array(["2024-01-06"], dtype="datetime64[D]")

    with pytest.raises(NonSession, match="2024-01-06 is not a US_EQ session"):
        store.write_prices("demo", "A.US", weekend, source="test")
    with pytest.raises(DataError, match="must ascend"):
        store.write_prices("demo", "A.US", bars(slice(None, None, -1)), source="test")


def test_a_panel_holds_the_equities_on_every_session(store, tmp_path):
    panel = load_panel(store, "demo", tmp_path)

    assert panel.instruments == ("A.US", "B.US")
    assert panel.sectors == ("Energy", "Energy")
    assert (panel.sessions == SESSIONS).all()
    a, b = bars(), bars(seed=1)
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(panel, name)[:, 0], a[name])
        np.testing.assert_array_equal(getattr(panel, name)[2:, 1], b[name][2:])
        assert np.isnan(getattr(panel, name)[:2, 1]).all()
    assert panel.split[3, 0] == 2.0
    assert panel.dividend[3, 0] == 0.5
    assert panel.split.sum() == panel.split.size + 1
    assert panel.dividend.sum() == 0.5


def test_a_series_is_the_close_of_one_instrument(store):
    sessions, close = load_series(store, "demo", "SPX.INDX")

    assert (sessions == SESSIONS).all()
    np.testing.assert_array_equal(close, bars(seed=2)["close"])
    with pytest.raises(DataError, match="no bar of it in dataset demo"):
        load_series(store, "demo", "NONE.US")


def test_the_fingerprint_is_the_content_on_any_engine_and_day(both_databases, tmp_path):
    sqlite, postgres = (filled(database) for database in both_databases)

    first = load_panel(sqlite, "demo", tmp_path / "a")
    second = load_panel(postgres, "demo", tmp_path / "b")

    assert first.fingerprint == second.fingerprint
    for name in ("close", "volume", "split"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_changed_data_change_the_fingerprint_and_reverting_restores_it(store, tmp_path):
    changed = bars()
    changed["close"][0] += 1e-9
    fingerprints = []

    for prices in (bars(), changed, bars()):
        store.write_prices("demo", "A.US", prices, source="test")
        fingerprints.append(load_panel(store, "demo", tmp_path).fingerprint)

    assert fingerprints[0] == fingerprints[2] != fingerprints[1]
