from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from adapters.instrument_file import read_instruments
from adapters.source import FileError
from prometheus_nt.domain.instruments import Listing, RecordedSpec, SymbolUse

NOW = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def read(tmp_path):
    def reading(text):
        path = tmp_path / "names.csv"
        path.write_text(text, encoding="utf-8")
        return read_instruments(path, now=NOW)

    return reading


def test_a_line_says_as_much_as_it_likes(read):
    found = read(
        "instrument_id,scheme,symbol,valid_from,valid_to,exchange,listed_on,delisted_on,reason,"
        "delisting_return,tick_size,lot_size,source,known_at\n"
        "META.US,exchange,FB,2012-05-18,2022-06-09,,,,,,,,,\n"
        "LEH.US,,,,,XNYS,1994-05-31,2008-09-18,bankruptcy,-0.95,,,court,2008-09-17T21:00Z\n"
        "VOD.LSE,,,,,,,,,,0.02,1,,\n"
    )

    assert found.symbols == [
        SymbolUse(
            "exchange", "FB", "META.US", date(2012, 5, 18), date(2022, 6, 9), "names.csv", NOW
        )
    ]
    told = datetime(2008, 9, 17, 21, tzinfo=UTC)
    assert found.listings == [
        Listing(
            *("LEH.US", "XNYS", date(1994, 5, 31), date(2008, 9, 18), "bankruptcy", -0.95),
            *("court", told),
        )
    ]
    assert found.specs == [RecordedSpec("VOD.LSE", Decimal("0.02"), 1, None, "names.csv", NOW)]


@pytest.mark.parametrize(
    ("header", "line", "complaint"),
    [
        ("instrument_id,symbl", "A.US,A", r"row 1, column 'symbl': unknown.*mean 'symbol'"),
        ("scheme,symbol", "yahoo,A", r"row 1, column 'instrument_id': no column"),
        ("instrument_id,scheme,symbol", "A.US,yaho,A", r"row 2, column 'scheme': unknown 'yaho'"),
        ("instrument_id,scheme,symbol", "A.US,yahoo,", r"column 'symbol': is empty; fill it in"),
        ("instrument_id,scheme,symbol", "A.US,ib_conid,x", r"'x' is not the broker's number"),
        ("instrument_id,tick_size", "A.US,nan", r"column 'tick_size': NaN is not above 0"),
        (
            "instrument_id,exchange,delisted_on,reason",
            "A.US,XNYS,2022-06-09,bankrupt, and more",
            r"row 2: more cells than the header has; put a text with a comma in quotes",
        ),
        (
            "instrument_id,exchange,delisted_on,reason",
            'A.US,XNYS,2022-06-09,"never closed',
            r"row 2: cannot be read as CSV: unexpected end of data; correct its quotes",
        ),
        (
            "instrument_id,scheme,symbol,valid_from",
            "A.US,yahoo,A,9 June",
            r"row 2, column 'valid_from': '9 June' is not a date like 2022-06-09",
        ),
        (
            "instrument_id,scheme,symbol,valid_from,valid_to",
            "A.US,yahoo,A,2022-06-09,2022-06-09",
            r"column 'valid_to': 2022-06-09 is not after 2022-06-09",
        ),
        (
            "instrument_id,exchange,delisting_return",
            "A.US,XNYS,-0.3",
            r"column 'delisted_on': is empty; a delisting return needs its day",
        ),
        (
            "instrument_id,exchange,delisted_on,delisting_return",
            "A.US,XNYS,2020-01-02,-30",
            r"column 'delisting_return': -30.0 is below -1",
        ),
        ("instrument_id,tick_size", "A.US,0", r"column 'tick_size': 0 is not above 0"),
        ("instrument_id,lot_size", "A.US,1.5", r"'1.5' is not a number of shares"),
        ("instrument_id,price_precision", "A.US,12", r"between 0 and 9 decimals"),
        (
            "instrument_id,lot_size,known_at",
            "A.US,1,2020-01-02",
            r"'2020-01-02' is not a time with an offset",
        ),
    ],
)
def test_a_fault_names_file_row_column_and_remedy(read, header, line, complaint):
    with pytest.raises(FileError, match=rf"names\.csv.*{complaint}"):
        read(f"{header}\n{line}\n")


def test_a_file_without_lines_or_absent_is_refused(read, tmp_path):
    with pytest.raises(FileError, match="has no line of data"):
        read("instrument_id,symbol\n")
    with pytest.raises(FileError, match=r"cannot be read.*check the path"):
        read_instruments(tmp_path / "absent.csv")
