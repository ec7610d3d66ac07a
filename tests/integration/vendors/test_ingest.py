"""From a vendor's answers to the historical store: prices, resuming, continuing, restatements."""

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial

import numpy as np
import pytest

from adapters.continued import ContinuedSource
from adapters.eodhd import EodhdSource, Selection, eodhd
from adapters.http import Limits, VendorClient, VendorDown
from adapters.source import ActionType
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from prometheus_nt.cli import main
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.jobs.data import SourceSpec, continued
from prometheus_nt.jobs.ingest import ingest

pytestmark = pytest.mark.integration

KEY = "s3cr3t k&y"
NOW = datetime(2024, 6, 3, tzinfo=UTC)
SPLIT_DAY, DIVIDEND_DAY, DIED = date(2024, 2, 1), date(2024, 1, 16), date(2024, 2, 15)
STOCKS = ["AAA.US", "B&N.US", "DEAD.US"]


def _status(code, body=""):
    return lambda handler: handler.reply(body, code)


@pytest.fixture
def store(sqlite_database):
    return HistoricalStore(sqlite_database)


@pytest.fixture
def run(source_of, store):
    """Ingest a selection as the job does: continued from what is stored."""

    def ingested(whole=False, **selection):
        source = source_of(**(selection or {"exchange": "US"}))
        spec = SourceSpec("eodhd", dataset="vendor", whole=whole)
        return ingest(continued(source, store, spec), store, now=NOW)

    return ingested


def stored_days(store, instrument_id):
    return store.bars("vendor", instrument_id)[0].astype(object).tolist()


def requested(vendor, name):
    return [params for path, params in vendor.requests if path == f"eod/{name}"]


def test_an_exchange_is_stored_with_its_dead_as_it_traded(vendor, run, store, tmp_path):
    report = run()

    assert list(report.loaded) == STOCKS
    assert report.issues == ()
    assert stored_days(store, "DEAD.US")[-1] == DIED
    panel = load_panel(store, "vendor", tmp_path)
    raw = vendor.answers["eod/AAA.US"]({})
    column = panel.instruments.index("AAA.US")
    assert panel.close[:, column].tolist() == [row["close"] for row in raw]
    # The vendor divides volumes by the split; a thousand shares changed hands on every day.
    assert raw[0]["volume"] == 4000
    assert set(panel.volume[:, column]) == {1000.0}
    day = np.searchsorted(panel.sessions, np.datetime64(SPLIT_DAY))
    paid = np.searchsorted(panel.sessions, np.datetime64(DIVIDEND_DAY))
    assert panel.split[day, column] == 4.0
    # Paid per share before the split, not the quarter of it that the vendor calls `value`.
    assert panel.dividend[paid, column] == 1.0
    assert np.isnan(store.bars("vendor", "AAA.US")[1][:, 4]).all()


def test_a_second_run_writes_nothing_and_asks_for_new_days_only(vendor, run, store):
    run()
    revision = store.dataset("vendor")["revision"]
    vendor.requests.clear()

    report = run()

    assert report.rows_written == 0
    assert report.issues == ()
    assert store.dataset("vendor")["revision"] == revision
    assert requested(vendor, "AAA.US") == [
        {"fmt": "json", "to": "2024-01-01"},
        {"fmt": "json", "from": "2024-03-15"},
    ]


def test_new_days_are_added_and_late_corrections_taken_over(vendor, run, store):
    whole = vendor.answers["eod/AAA.US"]
    vendor.answers["eod/AAA.US"] = lambda params: [
        row | {"volume": 1} if row["date"] == "2024-03-26" else row
        for row in whole(params)
        if row["date"] <= "2024-03-26"
    ]
    run(symbols=("AAA",))
    vendor.answers["eod/AAA.US"] = whole
    vendor.requests.clear()

    report = run(symbols=("AAA",))

    assert report.rows_written == 3  # the corrected day and two new ones
    assert len(requested(vendor, "AAA.US")) == 2
    assert stored_days(store, "AAA.US") == [date.fromisoformat(row["date"]) for row in whole({})]


def test_a_restated_past_is_read_whole(vendor, run, store):
    run(symbols=("AAA",))
    honest = vendor.answers["eod/AAA.US"]
    vendor.answers["eod/AAA.US"] = lambda params: [
        row | {"close": row["close"] + 0.01} for row in honest(params)
    ]

    report = run(symbols=("AAA",))

    assert report.rows_written == len(honest({}))
    closes = store.bars("vendor", "AAA.US")[1][:, 3]
    assert closes.tolist() == [row["close"] + 0.01 for row in honest({})]


def test_a_past_restated_out_of_sight_is_found_when_asked_to_read_it_whole(vendor, run, store):
    run(symbols=("AAA",))
    honest = vendor.answers["eod/AAA.US"]
    vendor.answers["eod/AAA.US"] = lambda params: [
        row | {"close": row["close"] + 0.01} if row["date"] == "2024-01-04" else row
        for row in honest(params)
    ]

    unseen, seen = run(symbols=("AAA",)), run(whole=True, symbols=("AAA",))

    assert (unseen.rows_written, seen.rows_written) == (0, 1)


def test_a_longer_period_brings_the_earlier_days(vendor, run, store):
    run(symbols=("AAA",), first=date(2024, 2, 12))

    run(symbols=("AAA",))

    assert stored_days(store, "AAA.US")[0] == date(2024, 1, 2)
    assert len(store.actions("vendor", "AAA.US")) == 2


@pytest.mark.parametrize(
    "period",
    [
        {"first": date(2024, 3, 1)},
        {"last": date(2024, 2, 6)},
        {"first": date(2024, 1, 20), "last": date(2024, 2, 6)},
        {"first": date(2024, 3, 27)},
    ],
)
def test_a_shorter_period_takes_nothing_away(run, store, period):
    run(symbols=("AAA",))

    report = run(symbols=("AAA",), **period)

    assert report.rows_written == 0
    assert [issue.rule for issue in report.issues if issue.rule == "vanished_row"] == []
    assert len(stored_days(store, "AAA.US")) == 61


def test_a_split_after_the_last_day_asked_for_still_puts_volumes_back(run, store):
    run(symbols=("AAA",), last=date(2024, 1, 25))

    assert set(store.bars("vendor", "AAA.US")[1][:, 5]) == {1000.0}
    assert [action["action_type"] for action in store.actions("vendor", "AAA.US")] == ["DIVIDEND"]


def test_an_unreadable_cell_costs_its_row_and_stays_open_until_it_is_mended(vendor, run, store):
    honest = vendor.answers["eod/AAA.US"]
    vendor.answers["eod/AAA.US"] = lambda params: [
        row | {"close": "twelve"} if row["date"] == "2024-01-04" else row for row in honest(params)
    ]

    first, again = run(symbols=("AAA",)), run(symbols=("AAA",))
    (found,) = store.quality_events("vendor")
    vendor.answers["eod/AAA.US"] = honest
    mended = run(symbols=("AAA",))

    assert (found["rule"], found["source_row"], found["value"]) == (
        "unreadable_number",
        3,
        "twelve",
    )
    assert found["message"].startswith("EODHD /eod/AAA.US, row 3, field 'close': 'twelve' is no")
    assert (first.rows_quarantined, again.rows_quarantined, again.rows_written) == (1, 1, 0)
    assert mended.rows_written == 1
    assert store.quality_events("vendor") == []


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("eod/AAA.US", [{"date": "2024-01-02", "o": 1}], "field '[0].open': expected this field"),
        ("eod/AAA.US", {"errors": "moved"}, "field '(the answer)': expected a list"),
        ("eod/AAA.US", ["2024-01-02"], "field '[0]': expected an object"),
        ("eod/AAA.US", [], "no bar; choose other days"),
        ("splits/AAA.US", [{"date": "2024-02-01", "split": "4"}], "field '[0].split'"),
        ("splits/AAA.US", [{"date": "yesterday", "split": "4/1"}], "a day as YYYY-MM-DD"),
        ("div/AAA.US", [{"date": "2024-02-01", "value": [1]}], "field '[0].value': expected a num"),
    ],
)
def test_an_answer_of_another_form_fails_its_instrument_alone(
    vendor, run, store, path, answer, words
):
    vendor.answers[path] = answer

    report = run()

    assert report.failed == ("AAA.US",)
    assert list(report.loaded) == STOCKS[1:]
    (event,) = store.quality_events("vendor")
    assert f"EODHD /{path}: " in event["message"]
    assert words in event["message"]
    assert ";" in event["message"]


def test_an_outage_in_the_middle_of_a_universe_stops_and_the_next_run_goes_on(vendor, run, store):
    vendor.fail("splits/B&N.US", *[_status(503)] * 3)
    vendor.fail("splits/DEAD.US", *[_status(503)] * 3)
    vendor.fail("splits/GSPC.INDX", *[_status(503)] * 3)
    symbols = ("AAA", "B&N", "DEAD", "GSPC.INDX")

    with pytest.raises(VendorDown):
        run(symbols=symbols)

    assert len(stored_days(store, "AAA.US")) == 61
    assert stored_days(store, "B&N.US") == []
    report = run(symbols=symbols)
    assert len(report.loaded) == 4
    assert report.rows_written == 61 + 32 + 61  # nothing of AAA again
    assert store.quality_events("vendor") == []


def test_an_index_brings_its_past_members_and_itself(run, source_of):
    report = run(index="GSPC")
    later = source_of(index="GSPC.INDX", first=date(2024, 3, 1)).instruments()

    assert list(report.loaded) == ["AAA.US", "B&N.US", "DEAD.US", "GSPC.INDX"]
    assert [info.instrument_id for info in later] == ["AAA.US", "B&N.US", "GSPC.INDX"]


def test_an_index_without_history_is_refused_and_not_taken_for_its_survivors(vendor, source_of):
    vendor.answers["fundamentals/GSPC.INDX"] = {"Components": {"0": {"Code": "AAA"}}}

    with pytest.raises(DataError, match=r"HistoricalTickerComponents.*past and present members"):
        source_of(index="GSPC").instruments()


def test_a_part_of_an_exchange_and_its_living_alone(source_of):
    def names(**options):
        return [info.instrument_id for info in source_of(exchange="US", **options).instruments()]

    assert names() == STOCKS
    assert names(delisted=False) == ["AAA.US", "B&N.US"]
    assert names(limit=1, offset=1) == ["B&N.US"]


def test_an_unknown_symbol_is_named_with_a_remedy(source_of):
    with pytest.raises(DataError, match=r"EODHD has no BRK-B.US, listed or delisted; check"):
        source_of(symbols=("AAA", "BRK.B")).instruments()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({}, "found none"),
        ({"symbols": ("A",), "index": "GSPC"}, "found --symbols and --index"),
        (
            {"symbols": ("A",), "first": date(2024, 2, 1), "last": date(2024, 1, 1)},
            "--start 2024-02-01 is after --end 2024-01-01",
        ),
    ],
)
def test_a_choice_must_be_one_and_make_sense(choice, words):
    with pytest.raises(ConfigError, match=words):
        Selection(**choice)


def test_the_source_may_be_read_by_several_threads(vendor, store, clock):
    limits = Limits(requests_per_minute=60_000)
    with VendorClient(eodhd(KEY, vendor.url), limits, clock.clock) as client:
        source = EodhdSource(client, "vendor", "US_EQ", Selection(exchange="US"), clock.clock)
        continued = ContinuedSource(source, partial(store.bars, "vendor"), lambda name: False)
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(continued.read, STOCKS * 4))
        actions = [len(source.actions(name)) for name in STOCKS]

    assert [len(table) for table in tables] == [61, 61, 32] * 4
    assert actions == [2, 0, 0]


def test_actions_alone_are_the_actions_after_reading(source_of):
    alone, after = source_of().actions("AAA.US"), source_of()
    after.read("AAA.US")

    assert alone == after.actions("AAA.US")
    assert [(action.action_type, action.value) for action in alone] == [
        (ActionType.DIVIDEND, 1.0),
        (ActionType.SPLIT, 4.0),
    ]


@pytest.fixture
def prometheus(vendor, tmp_path, monkeypatch, capsys):
    """Return a function that runs a command against the vendor: (exit code, output, errors)."""
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PROMETHEUS_EODHD_URL", vendor.url)
    monkeypatch.setenv("PROMETHEUS_EODHD_PER_MINUTE", "60000")
    monkeypatch.setenv("EODHD_API_KEY", KEY)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["prometheus", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_both_databases_hold_the_same_and_a_second_run_writes_nothing(
    prometheus, monkeypatch, postgres_url, tmp_path
):
    urls = [f"sqlite:///{tmp_path / 'h.db'}", postgres_url("migrated")]
    command = (
        "data",
        "ingest",
        "eodhd",
        "--dataset",
        "sp",
        "--index",
        "GSPC",
        "--from",
        "2024-01-05",
    )
    for url in urls:
        monkeypatch.setenv("PROMETHEUS_HISTORICAL_URL", url)

        first, second = prometheus(*command), prometheus(*command)

        assert (first[0], second[0]) == (0, 0)
        assert "sp: 4 instruments loaded, 0 failed, 203 rows read, 205 written" in first[2]
        assert " 0 written, 0 quarantined" in second[2]
        assert KEY not in "".join(map(str, first + second))

    left, right = (HistoricalStore(Database.open(url)) for url in urls)
    for name in ("AAA.US", "B&N.US", "DEAD.US", "GSPC.INDX"):
        for one, other in zip(left.bars("sp", name), right.bars("sp", name), strict=True):
            np.testing.assert_array_equal(one, other)
    clocks = {"ingested_at": None, "created_at": None, "updated_at": None}
    for read in ("actions", "instruments"):
        one, other = (
            [
                row | {name: None for name in clocks if name in row}
                for row in getattr(side, read)("sp")
            ]
            for side in (left, right)
        )
        assert one == other and len(one) > 1
    left.database.close()
    right.database.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--symbols", "AAA"), "--dataset NAME is missing"),
        (("--dataset", "x"), "expected one of --symbols, --index and --exchange, found none"),
        (("--dataset", "x", "--symbols", "NOPE"), "EODHD has no NOPE.US, listed or delisted"),
        (("--dataset", "x", "--symbols", "AAA", "--market", "MARS"), "unknown market 'MARS'"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(prometheus, arguments, words):
    code, _, shown = prometheus("data", "ingest", "eodhd", *arguments)

    assert code == 1
    assert words in shown


def _left_out(vendor, name, *days):
    """Let the vendor forget some bars of an instrument; return a function that brings them back."""
    path = f"eod/{name}"
    complete = vendor.answers[path]
    vendor.answers[path] = lambda asked: [
        row for row in complete(asked) if date.fromisoformat(row["date"]) not in days
    ]
    return lambda: vendor.answers.update({path: complete})


@pytest.mark.parametrize("chosen", [("--index", "GSPC"), ("--symbols", "AAA,B&N")])
def test_a_repair_fills_a_hole_in_the_middle_and_changes_nothing_else(
    vendor, prometheus, tmp_path, chosen
):
    hole = (date(2024, 1, 17), date(2024, 1, 18), date(2024, 1, 19))
    restore = _left_out(vendor, "B&N.US", *hole)
    ingest = ("data", "ingest", "eodhd", "--dataset", "sp", *chosen, "--from", "2024-01-05")
    assert prometheus(*ingest)[0] == 0
    store = HistoricalStore(Database.open(f"sqlite:///{tmp_path / 'home' / 'historical.db'}"))
    before = store.dataset("sp"), store.instruments("sp")
    restore()

    _, _, shown = prometheus("data", "repair", "sp")

    assert {*hole} < {*store.bars("sp", "B&N.US")[0].astype(object).tolist()}, shown
    after = store.dataset("sp"), store.instruments("sp")
    told = ("origin", "survivorship", "description", "source")
    assert [before[0][name] for name in told] == [after[0][name] for name in told]
    who = ("instrument_id", "symbol", "asset_class", "name", "currency", "issuer_id")
    for old, new in zip(before[1], after[1], strict=True):
        assert [old[name] for name in who] == [new[name] for name in who]
    _, _, shown = prometheus(*ingest)
    assert " 0 written, 0 quarantined" in shown
    store.database.close()


def test_a_repair_goes_on_without_a_symbol_that_the_vendor_has_dropped(
    vendor, prometheus, tmp_path
):
    hole = (date(2024, 1, 17), date(2024, 1, 18))
    restore = [_left_out(vendor, name, *hole) for name in ("AAA.US", "B&N.US")]
    chosen = ("--symbols", "AAA,B&N")
    assert prometheus("data", "ingest", "eodhd", "--dataset", "mine", *chosen)[0] == 0
    for each in restore:
        each()
    listing = vendor.answers["exchange-symbol-list/US"]
    vendor.answers["exchange-symbol-list/US"] = lambda asked: [
        row for row in listing(asked) if row["Code"] != "AAA"
    ]

    _, shown, _ = prometheus("data", "repair", "mine")

    store = HistoricalStore(Database.open(f"sqlite:///{tmp_path / 'home' / 'historical.db'}"))
    days = store.bars("mine", "B&N.US")[0].astype(object).tolist()
    store.database.close()
    assert {*hole} < {*days}
    assert "the source does not offer it any more" in " ".join(shown.split())


def test_without_a_key_the_variable_is_named(prometheus, monkeypatch):
    monkeypatch.delenv("EODHD_API_KEY")

    code, _, shown = prometheus("data", "ingest", "eodhd", "--dataset", "x", "--symbols", "AAA")

    assert code == 1
    assert "no API key; set the environment variable EODHD_API_KEY" in shown


def test_a_spent_budget_ends_the_command_with_its_remedy(vendor, prometheus):
    vendor.fail("div/B&N.US", _status(402, "You exceeded your daily API requests limit."))

    code, _, shown = prometheus("data", "ingest", "eodhd", "--dataset", "x", "--exchange", "US")
    again, _, _ = prometheus("data", "ingest", "eodhd", "--dataset", "x", "--exchange", "US")

    assert (code, again) == (1, 0)
    assert "error: EODHD /div/B%26N.US: the daily budget of calls is spent" in shown


def test_yahoo_without_its_package_names_the_command_that_installs_it(prometheus, monkeypatch):
    monkeypatch.setitem(sys.modules, "yfinance", None)

    code, _, shown = prometheus("data", "ingest", "yahoo", "--dataset", "y", "--symbols", "AAPL")

    assert code == 1
    assert "package yfinance is not installed; run pip install 'prometheus-nt[yahoo]'" in shown


def test_yahoo_has_no_lists(prometheus):
    code, _, shown = prometheus("data", "ingest", "yahoo", "--dataset", "y", "--index", "GSPC")

    assert code == 1
    assert "Yahoo has no lists; name the --symbols" in shown
