import json
import threading
from datetime import date

import numpy as np
import pytest

from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError, StoreError

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 2, 29))


def write(store, *, shift=0.0, dataset_id="demo"):
    fields = ("dataset_id", "source", "market_id", "adjustment")
    values = (dataset_id, "test", "US_EQ", "TOTAL_RETURN")
    facts = {"synthetic_bars": True, "description": "", "survivorship": ""}
    store.write_dataset(dict(zip(fields, values, strict=True)) | facts)
    names = ("instrument_id", "symbol", "issuer_id", "name")
    facts = {"sector": None, "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    store.write_instruments(dataset_id, [dict.fromkeys(names, "A.US") | facts])
    close = np.linspace(10, 20, len(SESSIONS)) + shift
    columns = ("open", "high", "low", "close", "adjusted_close", "volume")
    prices = dict.fromkeys(columns, close) | {"trade_date": SESSIONS}
    store.write_prices(dataset_id, "A.US", prices, source="test")


@pytest.fixture
def store(sqlite_database):
    store = HistoricalStore(sqlite_database)
    write(store)
    return store


def files(cache):
    return sorted(path.suffix for path in cache.iterdir())


def test_a_hit_maps_the_file_and_builds_nothing(store, tmp_path):
    cache = tmp_path / "cache"
    built = load_panel(store, "demo", cache)
    (array,) = cache.glob("*.npy")
    written = array.stat().st_mtime_ns

    hit = load_panel(store, "demo", cache)

    assert array.stat().st_mtime_ns == written
    assert hit.fingerprint == built.fingerprint
    np.testing.assert_array_equal(hit.close, built.close)
    assert isinstance(hit.close.base.base, np.memmap)


def test_a_panel_is_read_only(store, tmp_path):
    panel = load_panel(store, "demo", tmp_path / "cache")

    with pytest.raises(ValueError, match="read-only"):
        panel.close[0, 0] = 1.0


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "removed", "noise", "longer"])
def test_a_damaged_file_is_built_again(store, tmp_path, suffix, damage):
    cache = tmp_path / "cache"
    built = load_panel(store, "demo", cache)
    close, fingerprint = built.close.copy(), built.fingerprint
    (victim,) = cache.glob(f"*{suffix}")
    content = victim.read_bytes()
    replacement = {
        "truncated": content[:-9],
        "empty": b"",
        "removed": None,
        "noise": b"\x93NUMPY garbage",
        "longer": content + b"\x00" * 8,
    }[damage]
    # A damaged file is a new file here, since the old one is still mapped by `built`.
    victim.unlink()
    if replacement is not None:
        victim.write_bytes(replacement)

    panel = load_panel(store, "demo", cache)

    assert panel.fingerprint == fingerprint
    np.testing.assert_array_equal(panel.close, close)
    assert files(cache) == [".json", ".npy"]
    assert json.loads(next(cache.glob("*.json")).read_text())["fingerprint"] == fingerprint


def test_a_sidecar_of_other_sessions_is_not_trusted(store, tmp_path):
    cache = tmp_path / "cache"
    load_panel(store, "demo", cache)
    (sidecar,) = cache.glob("*.json")
    content = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(content | {"sessions": content["sessions"][::-1]}))

    load_panel(store, "demo", cache)

    assert json.loads(sidecar.read_text()) == content


def test_new_data_replace_the_older_file_of_the_same_dataset_only(store, tmp_path):
    cache = tmp_path / "cache"
    write(store, dataset_id="demo-b")
    for dataset_id in ("demo", "demo-b"):
        load_panel(store, dataset_id, cache)
    old = load_panel(store, "demo", cache)

    write(store, shift=1.0)
    new = load_panel(store, "demo", cache)

    assert files(cache) == [".json", ".json", ".npy", ".npy"]
    assert new.close[0, 0] == old.close[0, 0] + 1.0


def test_a_new_sector_reaches_the_panel(store, tmp_path):
    load_panel(store, "demo", tmp_path / "cache")
    facts = {"instrument_id": "A.US", "symbol": "A.US", "issuer_id": "A.US", "name": "A.US"}
    facts |= {"asset_class": "EQUITY", "exchange": None, "currency": "USD"}

    store.write_instruments("demo", [facts | {"sector": "Energy"}])

    assert load_panel(store, "demo", tmp_path / "cache").sectors == ("Energy",)


def test_concurrent_builders_agree_and_leave_whole_files(store, tmp_path):
    cache = tmp_path / "cache"
    panels = []

    threads = [
        threading.Thread(target=lambda: panels.append(load_panel(store, "demo", cache)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({panel.fingerprint for panel in panels}) == 1
    assert len(panels) == 6
    assert files(cache) == [".json", ".npy"]


def test_a_cache_that_cannot_be_written_is_a_named_error(store, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")

    with pytest.raises(StoreError, match="the panel cannot be cached"):
        load_panel(store, "demo", tmp_path / "cache")


def test_a_dataset_without_bars_has_no_panel(sqlite_database, tmp_path):
    store = HistoricalStore(sqlite_database)
    facts = {"source": "", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    facts |= {"synthetic_bars": False, "description": "", "survivorship": ""}
    store.write_dataset({"dataset_id": "bare"} | facts)

    with pytest.raises(DataError, match="no bar of an equity"):
        load_panel(store, "bare", tmp_path)
