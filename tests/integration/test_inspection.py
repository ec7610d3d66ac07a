"""Why a fill happened, what became of a day's decision, and the stores as numbers."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from adapters.sample import sample_ohlcv
from persistence import schema
from persistence.database import upsert
from persistence.historical import PRICE_COLUMNS
from persistence.listings import Filters
from persistence.tables import governance, runtime
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.day import DayRunner, ensure_day
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.lineage import lineage
from prometheus_nt.jobs.metrics import render
from prometheus_nt.jobs.observability import start_logging, stop_logging
from prometheus_nt.jobs.outcomes import update_outcomes
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.show import execution_risk, execution_status, listing, portfolio
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
WINDOW = ["sessions.start=2005-01-03", "sessions.end=2005-12-30"]
DAY = date(2005, 11, 1)
SLEEVE = "US_CORE_LONG_EQ_H21"


@pytest.fixture(scope="module")
def config():
    return load_config([CONFIG], WINDOW)


@pytest.fixture(scope="module")
def settings(tmp_path_factory, config):
    """Return a home with one logged ingest, backtest and day."""
    home = tmp_path_factory.mktemp("inspection")
    found = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
    start_logging(found, "json")
    with open_stores(found, upgrade=True) as stores:
        ingest(sample_ohlcv(), stores.historical)
        run_backtest(config, stores)
        DayRunner(config, stores, "me").run_to_end(ensure_day(config, DAY, stores))
    stop_logging()
    return found


@pytest.fixture
def stores(settings):
    with open_stores(settings) as opened:
        yield opened


def _rows(stores, table, **key):
    query = sa.select(table).where(*(table.c[name] == value for name, value in key.items()))
    with stores.runtime.database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_a_fill_leads_back_to_the_bars_that_its_decision_saw(settings, stores):
    fill = _rows(stores, runtime.fills)[-1]

    found = lineage(settings, fill["fill_id"])

    assert found["order"]["order_id"] == fill["order_id"]
    as_of = found["decision"]["as_of_date"]
    assert as_of < fill["timestamp"].date(), "decided at a close, filled later"
    assert 0.0 < found["target"]["weight"] <= 0.6
    assert found["measured"]["instrument_scores"]["instrument_id"] == fill["instrument_id"]
    assert found["measured"]["universe_members"]["included"] is True
    assert found["data"]["last_bar"]["trade_date"] == as_of
    assert found["data"]["unchanged"] is True
    made = {stage["record_hash"] for stage in found["stages"]}
    for stage in found["stages"]:
        assert found["data"]["panel_hash"] in stage["input_hashes"], stage["engine"]
    risk = next(stage for stage in found["stages"] if stage["engine"] == "RISK")
    assert made & set(risk["input_hashes"]), "risk saw the book that another stage made"


def test_a_dataset_that_was_revised_since_is_said_to_be_changed(sample_home, tmp_path):
    settings = sample_home(tmp_path)
    with open_stores(settings) as stores:
        run_backtest(load_config([CONFIG], [*WINDOW, "sessions.end=2005-03-31"]), stores)
        fill_id = _rows(stores, runtime.fills)[0]["fill_id"]
        days, values = stores.historical.bars("sample_ohlcv", "AAPL.US")
        corrected = dict(zip(PRICE_COLUMNS, values.T.copy(), strict=True))
        row = int(np.searchsorted(days, np.datetime64("2004-06-01")))
        corrected["close"][row] = corrected["low"][row]
        prices = corrected | {"trade_date": days}
        stores.historical.write_prices("sample_ohlcv", "AAPL.US", prices, source="corrected")

    assert lineage(settings, fill_id)["data"]["unchanged"] is False


def test_an_unknown_fill_names_the_listing(settings):
    with pytest.raises(StoreError, match="no fill 'nothing'; `prometheus show fills`"):
        lineage(settings, "nothing")


def test_a_days_outcome_is_what_its_target_earned_from_later_closes(stores, config):
    first = update_outcomes(config, stores)
    again = update_outcomes(config, stores)

    (run_id,) = (run_id for run_id, _ in first)
    outcomes = _rows(stores, runtime.decision_outcomes, run_id=run_id)
    (target,) = _rows(stores, runtime.target_portfolios, run_id=run_id)
    panel = panel_of(stores, "sample_ohlcv")
    row = int(np.searchsorted(panel.sessions, np.datetime64(DAY))) + 1
    assert first == again == [(run_id, 3)]
    assert sorted(one["horizon_days"] for one in outcomes) == [5, 21, 63]
    for one in outcomes:
        last = row + one["horizon_days"]
        earned = 0.0
        for name, weight in target["target_positions"]["weights"].items():
            column = panel.instruments.index(name)
            value = 1.0
            for session in range(row + 1, last + 1):
                paid = panel.dividend[session, column] + panel.close[session, column]
                paid *= panel.split[session, column]
                value *= paid / panel.close[session - 1, column]
            earned += weight * (value - 1.0)
        assert one["realized_return"] == pytest.approx(earned, rel=1e-3)
        assert one["realized_pnl"] is None
        assert one["known_at"] == panel.sessions[last].astype(object)


def test_a_horizon_beyond_the_data_has_no_outcome_yet(sample_home, tmp_path):
    late = load_config([CONFIG], ["sessions.start=2012-01-03", "sessions.end=2013-03-01"])
    with open_stores(sample_home(tmp_path)) as stores:
        run = ensure_day(late, date(2013, 2, 19), stores)
        DayRunner(late, stores, "me").run_to_end(run)

        update_outcomes(late, stores)

        panel = panel_of(stores, "sample_ohlcv")
        known = {row["horizon_days"] for row in _rows(stores, runtime.decision_outcomes)}
    after = len(panel) - 2 - int(np.searchsorted(panel.sessions, np.datetime64("2013-02-19")))
    assert known == {horizon for horizon in (5, 21, 63) if horizon <= after}


def test_the_registries_hold_the_settings_behind_every_model_id(stores, config):
    bodies = {row["config_id"]: row for row in _rows(stores, governance.engine_configs)}
    versions = {row["model_id"]: row for row in _rows(stores, governance.models)}
    used = {row["model_id"] for row in _rows(stores, runtime.instrument_scores)}
    used |= {row["model_id"] for row in _rows(stores, runtime.target_portfolios)}

    assert used and used <= set(versions)
    engines = config.engines_of(config.sleeves[0])
    for model_id in used:
        body = bodies[versions[model_id]["config_id"]]
        params = getattr(engines, body["engine_name"])
        assert body["config_body"] == params.model_dump(mode="json")
    (strategy,) = _rows(stores, governance.strategies)
    (book,) = _rows(stores, governance.portfolios)
    assert strategy["strategy_id"] == book["strategy_id"] == "US_CORE_LONG_EQ"
    assert book["sleeve_id"] == SLEEVE
    assert strategy["created_at"] < strategy["updated_at"], "the day was seen after the backtest"


def test_a_portfolio_its_execution_and_its_limits_are_shown(settings):
    book = portfolio(settings, SLEEVE, DAY, 2)
    status = execution_status(settings, "US_CORE_LONG_EQ", "BACKTEST", (10, 5))
    columns, limits = execution_risk(settings)

    assert (len(book["weights"]), book["as_of_date"]) == (2, DAY)
    assert book["names"] == 4
    assert book["risk_report"]["as_of_date"] == DAY
    assert (len(status["orders"]), len(status["fills"])) == (10, 5)
    assert sum(status["states"].values()) == 10
    assert dict(zip(columns, limits[0], strict=True))["max_position_weight"] == 0.6


@pytest.mark.parametrize(
    ("what", "filters", "complaint"),
    [
        ("orders", Filters(market_id="US_EQ"), "--market-id: US_EQ cannot choose among orders"),
        ("scores", Filters(phase="FAILED"), "--phase: FAILED cannot choose among scores"),
        ("fills", Filters(engine_name="RISK"), "--engine-name: RISK cannot choose among fills"),
    ],
)
def test_a_filter_that_a_listing_would_not_heed_is_refused(settings, what, filters, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        listing(settings, what, filters)


SAMPLE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="[^"]*",?)*)\} (\S+)$')


def test_metrics_are_the_counts_of_the_stores_in_the_text_format(stores):
    text = render(stores)

    found, declared = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            declared.add(line.split()[2])
        elif not line.startswith("#"):
            name, labels, number = SAMPLE.fullmatch(line).groups()
            assert name in declared, line
            found[name, labels] = float(number)
    assert text.endswith("\n")
    assert found["prometheus_runs", 'status="COMPLETED",mode="BACKTEST"'] == 1
    assert found["prometheus_engine_runs", 'region="US",phase="COMPLETED"'] == 1
    assert found["prometheus_trials", 'family="US_CORE_LONG_EQ",status="OK"'] == 1
    with stores.historical.database.reader() as connection:
        bars = connection.exec_driver_sql("SELECT count(*) FROM prices_daily").scalar()
    assert found["prometheus_dataset_bars", 'dataset="sample_ohlcv"'] == bars


def test_a_label_that_a_person_chose_cannot_break_the_text(sqlite_database, tmp_path):
    settings = Settings(tmp_path, str(sqlite_database._url), str(sqlite_database._url))
    columns, moment = governance.jobs.columns.keys(), datetime(2024, 1, 1, tzinfo=UTC)
    with open_stores(settings) as stores:
        row = dict.fromkeys(columns)
        row |= {"job_id": "1", "kind": 'a"b\nc\\', "spec": {}, "status": "PENDING", "attempt": 0}
        row |= {"max_attempts": 1, "cancel_requested": False, "priority": 0}
        row |= {"submitted_by": "me"}
        row |= {"created_at": moment, "updated_at": moment, "not_before": moment}
        with stores.runtime.database.writer() as connection:
            upsert(connection, governance.jobs, columns, [tuple(row.values())])

        text = render(stores)

    assert 'prometheus_jobs{kind="a\\"b\\nc\\\\",status="PENDING"} 1' in text.splitlines()


def test_a_run_and_a_day_are_logged_once_per_event(settings, stores):
    (path,) = (settings.home / "logs").iterdir()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    (run,) = _rows(stores, runtime.backtest_runs)
    of_run = [line["message"] for line in lines if line.get("run_id") == run["run_id"]]
    phases = [line["message"] for line in lines if line["logger"].endswith(".day")]
    assert [message.split()[-1] for message in of_run] == ["began", "completed"]
    assert len(phases) == 5 and all(message.endswith("completed") for message in phases)
    assert all(" attempt=" in said and " coverage=" in said for said in phases)
    assert all(" seconds=" in said for said in phases)
    days = {line["run_id"] for line in lines if line["logger"].endswith(".day")}
    assert days == {"US_CORE_LONG_EQ-US-BACKTEST-20051101"}
    ingested = [line["message"] for line in lines if line["logger"].endswith(".ingest")]
    assert [message.split()[-1] for message in ingested] == ["began", "ended"]
    assert ingested[0].startswith("dataset=sample_ohlcv instruments=6 ")
    counts = ("loaded=6", "failed=0", "rows_read=", "rows_written=", "seconds=")
    assert all(count in ingested[1] for count in counts)
    schema.check(stores.runtime.database, "runtime")
