"""What the search for similar runs reads, on either engine."""

from datetime import UTC, date, datetime

import pytest

from persistence.database import upsert
from persistence.run_history import (
    completed_runs,
    newest_books,
)
from persistence.runtime import RuntimeStore
from persistence.tables import runtime as tables

NOW = datetime(2024, 1, 2, tzinfo=UTC)
RUN = {"mode": "BACKTEST", "strategy_id": "S", "model_id": "m"}


@pytest.fixture
def store(database):
    return RuntimeStore(database)


def put(store, table, *rows):
    columns = tuple({name: None for row in rows for name in row})
    with store.database.writer() as connection:
        upsert(
            connection, table, columns, [tuple(row.get(name) for name in columns) for row in rows]
        )


def run_row(run_id, status):
    texts = ("sleeve_id", "portfolio_id", "market_id", "dataset_id")
    hashes = ("data_fingerprint", "config_hash", "code_hash")
    days = {"start_date": date(2020, 1, 2), "end_date": date(2020, 12, 31)}
    named = dict.fromkeys((*texts, *hashes), "x") | days | {"created_at": NOW}
    documents = {"config_json": {"seed": 1}, "metrics_json": {"cagr": 0.1}}
    head = {"run_id": run_id, "mode": "BACKTEST", "strategy_id": "S", "status": status}
    return head | named | documents


def test_only_completed_runs_are_compared(store):
    put(store, tables.backtest_runs, run_row("b", "COMPLETED"), run_row("a", "COMPLETED"))
    put(store, tables.backtest_runs, run_row("c", "RUNNING"))

    runs = completed_runs(store)

    assert [run["run_id"] for run in runs] == ["a", "b"]
    assert runs[0]["config_json"] == {"seed": 1}


def test_the_newest_book_of_each_run_is_found_with_its_report(store):
    for run_id, day, weight in (("a", 2, 0.1), ("a", 9, 0.2), ("a", 20, 0.3), ("b", 3, 0.4)):
        key = RUN | {"run_id": run_id, "portfolio_id": "P", "as_of_date": date(2020, 1, day)}
        put(store, tables.target_portfolios, key | {"target_positions": {"weights": {"A": weight}}})
        exposures = {"net_exposure": weight, "gross_exposure": weight, "leverage": weight}
        put(store, tables.portfolio_risk_reports, key | exposures | {"risk_metrics": {"beta": 1.0}})

    books = newest_books(store, date(2020, 1, 1), date(2020, 1, 10))

    assert [(book["run_id"], book["as_of_date"]) for book in books] == [
        ("a", date(2020, 1, 9)),
        ("b", date(2020, 1, 3)),
    ]
    assert books[0]["target_positions"] == {"weights": {"A": 0.2}}
    assert newest_books(store, date(2020, 1, 5), date(2020, 1, 8)) == []


def test_a_book_whose_report_is_of_what_was_held_is_no_target_with_its_report(store):
    for day, basis in ((2, "target"), (3, "held")):
        key = RUN | {"run_id": "a", "portfolio_id": "P", "as_of_date": date(2020, 1, day)}
        put(store, tables.target_portfolios, key | {"target_positions": {"weights": {"A": 0.1}}})
        exposures = {"net_exposure": 0.1, "gross_exposure": 0.1, "leverage": 0.1}
        metrics = {"risk_metrics": {"basis": basis}}
        put(store, tables.portfolio_risk_reports, key | exposures | metrics)

    (book,) = newest_books(store, date(2020, 1, 1), date(2020, 1, 10))

    assert book["as_of_date"] == date(2020, 1, 2)
