"""What the store of derived data promises, on either engine."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from persistence import derived_store
from persistence.derived_store import LAYOUTS, DerivedFilters, DerivedStore, Source
from persistence.historical import HistoricalStore
from persistence.tables import derived as tables
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.engines.features import TABLES, correlation_panel, derive_table

SESSIONS = MarketCalendar.of("US_EQ").between(date(2010, 1, 4), date(2011, 6, 30))
ALL = len(SESSIONS)
FIRST, LAST = (SESSIONS[row].astype(object) for row in (0, -1))
DATASET = {
    "dataset_id": "demo",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}


def history(sessions=ALL, names=4, **changed):
    """Return a panel; `changed` maps a field to {(row, column): value}."""
    rng = np.random.default_rng(2)
    shape = (len(SESSIONS), 4)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, shape), axis=0))
    close[:100, 2] = np.nan
    close[150, 1] = np.nan
    arrays = {
        "open": close * 1.001,
        "high": close * 1.01,
        "low": close * 0.99,
        "close": close,
        "volume": np.where(np.isnan(close), np.nan, rng.uniform(1e5, 1e6, shape)),
        "split": np.ones(shape),
        "dividend": np.zeros(shape),
    }
    for field, cells in changed.items():
        for cell, value in cells.items():
            arrays[field][cell] = value
    arrays = {name: values[:sessions, :names].copy() for name, values in arrays.items()}
    return MarketPanel(
        sessions=SESSIONS[:sessions].copy(),
        instruments=tuple(f"N{column}.US" for column in range(names)),
        sectors=("A", "A", "B", None)[:names],
        fingerprint=content_hash([*arrays.values()]),
        **arrays,
    )


@pytest.fixture
def store(database, tmp_path):
    HistoricalStore(database).write_dataset(DATASET)
    return DerivedStore(database, tmp_path)


def source_of(panel, name):
    return Source("demo", panel.fingerprint, content_hash([name, panel.fingerprint]))


def save(store, panel, name, since=FIRST):
    source = source_of(panel, name)
    return store.unchanged(source, name, since) or store.save(
        derive_table(panel, name), source, since
    )


def rows_of(store, name):
    """Return the rows of a table by key, without the time they were computed."""
    layout = LAYOUTS[name]
    columns = [column for column in layout.table.c if column.name != "computed_at"]
    with store._database.reader() as connection:
        return {tuple(row) for row in connection.execute(sa.select(*columns))}


def expected_rows(panel, name, since=FIRST):
    """Return how many rows a table has: those with a known value."""
    table = derive_table(panel, name)
    later = table.sessions >= np.datetime64(since)
    known = np.any([np.isfinite(values) for values in table.columns.values()], axis=0)
    return int(known[later].sum())


@pytest.mark.parametrize("name", TABLES)
def test_a_second_run_writes_nothing(store, name):
    panel = history()

    first, before = save(store, panel, name), rows_of(store, name)
    second = save(store, panel, name)
    forced = store.save(derive_table(panel, name), source_of(panel, name), FIRST)

    assert first.rows_written == len(before) == expected_rows(panel, name) > 200
    assert (second.rows_written, forced.rows_written) == (0, 0)
    assert rows_of(store, name) == before
    assert len(list(Path(first.path).parent.glob(f"{name}-*"))) == 1


@pytest.mark.parametrize("name", TABLES)
def test_new_sessions_add_their_rows_and_equal_a_full_computation(store, name):
    short, whole = history(300), history()
    save(store, short, name)
    before = rows_of(store, name)

    grown = save(store, whole, name)

    after = rows_of(store, name)
    assert before < after, "no earlier row changed"
    assert grown.rows_written == len(after) - len(before) > 0
    assert grown.sessions == len(SESSIONS) - 300
    loaded, fresh = store.load("demo", name), derive_table(whole, name)
    assert loaded.keys == fresh.keys
    for column, values in fresh.columns.items():
        np.testing.assert_array_equal(loaded.columns[column], values)
    assert len(after) == expected_rows(whole, name)


def test_rows_hold_what_the_file_holds_and_missing_is_null(store):
    panel = history()
    save(store, panel, "returns")

    rows = {(row[1], row[2]): row[3:6] for row in rows_of(store, "returns")}

    table = derive_table(panel, "returns")
    for column, name in enumerate(panel.instruments):
        for row, day in enumerate(panel.sessions.astype(object)):
            values = [table.columns[key][row, column] for key in ("ret_1d", "ret_5d", "ret_21d")]
            known = tuple(None if np.isnan(value) else value for value in values)
            assert rows.get((name, day), (None, None, None)) == known


def test_a_row_is_known_at_the_close_of_its_session(store):
    save(store, history(), "volatility", since=LAST)

    columns = tables.volatility_daily.c
    with store._database.reader() as connection:
        known_at = connection.execute(sa.select(columns.known_at)).scalars().all()

    assert set(known_at) == {MarketCalendar.of("US_EQ").close_time(LAST)}


def test_a_revised_price_changes_the_rows_it_touches_alone(store):
    panel = history()
    for name in ("returns", "volatility"):
        save(store, panel, name)
    before = rows_of(store, "returns")

    revised = history(close={(200, 0): panel.close[200, 0] * 1.02})
    saved = save(store, revised, "returns")

    after = rows_of(store, "returns")
    touched = {(row[1], row[2]) for row in after - before}
    # A close is in the returns of its own session and of those 1, 5 and 21 later. What the price
    # of one session rounds differently may move others of the name, never of another one.
    assert {name for name, _ in touched} == {"N0.US"}
    days = {SESSIONS[row].astype(object) for row in (200, 201, 205, 221)}
    assert days <= {day for _, day in touched}
    assert min(day for _, day in touched) == SESSIONS[200].astype(object)
    assert saved.rows_written == len(touched)
    assert after == _fresh(store, revised, "returns")


def test_a_bar_that_goes_takes_its_row_along(store):
    panel = history()
    save(store, panel, "returns")

    gone = history(close={(250, 3): np.nan})
    saved = save(store, gone, "returns")

    keys = {(row[1], row[2]) for row in rows_of(store, "returns")}
    assert saved.rows_deleted == 1
    assert ("N3.US", SESSIONS[250].astype(object)) not in keys
    assert rows_of(store, "returns") == _fresh(store, gone, "returns")


def test_rows_begin_where_they_were_asked_for_and_may_be_asked_for_earlier(store):
    short, whole = history(300), history()
    middle = SESSIONS[250].astype(object)

    first = save(store, short, "returns", since=short.as_of)
    second = save(store, whole, "returns", since=whole.as_of)
    third = save(store, whole, "returns", since=middle)
    fourth = save(store, whole, "returns", since=LAST)

    assert first.rows_written == 4
    assert second.rows_since == short.as_of, "no session between has lost its rows"
    assert second.rows_written == expected_rows(whole, "returns", short.as_of) - 4
    assert third.rows_written == expected_rows(whole, "returns", middle) - (
        first.rows_written + second.rows_written
    )
    assert (fourth.rows_written, fourth.rows_since) == (0, middle)
    assert {row[2] for row in rows_of(store, "returns")} == set(SESSIONS[250:].astype(object))


def test_without_rows_there_is_a_file_alone(store):
    saved = save(store, history(), "features", since=None)

    assert rows_of(store, "features") == set()
    assert saved.rows_since is None
    assert store.load("demo", "features").columns["value"].shape == (len(SESSIONS), 20)


@pytest.mark.parametrize("damage", ["removed", "truncated", "altered"])
def test_a_damaged_file_is_made_again_and_the_rows_are_right(store, damage):
    panel = history(300)
    file = Path(save(store, panel, "returns").path)
    content = file.read_bytes()
    file.unlink()
    if damage != "removed":
        file.write_bytes(content[:-20] if damage == "truncated" else content[::-1])
    with pytest.raises(StoreError, match=r"not derived, or their file is damaged.*data derive"):
        store.load("demo", "returns")

    save(store, history(), "returns")

    assert rows_of(store, "returns") == _fresh(store, history(), "returns")
    assert len(store.load("demo", "returns").sessions) == len(SESSIONS)


def test_an_interrupted_write_is_done_again(store, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(done, total, label):
        raise Killed

    save(store, history(300), "returns")
    monkeypatch.setattr(derived_store, "ROWS_PER_TRANSACTION", 100)
    revised = history(close={(50, 0): 77.0})
    with pytest.raises(Killed):
        store.save(derive_table(revised, "returns"), source_of(revised, "returns"), FIRST, killed)
    half = rows_of(store, "returns")

    # The revision was withdrawn meanwhile: what was half written is of other data.
    save(store, history(), "returns")

    assert rows_of(store, "returns") != half
    assert rows_of(store, "returns") == _fresh(store, history(), "returns")


def test_an_instrument_that_left_the_panel_leaves_no_rows(store):
    save(store, history(), "returns")

    save(store, history(names=2), "returns")

    assert {row[1] for row in rows_of(store, "returns")} == {"N0.US", "N1.US"}


def test_data_that_end_earlier_than_what_is_stored_are_refused(store):
    save(store, history(), "returns")

    with pytest.raises(ConfigError, match="derived up to 2011-06-30"):
        save(store, history(300), "returns")


def test_an_unknown_dataset_is_named(store):
    with pytest.raises(StoreError, match="no dataset 'other'; known datasets: demo"):
        store.load("other", "returns")


def test_a_correlation_matrix_is_really_stored_once(store):
    panel = history()
    measured = correlation_panel(panel, 63)

    first = store.save_correlations("demo", measured, "inputs")
    second = store.save_correlations("demo", measured, "inputs")

    panel_id = f"CORR63-demo-{LAST}"
    names, matrix = store.load_correlations(panel_id)
    assert (first, second) == (True, False)
    assert names == measured.instruments
    np.testing.assert_array_equal(matrix, measured.matrix)
    ((row,),) = (store.listing("correlations", DerivedFilters("demo"))[1],)
    assert row[:3] == (panel_id, measured.start, LAST)


def test_a_correlation_matrix_that_was_changed_on_the_disk_is_refused(store):
    store.save_correlations("demo", correlation_panel(history(), 63), "inputs")
    (file,) = store.matrices.glob("*.npz")
    file.write_bytes(file.read_bytes()[::-1])

    with pytest.raises(StoreError, match="is not the file that was recorded"):
        store.load_correlations(f"CORR63-demo-{LAST}")
    with pytest.raises(StoreError, match="no correlation panel 'X'"):
        store.load_correlations("X")


def test_a_listing_is_newest_first_and_says_why_it_is_empty(store):
    save(store, history(), "returns", since=SESSIONS[-3].astype(object))

    columns, rows = store.listing("returns", DerivedFilters("demo", limit=5))
    _, one = store.listing("returns", DerivedFilters("demo", "N1.US", LAST))

    assert columns == ("instrument_id", "trade_date", "ret_1d", "ret_5d", "ret_21d", "known_at")
    assert [row[1] for row in rows] == [LAST] * 4 + [SESSIONS[-2].astype(object)]
    assert [row[0] for row in one] == ["N1.US"]
    with pytest.raises(StoreError, match=r"rows are stored from 2011-06-28 on.*--rows all"):
        store.listing("returns", DerivedFilters("demo", as_of=FIRST))
    with pytest.raises(StoreError, match="none are stored"):
        store.listing("features", DerivedFilters("demo"))


def _fresh(store, panel, name):
    """Return the rows of a store that has never seen anything else."""
    with store._database.writer() as connection:
        for table in (LAYOUTS[name].table, tables.derived_sets):
            connection.execute(sa.delete(table))
    save(store, panel, name)
    return rows_of(store, name)
