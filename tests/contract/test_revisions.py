"""Every revision of a dataset can be read again, compared and named, on either engine."""

from datetime import date

import numpy as np
import pytest
from sqlalchemy import text

from persistence import schema
from persistence.changes import Change, difference
from persistence.historical import HistoricalStore
from persistence.histories import History
from persistence.panel_cache import load_panel, load_series
from persistence.revisions import Writer
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.panel import PANEL_FIELDS

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 3, 28))
FIELDS = ("open", "high", "low", "close", "adjusted_close", "volume")
NAMES = ("A.US", "B.US", "C.US", "SPX.INDX")


def company(name, sector="Energy", **facts):
    asset_class = "INDEX" if name.endswith("INDX") else "EQUITY"
    facts = {"name": name, "sector": sector, "asset_class": asset_class, "exchange": None} | facts
    return {"instrument_id": name, "symbol": name, "issuer_id": name, "currency": "USD"} | facts


def bars(rows=slice(0, 20), seed=0):
    rng = np.random.default_rng(seed)
    values = rng.uniform(10, 20, (len(FIELDS), len(SESSIONS)))
    values[5, 3] = np.nan
    prices = dict(zip(FIELDS, values[:, rows], strict=True))
    return prices | {"trade_date": SESSIONS[rows]}


def action(day=date(2024, 1, 5), kind="SPLIT", value=2.0, source="vendor"):
    return {"ex_date": day, "action_type": kind, "value": value, "source": source}


@pytest.fixture
def store(database):
    return new_store(database)


def new_store(database):
    store = HistoricalStore(database)
    facts = {"source": "test", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    facts |= {"synthetic_bars": False, "description": "", "survivorship": ""}
    store.write_dataset({"dataset_id": "demo"} | facts)
    store.write_instruments("demo", [company(name) for name in NAMES[:2]])
    store.write_prices("demo", "A.US", bars(), source="test")
    return store


def number(store):
    return store.dataset("demo")["revision"]


def content(panel):
    parts = [getattr(panel, name).tobytes() for name in PANEL_FIELDS]
    return panel.fingerprint, panel.instruments, panel.sectors, panel.sessions.tolist(), parts


def change_something(store, rng):
    """Make one random change of any kind that the store knows."""
    name = NAMES[rng.integers(len(NAMES))]
    sector = ["Energy", "Health", None][rng.integers(3)]
    store.write_instruments("demo", [company(name, sector)])
    kind, first = rng.integers(3), int(rng.integers(0, 40))
    if kind < 2:
        last = first + int(rng.integers(1, 20))
        store.write_prices("demo", name, bars(slice(first, last), rng.integers(9)), source="x")
    else:
        days = rng.choice(len(SESSIONS) - 1, 2, replace=False) + 1
        source = ["vendor", "inferred"][rng.integers(2)]
        facts = [
            action(SESSIONS[day].astype(object), each, float(rng.integers(2, 9)), source)
            for day, each in zip(days, ("SPLIT", "DIVIDEND"), strict=True)
        ]
        store.write_actions("demo", name, facts)


def test_every_revision_is_rebuilt_byte_for_byte(store, tmp_path):
    rng, seen = np.random.default_rng(7), {}
    for _ in range(40):
        change_something(store, rng)
        panel = load_panel(store, "demo", tmp_path / "then")
        seen[number(store)] = content(panel)

    again = {
        revision: content(load_panel(store, "demo", tmp_path / "now", revision=revision))
        for revision in seen
    }

    assert len({fingerprint for fingerprint, *_ in seen.values()}) > 20
    assert again == seen


def test_a_panel_is_found_by_its_fingerprint(store, tmp_path):
    before = load_panel(store, "demo", tmp_path)
    old = content(before)
    store.write_prices("demo", "A.US", bars(seed=1), source="test")
    assert load_panel(store, "demo", tmp_path).fingerprint != before.fingerprint

    again = load_panel(store, "demo", tmp_path / "other", revision=before.fingerprint)

    assert content(again) == old


def test_a_cached_panel_of_the_newest_revision_survives_the_reading_of_an_older_one(
    store, tmp_path
):
    first = number(store)
    store.write_prices("demo", "A.US", bars(seed=1), source="test")
    load_panel(store, "demo", tmp_path)
    files = set(tmp_path.iterdir())

    load_panel(store, "demo", tmp_path, revision=first)

    assert files < set(tmp_path.iterdir())


def test_an_unknown_revision_is_named_with_those_there_are(store, tmp_path):
    known = rf"it has revisions 1 to {number(store)}, see `prometheus data revisions demo`"
    for wanted, what in (
        (99, "no revision 99"),
        (10**30, "no revision 1000"),
        ("0123456789abcdef", "no fingerprint 0123"),
    ):
        with pytest.raises(StoreError, match=f"dataset demo: {what}.*{known}"):
            load_panel(store, "demo", tmp_path, revision=wanted)


def test_a_revision_whose_fingerprint_was_made_otherwise_is_not_passed_off_as_it(store, tmp_path):
    load_panel(store, "demo", tmp_path)
    with store.database.writer() as connection:
        other = "UPDATE dataset_revisions SET fingerprint = 'ffffffffffffffff'"
        connection.execute(text(other))

    with pytest.raises(StoreError, match="another version of the program made it"):
        load_panel(store, "demo", tmp_path, revision="f" * 16)


def test_one_writer_makes_one_revision_until_somebody_reads(store, tmp_path):
    writer = Writer.of("vendor")
    store.write_histories("demo", [History("A.US", bars(seed=1))], writer)
    store.write_histories("demo", [History("B.US", bars(seed=2))], writer)
    first = number(store)
    read = content(load_panel(store, "demo", tmp_path / "a"))

    store.write_histories("demo", [History("B.US", bars(seed=3))], writer)
    store.close("demo", writer)

    newest, before, *_ = store.revisions("demo")
    assert (newest.revision, before.revision) == (first + 1, first)
    assert (newest.source, before.rows_changed) == ("vendor", 40)
    assert newest.closed_at is not None
    assert content(load_panel(store, "demo", tmp_path / "b", revision=first)) == read


def test_what_one_revision_writes_twice_leaves_no_history(store):
    writer = Writer.of("vendor")
    for seed in (1, 2):
        store.write_histories("demo", [History("B.US", bars(seed=seed))], writer)

    with store.database.reader() as connection:
        count = connection.execute(text("SELECT count(*) FROM bars_history")).scalar_one()
    assert count == 0


def test_a_failed_transaction_leaves_no_revision(store):
    before = store.revisions("demo")

    with pytest.raises(StoreError, match=r"Z\.US is no instrument"):
        store.write_histories(
            "demo", [History("B.US", bars()), History("Z.US", bars())], Writer.of("x")
        )

    assert store.revisions("demo") == before
    assert [row["row_count"] for row in store.coverage("demo")] == [20, 0]


def test_a_series_is_read_as_it_was(store):
    first = number(store)
    store.write_prices("demo", "A.US", bars(slice(0, 25), seed=1), source="test")

    sessions, close = load_series(store, "demo", "A.US", first)

    assert (sessions == SESSIONS[:20]).all()
    np.testing.assert_array_equal(close, bars()["close"])
    assert len(load_series(store, "demo", "A.US")[1]) == 25


def test_a_sector_of_one_source_reaches_the_other_datasets_as_a_revision(store, tmp_path):
    before = content(load_panel(store, "demo", tmp_path))
    revision = number(store)
    store.write_dataset(store.dataset("demo") | {"dataset_id": "other"})

    store.write_instruments("other", [company("A.US", "Health")])

    assert load_panel(store, "demo", tmp_path).sectors == ("Health",)
    assert number(store) == revision + 1
    assert content(load_panel(store, "demo", tmp_path, revision=revision)) == before


def test_a_difference_lists_every_fact_with_old_and_new(store):
    store.write_actions("demo", "A.US", [action(), action(kind="DIVIDEND", source="inferred")])
    first = number(store)
    changed = bars(slice(0, 21))
    old = changed["close"][4]
    changed["close"][4], changed["volume"][3] = 1.5, 7.0
    store.write_prices("demo", "A.US", changed, source="test")
    store.write_actions("demo", "A.US", [action(value=3.0)])
    store.write_instruments("demo", [company("A.US", "Health")])

    found = difference(store, "demo", first)

    day = [session.astype(object) for session in SESSIONS]
    new = changed["close"][20]
    expected = [
        Change("A.US", None, "sector", "changed", "Energy", "Health"),
        Change("A.US", day[3], "dividend", "removed", 2.0, None),
        Change("A.US", day[3], "split", "changed", 2.0, 3.0),
        Change("A.US", day[3], "volume", "changed", None, 7.0),
        Change("A.US", day[4], "close", "changed", old, 1.5),
        Change("A.US", day[20], "bar", "added", None, new),
    ]
    assert sorted(found.changes, key=str) == sorted(expected, key=str)
    assert found.complete
    back = difference(store, "demo", number(store), first)
    assert Change("A.US", day[20], "bar", "removed", new, None) in back.changes
    assert Change("A.US", day[4], "close", "changed", 1.5, old) in back.changes


def test_a_long_difference_is_counted_per_instrument(store):
    first = number(store)
    store.write_prices("demo", "A.US", bars(slice(0, 30), seed=1), source="test")
    store.write_prices("demo", "B.US", bars(slice(5, 8)), source="test")

    found = difference(store, "demo", first, limit=4)

    assert (len(found.changes), found.complete, found.total) == (4, False, 33)
    counted = [(each.instrument_id, each.kind, each.changes) for each in found.counts]
    assert counted == [("A.US", "added", 10), ("A.US", "changed", 20), ("B.US", "added", 3)]
    assert found.counts[2].first == SESSIONS[5].astype(object)
    assert found.counts[2].last == SESSIONS[7].astype(object)


def test_equal_revisions_do_not_differ(store):
    found = difference(store, "demo", number(store), number(store))

    assert (found.changes, found.total) == ((), 0)


def test_both_engines_keep_the_same_history(both_databases, tmp_path):
    stores = [new_store(database) for database in both_databases]
    for store in stores:
        rng = np.random.default_rng(3)
        for _ in range(25):
            change_something(store, rng)

    for table in ("bars", "bars_history"):
        query = text(f"SELECT * FROM {table} ORDER BY series_id, day, revision")
        rows = []
        for store in stores:
            with store.database.reader() as connection:
                rows.append([tuple(row) for row in connection.execute(query)])
        assert rows[0] == rows[1]
        assert rows[0]
    for revision in range(2, number(stores[0]) + 1):
        first, second = (
            content(load_panel(store, "demo", tmp_path / store.database.dialect, revision=revision))
            for store in stores
        )
        assert first == second


def test_a_database_of_before_revisions_keeps_its_rows(empty_database, tmp_path):
    schema.upgrade(empty_database, "historical", "0002")
    with empty_database.writer() as connection:
        for statement in OLD_ROWS:
            connection.execute(text(statement))
    names = "dataset_id, instrument_id, trade_date, open, high, low, close, adjusted_close, volume"
    query = text(
        f"SELECT {names}, currency, source, known_at, ingested_at FROM prices_daily"
        " ORDER BY dataset_id, instrument_id, trade_date"
    )
    with empty_database.reader() as connection:
        before = [as_text(row) for row in connection.execute(query)]

    schema.upgrade(empty_database, "historical")

    with empty_database.reader() as connection:
        after = [as_text(row) for row in connection.execute(query)]
    assert len(before) == 5
    assert after == before
    schema.check(empty_database, "historical")
    store = HistoricalStore(empty_database)
    panel = load_panel(store, "old", tmp_path)
    assert panel.instruments == ("A.US", "B.US")
    assert panel.sectors == ("Energy", None)
    assert panel.close[:, 0].tolist() == [10.5, 11.5, 12.5]
    assert panel.split[1, 0] == 2.0
    assert store.dataset("old")["revision"] == 2
    with pytest.raises(StoreError, match=r"overwritten before revisions were kept; .* is 2"):
        load_panel(store, "old", tmp_path, revision=1)
    prices = {name: np.array([10.5]) for name in FIELDS} | {"trade_date": SESSIONS[:1]}
    assert store.write_prices("old", "A.US", prices, source="csv").rows == 1
    assert load_panel(store, "old", tmp_path, revision=2).fingerprint == panel.fingerprint


def as_text(row):
    """Return a row as both engines and both schemas write it."""
    return [str(value)[:19] if isinstance(value, str) else value for value in row]


NOW = "'2024-02-01 10:00:00.000000+00:00'"
LATER = "'2024-02-02 11:30:00.250000+00:00'"


def old_bar(name, day, close, ingested):
    return (
        "INSERT INTO prices_daily (dataset_id, instrument_id, trade_date, open, high, low, close,"
        " adjusted_close, volume, currency, source, known_at, ingested_at) VALUES"
        f" ('old', '{name}', '2024-01-{day}', 10, 13, 9, {close}, NULL, 1e9, 'USD', 'csv',"
        f" '2024-01-{day} 21:00:00.000000+00:00', {ingested})"
    )


OLD_ROWS = [
    "INSERT INTO markets (market_id, name, region, timezone, created_at, updated_at)"
    f" VALUES ('US_EQ', 'US', 'US', 'America/New_York', {NOW}, {NOW})",
    "INSERT INTO issuers (issuer_id, issuer_type, name, sector, created_at, updated_at)"
    f" VALUES ('A', 'COMPANY', 'A', 'Energy', {NOW}, {NOW}),"
    f" ('B', 'COMPANY', 'B', NULL, {NOW}, {NOW})",
    "INSERT INTO instruments (instrument_id, issuer_id, market_id, asset_class, symbol, currency,"
    f" created_at, updated_at) VALUES ('A.US', 'A', 'US_EQ', 'EQUITY', 'A', 'USD', {NOW}, {NOW}),"
    f" ('B.US', 'B', 'US_EQ', 'EQUITY', 'B', 'USD', {NOW}, {NOW})",
    "INSERT INTO datasets (dataset_id, source, market_id, adjustment, synthetic_bars, description,"
    " survivorship, revision, created_at, updated_at) VALUES"
    f" ('old', 'csv', 'US_EQ', 'AS_TRADED', false, '', '', 7, {NOW}, {NOW})",
    "INSERT INTO dataset_instruments (dataset_id, instrument_id, first_date, last_date, row_count,"
    f" ingested_at) VALUES ('old', 'A.US', '2024-01-02', '2024-01-04', 3, {LATER}),"
    f" ('old', 'B.US', '2024-01-03', '2024-01-04', 2, {NOW})",
    old_bar("A.US", "02", 10.5, NOW),
    old_bar("A.US", "03", 11.5, LATER),
    old_bar("A.US", "04", 12.5, LATER),
    old_bar("B.US", "03", 20.5, NOW),
    old_bar("B.US", "04", 21.5, NOW),
    "INSERT INTO corporate_actions (dataset_id, instrument_id, ex_date, action_type, value, source,"
    f" known_at, ingested_at) VALUES ('old', 'A.US', '2024-01-03', 'SPLIT', 2, 'v', {NOW}, {NOW})",
]
