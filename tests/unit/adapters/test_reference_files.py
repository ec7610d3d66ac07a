from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.reference import Frequency, StatementType
from adapters.reference_files import ReferenceFiles
from prometheus_nt.domain.errors import ConfigError

ISSUERS = {"A.US": "A", "B.US": "B Corp"}


def source(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return ReferenceFiles(folder, "demo", "US_EQ", ISSUERS)


def messages(folder, **files):
    return [issue.message for issue in source(folder, **files).refused()]


STATEMENTS = """Symbol,Statement Type,Frequency,Period_End,Report Date,Revenue,Net Income,Capex
a,is,quarterly,2023-12-31,2024-02-01,100,-5.5,
B.US,BS,A,20231231,2024-02-01T16:30:00-05:00,,,7
"""


def test_statements_keep_every_figure_by_its_name(tmp_path):
    files = source(tmp_path, statements=STATEMENTS)

    (income,) = files.statements("A.US")
    assert (income.issuer_id, income.statement_type) == ("A", StatementType.IS)
    assert (income.frequency, income.period_end) == (Frequency.QUARTERLY, date(2023, 12, 31))
    assert income.values == {"revenue": 100.0, "net_income": -5.5}
    assert (income.currency, income.source) == ("USD", "statements.csv")
    (balance,) = files.statements("B.US")
    assert (balance.issuer_id, balance.frequency) == ("B Corp", Frequency.ANNUAL)
    assert balance.values == {"Capex": 7.0}
    assert files.statements("Z.US") == []
    assert files.refused() == []


def test_a_day_is_known_at_its_end_in_new_york_and_an_instant_when_it_was(tmp_path):
    files = source(tmp_path, statements=STATEMENTS)

    (income,), (balance,) = files.statements("A.US"), files.statements("B.US")

    last = datetime(2024, 2, 2, 4, 59, 59, 999999, tzinfo=UTC)
    assert income.known_at.astimezone(UTC) == last
    assert balance.known_at.astimezone(UTC) == datetime(2024, 2, 1, 21, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("A,IS,Q,soon,2024-02-01,1", "column 'period_end': 'soon' is no day; write it as"),
        ("A,IS,Q,,2024-02-01,1", "column 'period_end': the cell is empty; fill it in"),
        ("A,IS,Q,2023-12-31,,1", "'known_at': the cell is empty, and so is report_date"),
        ("A,IS,Q,2023-12-31,2024-02-01T16:30,1", "'2024-02-01T16:30' has no time zone; add its"),
        ("A,IS,Q,2023-12-31,yesterday noon,1", "'yesterday noon' is no time; write a day as"),
        ("A,IS,Q,2023-12-31,2023-12-01,1", "is before the period ended, 2023-12-31"),
        ("A,PL,Q,2023-12-31,2024-02-01,1", "'PL' is unknown; write one of IS, BS, CF"),
        ("A,IS,weekly,2023-12-31,2024-02-01,1", "'weekly' is unknown; write one of QUARTERLY"),
        ("A,IS,Q,2023-12-31,2024-02-01,1_0", "column 'revenue': '1_0' is no number"),
        ("A,IS,Q,2023-12-31,2024-02-01,inf", "column 'revenue': 'inf' is no number"),
        (",IS,Q,2023-12-31,2024-02-01,1", "column 'symbol': the cell is empty"),
        ("A,IS,Q,2023-12-31", "has not as many cells as the header; correct the row"),
        ("A,IS,Q,2023-09-30,2024-01-05,9", "contradicts row 2, which is about the same thing"),
    ],
)
def test_a_bad_row_is_named_by_place_value_and_remedy_and_costs_itself_only(tmp_path, row, message):
    header = "symbol,statement_type,frequency,period_end,known_at,revenue"
    good = "A,IS,Q,2023-09-30,2024-01-05,5"
    files = source(tmp_path, statements=f"{header}\n{good}\n{row}\n")

    (issue,) = files.refused()

    assert message in issue.message
    assert f"{tmp_path / 'statements.csv'}, row 3" in issue.message
    assert issue.source_row == 3
    assert [one.values for one in files.statements("A.US")] == [{"revenue": 5.0}]


def test_an_identical_row_is_one_fact(tmp_path):
    row = "A,IS,Q,2023-12-31,2024-02-01,1\n"
    header = "symbol,statement_type,frequency,period_end,known_at,revenue\n"
    files = source(tmp_path, statements=header + row + row)

    assert len(files.statements("A.US")) == 1
    assert files.refused() == []


def test_the_end_of_a_stay_is_not_known_at_its_start(tmp_path):
    text = "index,ticker,start,end,known_at\nIDX,A,2020-01-02,2022-05-02,\nIDX,DEAD,,2021-01-04,"
    files = source(tmp_path, membership=text + "2019-12-31\nOLD,B,2020-01-02,,\n")

    opened, closed, dead = files.memberships("IDX")

    assert (opened.end, opened.known_at.date()) == (None, date(2020, 1, 2))
    assert (closed.end, closed.known_at.date()) == (date(2022, 5, 2), date(2022, 5, 2))
    assert (dead.instrument_id, dead.start, dead.end) == ("DEAD.US", None, date(2021, 1, 4))
    assert files.index_ids == ("IDX", "OLD")
    (issue,) = files.refused()
    assert "1 symbols have no prices in demo: DEAD.US; they were kept" in issue.message


def test_sectors_news_and_holidays_are_read(tmp_path):
    files = source(
        tmp_path,
        sectors="symbol,sector,start\nA,Tech,2020-01-02\nB,Oil,\n",
        news="published_at,symbols,source,headline,body\n"
        '2024-01-05T09:00:00Z,A;B ZZZ,wire,"One, two",text\n2024-01-06,ZZZ,wire,nobody,\n',
        holidays="date,name\n2024-07-04,Independence Day\n",
    )

    (assigned,) = files.sectors("A.US")
    assert (assigned.sector, assigned.start) == ("Tech", date(2020, 1, 2))
    assert files.sectors("B.US") == []
    (article,) = files.news("B.US", date(2024, 1, 5), date(2024, 1, 5))
    assert (article.headline, article.instrument_ids) == ("One, two", ("A.US", "B.US"))
    assert files.news("B.US", date(2024, 1, 6), date(2024, 1, 9)) == []
    assert [holiday.day for holiday in files.holidays("US_EQ")] == [date(2024, 7, 4)]
    assert files.holidays("EU_EQ") == []
    without_start, stranger = files.refused()
    assert "say from when it holds (start), or when it was known" in without_start.message
    assert "1 symbols have no prices in demo: ZZZ.US; they were left out" in stranger.message


def test_parquet_keeps_its_types(tmp_path):
    table = pa.table(
        {
            "symbol": ["A"],
            "statement_type": ["IS"],
            "frequency": ["ANNUAL"],
            "period_end": [date(2023, 12, 31)],
            "known_at": pa.array([datetime(2024, 2, 1, 12, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "revenue": [12.5],
        }
    )
    parquet.write_table(table, tmp_path / "statements.parquet")

    (one,) = source(tmp_path).statements("A.US")

    assert one.known_at == datetime(2024, 2, 1, 12, tzinfo=UTC)
    assert one.values == {"revenue": 12.5}


def test_files_that_cannot_be_used_are_named(tmp_path):
    assert "no column for symbol; found index" in messages(tmp_path, membership="index\nIDX\n")[0]
    (tmp_path / "membership.parquet").write_bytes(b"noise")
    assert "membership.csv holds membership too; remove one" in messages(tmp_path)[0]
    (tmp_path / "membership.parquet").unlink()
    (tmp_path / "membership.csv").unlink()

    found = messages(tmp_path, statment="x\n1\n", news="published_at,symbols,headline\n")

    assert "statment.csv: the name says no kind of fact; did you mean statements?" in found[0]
    assert "a header and no rows" in found[1]


def test_a_folder_of_nothing_known_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no file of a known name; expected any of statements"):
        source(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        source(tmp_path / "missing")
