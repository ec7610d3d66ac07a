"""`prometheus markets`, `instruments` and `data export`, as a person types them."""

import json

import pytest

pytestmark = pytest.mark.integration

NAMES = """instrument_id,scheme,symbol,valid_from,valid_to,exchange,listed_on,tick_size
FB.US,exchange,FB,2012-05-18,2022-06-09,,,
FB.US,exchange,META,2022-06-09,,,,
FB.US,ib_conid,107113386,,,,,
FB.US,,,,,XNAS,2012-05-18,0.01
"""


def test_markets_shows_every_market_at_an_instant(prometheus):
    code, shown, _ = prometheus("markets", "--at", "2024-11-29T18:30:00Z", "--json")

    us, _, asia = json.loads(shown)
    assert code == 0
    assert (us["state"], us["half_day"], us["next_in"]) == ("POST_CLOSE", True, "1h 30m")
    assert us["local_time"] == "2024-11-29T13:30:00-05:00"
    assert (asia["state"], asia["session"]) == ("HOLIDAY", None)
    assert "POST_CLOSE" in prometheus("markets", "--at", "2024-11-29T18:30:00Z")[1]


@pytest.mark.parametrize(
    ("at", "complaint"),
    [
        ("2024-11-29T18:30:00", "a time without a time zone"),
        ("yesterday", "'yesterday' is no time; write it as 2024-03-28T15:00:00Z"),
        ("1970-01-01T00:00Z", "calendar covers 1980-01-01 to"),
    ],
)
def test_markets_refuses_an_unusable_time(prometheus, at, complaint):
    code, _, errors = prometheus("markets", "--at", at)

    assert code == 1
    assert complaint in errors and "Traceback" not in errors


def test_names_are_imported_once_and_looked_up_by_day(prometheus, tmp_path):
    prometheus("data", "ingest", "sample")
    (tmp_path / "names.csv").write_text(NAMES)

    first = json.loads(prometheus("instruments", "import", tmp_path / "names.csv", "--json")[1])
    again = json.loads(prometheus("instruments", "import", tmp_path / "names.csv", "--json")[1])
    shown = prometheus("instruments", "show", "META", "--as-of", "2023-01-03", "--json")[1]
    code, _, errors = prometheus(
        *("instruments", "show", "FB", "--as-of", "2023-01-03", "--scheme", "exchange")
    )

    assert (first["symbols"], first["listings"], first["specs"]) == (3, 1, 1)
    assert (first["changed"], again["changed"]) == (5, 0)
    found = json.loads(shown)
    assert (found["instrument_id"], found["names"]["exchange"]) == ("FB.US", "META")
    assert found["contract"]["primary_exchange"] == "NASDAQ"
    assert found["contract"]["con_id"] == 107113386
    assert found["trading"]["source"] == "names.csv"
    assert code == 1
    assert "FB (exchange) is FB.US from 2012-05-18 until 2022-06-09" in errors


def test_the_metadata_of_a_dataset_are_listed_and_gaps_fail(prometheus, tmp_path):
    (tmp_path / "prices").mkdir()
    bars = "".join(f"2024-03-{day:02d},10,11,9,10,1000\n" for day in (4, 5, 6, 7, 8))
    (tmp_path / "prices" / "VOD.csv").write_text("Date,Open,High,Low,Close,Volume\n" + bars)
    common = ("data", "ingest", "csv", tmp_path / "prices", "--dataset", "london")
    prometheus(*common, "--market", "EU_EQ")
    prometheus("data", "ingest", "sample")

    whole = prometheus("instruments", "check", "sample_sp500", "--json")
    code, shown, errors = prometheus("instruments", "check", "london", "--json")
    (tmp_path / "ticks.csv").write_text("instrument_id,tick_size\nVOD.LSE,0.02\n")
    prometheus("instruments", "import", tmp_path / "ticks.csv")
    mended = prometheus("instruments", "check", "london", "--json")

    assert whole[0] == 0 and len(json.loads(whole[1])) == 20
    assert code == 1
    assert json.loads(shown)[0]["missing"] == "tick_size, price_precision"
    assert "1 of 1 instruments lack what trading needs" in errors
    assert mended[0] == 0
    assert json.loads(mended[1])[0]["lot_size"] == 1


def test_a_dataset_is_exported_and_a_foreign_folder_refused(prometheus, tmp_path):
    prometheus("data", "ingest", "sample")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    chosen = ("--symbols", "AAPL,MSFT", "--from", "2005-01-01", "--until", "2005-12-31", "--json")

    code, shown, _ = prometheus(
        *("data", "export", "sample_ohlcv", tmp_path / "out", "--to", "nautilus", *chosen)
    )
    refused, _, errors = prometheus("data", "export", "sample_ohlcv", tmp_path / "mine")

    report = json.loads(shown)
    assert code == 0
    assert (report["instruments"], report["bars"]) == (2, 504)
    assert (report["first"], report["last"]) == ("2005-01-03", "2005-12-30")
    assert refused == 1 and "choose an empty or a new folder" in errors
