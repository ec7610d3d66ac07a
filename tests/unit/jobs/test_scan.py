"""Scanner files and their layers; scans as of a session, recorded once or not at all."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa

from persistence.tables.runtime import universe_members
from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    EmptyScan,
    LookAheadError,
    NonSession,
)
from prometheus_nt.jobs.scan import ScanRequest, listing, load_scanner, scan

PRICE = "{field: price, operator: '>=', value: 1}"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes scanner files; the last one's path."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / f"{name}.yaml"
            path.write_text(text)
        return path

    return write


@pytest.fixture
def liquid(written):
    return load_scanner(
        written(
            liquid=f"scanner_id: LIQUID\nlogic: volume\nfilters: [{PRICE}]\n"
            "sort: {field: dollar_volume}\nlimit: 2\n"
        )
    )


def rows_of(stores):
    columns = universe_members.c
    query = sa.select(universe_members).order_by(columns.run_id, columns.entity_id)
    with stores.runtime.database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_layers_add_filters_and_set_the_rest(written):
    path = written(
        bottom=f"max_gap: 3\nlimit: 50\nsort: {{field: history}}\nfilters: [{PRICE}]\n",
        middle="base: [bottom.yaml]\nfilters: [{field: adx, operator: '>', value: 20}]\n",
        top="scanner_id: TOP\nbase: [bottom.yaml, middle.yaml]\nlimit: 5\n",
    )

    scanner = load_scanner(path)

    assert [item.name for item in scanner.filters] == ["price >= 1", "adx > 20"]
    assert (scanner.max_gap, scanner.limit, scanner.sort.field) == (3, 5, "history")


def test_files_that_include_each_other_are_named(written):
    path = written(one="base: [two.yaml]\n", two="base: [three.yaml]\n", three="base: [one.yaml]\n")

    with pytest.raises(ConfigError, match=r"three.yaml -> one.yaml -> two.yaml -> three.yaml"):
        load_scanner(path)


def test_a_mistake_names_its_file_and_the_remedy(written, tmp_path):
    good = f"scanner_id: X\nfilters: [{PRICE}]\n"

    with pytest.raises(ConfigError, match=r"a.yaml: sorted: unknown field; did you mean 'sort'"):
        load_scanner(written(a=good + "sorted: 1\n"))
    with pytest.raises(ConfigError, match=r"b.yaml: filters.0.field: .*did you mean 'momentum'"):
        written(b="filters: [{field: momentun, operator: '>', value: 1}]\n")
        load_scanner(written(c=good + "base: [b.yaml]\n"))
    with pytest.raises(ConfigError, match=r"d.yaml: filters.0.valu: unknown field; did you mean"):
        load_scanner(written(d="filters: [{field: price, operator: '>', valu: 1}]\n"))
    with pytest.raises(ConfigError, match=r"e.yaml: scanner_id: required"):
        load_scanner(written(e=f"filters: [{PRICE}]\n"))
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read"):
        load_scanner(written(f=good + "base: [absent.yaml]\n"))
    with pytest.raises(ConfigError, match=r"names.txt cannot be read"):
        load_scanner(written(g="filters: [{field: symbol, operator: in, file: names.txt}]\n"))


def test_names_may_stand_in_a_file(written, tmp_path, market_stores):
    (tmp_path / "names.txt").write_text("A\nC\n")
    path = written(
        mine="scanner_id: MINE\nfilters: [{field: symbol, operator: in, file: names.txt}]\n"
    )

    (found,) = scan(market_stores, load_scanner(path), ScanRequest("data"))

    assert [row[2] for row in listing([found], load_scanner(path))[1]] == ["A.US", "C.US"]


@pytest.mark.parametrize("name", ["us_liquid", "us_trend", "us_calm"])
def test_the_scanners_that_come_along_can_be_read(name):
    from pathlib import Path

    scanner = load_scanner(Path("configs/scanners") / f"{name}.yaml")

    assert scanner.scanner_id == name.upper()
    assert [item.field for item in scanner.filters[:3]] == ["price", "history", "dollar_volume"]


def test_every_candidate_is_recorded_with_what_it_fails(market_stores, written):
    scanner = load_scanner(
        written(
            x=f"scanner_id: X\nlogic: trend\nfilters: [{PRICE}, "
            "{field: sector, operator: in, value: [X, Y]}]\n"
            "sort: {field: dollar_volume}\nlimit: 2\n"
        )
    )

    (found,) = scan(market_stores, scanner, ScanRequest("data", date(2020, 6, 30)))

    rows = {row["entity_id"]: row for row in rows_of(market_stores)}
    assert len(rows) == found.rows_written == 5
    assert found.run_id.startswith("scan-X-2020-06-30-")
    assert {row["run_id"] for row in rows.values()} == {found.run_id}
    head = ("universe_id", "strategy_id", "mode", "entity_type", "as_of_date")
    assert [rows["D.US"][name] for name in head] == [
        *("X", "X", "BACKTEST", "INSTRUMENT"),
        date(2020, 6, 30),
    ]
    assert [name for name, row in rows.items() if row["included"]] == ["C.US", "D.US"]
    assert rows["D.US"]["reasons"] == {"direction": "LONG", "logic": "trend"}
    assert rows["D.US"]["tier"] == "CORE" and rows["D.US"]["score"] > rows["C.US"]["score"] > 0
    assert rows["B.US"]["reasons"]["failed"] == [{"filter": "limit 2", "value": 3}]
    assert rows["E.US"]["reasons"]["failed"] == [{"filter": "sector in X, Y", "value": None}]
    assert rows["E.US"]["score"] is None and rows["E.US"]["tier"] == "EXCLUDED"


def test_a_history_that_is_too_short_is_recorded_as_a_number_of_bars(
    market_stores, written, serve, small_market
):
    panel = small_market()
    close = panel.close.copy()
    close[:300, 0] = np.nan
    serve(replace(panel, close=close, _wall=None))
    scanner = load_scanner(
        written(x="scanner_id: X\nfilters: [{field: history, operator: '>=', value: 252}]\n")
    )

    (found,) = scan(market_stores, scanner, ScanRequest("data", date(2020, 6, 30)))

    bars = found.scan.values[1].tolist()
    failed = {row["entity_id"]: row["reasons"].get("failed") for row in rows_of(market_stores)}
    assert failed.pop("A.US") == [{"filter": "history >= 252", "value": bars[1] - 300}]
    assert set(failed.values()) == {None}


def test_a_second_scan_writes_nothing(market_stores, liquid):
    request = ScanRequest("data", date(2020, 6, 30))

    first, second = scan(market_stores, liquid, request), scan(market_stores, liquid, request)

    assert [item.rows_written for item in (*first, *second)] == [5, 0]
    assert first[0].run_id == second[0].run_id
    assert len(rows_of(market_stores)) == 5


def test_what_comes_later_changes_neither_result_nor_id(market_stores, liquid, serve, small_market):
    request = ScanRequest("data", date(2020, 6, 30))
    (first,) = scan(market_stores, liquid, request)

    serve(small_market(until=date(2020, 6, 30)))
    (then,) = scan(market_stores, liquid, request)

    assert (then.run_id, then.rows_written) == (first.run_id, 0)


def test_what_was_known_differently_is_another_run(market_stores, liquid, serve, small_market):
    request = ScanRequest("data", date(2019, 6, 28))
    (first,) = scan(market_stores, liquid, request)

    serve(small_market(revised=1.5))
    (second,) = scan(market_stores, liquid, request)

    assert second.run_id != first.run_id
    assert len(rows_of(market_stores)) == 10


def test_an_empty_scan_fails_says_why_and_stores_nothing(market_stores, written):
    scanner = load_scanner(
        written(
            x="scanner_id: X\nfilters: [{field: history, operator: '>=', value: 300}, "
            "{field: price, operator: '>', value: 0}]\n"
        )
    )
    wide = ScanRequest("data", start=date(2019, 12, 1), end=date(2020, 6, 30))

    with pytest.raises(EmptyScan, match=r"none of 5 .* at 2019-12-02: 5 fail history >= 300;"):
        scan(market_stores, scanner, wide)

    assert rows_of(market_stores) == []


def test_a_history_is_the_first_session_of_each_period(market_stores, liquid):
    request = ScanRequest("data", start=date(2019, 12, 2), end=date(2020, 3, 31))

    found = scan(market_stores, liquid, request)

    days = [item.scan.as_of for item in found]
    assert days == [date(2019, 12, 2), date(2020, 1, 2), date(2020, 2, 3), date(2020, 3, 2)]
    assert len(rows_of(market_stores)) == 20
    single = scan(market_stores, liquid, ScanRequest("data", date(2020, 2, 3)))
    assert (single[0].run_id, single[0].rows_written) == (found[2].run_id, 0)


def test_days_that_cannot_be_scanned_are_refused(market_stores, liquid):
    with pytest.raises(NonSession, match=r"2020-06-28 is not a US_EQ session; use the previous"):
        scan(market_stores, liquid, ScanRequest("data", date(2020, 6, 28)))
    with pytest.raises(LookAheadError, match="2021-01-04 of a panel that ends at 2020-12-31"):
        scan(market_stores, liquid, ScanRequest("data", date(2021, 1, 4)))
    with pytest.raises(DataError, match="no month begins from 2020-02-04 to 2020-02-28"):
        scan(
            market_stores,
            liquid,
            ScanRequest("data", start=date(2020, 2, 4), end=date(2020, 2, 28)),
        )
    with pytest.raises(ConfigError, match="--start and --end together"):
        scan(market_stores, liquid, ScanRequest("data", start=date(2020, 2, 4)))
    with pytest.raises(ConfigError, match="--every: expected session, week, month, quarter"):
        days = {"start": date(2020, 2, 4), "end": date(2020, 3, 4), "every": "year"}
        scan(market_stores, liquid, ScanRequest("data", **days))


def test_a_listing_shows_the_selected_or_all(market_stores, liquid):
    found = scan(market_stores, liquid, ScanRequest("data"))

    columns, rows = listing(found, liquid)
    more, everybody = listing(found, liquid, rejected=True)

    assert columns == ("as_of", "rank", "instrument_id", "score")
    assert [row[1:3] for row in rows] == [(1, "E.US"), (2, "D.US")]
    assert np.diff([row[3] for row in rows]) < 0
    assert more[-2:] == ("included", "failed")
    assert [row[2] for row in everybody] == ["E.US", "D.US", "C.US", "B.US", "A.US"]
    assert everybody[2][-1] == [{"filter": "limit 2", "value": 3}]
