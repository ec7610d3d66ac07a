"""The whole job on the bundled real data: ingest, run, record, report."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from adapters.sample import sample_ohlcv, sample_sp500
from persistence.artifacts import RunFolder
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from persistence.runtime import Filters, RuntimeStore
from persistence.tables.runtime import RUNTIME
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError, DataError, DeterminismError, PrometheusError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
WINDOW = ["sessions.start=2004-01-02", "sessions.end=2005-12-30"]
DAILY = {"engine_runs", "engine_run_attempts", "campaigns", "campaign_trials"}
OF_OTHER_WORK = {
    "jobs",
    "job_logs",
    "job_executions",
    "experiments",
    "experiment_results",
    "meta_config_proposals",
    "config_change_log",
    "strategy_configs",
}
REAL_TIME = {"order_status_history", "account_states", "executions", "alerts", "trading_leases"}
MAY_BE_EMPTY = {"scenario_sets", "risk_actions", "regime_transitions"}
MAY_BE_EMPTY |= DAILY | OF_OTHER_WORK | REAL_TIME
WALL_CLOCK = {"created_at", "completed_at", "recorded_at"}


def _stores(database, home):
    settings = Settings(home, "unused", "unused")
    return Stores(settings, HistoricalStore(database), RuntimeStore(database))


def _rows(database, table):
    clocks = WALL_CLOCK | ({"updated_at"} if "created_at" in table.c else set())
    columns = [column for column in table.columns if column.name not in clocks]
    with database.reader() as connection:
        found = connection.execute(sa.select(*columns).order_by(*table.primary_key)).all()
    return [tuple(row) for row in found]


def test_a_run_fills_every_table_and_equity_crosses_the_split_of_apple(stores):
    config = load_config([CONFIG], WINDOW)

    (summary,) = run_backtest(config, stores)

    panel = load_panel(stores.historical, "sample_ohlcv", stores.settings.cache_dir)
    split = date(2005, 2, 28)
    column = panel.instruments.index("AAPL.US")
    row = int(np.searchsorted(panel.sessions, np.datetime64(split)))
    assert panel.split[row, column] == 2.0
    table = RunFolder(stores.settings.runs_dir, summary.run_id).read_table("equity.parquet")
    positions = RunFolder(stores.settings.runs_dir, summary.run_id).read_table("positions.parquet")
    held = positions["instrument_id"] == "AAPL.US"
    weights = dict(
        zip(
            positions["session"][held].astype("datetime64[D]").astype(object),
            positions["weight"][held],
            strict=True,
        )
    )
    assert weights[date(2005, 2, 25)] > 0.1, "the split must be crossed while holding"
    at = int(np.searchsorted(table["session"].astype("datetime64[D]"), np.datetime64(split)))
    move = table["equity"][at] / table["equity"][at - 1] - 1.0
    assert abs(move) < 0.05, "a 2-for-1 split is not a loss"
    assert table["dividends"].sum() > 0
    for name in RUNTIME.tables:
        assert _rows(stores.runtime.database, RUNTIME.tables[name]) or name in MAY_BE_EMPTY
    assert summary.report.exists()


def test_the_same_run_leaves_the_same_rows_on_sqlite_and_postgres(both_databases, tmp_path):
    config = load_config([CONFIG], WINDOW)
    runs = []
    for number, database in enumerate(both_databases):
        stores = _stores(database, tmp_path / f"home{number}")
        ingest(sample_ohlcv(), stores.historical)
        runs.append(run_backtest(config, stores)[0])

    assert runs[0].run_id == runs[1].run_id
    assert runs[0].order_list_hash == runs[1].order_list_hash
    for table in RUNTIME.sorted_tables:
        ours, theirs = (_rows(database, table) for database in both_databases)
        if table.name == "artifacts":
            names = table.columns.keys().index("name")
            ours, theirs = [row[names] for row in ours], [row[names] for row in theirs]
        assert ours == theirs, table.name


def test_a_second_run_changes_nothing_and_a_forced_one_must_reproduce_its_orders(stores):
    config = load_config([CONFIG], WINDOW)
    (first,) = run_backtest(config, stores)
    before = {name: _rows(stores.runtime.database, table) for name, table in RUNTIME.tables.items()}

    (cached,) = run_backtest(config, stores)
    (forced,) = run_backtest(config, stores, force=True)

    assert cached.cached and not forced.cached
    assert {first.order_list_hash} == {cached.order_list_hash, forced.order_list_hash}
    after = {name: _rows(stores.runtime.database, table) for name, table in RUNTIME.tables.items()}
    manifest = RunFolder(stores.settings.runs_dir, first.run_id).read_json("manifest.json")
    assert manifest["order_list_hash"] == first.order_list_hash
    assert {name: len(rows) for name, rows in before.items()} == {
        name: len(rows) for name, rows in after.items()
    }
    assert before["fills"] == after["fills"]


def test_a_run_is_made_again_on_the_data_it_used(stores):
    (first,) = run_backtest(load_config([CONFIG], WINDOW), stores)
    run = stores.runtime.run(first.run_id)
    _change_a_close(stores.historical, date(2004, 6, 1))
    (newer,) = run_backtest(load_config([CONFIG], WINDOW), stores)

    again = [
        run_backtest(load_config([CONFIG], [*WINDOW, f"data.revision={name}"]), stores, force=True)
        for name in (1, f"'{run['data_fingerprint']}'")
    ]

    assert newer.run_id != first.run_id
    assert [summary.run_id for (summary,) in again] == [first.run_id] * 2
    assert [summary.order_list_hash for (summary,) in again] == [first.order_list_hash] * 2
    manifests = [
        json.loads((stores.settings.runs_dir / each.run_id / "manifest.json").read_text())
        for each in (first, newer)
    ]
    assert [manifest["data_revision"] for manifest in manifests] == [1, 2]


def test_other_orders_are_refused_however_often_they_are_tried(stores):
    config = load_config([CONFIG], WINDOW)
    (first,) = run_backtest(config, stores)
    with stores.runtime.database.writer() as connection:
        connection.exec_driver_sql("UPDATE backtest_runs SET order_list_hash = 'others'")

    for force in (True, False):
        with pytest.raises(DeterminismError, match="before to others"):
            run_backtest(config, stores, force=force)

    run = stores.runtime.run(first.run_id)
    assert (run["status"], run["order_list_hash"]) == ("FAILED", "others")
    assert run["metrics_json"] is None


def test_a_corrected_benchmark_is_compared_with_and_changes_no_order(stores):
    config = load_config([CONFIG], WINDOW)
    (first,) = run_backtest(config, stores)
    before = stores.trials.attempts(first.strategy_id, first.start, first.end)
    _change_a_close(stores.historical, first.end, config.data.benchmark)

    (newer,) = run_backtest(config, stores)

    assert (newer.run_id, newer.order_list_hash) == (first.run_id, first.order_list_hash)
    figures = ("benchmark_cumulative_return", "cumulative_return")
    old, new = ([each.metrics[name] for name in figures] for each in (first, newer))
    assert new[0] == pytest.approx((1 + old[0]) * 1.01 - 1)
    assert new[1] == old[1]
    assert stores.trials.attempts(first.strategy_id, first.start, first.end) == before
    assert run_backtest(config, stores)[0].cached


def _change_a_close(store, day, name="AAPL.US"):
    (before,) = _stored_bar(store, name, day)
    prices = {name: np.array([before[name]]) for name in before} | {
        "trade_date": np.array([day], dtype="datetime64[D]"),
        "close": np.array([before["close"] * 1.01]),
    }
    assert store.write_prices("sample_ohlcv", name, prices, source="test").rows == 1


def _stored_bar(store, name, day):
    """Return the stored bar of one instrument and day, as plain SQL shows it."""
    columns = "open, high, low, close, adjusted_close, volume"
    query = sa.text(
        f"SELECT {columns} FROM prices_daily WHERE dataset_id = 'sample_ohlcv'"
        " AND instrument_id = :name AND trade_date = :day"
    )
    with store.database.reader() as connection:
        rows = connection.execute(query, {"name": name, "day": str(day)}).all()
    return [dict(row._mapping) for row in rows]


def test_a_run_that_fails_is_marked_failed_and_has_no_figures(sqlite_database, tmp_path):
    stores = _stores(sqlite_database, tmp_path)
    ingest(sample_sp500(), stores.historical, symbols=["AAPL", "MSFT", "KO", "PG", "JNJ"])
    impact_without_volume = ["execution.quotes.impact_coefficient=0.5", "data.benchmark=null"]
    config = load_config([Path("configs/us_core_long_eq.yaml")], impact_without_volume)

    with pytest.raises(DataError, match=r"set execution\.quotes\.impact_coefficient to 0"):
        run_backtest(config, stores)

    columns, rows = stores.runtime.listing("runs", Filters())
    (failed,) = (dict(zip(columns, row, strict=True)) for row in rows)
    assert failed["status"] == "FAILED"
    assert failed["metrics_json"] is None and failed["order_list_hash"] is None


def test_a_run_refused_before_it_began_leaves_no_row(stores):
    config = load_config([CONFIG], [*WINDOW, "data.benchmark=NOPE.INDX"])

    with pytest.raises(PrometheusError, match="NOPE"):
        run_backtest(config, stores)

    assert stores.runtime.listing("runs", Filters())[1] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("engines.universe.exclude=[ZZZ.US]", "engines.universe.exclude: .*ZZZ.US"),
        ("instruments=[ZZZ.US]", "not in the panel: ZZZ.US"),
        ("data.dataset=sample_none", "sample_none"),
    ],
)
def test_what_the_dataset_does_not_have_is_refused_by_name(stores, setting, message):
    config = load_config([CONFIG], [*WINDOW, setting])

    with pytest.raises(PrometheusError, match=message):
        run_backtest(config, stores)


def test_a_price_filter_on_adjusted_closes_is_refused(sqlite_database, tmp_path):
    stores = _stores(sqlite_database, tmp_path)
    ingest(sample_sp500(), stores.historical, symbols=["AAPL", "MSFT"])
    config = load_config(
        [Path("configs/us_core_long_eq.yaml")],
        ["engines.universe.min_price=5", "data.benchmark=null"],
    )

    with pytest.raises(ConfigError, match=r"min_price: .* set it to null"):
        run_backtest(config, stores)


def test_a_portfolio_filter_given_a_strategy_matches_its_sleeves(stores):
    run_backtest(load_config([CONFIG], WINDOW), stores)
    runtime = stores.runtime

    ids = ("US_CORE_LONG_EQ", "US_CORE_LONG_EQ_H21", "US_CORE_LONG_EQ_H21_PORTFOLIO")
    found = [runtime.listing("orders", Filters(portfolio_id=name, limit=9))[1] for name in ids]

    assert len(found[0]) == 9
    assert found[0] == found[1] == found[2]
    assert runtime.listing("orders", Filters(portfolio_id="EU_CORE_LONG_EQ"))[1] == []
    assert runtime.listing("orders", Filters(mode="LIVE"))[1] == []


def test_outcomes_use_only_sessions_after_their_decision(stores):
    (summary,) = run_backtest(load_config([CONFIG], WINDOW), stores)
    table = RunFolder(stores.settings.runs_dir, summary.run_id).read_table("equity.parquet")
    sessions = table["session"].astype("datetime64[D]").astype(object).tolist()
    _, rows = stores.runtime.listing("decisions", Filters(limit=1000))
    sleeves = {row[0]: row[5] for row in rows if row[1] == "SLEEVE"}

    outcomes = stores.runtime.outcomes(list(sleeves))

    assert outcomes
    for outcome in outcomes:
        row = sessions.index(sleeves[outcome["decision_id"]])
        later = row + outcome["horizon_days"]
        if later >= len(sessions):
            # The dataset goes on after the run: its scores can be followed, its book cannot.
            assert outcome["known_at"] > sessions[-1] and outcome["realized_return"] is None
            continue
        # Scores are followed from the session after, and so known one session later.
        assert later + 1 == len(sessions) or outcome["known_at"] == sessions[later + 1]
        expected = table["equity"][later] / table["equity"][row] - 1.0
        assert outcome["realized_return"] == pytest.approx(expected, abs=1e-12)
