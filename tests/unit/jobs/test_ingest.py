from datetime import UTC, date, datetime

import numpy as np
import pytest

from adapters.files import FileSource
from adapters.sample import sample_ohlcv
from adapters.source import Adjustment, DatasetInfo
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import DataError
from prometheus_nt.jobs.ingest import ingest

INFO = DatasetInfo("files", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")
HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"
SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def lines(close=10.0):
    return [f"{day},{close},{close + 1},{close - 1},{close},{close},100" for day in SESSIONS]


@pytest.fixture
def store(sqlite_database):
    return HistoricalStore(sqlite_database)


@pytest.fixture
def run(tmp_path, store):
    """Ingest a folder with one good file and one whose lines or bytes are given."""
    folder = tmp_path / "files"
    folder.mkdir()

    def ingested(bad, **options):
        content = bad if isinstance(bad, bytes) else "\n".join([HEADER, *bad]).encode()
        (folder / "BAD.csv").write_bytes(content)
        (folder / "GOOD.csv").write_text("\n".join([HEADER, *lines()]))
        return ingest(FileSource(folder, INFO), store, now=NOW, **options)

    return ingested


def coverage(store):
    return {row["instrument_id"]: row["row_count"] for row in store.coverage("files")}


def replaced(row, line):
    changed = lines()
    changed[row] = line
    return changed


ROW = "2024-01-04,{open},{high},{low},{close},{adjusted},{volume}"
FINE = {"open": 10, "high": 11, "low": 9, "close": 10, "adjusted": 10, "volume": 100}


def bad_row(**cells):
    return replaced(2, ROW.format(**FINE | cells))


@pytest.mark.parametrize(
    ("bad", "rule", "row", "column", "value"),
    [
        (bad_row(close="ten"), "unreadable_number", 4, "Close", "ten"),
        (bad_row(volume="lots"), "unreadable_number", 4, "Volume", "lots"),
        (replaced(2, "4/1/2024,10,11,9,10,10,1"), "unreadable_date", 4, "Date", "4/1/2024"),
        (replaced(2, "2024-01-04,10"), "malformed_row", 4, None, "2024-01-04,10"),
        (bad_row(open=""), "missing_price", 4, "Open", "nan"),
        (bad_row(low=0), "price_not_positive", 4, "Low", "0.0"),
        (bad_row(close=-10), "price_not_positive", 4, "Close", "-10.0"),
        (bad_row(volume=-1), "negative_volume", 4, "Volume", "-1.0"),
        (bad_row(high=8), "high_below_low", 4, "High", "8.0"),
        (replaced(4, "2024-01-06,10,11,9,10,10,1"), "not_a_session", 6, "Date", "2024-01-06"),
        (replaced(8, "2030-01-07,10,11,9,10,10,1"), "future_date", 10, "Date", "2030-01-07"),
        (
            bad_row(close=10000, high=10001, adjusted=10000),
            "impossible_return",
            4,
            "Close",
            "10000.0",
        ),
    ],
)
def test_a_bad_row_is_quarantined_and_everything_else_is_kept(
    run, store, bad, rule, row, column, value
):
    report = run(bad)

    (event,) = store.quality_events("files")
    found = (event["rule"], event["source_row"], event["source_column"], event["value"])
    assert found == (rule, row, column, value)
    assert event["severity"] == "ERROR"
    assert event["source_file"].endswith("BAD.csv")
    for part in ("BAD.csv", f"row {row}", value):
        assert part in event["message"]
    assert ";" in event["message"]
    assert coverage(store) == {"BAD.US": 8, "GOOD.US": 9}
    assert (report.rows_read, report.rows_written, report.rows_quarantined) == (18, 17, 1)


def test_conflicting_rows_are_all_quarantined(run, store):
    report = run([*lines(), lines(11.0)[3]])

    assert coverage(store) == {"BAD.US": 8, "GOOD.US": 9}
    assert [(issue.rule, issue.source_row) for issue in report.issues] == [
        ("conflicting_rows", 5),
        ("conflicting_rows", 11),
    ]


def test_equal_and_unsorted_rows_are_kept_once_and_sorted(run, store):
    report = run([*lines()[::-1], lines()[3]])

    assert coverage(store) == {"BAD.US": 9, "GOOD.US": 9}
    assert {issue.rule for issue in report.issues} == {"repeated_row", "unsorted_dates"}
    assert {str(issue.severity) for issue in report.issues} == {"WARNING"}


@pytest.mark.parametrize(
    ("content", "rule", "row", "column"),
    [
        (b"", "empty_file", None, None),
        (HEADER.encode(), "empty_file", None, None),
        (b"Date,Open\n2024-01-02,1\n", "missing_columns", 1, "high"),
        (HEADER.encode() + b"\n2024-01-02,\xff,1,1,1,1,1\n", "wrong_encoding", 2, "Open"),
        (HEADER.encode("utf-16"), "wrong_encoding", 1, None),
        (b"\x00\x01\n\x02\x03\n", "wrong_encoding", 1, "\\x00\\x01"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_and_stops_nobody(
    run, store, content, rule, row, column
):
    report = run(content)

    (event,) = store.quality_events("files")
    assert (event["rule"], event["severity"]) == (rule, "ERROR")
    assert event["source_row"] == row
    assert column is None or event["source_column"] == column
    assert "BAD.csv" in event["message"]
    assert "; " in event["message"]
    assert (report.loaded, report.failed) == (("GOOD.US",), ("BAD.US",))


def test_an_instrument_whose_rows_are_all_bad_fails_alone(run, store):
    report = run([line.replace("10.0", "-1") for line in lines()])

    assert report.failed == ("BAD.US",)
    assert coverage(store)["GOOD.US"] == 9


def test_a_second_ingest_writes_no_row_and_no_event(run, store):
    bad = bad_row(close="ten")
    run(bad)
    before = store.dataset("files")["revision"], store.quality_events("files")

    report = run(bad)

    assert report.rows_written == 0
    assert (store.dataset("files")["revision"], store.quality_events("files")) == before


def test_a_row_that_vanished_is_kept_and_reported(run, store):
    run(lines())

    report = run(lines()[:-1])

    assert coverage(store)["BAD.US"] == 9
    assert [(issue.rule, issue.trade_date) for issue in report.issues] == [
        ("vanished_row", date(2024, 1, 12))
    ]


def test_progress_counts_every_instrument(run):
    calls = []

    run(lines(), progress=lambda *call: calls.append(call))

    assert calls == [(1, 2, "BAD.US"), (2, 2, "GOOD.US")]


def test_chosen_symbols_only(run, store):
    report = run(b"", symbols=["good"])

    assert report.loaded == ("GOOD.US",)
    assert list(coverage(store)) == ["GOOD.US"]


def test_an_unknown_symbol_is_named(run):
    with pytest.raises(DataError, match="files: no NOPE; it offers 2 instruments"):
        run(lines(), symbols=["nope", "good"])


def test_nothing_good_at_all_is_an_error_with_the_first_reason(run):
    with pytest.raises(DataError, match=r"not one good row in 1 instruments; first: .*BAD\.csv"):
        run(b"", symbols=["BAD"])


def test_an_empty_folder_is_an_error(tmp_path, store):
    with pytest.raises(DataError, match="offers no instrument"):
        ingest(FileSource(tmp_path, INFO), store)


def test_the_sample_becomes_a_panel_with_its_splits(store, tmp_path):
    report = ingest(sample_ohlcv(), store, symbols=["AAPL", "MSFT", "SPX"])

    panel = load_panel(store, "sample_ohlcv", tmp_path / "cache")

    assert report.rows_quarantined == 0
    assert panel.instruments == ("AAPL.US", "MSFT.US")
    splits = np.argwhere(panel.split != 1.0)
    days = [(str(panel.sessions[row]), panel.instruments[column]) for row, column in splits]
    assert days == [
        ("2000-06-21", "AAPL.US"),
        ("2003-02-18", "MSFT.US"),
        ("2005-02-28", "AAPL.US"),
    ]
