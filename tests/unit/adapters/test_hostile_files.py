"""Files that were made to hurt: each is refused by name, or accepted by a rule; nothing is lost."""

import os
import resource
import subprocess
import sys
import tracemalloc
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters import sheet
from adapters.files import FileSource
from adapters.gates import Case, check_prices
from adapters.source import Adjustment, DatasetInfo, FileError, UnsafeName, as_issue
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError

INFO = DatasetInfo("d", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")
HEADER = "Date,Open,High,Low,Close,Volume\n"
SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12)).tolist()
NOW = datetime(2024, 6, 1, tzinfo=UTC)
GOOD = [f"{day},10,11,9,{10 + place / 10},1000" for place, day in enumerate(SESSIONS)]
HURT = 3
"""Row of `GOOD` that a test replaces: line 5 of the file."""


def text_with(row, header=HEADER):
    return header + "\n".join([*GOOD[:HURT], row, *GOOD[HURT + 1 :]]) + "\n"


def cells(**changes):
    named = {"date": SESSIONS[HURT], "open": 10, "high": 11, "low": 9, "close": 10, "volume": 1}
    return ",".join(str(value) for value in (named | changes).values())


def through_the_gates(folder):
    """Return the kept bars and every finding, as an ingest would."""
    source = FileSource(folder, INFO)
    (instrument,) = source.instruments()
    table = source.read(instrument.instrument_id)
    kept, found = check_prices(Case("d", table, (), MarketCalendar.of("US_EQ"), NOW))
    return table.in_order(kept), [*table.issues, *found]


@pytest.mark.parametrize(
    ("row", "rule", "column", "value"),
    [
        (cells(close='"=HYPERLINK(""http://x"",""y"")"'), "unreadable_number", "Close", "=HYPER"),
        (cells(close="=1+1"), "unreadable_number", "Close", "=1+1"),
        (cells(close="@x"), "unreadable_number", "Close", "@x"),
        (cells(close="-2+3"), "unreadable_number", "Close", "-2+3"),
        (cells(close='"10,5"'), "unreadable_number", "Close", "10,5"),
        (cells(close='"1.000,50"'), "unreadable_number", "Close", "1.000,50"),
        (cells(volume='"1,000,000"'), "unreadable_number", "Volume", "1,000,000"),
        (cells(close="$10"), "unreadable_number", "Close", "$10"),
        (cells(close="0x10"), "unreadable_number", "Close", "0x10"),
        (cells(close="1_0"), "unreadable_number", "Close", "1_0"),
        (cells(close="\u0661\u0660"), "unreadable_number", "Close", "\u0661\u0660"),
        (cells(close="1\x000"), "unreadable_number", "Close", "1\\x000"),
        (cells(close="1e999"), "missing_price", "Close", "inf"),
        (cells(close="inf"), "missing_price", "Close", "inf"),
        (cells(close="1e-320", low="1e-321"), "impossible_return", "Close", "1e-320"),
        (cells(close="1e308", high="1e308"), "impossible_return", "Close", "1e+308"),
        (cells(date="01/05/2024"), "unreadable_date", "Date", "01/05/2024"),
        (cells(date="05.01.2024"), "unreadable_date", "Date", "05.01.2024"),
        (cells(date="24-01-05"), "unreadable_date", "Date", "24-01-05"),
        (cells(date="Jan 5 2024"), "unreadable_date", "Date", "Jan 5 2024"),
        (cells(date="45296"), "unreadable_date", "Date", "45296"),
        (cells(date="45296.0"), "unreadable_date", "Date", "45296.0"),
        (cells(date="1704412800"), "unreadable_date", "Date", "1704412800"),
        (cells(date="2024-01-05 =cmd|x"), "unreadable_date", "Date", "2024-01-05 =cmd|x"),
        (cells(date="2024-02-30"), "unreadable_date", "Date", "2024-02-30"),
        (cells(date="=TODAY()"), "unreadable_date", "Date", "=TODAY()"),
        (cells(date=""), "unreadable_date", "Date", "None"),
        (cells(date="2099-01-05"), "future_date", "Date", "2099-01-05"),
        (cells(date="9999-12-31"), "future_date", "Date", "9999-12-31"),
        (cells(date="0001-01-01"), "before_calendar", "Date", "0001-01-01"),
        (cells(close="10,extra"), "malformed_row", None, "2024-01-05"),
        (cells(close='"10'), "malformed_row", None, "2024-01-05"),
        ("," * 500, "malformed_row", None, ",,,"),
        ("x" * 5000, "malformed_row", None, "x" * 200 + "..."),
    ],
)
def test_a_hostile_row_is_named_and_costs_itself_only(tmp_path, row, rule, column, value):
    (tmp_path / "A.csv").write_text(text_with(row))

    bars, findings = through_the_gates(tmp_path)

    (finding,) = findings
    assert (finding.rule, finding.source_row, finding.source_column) == (rule, 5, column)
    assert finding.value.startswith(value)
    assert len(finding.value) < 300
    assert finding.value.isprintable() and finding.message.isprintable()
    assert "A.csv, row 5" in finding.message and "; " in finding.message
    assert bars.dates.tolist() == SESSIONS[:HURT] + SESSIONS[HURT + 1 :]


@pytest.mark.parametrize(
    ("row", "close"),
    [
        (cells(close="+10"), 10.0),
        (cells(close=" 10 "), 10.0),
        (cells(close='"10"'), 10.0),
        (cells(close="1e1"), 10.0),
        (cells(date="20240105"), 10.0),
        (cells(date='"2024-01-05"'), 10.0),
        (cells(date="2024-01-05T00:00:00Z"), 10.0),
        (cells(date="2024-01-05 16:00:00.000-05:00"), 10.0),
    ],
)
def test_an_unusual_spelling_with_one_meaning_is_accepted(tmp_path, row, close):
    (tmp_path / "A.csv").write_text(text_with(row))

    bars, findings = through_the_gates(tmp_path)

    assert findings == []
    assert bars.dates.tolist() == SESSIONS
    assert bars.close[HURT] == close


def test_a_signed_number_among_unreadable_ones_keeps_its_value(tmp_path):
    rows = [cells(close="+10"), cells(close="ten", date=SESSIONS[4])]
    (tmp_path / "A.csv").write_text(HEADER + "\n".join([*GOOD[:HURT], *rows]) + "\n")

    bars, findings = through_the_gates(tmp_path)

    assert [finding.source_row for finding in findings] == [6]
    assert bars.close[HURT] == 10.0


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "mixed"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_end_and_a_byte_order_mark_are_read(tmp_path, line_end, mark):
    ends = ["\n", "\r\n", "\r"] if line_end == "mixed" else [line_end]
    lines = [HEADER.strip(), *GOOD[:HURT], cells(close="ten"), *GOOD[HURT + 1 :]]
    text = "".join(line + ends[place % len(ends)] for place, line in enumerate(lines))
    (tmp_path / "A.csv").write_bytes((mark + text).encode())

    bars, findings = through_the_gates(tmp_path)

    assert len(bars) == len(SESSIONS) - 1
    assert [(each.rule, each.source_row) for each in findings] == [("unreadable_number", 5)]


def test_line_ends_that_two_reads_share_are_one_line_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "LONGEST_LINE_BYTES", 64)
    lines = [HEADER.strip(), *GOOD]
    for shift in range(64):
        text = "\r\n".join([lines[0] + ",x" + "x" * (shift % 20), *(f"{line}," for line in GOOD)])
        (tmp_path / "A.csv").write_bytes(text.encode())

        bars, findings = through_the_gates(tmp_path)

        assert (len(bars), findings) == (len(SESSIONS), [])
        assert bars.source_rows.tolist() == list(range(2, len(SESSIONS) + 2))


def write_parquet(path, **columns):
    days = pa.array(SESSIONS)
    prices = {name: np.full(len(SESSIONS), 10.0) for name in ("Open", "High", "Low", "Close")}
    parquet.write_table(pa.table({"Date": days} | prices | columns), path)


def truncated(path):
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("A.csv", lambda path: path.mkdir(), "a folder, not a file"),
        ("A.parquet", lambda path: path.mkdir(), "a folder, not a file"),
        ("A.csv", lambda path: path.symlink_to(path), "symbolic links"),
        ("A.parquet", lambda path: path.symlink_to(path), "symbolic links"),
        ("A.csv", lambda path: path.symlink_to("/nowhere"), "No such file"),
        ("A.csv", os.mkfifo, "a pipe or a device"),
        ("A.csv", lambda path: path.symlink_to("/dev/zero"), "a pipe or a device"),
        ("A.csv", lambda path: path.symlink_to("/proc/self/mem"), "error"),
        ("A.csv", lambda path: path.write_text(text_with("x" * 70_000)), "more than 65,536 bytes"),
        ("A.csv", lambda path: path.write_bytes(b"\x1f\x8b" + b"\0" * 50), r"packed \(gzip\)"),
        ("A.csv", lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 50), r"packed \(zip\)"),
        ("A.csv", lambda path: path.write_bytes(HEADER.encode("utf-16-le")), "not UTF-8|not text"),
        ("A.csv", lambda path: path.write_bytes(HEADER.encode("utf-16")), "not UTF-8"),
        ("A.csv", lambda path: path.write_bytes(text_with("\xe9").encode("latin-1")), "row 5"),
        ("A.csv", lambda path: path.write_bytes(os.urandom(5000) + b"\xff"), "A.csv"),
        ("A.csv", lambda path: path.write_text(text_with("", HEADER[:-1] + ",Close\n")), "two col"),
        ("A.csv", lambda path: path.write_text(text_with("", HEADER[:-1] + ",close\n")), "two col"),
        ("A.csv", lambda path: path.write_text("Date,Open\n2024-01-02,1\n"), "no column for high"),
        ("A.csv", lambda path: path.write_text("\n".join(GOOD)), "no column for date"),
        (
            "A.csv",
            lambda path: path.write_text(text_with("").replace(",", ";")),
            "separated by ';'; separate them by commas",
        ),
        ("A.csv", lambda path: path.write_text(text_with("").replace(",", "\t")), "separated by"),
        ("A.parquet", truncated, "not a Parquet file"),
        ("A.parquet", lambda path: path.write_text(text_with("")), "not a Parquet file"),
        ("A.parquet", lambda path: path.write_bytes(b"PAR1" * 3), "not a Parquet file"),
        (
            "A.parquet",
            lambda path: write_parquet(path, Close=pa.array([[1.0]] * len(SESSIONS))),
            "column 'Close'.*of type list<.*write it as numbers",
        ),
        (
            "A.parquet",
            lambda path: write_parquet(path, Close=pa.array([True] * len(SESSIONS))),
            "of type bool",
        ),
        (
            "A.parquet",
            lambda path: write_parquet(path, Close=pa.array([b"1"] * len(SESSIONS))),
            "of type binary",
        ),
        (
            "A.parquet",
            lambda path: write_parquet(path, Date=pa.array([45296.0] * len(SESSIONS))),
            "column 'Date'.*of type double.*dates or text",
        ),
        (
            "A.parquet",
            lambda path: write_parquet(path, Close=pa.array(SESSIONS)),
            "of type date32",
        ),
    ],
)
def test_a_hostile_file_is_refused_by_name_and_costs_itself_only(tmp_path, name, make, message):
    make(tmp_path / name)
    (tmp_path / "GOOD.csv").write_text(HEADER + "\n".join(GOOD))
    source = FileSource(tmp_path, INFO)

    assert [each.instrument_id for each in source.instruments()] == ["A.US", "GOOD.US"]
    with pytest.raises(FileError, match=message) as refused:
        source.read("A.US")

    assert refused.value.file.endswith(name)
    assert refused.value.remedy
    issue = as_issue(refused.value, "d", "A.US")
    assert issue.value.isprintable() and issue.message.isprintable()
    assert len(source.read("GOOD.US")) == len(SESSIONS)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int64(), 10.0),
        (pa.float32(), 10.0),
        (pa.decimal128(30, 2), 10.0),
        (pa.string(), 10.0),
        (pa.large_string(), 10.0),
        (pa.dictionary(pa.int8(), pa.string()), 10.0),
    ],
)
def test_numbers_of_any_type_are_numbers_in_parquet(tmp_path, kind, expected):
    texts = pa.array(["10"] * len(SESSIONS))
    is_text = pa.types.is_dictionary(kind) or "string" in str(kind)
    numbers = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts
    numbers = numbers.cast(kind) if is_text else texts.cast(pa.int64()).cast(kind, safe=False)
    write_parquet(tmp_path / "A.parquet", Close=numbers)

    bars, findings = through_the_gates(tmp_path)

    assert findings == []
    assert (bars.close == expected).all()


def test_a_volume_beyond_exact_numbers_is_rounded_and_not_refused(tmp_path):
    write_parquet(tmp_path / "A.parquet", Volume=pa.array([2**62 + 1] * len(SESSIONS)))

    bars, findings = through_the_gates(tmp_path)

    assert findings == []
    assert (bars.volume == 2.0**62).all()


@pytest.mark.parametrize(
    "symbol",
    [
        *("../../etc/passwd", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:x", "=1+1", "@x", "a b"),
        *("a;b", "A\x00B", "\u202eA", "x" * 41, "", "+A"),
    ],
)
def test_a_symbol_that_could_leave_its_folder_is_refused_with_its_row(tmp_path, symbol):
    path = tmp_path / "all.csv"
    rows = [f"GOOD,{row}" for row in GOOD]
    rows[HURT] = f'"{symbol}",{GOOD[HURT]}'
    path.write_text("Symbol," + HEADER + "\n".join(rows))
    source = FileSource(path, INFO)

    assert [each.instrument_id for each in source.instruments()] == ["GOOD.US"]
    (refused,) = source.refused()
    assert (refused.rule, refused.source_row, refused.source_column) == (
        UnsafeName.rule,
        5,
        "Symbol",
    )
    assert refused.value.isprintable() and refused.message.isprintable()
    assert len(source.read("GOOD.US")) == len(SESSIONS) - 1


def test_a_file_name_that_is_no_text_is_refused_in_words_that_can_be_stored(tmp_path):
    (tmp_path / "GOOD.csv").write_text(HEADER + "\n".join(GOOD))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv")).write_text(text_with(""))
    source = FileSource(tmp_path, INFO)

    assert [each.instrument_id for each in source.instruments()] == ["GOOD.US"]
    (refused,) = source.refused()
    for words in (refused.value, refused.message, refused.source_file):
        assert words.encode()


def test_a_long_or_unprintable_column_name_is_shortened_in_findings(tmp_path):
    header = HEADER.replace("Close", "Close\x07" + "!" * 1000)
    (tmp_path / "A.csv").write_text(text_with(cells(close="ten"), header))

    _, (finding,) = through_the_gates(tmp_path)

    assert finding.source_column.startswith("Close\\x07!")
    assert len(finding.source_column) <= 128


def test_a_header_that_repeats_unknown_columns_is_read(tmp_path):
    header = HEADER[:-1] + ",x,x\n"
    (tmp_path / "A.csv").write_text(header + "\n".join(f"{row},1,2" for row in GOOD))

    assert through_the_gates(tmp_path)[1] == []


@pytest.mark.parametrize("target", ["loop", "absent"])
def test_a_path_that_leads_nowhere_is_named(tmp_path, target):
    path = tmp_path / target
    if target == "loop":
        path.symlink_to(path)

    with pytest.raises(ConfigError, match=target):
        FileSource(path, INFO)


def test_a_line_of_two_gigabytes_is_refused_without_being_loaded(tmp_path):
    path = tmp_path / "A.csv"
    with path.open("wb") as file:
        file.write((HEADER + GOOD[0] + "\n").encode())
        file.truncate(2 * 2**30)
    source = FileSource(tmp_path, INFO)

    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="row 3: a line of more than 65,536 bytes"):
            source.read("A.US")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * 2**20


def test_a_long_line_is_refused_by_a_process_that_could_not_hold_it(tmp_path):
    with (tmp_path / "A.csv").open("wb") as file:
        file.truncate(2 * 2**30)
    code = f"""
import resource
from pathlib import Path
from tests.unit.adapters.test_hostile_files import INFO, FileError, FileSource
source = FileSource(Path({str(tmp_path)!r}), INFO)
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**29, held + 2**29))
try:
    source.read("A.US")
except FileError as refused:
    print(refused)
"""
    if not Path("/proc/self/statm").exists() or not hasattr(resource, "RLIMIT_AS"):
        pytest.skip("no address space to limit on this system")

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )

    assert "a line of more than 65,536 bytes" in done.stdout, done.stderr


def test_a_parquet_file_that_claims_too_many_rows_is_not_unpacked(tmp_path, monkeypatch):
    write_parquet(tmp_path / "A.parquet")
    monkeypatch.setattr(sheet, "MOST_ROWS", 5)

    with pytest.raises(FileError, match="claims 9 rows"):
        FileSource(tmp_path, INFO).read("A.US")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    (tmp_path / "A.csv").write_text(text_with(""))
    (tmp_path / "A.csv").chmod(0)

    with pytest.raises(FileError, match="Permission denied"):
        FileSource(tmp_path, INFO).read("A.US")
