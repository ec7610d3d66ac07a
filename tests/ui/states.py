"""Stores in the states that a desk must be readable in: at work, in trouble, and full."""

from datetime import UTC, date, datetime, timedelta

from persistence.alerts import Alert, raise_alert
from persistence.broker_reports import BrokerReport, keep
from persistence.campaigns import CampaignRow, CampaignStore, TrialRow
from persistence.database import Database
from persistence.job_queue import Beat, JobQueue, NewJob
from persistence.tables import operations
from persistence.tables import runtime as tables
from tests.integration.monitoring.test_desk import hold, trade
from tests.integration.monitoring.world import SESSIONS, World, fill, put

PAPER = World(mode="PAPER")
BROKEN = {"type": "DataError", "message": "no prices of AAPL.US after 2024-01-31"}
RUNS = 1_000


def recorded(database: Database) -> None:
    """Record two sleeves' backtests and a day, and the same on paper."""
    fill(database, World())
    fill(database, World(label="TWO", mode="PAPER", later=3))


def running(database: Database) -> None:
    """Let a backtest, a job, a campaign, a day and a sleeve on paper be at work."""
    trade(database)
    _run(database, "RUNNING")
    _day(database, "SIGNALS_DONE", "RUNNING")
    campaign(database).begin("grid", "S1", "w")
    queue = JobQueue(database)
    queue.insert(NewJob("report", {"run": "latest"}, "ann"))
    queue.beat(queue.claim("w"), Beat(progress=0.4, message="half way"))
    queue.insert(NewJob("backtest", {"config": ["x"]}, "ann"))


def failed(database: Database) -> None:
    """Let all of these fail, with alerts, and the broker hold something else than the book."""
    trade(database)
    hold(database, timedelta(minutes=-5))
    _run(database, "FAILED")
    _day(database, "FAILED", "FAILED")
    campaign(database).end("grid", "S0", "FAILED", error="DataError", message="no prices")
    queue = JobQueue(database)
    queue.insert(NewJob("report", {"run": "latest"}, "ann", max_attempts=1))
    queue.fail(queue.claim("w"), BROKEN, Beat())
    report = BrokerReport(
        *("IB-DU1", datetime.now(UTC), SESSIONS[-1], (PAPER.run_id("FAST"),)),
        *({"A.US": 2}, {"A.US": 3}, 70.5),
    )
    now = datetime.now(UTC)
    with database.writer() as connection:
        keep(connection, report)
        raise_alert(connection, Alert("run_failed", "CRITICAL", "B", "a run failed", {}, now))


def full(database: Database) -> None:
    """Record a thousand runs with their equity, orders, campaigns, jobs and days."""
    recorded(database)
    made = datetime(2024, 1, 1, tzinfo=UTC)
    own = {"strategy_id": "S", "sleeve_id": "S_A", "portfolio_id": "S_A_P", "market_id": "US_EQ"}
    runs = [
        own
        | {"run_id": f"S_A-{number:04}", "mode": "BACKTEST", "status": "COMPLETED"}
        | {"created_at": made + timedelta(minutes=number), "metrics_json": {"cagr": 0.1}}
        for number in range(RUNS)
    ]
    put(database, tables.backtest_runs, runs)
    days = [date(2023, 1, 2) + timedelta(days=number) for number in range(20)]
    equity = [
        {"run_id": run["run_id"], "mode": "BACKTEST", "strategy_id": "S", "date": day}
        | {"equity_curve_value": 100.0 + number, "gross_exposure": 0.5}
        for run in runs
        for number, day in enumerate(days)
    ]
    put(database, tables.backtest_daily_equity, equity)
    jobs = JobQueue(database)
    for number in range(200):
        jobs.insert(NewJob("report", {"run": f"S_A-{number:04}"}, "ann"))
    campaign(database, variants=RUNS)


def campaign(database: Database, variants: int = 2) -> CampaignStore:
    """Plan a campaign of some variants."""
    store = CampaignStore(database)
    row = CampaignRow(
        *("grid", "grid", "RUNNING", "c", SESSIONS[0], SESSIONS[-1]),
        *({"config": {"top": 1}}, None, None),
    )
    settings = {"engines.portfolio.max_names": 3}
    trials = [
        TrialRow("grid", f"S{place}", place, "S", "US_EQ", settings, {})
        for place in range(variants)
    ]
    store.plan(row, trials)
    return store


def _run(database: Database, status: str) -> None:
    run = {"run_id": f"B-{status}", "mode": "BACKTEST", "status": status, "strategy_id": "US_CORE"}
    run |= {"sleeve_id": "US_CORE_FAST", "portfolio_id": "US_CORE_FAST_PORTFOLIO"}
    run |= {"market_id": "US_EQ", "created_at": datetime.now(UTC)}
    put(database, tables.backtest_runs, [run])


def _day(database: Database, phase: str, status: str) -> None:
    now = datetime.now(UTC)
    day = {"run_id": "D", "as_of_date": SESSIONS[-1], "region": "US", "mode": "BACKTEST"}
    day |= {"strategy_id": "US_CORE", "phase": phase, "updated_at": now}
    day |= {"failed_phase": "SIGNALS_DONE", "error": BROKEN} if phase == "FAILED" else {}
    put(database, operations.engine_runs, [day])
    attempt = {"run_id": "D", "phase": "SIGNALS_DONE", "attempt": 1, "status": status}
    attempt |= {"owner": "w", "started_at": now}
    put(database, operations.engine_run_attempts, [attempt])
