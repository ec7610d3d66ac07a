from datetime import UTC, date, datetime

import numpy as np
import pytest

from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from persistence.panel_facts import ITEMS
from persistence.reference_store import ReferenceStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
NOW = datetime(2024, 6, 1, tzinfo=UTC)
CLOSE = 21


def at(day, hour=CLOSE, minute=0):
    return datetime(2024, 1, day, hour, minute, tzinfo=UTC)


def write_prices(historical, days=SESSIONS, **company):
    about = {"dataset_id": "demo", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    facts = {"synthetic_bars": False, "description": "", "survivorship": "", "source": "test"}
    historical.write_dataset(about | facts)
    facts = {"sector": "Today's", "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    bars = dict.fromkeys(("open", "high", "low", "close", "adjusted_close", "volume"))
    for name in ("A", "B"):
        fact = {"instrument_id": f"{name}.US", "symbol": name, "issuer_id": name, "name": name}
        historical.write_instruments("demo", [fact | facts | company])
        prices = {field: np.full(len(days), 10.0) for field in bars} | {"trade_date": days}
        historical.write_prices("demo", f"{name}.US", prices, source="test")


@pytest.fixture
def historical(sqlite_database):
    store = HistoricalStore(sqlite_database)
    write_prices(store)
    return store


@pytest.fixture
def store(historical):
    return ReferenceStore(historical.database)


def statement(known_at, kind="IS", frequency="QUARTERLY", issuer_id="A", **values):
    about = {"issuer_id": issuer_id, "statement_type": kind, "frequency": frequency}
    about |= {"period_end": date(2023, 12, 31), "report_date": None, "currency": "USD"}
    return about | {"known_at": known_at, "source": "test", "values": values}


def sector(name, start, known_at, issuer_id="A"):
    about = {"issuer_id": issuer_id, "industry": None, "source": "test"}
    return about | {"sector": name, "start": start, "known_at": known_at}


def stay(start, end, known_at, name="A"):
    about = {"index_id": "IDX", "instrument_id": f"{name}.US", "source": "test"}
    return about | {"start": start, "end": end, "known_at": known_at}


def news(known_at, headline, *names):
    about = {"source": "wire", "headline": headline, "known_at": known_at, "metadata": {}}
    about |= {"body": None, "language": None}
    return about | {"instrument_ids": [f"{name}.US" for name in names]}


def listed(panel):
    facts = panel.facts
    return [
        (panel.instruments[column], facts.items[item], str(known)[-2:], value)
        for column, item, known, value in zip(
            facts.column, facts.item, facts.known_at, facts.value.tolist(), strict=True
        )
    ]


def test_a_fact_may_be_used_on_the_first_close_that_is_not_before_it(historical, store, tmp_path):
    moments = [at(4), at(4, CLOSE, 1), at(5, 23), at(6, 12), datetime(2023, 12, 1, tzinfo=UTC)]
    store.write_statements(
        "demo", [statement(moment, revenue=float(n)) for n, moment in enumerate(moments)], NOW
    )

    panel = load_panel(historical, "demo", tmp_path)

    about = ("A.US", "revenue_quarterly")
    assert listed(panel) == [
        (*about, "02", 4.0),
        (*about, "04", 0.0),
        (*about, "05", 1.0),
        (*about, "08", 2.0),
        (*about, "08", 3.0),
    ]


def test_what_is_known_after_the_last_close_is_not_on_the_panel(historical, store, tmp_path):
    store.write_statements("demo", [statement(at(12, 22), revenue=1.0)], NOW)

    assert len(load_panel(historical, "demo", tmp_path).facts) == 0


def test_a_quarter_a_year_and_a_balance_have_names_of_their_own(historical, store, tmp_path):
    store.write_statements(
        "demo",
        [
            statement(at(4), revenue=1.0, equity=9.0, capex=9.0),
            statement(at(4), frequency="ANNUAL", revenue=2.0),
            statement(at(4), kind="BS", equity=3.0, shares_outstanding=4.0, revenue=9.0),
            statement(at(4), kind="CF", net_income=9.0),
        ],
        NOW,
    )

    found = {item: value for _, item, _, value in listed(load_panel(historical, "demo", tmp_path))}

    assert found == {
        "revenue_quarterly": 1.0,
        "revenue_annual": 2.0,
        "equity": 3.0,
        "shares_outstanding": 4.0,
    }


def test_a_changed_first_report_does_not_replace_its_restatement(historical, store, tmp_path):
    store.write_statements(
        "demo", [statement(at(4), revenue=1.0), statement(at(8), revenue=2.0)], NOW
    )
    store.write_statements("demo", [statement(at(4), revenue=7.0)], at(9))

    assert [row[-1] for row in listed(load_panel(historical, "demo", tmp_path))] == [1.0, 2.0]


def test_news_of_a_day_are_counted_as_they_come(historical, store, tmp_path):
    # 01:00 in London on the 9th is still the evening of the 8th in New York.
    store.write_news(
        "demo",
        [
            news(at(8, 14), "one", "A", "B"),
            news(at(8, 15), "two", "A"),
            news(at(9, 1), "three", "A"),
            news(at(9, 15), "four", "A"),
        ],
        NOW,
    )
    store.write_news("demo", [news(at(8, 14), "one", "A") | {"body": "changed"}], at(10))

    panel = load_panel(historical, "demo", tmp_path)

    facts = panel.facts
    rows = zip(facts.period_end, facts.known_at, facts.value.tolist(), strict=True)
    ours = [
        (str(day)[-2:], str(known)[-2:], value)
        for (day, known, value), column in zip(rows, facts.column, strict=True)
        if column == 0
    ]
    assert ours == [("08", "08", 1), ("08", "08", 2), ("08", "09", 3), ("09", "09", 1)]
    assert facts.items == ITEMS


def naive_members(stays):
    """Who was known to be a member at each close, stay by stay and day by day."""
    calendar = MarketCalendar.of("US_EQ")
    member = np.zeros((len(SESSIONS), 2), dtype=bool)
    for row, session in enumerate(SESSIONS.astype(object)):
        close = calendar.close_time(session)
        newest = {}
        for one in sorted(stays, key=lambda one: one["known_at"]):
            if one["known_at"] <= close:
                newest[one["instrument_id"], one["start"]] = one
        for one in newest.values():
            begun = one["start"] is None or one["start"] <= session
            if begun and (one["end"] is None or session < one["end"]):
                member[row, ["A.US", "B.US"].index(one["instrument_id"])] = True
    return member


def random_stays(seed):
    rng = np.random.default_rng(seed)
    stays = {}
    for _ in range(8):
        start = rng.choice([None, date(2024, 1, 3), date(2024, 1, 6), date(2024, 1, 9)])
        end = rng.choice([None, date(2024, 1, 9), date(2024, 1, 10), date(2024, 2, 1)])
        known_at = at(int(rng.integers(1, 13)), int(rng.integers(0, 24)), int(rng.integers(0, 60)))
        one = stay(start, end, known_at, str(rng.choice(["A", "B"])))
        stays[one["instrument_id"], start, known_at] = one
    return list(stays.values())


@pytest.mark.parametrize("seed", range(12))
def test_members_are_those_a_second_reading_finds(historical, store, tmp_path, seed):
    stays = random_stays(seed)
    store.write_memberships("demo", stays, NOW)

    panel = load_panel(historical, "demo", tmp_path, "IDX")

    np.testing.assert_array_equal(panel.membership, naive_members(stays))


def test_an_index_nobody_keeps_is_refused_by_name(historical, store, tmp_path):
    with pytest.raises(ConfigError, match=r"keeps no members of 'IDX'; it keeps: none"):
        load_panel(historical, "demo", tmp_path, "IDX")
    store.write_memberships("demo", [stay(None, None, at(2))], NOW)
    with pytest.raises(ConfigError, match="it keeps: IDX"):
        load_panel(historical, "demo", tmp_path, "SP500")

    assert load_panel(historical, "demo", tmp_path).membership is None


def test_a_sector_holds_from_when_it_was_known_and_had_begun(historical, store, tmp_path):
    store.write_sectors(
        "demo",
        [
            sector("Tech", None, at(3, 12)),
            sector("Autos", date(2024, 1, 8), at(3, 12)),
            sector("Oil", date(2024, 1, 5), at(10, 12)),  # told late, and over by then
            sector("Banks", date(2024, 1, 9), at(11, 12)),
            sector("Autos & Parts", date(2024, 1, 9), at(12, 12)),  # said otherwise a day later
        ],
        NOW,
    )

    panel = load_panel(historical, "demo", tmp_path)

    found = [panel.until(session).sectors[0] for session in SESSIONS.astype(object)]
    tech, autos = ["Tech"] * 3, ["Autos"] * 3
    assert found == [None, *tech, *autos, "Banks", "Autos & Parts"]
    # Of B no dated sector is known: today's would be known too early.
    assert {panel.sectors_at(row)[1] for row in range(len(panel))} == {None}


def test_without_facts_a_panel_is_what_it_was(historical, tmp_path):
    panel = load_panel(historical, "demo", tmp_path)

    assert panel.facts is panel.membership is panel.sector_history is None
    assert panel.sectors == ("Today's", "Today's")
    assert sorted(path.suffix for path in tmp_path.glob("*-demo-*")) == [".json", ".npy"]


def test_every_kind_of_fact_changes_the_fingerprint(historical, store, tmp_path):
    fingerprints = [load_panel(historical, "demo", tmp_path).fingerprint]
    writes = (
        lambda: store.write_statements("demo", [statement(at(4), revenue=1.0)], NOW),
        lambda: store.write_news("demo", [news(at(4), "one", "A")], NOW),
        lambda: store.write_sectors("demo", [sector("Tech", None, at(4))], NOW),
    )
    for write in writes:
        write()
        fingerprints.append(load_panel(historical, "demo", tmp_path).fingerprint)
    store.write_memberships("demo", [stay(None, None, at(2))], NOW)
    fingerprints.append(load_panel(historical, "demo", tmp_path, "IDX").fingerprint)

    assert len(set(fingerprints)) == len(fingerprints)


def filled(store):
    store.write_statements("demo", [statement(at(4), revenue=1.0)], NOW)
    store.write_memberships("demo", [stay(None, None, at(2))], NOW)
    store.write_sectors("demo", [sector("Tech", None, at(4))], NOW)


def test_a_hit_reads_the_file_and_nothing_else(historical, store, tmp_path):
    filled(store)
    built = load_panel(historical, "demo", tmp_path, "IDX")
    (file,) = tmp_path.glob("facts-*.npz")
    written = file.stat().st_mtime_ns

    hit = load_panel(historical, "demo", tmp_path, "IDX")

    assert file.stat().st_mtime_ns == written
    assert hit.fingerprint == built.fingerprint
    assert listed(hit) == listed(built)
    assert hit.sectors == built.sectors
    np.testing.assert_array_equal(hit.membership, built.membership)
    with pytest.raises(ValueError, match="read-only"):
        hit.facts.value[0] = 2.0


@pytest.mark.parametrize("damage", [b"", b"noise", None])
def test_a_damaged_file_is_made_again(historical, store, tmp_path, damage):
    filled(store)
    built = load_panel(historical, "demo", tmp_path, "IDX")
    (file,) = tmp_path.glob("facts-*.npz")
    content = file.read_bytes()
    file.write_bytes(content[:-40] if damage is None else damage)

    panel = load_panel(historical, "demo", tmp_path, "IDX")

    assert panel.fingerprint == built.fingerprint
    assert file.read_bytes() == content


def test_newer_facts_replace_the_file_of_the_same_index_only(historical, store, tmp_path):
    filled(store)
    load_panel(historical, "demo", tmp_path, "IDX")
    load_panel(historical, "demo", tmp_path)

    store.write_statements("demo", [statement(at(8), revenue=2.0)], NOW)
    panel = load_panel(historical, "demo", tmp_path)

    assert len(panel.facts) == 2
    assert len(list(tmp_path.glob("facts-*.npz"))) == 2


def test_a_database_made_anew_is_not_read_from_the_files_of_the_one_before(
    both_databases, tmp_path
):
    found = []
    for number, database in enumerate(both_databases):
        historical = HistoricalStore(database)
        write_prices(historical)
        facts, now = [statement(at(4), revenue=float(number))], NOW.replace(second=number)
        ReferenceStore(database).write_statements("demo", facts, now)
        found += [row[-1] for row in listed(load_panel(historical, "demo", tmp_path))]

    assert found == [0.0, 1.0]


def test_facts_that_cannot_be_cached_are_a_named_error(historical, store, tmp_path):
    filled(store)
    load_panel(historical, "demo", tmp_path)
    (file,) = tmp_path.glob("facts-*.npz")
    file.unlink()
    file.mkdir()

    with pytest.raises(StoreError, match="facts cannot be cached"):
        load_panel(historical, "demo", tmp_path)
