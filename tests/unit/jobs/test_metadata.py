from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.domain.errors import ConfigError, UnknownInstrument
from prometheus_nt.domain.instruments import TradingSpec
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.metadata import (
    SILENT_SESSIONS,
    NodeMetadata,
    delistings_at_close,
    metadata_notes,
    read_metadata,
)
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings
from prometheus_nt.venue.carry import Delistings, delisting_rows

NAN = np.nan
DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}


def panel_of(*columns):
    close = np.array(columns, dtype=np.float64).T
    return MarketPanel(
        sessions=np.datetime64("2020-01-01") + np.arange(len(close)),
        instruments=tuple(f"{name}.US" for name in "ABC"[: close.shape[1]]),
        split=np.ones(close.shape),
        dividend=np.zeros(close.shape),
        volume=np.ones(close.shape),
        fingerprint="test",
        **{name: close.copy() for name in ("open", "high", "low", "close")},
    )


def spec(name, source="default of US_EQ", currency="USD"):
    return TradingSpec(name, "US_EQ", currency, Decimal("0.01"), 1, 2, source)


def metadata_of(panel, *specs, on=(), returns=()):
    ends = Delistings.unrecorded(len(panel.instruments))
    if on:
        ends = Delistings(np.array(on, dtype="datetime64[D]"), np.array(returns))
    return NodeMetadata(specs or tuple(map(spec, panel.instruments)), ends)


def test_defaults_are_counted_and_named():
    panel = panel_of([1.0, 1.0], [2.0, 2.0])
    known = metadata_of(panel, spec("A.US"), spec("B.US", "the exchange"))

    (note,) = metadata_notes(known, panel, 0, 1)

    assert note.startswith("Instruments: tick and lot of 1 of 2 are the default of US_EQ, 0.01 and")
    assert known.document() == {
        "instruments": 2,
        "coverage": 1.0,
        "sources": {"default of US_EQ": 1, "the exchange": 1},
    }


def test_a_currency_that_is_not_the_dollar_is_noted():
    panel = panel_of([1.0])

    notes = metadata_notes(metadata_of(panel, spec("A.US", "x", "JPY")), panel, 0, 0)

    assert notes == [
        "Currency: prices are in JPY, and so is every amount of money of this run, whatever its "
        "name says."
    ]


def test_bars_that_end_without_a_recorded_return_are_noted_within_the_run_only():
    panel = panel_of([1.0, 1.0, NAN, NAN], [1.0, 1.0, NAN, NAN], [1.0, 1.0, 1.0, 1.0])
    known = metadata_of(
        panel,
        *(spec(name, "x") for name in panel.instruments),
        on=("NaT", "2020-01-03", "NaT"),
        returns=(NAN, -0.5, NAN),
    )

    inside, before = metadata_notes(known, panel, 0, 3), metadata_notes(known, panel, 0, 1)

    assert len(inside) == 1 and before == []
    assert inside[0].startswith("Delistings: the bars of A.US end before the run does")


def test_a_recorded_end_changes_what_a_run_is_made_from():
    panel = panel_of([1.0, NAN])
    gone, lost = (
        metadata_of(panel, on=("2020-01-02",), returns=(gain,)).fingerprint(panel)
        for gain in (NAN, -1.0)
    )

    assert metadata_of(panel).fingerprint(panel) == panel.fingerprint
    assert len({gone, lost, panel.fingerprint}) == 3


def test_one_node_trades_one_currency_and_known_instruments(sqlite_database, tmp_path):
    store = HistoricalStore(sqlite_database)
    store.write_dataset(DATASET)
    fact = {"asset_class": "EQUITY", "exchange": None, "sector": None, "currency": "USD"}
    members = [
        fact | {"instrument_id": f"{name}.US", "symbol": name, "issuer_id": name, "name": name}
        for name in "AB"
    ]
    members[1]["currency"] = "CAD"
    store.write_instruments("demo", members)
    stores = Stores(Settings(tmp_path, "", ""), store, RuntimeStore(sqlite_database))
    panel = panel_of([1.0], [1.0])

    with pytest.raises(ConfigError, match="one node trades one currency, found CAD, USD"):
        read_metadata(stores, panel)
    with pytest.raises(UnknownInstrument, match=r"'Z.US': the store has no such instrument"):
        read_metadata(stores, replace(panel, instruments=("A.US", "Z.US")))


def test_who_has_only_just_stopped_is_not_delisted_while_the_day_is_open():
    bars = SILENT_SESSIONS + 3
    late, gone, ended = (np.full(bars, 10.0) for _ in "ABC")
    late[-SILENT_SESSIONS:] = gone[-SILENT_SESSIONS - 1 :] = ended[-2:] = NAN
    panel = panel_of(late, gone, ended)
    on = np.array(["NaT", "NaT", panel.sessions[-1]], dtype="datetime64[D]")
    recorded = Delistings(on, np.array([NAN, NAN, -1.0]))

    rows = delisting_rows(panel, delistings_at_close(recorded, panel))

    over = delisting_rows(panel, recorded)
    assert rows.tolist() == [-1, bars - SILENT_SESSIONS - 1, bars - 1]
    assert over.tolist() == [bars - SILENT_SESSIONS, *rows[1:].tolist()]
