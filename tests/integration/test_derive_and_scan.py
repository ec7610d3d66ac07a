"""From prices in files to derived tables and scanned universes, at the command line."""

import json
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MarketCalendar

pytestmark = pytest.mark.integration

SESSIONS = MarketCalendar.of("US_EQ").between(date(2018, 1, 2), date(2019, 6, 28))
SCANNER = """
scanner_id: RISING
filters:
  - {field: price, operator: ">=", value: 5}
  - {field: momentum, lookback: 63, operator: ">", value: 0}
sort: {field: momentum, lookback: 63}
"""


def _write_prices(folder, sessions):
    folder.mkdir(exist_ok=True)
    for name, drift in (("UP", 0.001), ("DOWN", -0.001), ("FLAT", 0.0)):
        closes = 40.0 * np.exp(drift * np.arange(sessions) + 0.01 * np.sin(np.arange(sessions)))
        lines = [
            f"{day},{close:.4f},{close * 1.01:.4f},{close * 0.99:.4f},{close:.4f},100000"
            for day, close in zip(SESSIONS[:sessions], closes, strict=True)
        ]
        head = "Date,Open,High,Low,Close,Volume"
        (folder / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")


@pytest.fixture
def dataset(prometheus, tmp_path):
    _write_prices(tmp_path / "prices", len(SESSIONS) - 2)
    assert prometheus("data", "ingest", "csv", tmp_path / "prices", "--dataset", "mine")[0] == 0
    return "mine"


def test_prices_become_rows_that_follow_new_prices(prometheus, dataset, tmp_path):
    first = prometheus("data", "derive", dataset, "--json")
    second = prometheus("data", "derive", dataset, "--json")
    _write_prices(tmp_path / "prices", len(SESSIONS))
    prometheus("data", "ingest", "csv", tmp_path / "prices", "--dataset", dataset)
    third = prometheus("data", "derive", dataset, "--json")

    rows = [
        {item["name"]: item["rows_written"] for item in json.loads(output)}
        for _, output, _ in (first, second, third)
    ]
    assert [each["returns"] for each in rows] == [3, 0, 6]
    assert set(rows[1].values()) == {0}
    code, shown, _ = prometheus("show", "returns", "--dataset", dataset, "--json")
    assert code == 0
    assert {row["trade_date"] for row in json.loads(shown)} == set(SESSIONS[-3:].astype(str))
    _, shown, _ = prometheus(
        *("show", "features", "--dataset", dataset, "--instrument-id", "UP.US", "--json")
    )
    newest = {row["feature"]: row["value"] for row in json.loads(shown)[:5]}
    assert newest["recommend_ma"] > 0.5


def test_what_cannot_be_shown_says_why(prometheus, dataset):
    prometheus("data", "derive", dataset)

    for arguments, problem in (
        (["returns"], "of which dataset? Name it with --dataset"),
        (["returns", "--dataset", dataset, "--as-of", "2018-02-01"], "rows are stored from 2019"),
        (["orders", "--dataset", dataset], "orders are of runs"),
        (["factors", "--dataset", dataset, "--instrument-id", "UP.US"], "not of one instrument"),
        (["returns", "--dataset", dataset, "--mode", "LIVE"], "choose by --dataset alone"),
        (["returns", "--dataset", "other"], "no dataset 'other'; known datasets: mine"),
    ):
        code, _, errors = prometheus("show", *arguments)
        assert code == 1
        assert problem in errors
    code, _, errors = prometheus("data", "derive", dataset, "--rows", "all", "--from", "2019-01-02")
    assert code == 1
    assert "leave one of them out" in errors


def test_a_scan_selects_as_of_a_day_and_an_empty_one_fails(prometheus, dataset, tmp_path):
    path = tmp_path / "rising.yaml"
    path.write_text(SCANNER)

    code, output, _ = prometheus(
        *("scan", path, "--dataset", dataset, "--as-of", "2019-06-03", "--json")
    )
    (found,) = json.loads(output)
    history = prometheus(
        *("scan", path, "--dataset", dataset, "--json", "--every", "quarter"),
        *("--start", "2018-06-01", "--end", "2019-06-30"),
    )
    path.write_text(SCANNER.replace("value: 5", "value: 5000"))
    empty, _, errors = prometheus("scan", path, "--dataset", dataset)

    assert code == 0
    assert found["instruments"][0]["instrument_id"] == "UP.US"
    assert "DOWN.US" not in {row["instrument_id"] for row in found["instruments"]}
    days = [item["as_of"] for item in json.loads(history[1])]
    assert days == ["2018-07-02", "2018-10-01", "2019-01-02", "2019-04-01"]
    assert empty == 1
    assert "none of 3 instruments is selected" in errors and "3 fail price >= 5000" in errors
