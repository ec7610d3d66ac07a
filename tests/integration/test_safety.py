"""The kill switch, the preview, the wind-down and the reconciliation of a paper node."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from persistence import events
from persistence.broker_reports import newest
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.kill_switch import MOVED, STREAM
from persistence.rebuild import rebuild_books
from persistence.runtime import RuntimeStore
from persistence.spool import Spool
from persistence.tables import runtime as tables
from prometheus_nt.cli import app
from prometheus_nt.config import load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import TradingHalted
from prometheus_nt.domain.safety import HaltCause, TradingState
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.paper_switch import PaperSwitch
from prometheus_nt.jobs.preview import flatten_preview, preview
from prometheus_nt.jobs.reconcile import reconcile
from prometheus_nt.jobs.safety import arm, flatten, halt, switch_state
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
SLEEVE = "US_CORE_LONG_EQ_H5"
START = date(2005, 2, 14)


def node(*assignments):
    config = load_config([CONFIG], ["mode=paper", *assignments])
    sleeve = config.sleeves[0].model_copy(update={"horizon": 5})
    return config.model_copy(update={"sleeves": (sleeve,)})


def traded(stores, until, config=None, tell=None, start=None):
    request = PaperRequest(fast=True, start=start, until=until)
    (summary,) = run_paper(config or node(), stores, request, Event(), tell)
    return summary


def fills(stores, run_id):
    columns = tables.fills.c
    query = sa.select(columns.instrument_id, columns.side, columns.quantity, columns.timestamp)
    with stores.runtime.database.reader() as connection:
        return connection.execute(
            query.where(columns.run_id == run_id).order_by(columns.timestamp)
        ).all()


def statuses(stores, run_id):
    query = sa.select(tables.orders.c.status).where(tables.orders.c.run_id == run_id)
    with stores.runtime.database.reader() as connection:
        return list(connection.execute(query).scalars())


def at_session(day, act):
    return lambda status: act() if status.session == day else None


# Friday's close decides the week's orders; Monday's open would fill them.
WEEKLY = "sleeves=[{family: US_CORE_LONG_EQ, horizon: 5}]"
FRIDAY, MONDAY, UNTIL = date(2005, 3, 4), date(2005, 3, 7), date(2005, 3, 18)


def test_a_halt_cancels_what_waits_and_lets_nothing_out_and_replays_alike(stores):
    calm = traded(stores, FRIDAY, start=START)
    waiting = "SUBMITTED" in statuses(stores, calm.run_id) or "PENDING" in statuses(
        stores, calm.run_id
    )
    before = len(fills(stores, calm.run_id))

    halt(stores, SLEEVE, "looks wrong", "anna")
    halted = traded(stores, UNTIL)

    assert halted.last == UNTIL
    assert len(fills(stores, calm.run_id)) == before
    assert ("CANCELLED" in statuses(stores, calm.run_id)) == waiting
    assert not {"SUBMITTED", "PENDING"} & set(statuses(stores, calm.run_id))
    # The same sessions once more, from the tape: every event must be the recorded one.
    again = traded(stores, UNTIL)
    assert replace(again, new_sessions=halted.new_sessions) == halted

    arm(stores, SLEEVE, "feed is back", "anna", SLEEVE)
    resumed = traded(stores, date(2005, 4, 1))
    assert len(fills(stores, resumed.run_id)) > before


def test_a_running_node_sees_a_halt_of_another_process(tmp_path):
    home = tmp_path / "home"
    environment = {**os.environ, "PROMETHEUS_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    cli = [sys.executable, "-m", "prometheus_nt.cli"]
    subprocess.run(
        [*cli, "data", "ingest", "sample"], env=environment, check=True, capture_output=True
    )
    window = ("--from", "2004-01-05", "--until", "2006-12-29", "--set", WEEKLY)
    with subprocess.Popen(
        [*cli, "paper", str(CONFIG), "--fast", *window],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as running:
        told = (line for line in running.stderr if " equity " in line)
        for _ in range(30):
            next(told)
        database = Database.open(f"sqlite:///{home}/runtime.db")
        settings = Settings(home, "unused", "unused")
        stores = Stores(settings, HistoricalStore(database), RuntimeStore(database))

        done = halt(stores, SLEEVE, "from another process", "anna")

        lines = list(told)
    assert running.returncode == 0
    (run,) = stores.runtime.trading_runs(SLEEVE, "PAPER")
    with (home / "paper" / run["run_id"] / "switch.spool").open("rb") as written:
        assert b"from another process" in written.read()
    spool = Spool(home / "paper" / run["run_id"] / "switch.spool")
    first = date.fromisoformat(json.loads(next(spool.records()))["session"])
    spool.close()
    assert done.state is TradingState.HALTED
    assert first < date(2006, 12, 29), "the node was through before it could be halted"
    after = [line for line in lines if line[:10] > first.isoformat()]
    assert after
    assert all(line.endswith("waiting 0\n") for line in after)
    assert max(fill.timestamp.date() for fill in fills(stores, run["run_id"])) <= first
    database.close()


def test_a_sleeve_is_wound_down_and_then_halted(stores):
    run = traded(stores, FRIDAY, start=START)
    assert run.positions
    shown = flatten_preview(stores, SLEEVE)
    held = rebuild_books(stores.runtime.database, run.run_id, node().sleeves[0].capital_usd).shares

    flatten(stores, SLEEVE, "get out", "anna")
    out = traded(stores, UNTIL)

    assert shown.refusal is None
    assert {row.instrument: row.shares for row in shown.rows} == held
    assert {row.weight_after for row in shown.rows} == {0.0}
    assert out.positions == 0
    found = switch_state(stores, SLEEVE)
    assert found.state is TradingState.HALTED
    assert found.reason.startswith("wound down: nothing is held")
    again = traded(stores, UNTIL)
    assert (again.positions, again.cash) == (0, out.cash)


@pytest.mark.parametrize(
    ("limit", "cause"),
    [
        ("gate.halt_daily_loss=0.0005", HaltCause.DAILY_LOSS),
        ("gate.halt_drawdown=0.005", HaltCause.DRAWDOWN),
    ],
)
def test_a_loss_beyond_the_hard_limit_halts_once(stores, limit, cause):
    run = traded(stores, UNTIL, node(limit), start=START)

    found = switch_state(stores, SLEEVE)

    assert (found.state, found.cause) == (TradingState.HALTED, cause)
    with stores.runtime.database.reader() as connection:
        assert len(events.payloads(connection, f"{STREAM}{SLEEVE}", MOVED)) == 1
    assert run.last == UNTIL


def test_data_that_do_not_come_halt_once(stores):
    calendar, newest = MarketCalendar.of("US_EQ"), panel_of(stores, node().data.dataset).as_of
    missing = calendar.next_session(newest)
    after = calendar.close_time(missing) + timedelta(hours=25)
    stop, asked = Event(), []

    def now():
        asked.append(after)
        if len(asked) > 60:
            stop.set()
        return after

    config = node("paper.poll_seconds=0.001")
    request = PaperRequest(start=calendar.previous_session(newest), until=missing)
    run_paper(config, stores, request, stop, now=now)

    found = switch_state(stores, SLEEVE)
    assert found.cause is HaltCause.STALE_DATA
    assert found.reason == f"the data of {missing} are not here 24 hours after its close"
    with stores.runtime.database.reader() as connection:
        assert len(events.payloads(connection, f"{STREAM}{SLEEVE}", MOVED)) == 1


def test_plans_that_are_refused_again_and_again_halt(stores):
    config = node("gate.halt_after_refusals=3", "gate.max_order_notional_usd=1.0")

    run = traded(stores, UNTIL, config, start=START)

    found = switch_state(stores, SLEEVE)
    assert found.cause is HaltCause.GATE_REFUSALS
    assert "3 plans were refused one after the other" in found.reason
    assert run.fills == 0


def test_a_preview_is_what_the_node_then_sends_and_writes_nothing(stores):
    run = traded(stores, date(2005, 3, 3), start=START)
    folder = stores.settings.home / "paper" / run.run_id
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    ahead = node(f"sessions.end={FRIDAY}")

    (shown,) = preview(ahead, stores)

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    assert (shown.as_of, shown.run_id, shown.refusal) == (FRIDAY, run.run_id, None)
    assert (shown.switch.state, len(statuses(stores, run.run_id))) == (
        TradingState.ARMED,
        run.orders,
    )
    before = len(fills(stores, run.run_id))
    traded(stores, MONDAY)
    sent = {(name, side, int(count)) for name, side, count, _ in fills(stores, run.run_id)[before:]}
    assert {(row.instrument, row.side, row.shares) for row in shown.rows} >= sent
    assert all(row.cost is not None and row.cost > 0 for row in shown.rows)


def test_without_a_run_a_preview_begins_one_at_the_newest_session(stores):
    (shown,) = preview(node(f"sessions.end={FRIDAY}"), stores, start=FRIDAY)

    assert shown.rows
    assert {row.side for row in shown.rows} == {"BUY"}
    assert sum(row.weight_after for row in shown.rows) <= 1.0
    assert stores.runtime.run(shown.run_id) is None


def test_a_preview_of_a_refused_plan_says_why(stores):
    config = node(f"sessions.end={FRIDAY}", "gate.max_order_shares=1")

    (shown,) = preview(config, stores, start=FRIDAY)

    assert shown.refusal is not None
    assert shown.refusal.startswith("refused by max_order_shares: ")
    assert {row.verdict for row in shown.rows} == {shown.refusal}


def test_books_that_agree_reconcile_without_a_break(stores):
    traded(stores, UNTIL, start=START)

    found = reconcile(stores, SLEEVE, "anna")

    assert (found.as_of, found.breaks) == (UNTIL, ())
    assert found.positions > 0
    assert found.switch.state is TradingState.ARMED
    with stores.runtime.database.reader() as connection:
        said = newest(connection, found.run_id)
    assert (said.account_id, said.as_of, said.breaks) == ("sandbox", UNTIL, {})
    assert len(said.shares) == found.positions


def test_a_row_that_was_changed_is_a_break_by_name_and_halts(stores):
    run = traded(stores, UNTIL, start=START)
    with stores.runtime.database.writer() as connection:
        one = connection.execute(
            sa.select(tables.fills.c.fill_id, tables.fills.c.instrument_id, tables.fills.c.side)
            .where(tables.fills.c.run_id == run.run_id)
            .limit(1)
        ).one()
        connection.execute(
            sa.update(tables.fills)
            .where(tables.fills.c.fill_id == one.fill_id)
            .values(quantity=tables.fills.c.quantity + 7)
        )

    found = reconcile(stores, SLEEVE, "anna")

    position, cash = found.breaks
    assert (position.kind, position.subject) == ("position", one.instrument_id)
    assert position.difference == (-7 if one.side == "BUY" else 7)
    assert cash.kind == "cash"
    assert found.switch.cause is HaltCause.RECONCILE_BREAK
    assert one.instrument_id in found.switch.reason


def test_days_on_which_a_sleeve_was_halted_are_not_traded_later(stores, tmp_path):
    calendar = MarketCalendar.of("US_EQ")
    halted, armed = (
        {"state": state, "cause": cause, "reason": "r", "by": "anna", "at": at.isoformat()}
        for state, cause, at in (
            ("HALTED", "OPERATOR", calendar.close_time(FRIDAY)),
            ("ARMED", None, calendar.close_time(MONDAY)),
        )
    )
    with stores.runtime.database.writer() as connection:
        events.append(connection, f"{STREAM}{SLEEVE}", [(MOVED, halted), (MOVED, armed)])
    spool = Spool(tmp_path / "switch.spool")
    switch = PaperSwitch(stores, SLEEVE, calendar, spool)

    def asked(session, phase):
        switch.enter(session, phase, replayed=False)
        return switch()

    assert asked(FRIDAY, "OPEN") is TradingState.ARMED
    assert asked(FRIDAY, "CLOSE") is TradingState.HALTED
    assert asked(MONDAY, "OPEN") is TradingState.HALTED
    assert asked(MONDAY, "CLOSE") is TradingState.ARMED
    spool.close()
    # A restarted node is stopped where it was stopped, whatever the switch says by then.
    spool = Spool(tmp_path / "switch.spool")
    again = PaperSwitch(stores, SLEEVE, calendar, spool)
    again.enter(MONDAY, "OPEN", replayed=True)
    assert again() is TradingState.HALTED
    again.enter(MONDAY, "CLOSE", replayed=True)
    assert again() is TradingState.ARMED
    spool.close()


def test_a_sleeve_that_sends_past_the_gate_halts(stores, monkeypatch):
    from strategies.gate import OrderGate

    monkeypatch.setattr(OrderGate, "_remember", lambda *_: None)

    with pytest.raises(TradingHalted, match="reached the router and 0 passed the gate"):
        traded(stores, UNTIL, start=START)


@pytest.fixture(scope="module")
def invoke(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")

    def run(*arguments, answer=None, **environment):
        variables = {"PROMETHEUS_HOME": str(home), **environment}
        return CliRunner().invoke(app, arguments, env=variables, input=answer)

    run("data", "ingest", "sample")
    return run


def test_the_commands_halt_ask_before_they_arm_and_exit_with_a_break(invoke):
    window = ("--fast", "--from", "2005-02-14", "--until", "2005-03-04")
    assert invoke("paper", str(CONFIG), *window, "--json").exit_code == 0
    sleeve = "US_CORE_LONG_EQ_H21"

    (halted,) = json.loads(invoke("halt", sleeve, "--reason", "drill", "--json").stdout)
    assert (halted["state"], halted["reason"]) == ("HALTED", "drill")
    listed = json.loads(invoke("halt", "--list", "--json").stdout)
    assert [(each["scope"], each["state"]) for each in listed] == [
        ("ALL", "ARMED"),
        (sleeve, "HALTED"),
    ]
    assert invoke("arm", sleeve, "--reason", "over", answer="no\n").exit_code == 1
    assert invoke("arm", sleeve, "--reason", "over", answer=f"{sleeve}\n").exit_code == 0

    clean = invoke("reconcile", sleeve, "--json")
    assert (clean.exit_code, json.loads(clean.stdout)["breaks"]) == (0, [])
    shown = json.loads(
        invoke("preview", str(CONFIG), "--set", "sessions.end=2005-03-04", "--json").stdout
    )
    assert [each["sleeve_id"] for each in shown] == [sleeve]
    refused = invoke("flatten", sleeve, "--reason", "drill", answer="no\n")
    assert refused.exit_code == 1
    flat = json.loads(invoke("flatten", sleeve, "--reason", "drill", "--yes", "--json").stdout)
    assert flat["switch"]["state"] == "FLATTENING"


def test_live_opens_with_both_keys_and_not_with_one(invoke):
    account = {"PROMETHEUS_IB_ACCOUNT": "U1234567", "PROMETHEUS_IB_PORT": "4001"}
    repeated = account | {"PROMETHEUS_IB_LIVE_ACCOUNT": "U1234567"}
    file = ("live", str(CONFIG))
    live = (*file, "--set", "mode=live", "--set", "venue=ib")

    not_live = invoke(*file, "--show-key", **account)
    key = invoke(*live, "--show-key", **account).stdout.strip()
    without = invoke(*live, **repeated)
    other = invoke(*live, PROMETHEUS_LIVE_KEY=key, **repeated | {"PROMETHEUS_IB_ACCOUNT": "U7"})
    paper_port = {"PROMETHEUS_IB_PORT": "4002"}
    wrong_port = invoke(*live, PROMETHEUS_LIVE_KEY=key, **repeated | paper_port)

    assert "is not live" in str(not_live.exception)
    assert len(key) == 16
    assert "PROMETHEUS_LIVE_KEY: is not set" in str(without.exception)
    assert "is not the key of" in str(other.exception)
    assert "4002" in str(wrong_port.exception)
    assert "PROMETHEUS_LIVE_KEY" not in str(wrong_port.exception)
