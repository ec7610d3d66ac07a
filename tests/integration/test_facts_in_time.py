"""From files through the store to every engine: nothing is used before it was known.

A dataset of fifteen names keeps accounts, index members, sectors and news. Its late facts, those
known after the close of session `LAST`, are then changed, one kind at a time. Every record of the
day's table up to that close must be the same to the last bit, and a record after it must not.
"""

import csv
from datetime import UTC, date, datetime

import numpy as np
import pytest

from adapters.reference_files import ReferenceFiles
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from persistence.reference_store import ReferenceStore
from prometheus_nt.actors.pipeline import PIPELINE, run_day
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs.check.differences import first_difference
from prometheus_nt.jobs.check.engines import look_ahead
from prometheus_nt.jobs.reference import FactStores, ReferenceScope, ingest_reference

pytestmark = pytest.mark.integration

NAMES, SESSIONS, LAST, DEATH = 15, 250, 200, 215
DAYS = MarketCalendar.of("US_EQ").between(date(2010, 1, 4), date(2011, 12, 30))[:SESSIONS]
SYMBOLS = [f"N{number:02d}" for number in range(NAMES)]
SECTORS = ("Energy", "Tech", "Banks")
NOW = datetime(2012, 1, 3, tzinfo=UTC)

ENGINES = {
    "regime": {
        "min_history": 40,
        "drawdown_lookback": 21,
        "breadth_lookback": 21,
        "trend_lookback": 21,
        "correlation_lookback": 21,
    },
    "stability": {"lookback": 21, "min_observations": 10},
    "fragility": {
        "horizon": 5,
        "tail_lookback": 21,
        "min_observations": 10,
        "trend_lookback": 42,
        "scenario_lookback": 63,
        "min_calibration_sessions": 20,
    },
    "assessment": {
        "momentum_lookback": 42,
        "momentum_skip": 5,
        "beta_lookback": 42,
        "horizon": 5,
        "min_sector_names": 3,
    },
    "universe": {
        "min_history_sessions": 30,
        "require_membership": True,
        "sector_max_names": 3,
        "lambda_weight": 0.5,
        "opportunity": {
            "horizon": 5,
            "ic_lookback": 20,
            "momentum_lookback": 20,
            "momentum_skip": 2,
            "min_names": 3,
        },
    },
    "portfolio": {"max_weight": 0.3},
    "risk": {"max_abs_weight_per_name": 0.3, "max_sector_weight": 0.4},
}
SETTINGS = EnginesConfig.model_validate(ENGINES)


def day(row):
    return DAYS[row].astype(object)


def honest_files():
    """Each kind of fact, as rows of its file; what is late is marked by its time only."""
    rng = np.random.default_rng(2)
    statements = []
    ends = [date(2008, 12, 31), date(2009, 3, 31), date(2009, 6, 30), date(2009, 9, 30)]
    ends += [date(2009, 12, 31), date(2010, 3, 31), date(2010, 6, 30), date(2010, 9, 30)]
    for symbol in SYMBOLS:
        for end in ends:
            revenue = rng.uniform(50.0, 150.0)
            known = np.datetime64(end) + int(rng.integers(20, 45))
            about = {"symbol": symbol, "frequency": "QUARTERLY", "period_end": end}
            about |= {"report_date": known, "currency": "USD"}
            income = {"revenue": revenue, "gross_profit": 0.5 * revenue}
            income |= {"net_income": rng.uniform(-0.1, 0.2) * revenue}
            balance = {"equity": rng.uniform(100, 300), "total_assets": 500.0}
            balance |= {"total_liabilities": 200.0, "shares_outstanding": 10.0}
            statements += [about | {"statement_type": "IS"} | income]
            statements += [about | {"statement_type": "BS"} | balance]
    members = [
        {"index_id": "IDX", "symbol": symbol, "start": "2005-01-03", "end": ""}
        for symbol in [*SYMBOLS[:-1], "DEAD"]
    ]
    members[0]["end"] = day(90)
    members[1]["end"] = day(DEATH)
    sectors = [
        {"symbol": symbol, "sector": SECTORS[number % 3], "industry": "", "start": "2000-01-03"}
        for number, symbol in enumerate(SYMBOLS)
    ]
    sectors.append({"symbol": "N04", "sector": "Energy", "industry": "", "start": day(130)})
    news = [
        {
            "published_at": f"{day(row)}T{hour:02d}:00:00+00:00",
            "symbols": f"{SYMBOLS[row % NAMES]} {SYMBOLS[(row + 3) % NAMES]}",
            "headline": f"{row} at {hour}",
        }
        for row in range(0, SESSIONS - 5, 2)
        for hour in (14, 23)
    ]
    holidays = [{"day": "2010-07-05", "name": "Independence Day"}]
    files = {"statements": statements, "membership": members, "sectors": sectors}
    return files | {"news": news, "holidays": holidays}


def later_revenue(files):
    """The third quarter was published after the cut: it was another one."""
    for row in files["statements"]:
        if row["report_date"] > DAYS[LAST]:
            row |= {"revenue": 77.0, "net_income": -20.0, "equity": 150.0}


def restated(files):
    """An old quarter is restated after the cut; what was published first stays."""
    first = [row for row in files["statements"] if row["period_end"] == date(2010, 6, 30)]
    later = {"report_date": "", "known_at": day(LAST + 3)}
    files["statements"] += [
        row | later | {"revenue": 500.0, "net_income": 90.0, "equity": 50.0} for row in first[::4]
    ]


def other_members(files):
    files["membership"][1]["end"] = ""
    files["membership"][2]["end"] = day(LAST + 1)
    files["membership"][5]["end"] = day(LAST + 2)
    # Told late: it had left before the cut, and nobody knew.
    left = {"index_id": "IDX", "symbol": "N06", "start": "2005-01-03", "end": day(LAST - 20)}
    files["membership"].append(left | {"known_at": day(LAST + 2)})
    joined = {"index_id": "IDX", "symbol": SYMBOLS[-1], "start": day(100), "end": ""}
    files["membership"].append(joined | {"known_at": day(LAST + 2)})


def other_sectors(files):
    files["sectors"] += [
        {"symbol": "N07", "sector": "Utilities", "industry": "", "start": day(LAST + 1)},
        # Told late: it held before the cut, and nobody knew.
        {"symbol": "N08", "sector": "Energy", "start": day(100), "known_at": day(LAST + 2)},
    ]


def other_news(files):
    # After the close of the last session is too late for it.
    late = [f"{day(LAST)}T21:00:01+00:00", f"{day(LAST + 4)}T15:00:00+00:00"]
    files["news"] += [
        {"published_at": moment, "symbols": "N03 N06 N09", "headline": "surprise"}
        for moment in late
    ]


CHANGES = {
    "later_revenue": (later_revenue, {"profiles", "assessment"}),
    "restated": (restated, {"profiles", "assessment"}),
    "other_members": (other_members, {"universe"}),
    "other_sectors": (other_sectors, {"assessment", "universe"}),
    "other_news": (other_news, {"profiles"}),
}


def write_files(folder, files):
    folder.mkdir()
    for name, rows in files.items():
        fields = sorted({field for row in rows for field in row})
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(rows)


def write_prices(store):
    facts = {"synthetic_bars": False, "description": "", "survivorship": "", "source": "test"}
    about = {"dataset_id": "demo", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    store.write_dataset(about | facts)
    rng = np.random.default_rng(11)
    steps = rng.normal(0.0003, 0.015, (SESSIONS, NAMES)) + rng.normal(0.0, 0.008, (SESSIONS, 1))
    close = 50.0 * np.exp(np.cumsum(steps, axis=0))
    store.write_instruments(
        "demo",
        [
            {"instrument_id": f"{name}.US", "symbol": name, "issuer_id": name, "name": name}
            | {"sector": "Today's", "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
            for name in SYMBOLS
        ],
    )
    for column, name in enumerate(SYMBOLS):
        # N01 dies when it leaves the index.
        alive = slice(0, DEATH if name == "N01" else SESSIONS)
        own = close[alive, column]
        bars = {"open": own, "high": own * 1.01, "low": own * 0.99, "close": own}
        bars |= {"adjusted_close": own, "volume": np.full(len(own), 1e6)}
        bars["trade_date"] = DAYS[alive]
        store.write_prices("demo", f"{name}.US", bars, source="test")


@pytest.fixture
def stores(sqlite_database):
    historical = HistoricalStore(sqlite_database)
    write_prices(historical)
    return FactStores(historical, ReferenceStore(sqlite_database))


def panel_from(files, stores, folder):
    write_files(folder, files)
    issuers = {f"{name}.US": name for name in SYMBOLS}
    source = ReferenceFiles(folder, "demo", "US_EQ", issuers)
    assert [issue.rule for issue in source.refused()] == ["unknown_symbols"]
    scope = ReferenceScope(indexes=source.index_ids)
    ingest_reference(source, stores, "demo", scope, now=NOW)
    return load_panel(stores.historical, "demo", folder / "cache", "IDX")


def records_of(panel, first):
    """Every stage's record of every session from `first` on, each told those of the one before."""
    params, previous, records = dict(SETTINGS), {}, []
    for session in panel.sessions[first:]:
        previous = run_day(panel.until(session.astype(object)), params, previous)
        records.append(previous)
    return records


def emptied(store):
    with store.reference.database.writer() as connection:
        tables = ("news_links", "news_articles", "financial_statements", "index_memberships")
        for table in (*tables, "sector_history", "fundamental_ratios"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


@pytest.mark.parametrize("name", CHANGES)
def test_what_became_known_later_changes_no_record_of_any_engine_before(stores, tmp_path, name):
    change, moved = CHANGES[name]
    first = 150
    honest = records_of(panel_from(honest_files(), stores, tmp_path / "honest"), first)
    emptied(stores)
    files = honest_files()
    change(files)

    changed = records_of(panel_from(files, stores, tmp_path / "changed"), first)

    before = LAST - first + 1
    assert {stage.name for stage in PIPELINE} == set(honest[0])
    for ours, theirs in zip(honest[:before], changed[:before], strict=True):
        assert first_difference(ours, theirs) is None
    differing = {
        stage
        for ours, theirs in zip(honest[before:], changed[before:], strict=True)
        for stage in ours
        if first_difference(ours[stage], theirs[stage]) is not None
    }
    assert moved <= differing


def test_facts_that_arrive_later_leave_what_was_decided_alone(stores, tmp_path):
    """The same store, filled up: the panel of that day is still in it."""
    early = honest_files()
    cut = f"{day(LAST)}T21:00:00+00:00"
    early["statements"] = [r for r in early["statements"] if r["report_date"] <= DAYS[LAST]]
    early["news"] = [r for r in early["news"] if r["published_at"] <= cut]
    before = records_of(panel_from(early, stores, tmp_path / "early"), 170)

    after = records_of(panel_from(honest_files(), stores, tmp_path / "all"), 170)

    for ours, theirs in zip(before[: LAST - 169], after[: LAST - 169], strict=True):
        assert first_difference(ours, theirs) is None
    assert first_difference(before[-1], after[-1]) is not None


def test_the_look_ahead_check_changes_these_facts_too_and_finds_nothing(stores, tmp_path):
    panel = panel_from(honest_files(), stores, tmp_path / "honest")

    reports = look_ahead(panel, {"demo": SETTINGS}, cuts=2)

    assert [name for name, report in reports.items() if report.leaks] == []


def test_who_left_the_index_leaves_the_universe_and_the_book_and_so_do_the_dead(stores, tmp_path):
    panel = panel_from(honest_files(), stores, tmp_path / "honest")
    left, dead = (panel.instruments.index(f"{name}.US") for name in ("N00", "N01"))

    records = records_of(panel, 80)

    for column, gone in ((left, 90), (dead, DEATH)):
        included = [record["universe"].included[column] for record in records]
        held = [record["risk"].weights[column] for record in records]
        assert panel.membership[:gone, column].all()
        assert not panel.membership[gone:, column].any()
        assert any(included[: gone - 80])
        assert any(held[: gone - 80])
        assert not any(included[gone - 80 :])
        assert not any(held[gone - 80 :])
    # Of DEAD there are no prices: the index had it, no result can.
    assert "DEAD.US" not in panel.instruments
    listed = stores.reference.memberships("demo", NOW, day(10))
    assert "DEAD.US" in [row["instrument_id"] for row in listed]
