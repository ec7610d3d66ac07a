"""Facts from a folder at the command line: brought in, and shown as they were known."""

import json

import pytest

pytestmark = pytest.mark.integration

PRICES = "Date,Open,High,Low,Close,Volume\n" + "".join(
    f"2012-03-{day:02d},10,11,9,10,1000\n" for day in (1, 2, 5, 6, 7, 8, 9)
)
STATEMENTS = """symbol,statement_type,frequency,period_end,known_at,revenue,net_income
AAA,IS,QUARTERLY,2011-12-31,2012-03-02,100,10
AAA,IS,QUARTERLY,2011-12-31,2012-03-07T15:00:00-05:00,90,9
AAA,IS,QUARTERLY,2011-09-30,never,1,1
"""
MEMBERSHIP = """index_id,symbol,start,end
IDX,AAA,2001-01-02,2012-03-06
IDX,GONE,2001-01-02,2005-01-03
"""
SECTORS = "symbol,sector,start\nAAA,Tech,2001-01-02\nAAA,Banks,2012-03-08\n"
NEWS = "published_at,symbols,headline\n2012-03-06T10:00:00-05:00,AAA,AAA grows\n"


@pytest.fixture
def filled(prometheus, tmp_path):
    """A dataset with a name, and its facts; and the document that the second command printed."""
    for folder in ("prices", "facts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "prices" / "AAA.csv").write_text(PRICES)
    files = {"statements": STATEMENTS, "membership": MEMBERSHIP, "sectors": SECTORS, "news": NEWS}
    for name, content in files.items():
        (tmp_path / "facts" / f"{name}.csv").write_text(content)
    prometheus("data", "ingest", "csv", tmp_path / "prices", "--dataset", "mine")
    facts = ("data", "ingest-reference", "csv", tmp_path / "facts", "--dataset", "mine", "--json")
    code, out, _ = prometheus(*facts)
    assert code == 0
    again = json.loads(prometheus(*facts)[1])
    return json.loads(out), again


def shown(prometheus, what, *arguments):
    code, out, _ = prometheus("show", what, "--dataset", "mine", "--json", *arguments)
    assert code == 0
    return json.loads(out)


def test_what_is_new_is_counted_what_is_bad_is_named_and_a_second_time_nothing_is_new(filled):
    first, again = filled

    assert first["written"] == {
        "statements": 2,
        "sectors": 2,
        "news": 2,
        "membership": 4,
        "holidays": 0,
        "ratios": 2,
    }
    assert set(again["written"].values()) == {0}
    (bad,) = [issue for issue in first["issues"] if issue["severity"] == "ERROR"]
    assert (
        "statements.csv, row 4, column 'known_at': 'never' is no time; write a day as"
        in bad["message"]
    )
    assert {issue["rule"] for issue in first["issues"]} == {"bad_cell", "unknown_symbols"}


def test_facts_are_shown_as_they_were_known(prometheus, filled):
    def revenue(as_of):
        rows = shown(prometheus, "statements", "--as-of", as_of)
        return [row["values"]["revenue"] for row in rows]

    assert revenue("2012-03-02") == []
    assert revenue("2012-03-05") == [100.0]
    # A Sunday knows what the Friday before did.
    assert revenue("2012-03-04") == []
    assert revenue("2012-03-07") == [90.0]
    assert [row["net_margin"] for row in shown(prometheus, "ratios")] == [0.1]
    assert shown(prometheus, "news", "--as-of", "2012-03-05") == []
    (article,) = shown(prometheus, "news", "--instrument", "AAA.US")
    assert article["headline"] == "AAA grows"


def test_members_and_sectors_are_shown_as_they_were_known(prometheus, filled):
    (member,) = shown(prometheus, "membership", "--as-of", "2012-03-05")
    assert (member["instrument_id"], member["end_date"]) == ("AAA.US", None)
    assert shown(prometheus, "membership", "--as-of", "2012-03-06") == []
    (gone,) = shown(prometheus, "membership", "--as-of", "2004-12-31", "--instrument", "GONE.US")
    assert gone["start_date"] == "2001-01-02"
    before = shown(prometheus, "sectors", "--as-of", "2012-03-07", "--instrument", "AAA.US")
    assert [row["sector"] for row in before] == ["Tech"]
    assert [row["sector"] for row in shown(prometheus, "sectors")] == ["Tech", "Banks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "statements"), "show statements: of which dataset? add --dataset"),
        (("show", "orders", "--dataset", "mine"), "of runs; with it, show one of: statements"),
        (("show", "news", "--dataset", "nope"), "no dataset 'nope'; known datasets: mine"),
        (("show", "news", "--dataset", "mine", "--instrument", "B"), "'mine' has no 'B'"),
        (
            ("data", "ingest-reference", "xml", ".", "--dataset", "mine"),
            "unknown source of facts 'xml'; known sources: csv, parquet",
        ),
        (("data", "ingest-reference", "csv", ".", "--dataset", "no"), "no dataset 'no'"),
        (("data", "ingest-reference", "csv", "no", "--dataset", "mine"), "no such folder"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_remedy(prometheus, filled, arguments, message):
    code, _, errors = prometheus(*arguments)

    assert code == 1
    assert message in errors


def test_membership_of_no_index_is_refused_before_the_run(prometheus, filled):
    node = ("backtest", "configs/us_core_long_eq.yaml", "--start", "2012-03-01")
    settings = ("data.dataset=mine", "data.benchmark=null", "data.index=null")
    settings += ("engines.universe.require_membership=true",)
    assign = [part for setting in settings for part in ("--set", setting)]

    code, _, errors = prometheus(*node, *assign)

    assert code == 1
    assert "require_membership: of which index? set data.index" in errors

    code, _, errors = prometheus(*node, *assign, "--set", "data.index=SP500")

    assert code == 1
    assert "keeps no members of 'SP500'; it keeps: IDX" in errors
