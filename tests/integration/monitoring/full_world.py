"""A store in which all that answers read has rows whose every value is its world's own."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from adapters.sample import sample_ohlcv
from persistence.artifacts import RunFolder
from persistence.broker_reports import BrokerReport, keep
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.tables import campaigns, governance, historical, operations, trading
from persistence.tables import runtime as tables
from prometheus_nt.config import load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.safety import HaltCause
from prometheus_nt.jobs import safety
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.report import REPORT
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings
from tests.integration.monitoring.world import World, at, fill, put

NODE = """
sessions: {{start: {start}, end: {end}}}
data: {data}
seed: {seed}
sleeves: {sleeves}
engines:
  universe: {{min_dollar_volume: 1000000}}
  portfolio: {{max_names: {names}, max_weight: 0.5}}
  risk: {{max_abs_weight_per_name: 0.5}}
gate: {{max_position_weight: 0.6}}
"""
NODES = {
    "ONE": {"start": "2004-01-02", "end": "2004-12-30", "seed": 1}
    | {"data": "{dataset: sample_ohlcv}"}
    | {"sleeves": "[{horizon: 5}, {horizon: 21}]", "names": 2},
    "TWO": {"start": "2005-01-03", "end": "2006-03-31", "seed": 2}
    | {"data": "{dataset: sample_ohlcv, benchmark: SPX.INDX}"}
    | {"sleeves": "[{horizon: 5}, {horizon: 21}, {horizon: 63}]", "names": 3},
}
STATES = {"ONE": "COMPLETED", "TWO": "FAILED"}


def telling(table: sa.Table, world: World, **given: Any) -> dict[str, Any]:
    """Return a row of which every value that is not given is the world's own."""
    return {column.name: _own(column, world) for column in table.columns} | given


def _own(column: Any, world: World) -> Any:
    kind, salt = column.type, len(column.name)
    session = world.sessions[-1]
    for of, value in (
        (sa.Boolean, world.size > 1),
        (sa.Integer, int(7 * world.size) + salt),
        (sa.Float, 0.01 * world.size * (1 + salt)),
        (sa.Date, session),
        (sa.JSON, {"x": world.label, "y": world.size}),
        (sa.types.TypeDecorator, at(session)),
    ):
        if isinstance(kind, of):
            return value
    return f"{column.name[:8]}{world.label}"[: kind.length or 99]


def of_run(world: World, **more: Any) -> dict[str, Any]:
    """Return whose rows of the first sleeve's run are."""
    return {
        **{"run_id": world.run_id("FAST"), "mode": world.mode, "strategy_id": world.strategy},
        **{"sleeve_id": world.sleeve("FAST"), "market_id": world.market, "region": world.region},
        **{"portfolio_id": f"{world.sleeve('FAST')}_PORTFOLIO", "as_of_date": world.sessions[-1]},
        **more,
    }


def fill_all(stores: Stores, settings: Settings, world: World) -> list[str]:
    """Write everything that the interface can tell; return the ids of two finished backtests."""
    database = stores.runtime.database
    ingest(sample_ohlcv(), stores.historical)
    node = settings.home / "node.yaml"
    node.write_text(NODE.format(**NODES[world.label]))
    found = run_backtest(load_config([node]), stores)
    fill(database, world)
    for part in (_runs, _desk, _jobs, _campaign, _proposals, _days, _outcomes, _profiles):
        part(database, world)
    _files(settings, world)
    _dataset(stores.historical, world)
    _places(stores.historical.database, world)
    if world.size > 1:
        safety.flatten(stores, world.sleeve("FAST"), "enough", "bob")
    else:
        safety.halt(stores, "ALL", "a drill", "ann", HaltCause.STALE_DATA)
    return [run.run_id for run in found]


def _runs(database: Database, world: World) -> None:
    own = of_run(world)
    run = telling(tables.backtest_runs, world, **_in(tables.backtest_runs, own))
    run |= {"status": "STOPPED" if world.size > 1 else "COMPLETED"}
    put(database, tables.backtest_runs, [run | {"created_at": datetime.now(UTC)}])
    put(database, tables.artifacts, [telling(tables.artifacts, world, run_id=own["run_id"])])
    against = _in(tables.run_findings, own) | {"severity": "VETO" if world.size > 1 else "WARN"}
    against |= {"evidence": []}
    put(database, tables.run_findings, [telling(tables.run_findings, world, **against)])
    if world.size > 1:
        held = telling(tables.positions_snapshots, world, **_in(tables.positions_snapshots, own))
        more = [held | {"instrument_id": name} for name in ("C.US", "Z.US")]
        put(database, tables.positions_snapshots, more)
        put(database, operations.trials, [telling(operations.trials, world)])


def _desk(database: Database, world: World) -> None:
    own, now = of_run(world), datetime.now(UTC)
    put(
        database,
        trading.account_states,
        [
            telling(
                trading.account_states,
                world,
                **_in(trading.account_states, own),
                equity=100.0 * world.size,
                gross_exposure=30.0,
                net_exposure=20.0,
            )
        ],
    )
    lease = timedelta(minutes=5 if world.size > 1 else -5)
    put(
        database,
        trading.trading_leases,
        [telling(trading.trading_leases, world, run_id=own["run_id"], lease_until=now + lease)],
    )
    waits = {
        "order_id": f"waits{world.label}",
        "status": "SUBMITTED" if world.size > 1 else "PENDING",
    }
    put(
        database, tables.orders, [telling(tables.orders, world, **_in(tables.orders, own), **waits)]
    )
    if world.size > 1:
        put(
            database,
            tables.orders,
            [
                telling(
                    tables.orders,
                    world,
                    **_in(tables.orders, own),
                    **(waits | {"order_id": "more"}),
                )
            ],
        )
    report = BrokerReport(
        account_id=f"IB-{world.label}",
        at=at(world.sessions[-1], hour=20 + int(world.size > 1)),
        as_of=world.sessions[-1],
        runs=(own["run_id"],),
        shares={"A.US": int(2 * world.size)},
        books={"A.US": 3} if world.size > 1 else {"A.US": 2, "B.US": 1, "C.US": 1},
        cash=70.0 * world.size,
    )
    with database.writer() as connection:
        keep(connection, report)
    alert = telling(trading.alerts, world, alert_id=f"A{world.label}", resolved_at=None)
    put(
        database,
        trading.alerts,
        [alert, telling(trading.alerts, world, alert_id=f"B{world.label}")],
    )


def _in(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in table.c}


def _jobs(database: Database, world: World) -> None:
    kind = "report" if world.size > 1 else "derive"
    job = telling(governance.jobs, world, kind=kind, status=STATES[world.label])
    waits = {"job_id": "waits", "status": "PENDING", "not_before": at(world.sessions[0])}
    more = [telling(governance.jobs, world, kind=kind, **waits)] if world.size > 1 else []
    put(database, governance.jobs, [job, *more])
    put(database, governance.job_logs, [telling(governance.job_logs, world, job_id=job["job_id"])])


def _campaign(database: Database, world: World) -> None:
    name = f"grid{world.label}"
    plan = {"config": {"top": int(world.size)}}
    put(
        database,
        campaigns.campaigns,
        [telling(campaigns.campaigns, world, campaign_id=name, plan=plan)],
    )
    trials = [
        telling(
            campaigns.campaign_trials,
            world,
            campaign_id=name,
            sleeve_id=f"S{place}{world.label}",
            position=place,
            status=status,
        )
        for place, status in enumerate(("OK", "PENDING", "OK", "FAILED")[: 1 + int(world.size)])
    ]
    put(database, campaigns.campaign_trials, trials)
    put(database, tables.engine_decisions, [_decision(world, name)])
    put(
        database,
        governance.engine_configs,
        [telling(governance.engine_configs, world)],
    )
    put(database, governance.strategy_configs, [telling(governance.strategy_configs, world)])


def _decision(world: World, scope: str) -> dict[str, Any]:
    size, label = world.size, world.label
    candidate = {
        **{"run_id": f"run{label}", "sleeve_id": f"S{label}", "rank": int(size), "idea": int(size)},
        **{"verdict": f"V{label}", "selected": size > 1, "reasons": [f"why {label}"]},
        "figures": {
            name: size
            for name in (
                "sharpe",
                "deflated",
                "probabilistic",
                "sharpe_low",
                "sharpe_high",
                "adjusted_p",
                "annualised_sharpe",
                "dsr",
            )
        },
        "not_computed": {"interval": f"short {label}"},
    }
    return telling(
        tables.engine_decisions,
        world,
        **_in(tables.engine_decisions, of_run(world)) | {"run_id": scope},
        decision_id=f"D{label}",
        engine_name="META_ORCHESTRATOR",
        input_refs={
            "candidates": [candidate],
            "failed": [{"sleeve_id": f"F{label}", "why": label}],
        },
        output_refs={
            "verdict": f"verdict {label}",
            "selected_sleeves": [{"run_id": f"run{label}"}],
        },
        metadata={
            "pool": {"trials": int(size), "overfitting": 0.1 * size},
            "not_computed": {"x": label},
        },
    )


def _proposals(database: Database, world: World) -> None:
    state = "APPLIED" if world.size > 1 else "PENDING"
    proposal = telling(
        governance.meta_config_proposals,
        world,
        strategy_id=world.strategy,
        status=state,
        current_value={"value": world.size},
        proposed_value={"value": 2 * world.size},
    )
    put(database, governance.meta_config_proposals, [proposal])
    change = telling(
        governance.config_change_log,
        world,
        strategy_id=world.strategy,
        previous_value={"value": world.size},
        new_value={"value": 2 * world.size},
    )
    put(database, governance.config_change_log, [change])


def _days(database: Database, world: World) -> None:
    day = f"{world.strategy}-{world.label}"
    attempt = {
        "run_id": day,
        "attempt": int(world.size),
        "phase": "SIGNALS_DONE" if world.size > 1 else "BOOKS_DONE",
    }
    engine_run = {"run_id": day, "phase": "SIGNALS_DONE" if world.size > 1 else "COMPLETED"}
    whose = {**_in(operations.engine_runs, of_run(world)), **engine_run}
    put(database, operations.engine_runs, [telling(operations.engine_runs, world, **whose)])
    attempt |= {"ended_at": at(world.sessions[-1], hour=22)}
    put(
        database,
        operations.engine_run_attempts,
        [telling(operations.engine_run_attempts, world, **attempt)],
    )


def engine_of(world: World) -> str:
    """Return the engine whose decisions came to something."""
    return "RISK" if world.size > 1 else "SLEEVE"


def _outcomes(database: Database, world: World) -> None:
    own = of_run(world)
    for number, session in enumerate(world.sessions[int(world.size) :]):
        decision = f"{own['run_id']}:{number}"
        row = telling(tables.engine_decisions, world, **_in(tables.engine_decisions, own))
        row |= {"decision_id": decision, "engine_name": engine_of(world), "as_of_date": session}
        put(database, tables.engine_decisions, [row])
        came = telling(tables.decision_outcomes, world, decision_id=decision, run_id=own["run_id"])
        put(database, tables.decision_outcomes, [came | {"known_at": world.sessions[-1]}])


def _profiles(database: Database, world: World) -> None:
    own = _in(tables.profiles, of_run(world))
    rows = [
        own
        | {
            "instrument_id": name,
            "structured": {
                f"vol{world.label}": number * world.size + number**2,
                "trend": number**3 / world.size,
                **({"debt": 1.0} if number else {}),
            },
        }
        for number, name in enumerate((*world.names, "D.US", "E.US"))
    ]
    put(database, tables.profiles, rows)


def _files(settings: Settings, world: World) -> None:
    """Leave what a traded run's folder holds, beside its rows."""
    run_id, size = world.run_id("FAST"), world.size
    cause = {"cause": world.label, "usd": size, "bps": size, "meaning": world.label}
    compared = {
        **{
            "backtest": world.label,
            "start": str(world.sessions[0]),
            "end": str(world.sessions[-1]),
        },
        **{"sessions": int(size), "within": size > 1, "identical": size > 1},
        **{"tolerance_bps": size, "worst_bps": 2 * size, "gap_usd": 3 * size},
        **{"causes": [cause], "notes": [f"note {world.label}"]},
    }
    RunFolder(settings.home / world.mode.lower(), run_id).write_json("divergence.json", compared)
    folder = RunFolder(settings.runs_dir, run_id)
    folder.write_json("manifest.json", {"notes": [f"note {world.label}"], "benchmark": world.label})
    if size > 1:
        folder.write_text(REPORT, "<p>two</p>", "html")


def _dataset(store: HistoricalStore, world: World) -> None:
    """Store a dataset of a whole, a stale and a missing instrument."""
    name, label = f"demo{world.label}", world.label
    days = MarketCalendar.of(world.market).between(
        date(2024, 1, 1 + int(world.size)), date(2024, 1, 12)
    )
    days = days[: None if world.size > 1 else -1]
    store.write_dataset(
        {
            **{"dataset_id": name, "source": label, "market_id": world.market},
            **{"adjustment": "TOTAL_RETURN" if world.size > 1 else "AS_TRADED"},
            **{"synthetic_bars": world.size > 1, "description": label, "survivorship": label},
        }
    )
    names = [f"{letter}{label}.US" for letter in "ABC"[: 2 + int(world.size > 1)]]
    facts = {"sector": None, "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    store.write_instruments(
        name,
        [
            facts | {"instrument_id": one, "symbol": one, "issuer_id": one, "name": one}
            for one in names
        ],
    )
    for one, held in ((names[0], days), (names[1], days[: int(2 * world.size)])):
        columns = ("open", "high", "low", "close", "adjusted_close", "volume")
        prices = {column: np.full(len(held), 10.0) for column in columns} | {"trade_date": held}
        store.write_prices(name, one, prices, source="test")
        if world.size > 1:
            store.write_prices(name, one, prices | {"close": prices["close"] + 1.0}, source="test")
    finding = {
        **{
            "dataset_id": name,
            "instrument_id": names[0],
            "trade_date": days[int(world.size)].item(),
        },
        **{"rule": f"rule_{label}", "severity": "ERROR" if world.size > 1 else "WARNING"},
        **{"value": label, "message": label},
        **{
            "found_by": label,
            "source_file": label,
            "source_row": int(world.size),
            "source_column": label,
        },
    }
    store.write_quality_events(name, names[0], [finding])


def _places(database: Database, world: World) -> None:
    country, exchange = ("Japan", "XTKS") if world.size > 1 else ("United States", "XNYS")
    markets = {world.market}
    with database.writer() as connection:
        known = set(connection.execute(sa.select(historical.markets.c.market_id)).scalars())
    put(database, historical.markets, [{"market_id": name} for name in markets - known])
    for name in world.names:
        put(database, historical.issuers, [{"issuer_id": name, "country": country}])
        row = {"instrument_id": name, "issuer_id": name, "exchange": exchange}
        put(database, historical.instruments, [row | {"market_id": world.market}])


def plain(value: Any) -> str:
    """Return a value as one text."""
    return json.dumps(value, sort_keys=True)
