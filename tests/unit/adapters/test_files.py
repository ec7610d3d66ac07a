from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.files import FileOptions, FileSource, restore_as_traded
from adapters.inference import DividendBasis
from adapters.source import (
    ActionType,
    Adjustment,
    DatasetInfo,
    EmptyFile,
    FileError,
    MissingColumns,
    WrongEncoding,
)
from prometheus_nt.domain.errors import ConfigError, DataError

INFO = DatasetInfo("d", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")
YAHOO = "Date,Open,High,Low,Close,Adj Close,Volume\n"
GOOD = YAHOO + "2024-01-02,10,11,9,10.5,10.4,1000\n2024-01-03,10.5,12,10,11.5,11.4,2000\n"


@pytest.fixture
def read(tmp_path):
    def load(text, name="AAPL.csv", **options):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(content)
        source = FileSource(tmp_path, INFO, FileOptions(**options))
        return source.read(source.instruments()[0].instrument_id)

    return load


def faults(table):
    return [(i.rule, i.source_row, i.source_column, i.value) for i in table.issues]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(YAHOO, "date,open,high,low,close,adjusted_close,volume\n"),
        GOOD.replace(YAHOO, "DATE, OPEN ,HIGH,LOW,CLOSE,ADJ_CLOSE,VOL\n"),
        GOOD.replace("2024-01-02", "2024-01-02 00:00:00-05:00").replace("2024-01-03", "20240103"),
        GOOD.replace("2024", '"2024').replace("-02,", '-02",').replace("-03,", '-03",'),
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
        "AAPL.US,D,20240102,000000,10,11,9,10.5,1000,0\n"
        "AAPL.US,D,20240103,000000,10.5,12,10,11.5,2000,0\n",
    ],
    ids=["yahoo", "bom", "crlf", "eodhd", "shouting", "times", "quoted", "stooq"],
)
def test_the_spellings_of_the_vendors_are_known(read, text):
    table = read(text)

    assert table.instrument_id == "AAPL.US"
    assert table.dates.tolist() == [date(2024, 1, 2), date(2024, 1, 3)]
    assert table.open.tolist() == [10.0, 10.5]
    assert table.close.tolist() == [10.5, 11.5]
    assert table.volume.tolist() == [1000.0, 2000.0]
    assert table.source_rows.tolist() == [2, 3]
    assert table.issues == ()


def test_columns_that_are_absent_are_unknown(read):
    table = read("Date,Open,High,Low,Close\n2024-01-02,1,1,1,1\n")

    assert np.isnan(table.adjusted_close).all()
    assert np.isnan(table.volume).all()


def test_a_bad_cell_costs_its_row_and_names_row_and_column(read):
    text = (
        YAHOO
        + "2024-01-02,10,11,9,10.5,10.4,1000\n"
        + "\n"
        + "2024-01-03,10,11,9,ten,10.4,1000\n"
        + "2024-01-04,10,11\n"
        + '2024-01-05,"1,000",11,9,10.5,10.4,x\n'
        + "2024-02-30,10,11,9,10.5,10.4,1000\n"
        + "01/08/2024,10,11,9,10.5,10.4,1000\n"
        + "2024-01-09,10,11,9,10.5,10.4,1000\n"
    )

    table = read(text)

    assert table.dates.tolist() == [date(2024, 1, 2), date(2024, 1, 9)]
    assert table.source_rows.tolist() == [2, 9]
    assert sorted(faults(table), key=lambda fault: fault[1]) == [
        ("unreadable_number", 4, "Close", "ten"),
        ("malformed_row", 5, None, "2024-01-04,10,11"),
        ("unreadable_number", 6, "Open", "1,000"),
        ("unreadable_number", 6, "Volume", "x"),
        ("unreadable_date", 7, "Date", "2024-02-30"),
        ("unreadable_date", 8, "Date", "01/08/2024"),
    ]
    for issue in table.issues:
        assert "AAPL.csv" in issue.message
        assert f"row {issue.source_row}" in issue.message
        assert "; " in issue.message


@pytest.mark.parametrize("unknown", ["", "null", "NaN", "N/A", "-", "  "])
def test_an_unknown_price_is_nan(read, unknown):
    table = read(f"{YAHOO}2024-01-02,{unknown},11,9,10.5,10.4,1000\n")

    assert np.isnan(table.open[0])
    assert table.issues == ()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("", EmptyFile, "the file is empty; download"),
        ("\n \n", EmptyFile, "the file is empty"),
        (YAHOO, EmptyFile, "a header and no rows"),
        (YAHOO + "1,2\n", EmptyFile, "as many cells as the header"),
        ("Date,Open,High,Close\n2024-01-02,1,1,1\n", MissingColumns, "no column for low"),
        ("a,b\n1,2\n", MissingColumns, "found none that is known"),
        ("Date,Open,High,Low,Close,close\n2024-01-02,1,1,1,1,1\n", MissingColumns, "two columns"),
        (GOOD.encode("utf-16"), WrongEncoding, "row 1.*not UTF-8; save the file as UTF-8"),
        (GOOD.encode() + b"2024-01-04,1,\xa3,1,1,1,1\n", WrongEncoding, "row 4, column 'High'"),
        (b"\x00\x01\x02", FileError, "AAPL.csv"),
    ],
)
def test_a_file_that_cannot_be_used_names_itself_and_the_remedy(read, content, error, message):
    with pytest.raises(error, match=message) as raised:
        read(content)

    assert raised.value.file.endswith("AAPL.csv")
    assert raised.value.remedy


@pytest.mark.parametrize("name", [".hidden.csv", "a b.csv", "a$.csv", "x" * 41 + ".csv"])
def test_a_file_whose_name_is_no_symbol_is_refused(tmp_path, name):
    (tmp_path / name).write_text(GOOD)
    (tmp_path / "GOOD.csv").write_text(GOOD)

    source = FileSource(tmp_path, INFO)

    assert [i.instrument_id for i in source.instruments()] == ["GOOD.US"]
    (refused,) = source.refused()
    assert (refused.rule, name in str(refused.source_file)) == ("unsafe_symbol", True)


def test_two_files_of_one_symbol_are_not_mixed(tmp_path):
    (tmp_path / "AAPL.csv").write_text(GOOD)
    (tmp_path / "aapl.us.txt").write_text(GOOD)

    source = FileSource(tmp_path, INFO)

    assert len(source.instruments()) == 1
    assert "the same symbol" in source.refused()[0].message


def test_other_files_are_ignored(tmp_path):
    (tmp_path / "AAPL.csv").write_text(GOOD)
    (tmp_path / "README.md").write_text("notes")

    assert [i.symbol for i in FileSource(tmp_path, INFO).instruments()] == ["AAPL"]


def test_a_symbol_with_a_suffix_keeps_it(tmp_path):
    (tmp_path / "spx.indx.csv").write_text(GOOD)

    assert FileSource(tmp_path, INFO).instruments()[0].instrument_id == "SPX.INDX"


def test_one_long_file_holds_many_symbols(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        "Ticker,Date,Open,High,Low,Close\n"
        "MSFT,2024-01-02,1,1,1,1\n"
        "AAPL,2024-01-02,2,2,2,2\n"
        "../etc,2024-01-02,2,2,2,2\n"
        "MSFT,2024-01-03,3,3,3,bad\n"
        "AAPL,2024-01-03\n"
        "MSFT,2024-01-04,4,4,4,4\n"
        "NA,2024-01-04,4,4,4,4\n"
    )

    source = FileSource(path, INFO)

    assert [i.instrument_id for i in source.instruments()] == ["AAPL.US", "MSFT.US", "NA.US"]
    assert source.read("MSFT.US").close.tolist() == [1.0, 4.0]
    assert source.read("MSFT.US").source_rows.tolist() == [2, 7]
    assert faults(source.read("MSFT.US")) == [("unreadable_number", 5, "Close", "bad")]
    assert [(i.rule, i.source_row) for i in source.refused()] == [
        ("unsafe_symbol", 4),
        ("malformed_row", 6),
    ]


def test_a_file_of_several_symbols_in_a_folder_is_refused(read):
    with pytest.raises(FileError, match="2 symbols in a file that should hold one"):
        read("Symbol,Date,Open,High,Low,Close\nA,2024-01-02,1,1,1,1\nB,2024-01-02,1,1,1,1\n")


def test_parquet_is_read_typed_or_as_text(tmp_path):
    days = [date(2024, 1, 2), date(2024, 1, 3)]
    prices = {name: [1.5, 2.5] for name in ("Open", "High", "Low", "Close")}
    volume = {"Volume": [100, None]}
    parquet.write_table(pa.table({"Date": days} | prices | volume), tmp_path / "A.parquet")
    stamps = [datetime(2024, 1, 2), datetime(2024, 1, 3)]  # noqa: DTZ001
    parquet.write_table(pa.table({"Date": stamps} | prices), tmp_path / "B.parquet")
    texts = [str(day) for day in days]
    parquet.write_table(pa.table({"Date": texts} | prices), tmp_path / "C.parquet")

    source = FileSource(tmp_path, INFO)

    for name in ("A.US", "B.US", "C.US"):
        assert source.read(name).dates.tolist() == days
        assert source.read(name).close.tolist() == [1.5, 2.5]
    assert source.read("A.US").volume.tolist()[0] == 100.0
    assert np.isnan(source.read("A.US").volume[1])


def test_a_broken_parquet_file_names_itself(read):
    with pytest.raises(FileError, match=r"AAPL\.parquet: not a Parquet file"):
        read("nonsense", name="AAPL.parquet")


def test_listed_splits_and_dividends_become_actions(tmp_path):
    header = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    (tmp_path / "AAPL.csv").write_text(
        header + "2024-01-02,4,4,4,4,10,0.0,0.0\n2024-01-03,2,2,2,2,10,0.25,2.0\n"
    )

    actions = FileSource(tmp_path, INFO).actions("AAPL.US")

    day = date(2024, 1, 3)
    assert [(a.ex_date, a.action_type, a.value) for a in actions] == [
        (day, ActionType.DIVIDEND, 0.25),
        (day, ActionType.SPLIT, 2.0),
    ]


def test_split_adjusted_prices_are_put_back_to_what_was_traded(read):
    header = "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
    text = (
        header
        + "2024-01-02,10,10,10,10,600,0.1,0\n"
        + "2024-01-03,11,11,11,11,300,0,3\n"
        + "2024-01-04,12,12,12,12,100,0.2,2\n"
    )

    table = read(text, split_adjusted=True)

    assert table.close.tolist() == [60.0, 22.0, 12.0]
    assert table.volume.tolist() == [100.0, 150.0, 100.0]


def test_restored_dividends_are_per_share_of_their_day(read):
    table = read(GOOD)
    extra = {"split": np.array([0.0, 4.0]), "dividend": np.array([0.5, 0.25])}

    _, restored = restore_as_traded(table, extra)

    assert restored["dividend"].tolist() == [2.0, 0.25]


def test_actions_are_inferred_from_the_adjusted_close_on_request(tmp_path):
    (tmp_path / "AAPL.csv").write_text(
        YAHOO
        + "2024-01-02,100,100,100,100,49.5,10\n"
        + "2024-01-03,50,50,50,50,49.5,10\n"
        + "2024-01-04,50,50,50,50,50,10\n"
    )

    plain = FileSource(tmp_path, INFO)
    inferring = FileSource(tmp_path, INFO, FileOptions(infer=DividendBasis.PRIOR_CLOSE))

    assert plain.actions("AAPL.US") == []
    assert [(a.ex_date.day, a.action_type) for a in inferring.actions("AAPL.US")] == [
        (3, ActionType.SPLIT),
        (4, ActionType.DIVIDEND),
    ]


def test_reading_again_sees_a_changed_file(tmp_path):
    path = tmp_path / "AAPL.csv"
    path.write_text(GOOD)
    source = FileSource(tmp_path, INFO)
    first = source.read("AAPL.US")

    path.write_text(GOOD.replace("10.5", "10.6"))

    assert (first.close[0], source.read("AAPL.US").close[0]) == (10.5, 10.6)


def test_an_absent_path_and_an_unknown_symbol_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file or folder"):
        FileSource(tmp_path / "absent", INFO)
    with pytest.raises(DataError, match=r"no 'XYZ\.US'"):
        FileSource(tmp_path, INFO).read("XYZ.US")


@pytest.mark.parametrize("spoiled", ["x", " 10.5 ", "nan", "", "N/A", "1e3", "-0.0"])
def test_a_file_reads_the_same_whether_or_not_it_is_clean(read, spoiled):
    rows = "".join(f"2024-01-{day:02d},10,11,9,10.5,10.4,1000\n" for day in (2, 3, 4))
    odd = f"2024-01-05,10,11,9,10.5,10.4,{spoiled}\n"

    # The last line of the second makes every cell of it be read as text first.
    one = read(YAHOO + rows + odd)
    other = read(YAHOO + rows + odd + "2024-01-08,10,11,9,10.5,10.4,ten\n")

    assert one.dates.tolist() == other.dates.tolist()
    assert one.source_rows.tolist() == other.source_rows.tolist()
    for name in ("open", "high", "low", "close", "adjusted_close", "volume"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert faults(one) == faults(other)[:-1]
