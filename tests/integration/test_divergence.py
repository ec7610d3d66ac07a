"""A paper run beside its backtest: the same to the cent, and what is wrong is named."""

import json
import shutil
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from persistence import schema
from persistence.alerts import Alert, raise_alert
from persistence.database import Database
from persistence.tables import runtime as tables
from prometheus_nt.config import load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.divergence import (
    DivergenceRequest,
    backtest_config,
    measure_divergence,
    summary,
)
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.run_events import recorded_events
from prometheus_nt.jobs.safety import arm, flatten, halt
from prometheus_nt.jobs.traded_runs import SIGNS
from prometheus_nt.reporting.divergence_records import Cause, RunEvent
from tests.integration.conftest import stores_at

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
NOON = datetime(2006, 2, 1, 12, tzinfo=UTC)
SLEEVE = "US_CORE_LONG_EQ_H5"
START, UNTIL = date(2006, 1, 3), date(2006, 3, 29)


@pytest.fixture(scope="module")
def recorded(sample_history, tmp_path_factory):
    """Return the home of sixty sessions of paper and their backtest, and the run."""
    home = tmp_path_factory.mktemp("recorded") / "home"
    home.mkdir()
    database = Database.open(f"sqlite:///{home}/runtime.db")
    schema.upgrade(database, "runtime")
    historical = Database.open(f"sqlite:///{sample_history}")
    stores = stores_at(home, historical, database)
    paper = traded(stores)
    measured(stores, paper.run_id)
    database.close()
    historical.close()
    return home, paper.run_id


@pytest.fixture
def stores(historical, recorded, tmp_path):
    """Return a copy of what was recorded, to be changed."""
    home = tmp_path / "home"
    shutil.copytree(recorded[0], home, symlinks=True)
    database = Database.open(f"sqlite:///{home}/runtime.db")
    yield stores_at(home, historical, database)
    database.close()


@pytest.fixture
def run_id(recorded):
    return recorded[1]


def node(start, until, mode="paper"):
    window = [f"mode={mode}", f"sessions.start={start}", f"sessions.end={until}"]
    config = load_config([CONFIG], window)
    return config.model_copy(
        update={"sleeves": (config.sleeves[0].model_copy(update={"horizon": 5}),)}
    )


def traded(stores, start=START, until=UNTIL):
    (paper,) = run_paper(node(start, until), stores, PaperRequest(fast=True), Event())
    return paper


def measured(stores, run_id, **options):
    return measure_divergence(stores, DivergenceRequest(run_id, **options))


def read(stores, query):
    with stores.runtime.database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def write(stores, *statements):
    with stores.runtime.database.writer() as connection:
        for statement in statements:
            connection.execute(statement)


def sessions_of(stores, run_id):
    curve = tables.backtest_daily_equity.c
    query = sa.select(curve.date).where(curve.run_id == run_id).order_by(curve.date)
    return [row["date"] for row in read(stores, query)]


def first_purchase(stores, run_id, after=date(2006, 1, 20)):
    """Return a purchase in the middle of the run, with the session that follows it."""
    fills = tables.fills.c
    query = (
        sa.select(tables.fills)
        .where(fills.run_id == run_id, fills.side == "BUY")
        .order_by(fills.timestamp, fills.fill_id)
    )
    found = next(row for row in read(stores, query) if row["timestamp"].date() > after)
    days = sessions_of(stores, run_id)
    return found, days[days.index(found["timestamp"].date()) + 1]


def rebook(stores, run_id, strange=()):
    """Write the equity, cash and positions that a run's fills add up to.

    strange : (session, instrument, shares, cash) that no fill explains.
    """
    config = load_config([CONFIG], ["mode=paper"])
    panel = panel_of(stores, config.data.dataset)
    days = sessions_of(stores, run_id)
    fills = read(stores, sa.select(tables.fills).where(tables.fills.c.run_id == run_id))
    flows = read(stores, sa.select(tables.cash_flows).where(tables.cash_flows.c.run_id == run_id))
    (run,) = read(
        stores, sa.select(tables.backtest_runs).where(tables.backtest_runs.c.run_id == run_id)
    )
    marks = pd.DataFrame(panel.close, panel.sessions, panel.instruments).ffill()
    moves = [
        (
            fill["timestamp"].date(),
            fill["instrument_id"],
            SIGNS[fill["side"]] * fill["quantity"],
            -SIGNS[fill["side"]] * fill["quantity"] * fill["price"] - fill["commission"],
        )
        for fill in fills
    ]
    moves += [(flow["session"], "", 0.0, flow["amount"]) for flow in flows]
    moves += strange
    statements = [
        sa.delete(tables.positions_snapshots).where(tables.positions_snapshots.c.run_id == run_id)
    ]
    for day in days:
        cash = run["config_json"]["sleeve"]["capital_usd"]
        held = defaultdict(float)
        for session, name, shares, money in moves:
            if session <= day:
                held[name] += shares
                cash += money
        held = {name: shares for name, shares in held.items() if shares}
        values = {name: shares * marks.at[pd.Timestamp(day), name] for name, shares in held.items()}
        curve = tables.backtest_daily_equity
        statements.append(
            sa.update(curve)
            .where(curve.c.run_id == run_id, curve.c.date == day)
            .values(cash=cash, equity_curve_value=cash + sum(values.values()))
        )
        statements += [
            sa.insert(tables.positions_snapshots).values(
                portfolio_id=run["portfolio_id"],
                as_of_date=day,
                run_id=run_id,
                mode=run["mode"],
                strategy_id=run["strategy_id"],
                instrument_id=name,
                timestamp=datetime(day.year, day.month, day.day, 21, tzinfo=UTC),
                quantity=shares,
                avg_cost=0.0,
                market_value=values[name],
                unrealized_pnl=0.0,
                unmarked_sessions=0,
            )
            for name, shares in held.items()
        ]
    write(stores, *statements)


def explained(stores, run_id, cause, *events):
    """Return the report, which names this cause alone and leaves nothing over."""
    report = measured(stores, run_id, events=events)
    found = report.found
    assert found.named == (cause,)
    assert found.amount(cause) == pytest.approx(found.total, abs=1e-3)
    np.testing.assert_allclose(found.parts.sum(axis=1), found.gap, atol=1e-6)
    assert found.residual_bps < 1e-4
    assert not report.made_backtest
    return report


def test_sixty_sessions_of_paper_do_not_diverge_from_their_backtest(stores, run_id):
    report = measured(stores, run_id, tolerance_bps=0.0001)

    found = report.found
    assert report.within
    assert report.identical
    assert len(found.sessions) == 60
    assert found.counts.fills_same == found.counts.fills_a > 20
    assert found.evidence == ()
    assert found.named == ()
    assert np.abs(found.parts).max() < 1e-6
    assert report.page.read_text().startswith("<!DOCTYPE html>")


def test_rows_that_were_added_up_again_are_the_rows_that_were_recorded(stores, run_id):
    rebook(stores, run_id)

    assert measured(stores, run_id, tolerance_bps=0.0001).found.named == ()


def test_the_backtest_is_made_if_there_is_none_and_found_if_there_is(
    historical, sqlite_database, tmp_path
):
    stores = stores_at(tmp_path / "home", historical, sqlite_database)
    paper = traded(stores, until=date(2006, 1, 20))

    first = measured(stores, paper.run_id)
    again = measured(stores, paper.run_id)

    assert first.made_backtest
    assert not again.made_backtest
    assert first.found.run_b == again.found.run_b
    assert "was made" in first.notes[0]


def test_a_backtest_of_the_same_file_is_the_one_that_is_found(stores, run_id):
    (made,) = run_backtest(node(START, UNTIL, "backtest"), stores)

    report = measured(stores, run_id)

    assert made.cached
    assert report.found.run_b == made.run_id
    run = stores.runtime.run(run_id)
    config = backtest_config(run)
    assert config.config_hash(config.sleeves[0]) == stores.runtime.run(made.run_id)["config_hash"]


def test_a_split_in_the_middle_is_no_divergence(historical, sqlite_database, tmp_path):
    """AAPL 2-for-1 on 2005-02-28: the backtest counts tomorrow's shares, paper today's."""
    stores = stores_at(tmp_path / "home", historical, sqlite_database)
    paper = traded(stores, date(2005, 2, 14), date(2005, 3, 18))

    report = measured(stores, paper.run_id, tolerance_bps=0.001)

    assert report.within
    assert report.identical
    assert report.found.named == ()


def test_another_price_is_named(stores, run_id):
    bought, _ = first_purchase(stores, run_id)
    fills = tables.fills
    dearer = sa.update(fills).where(fills.c.fill_id == bought["fill_id"])
    write(stores, dearer.values(price=bought["price"] * 1.02))
    rebook(stores, run_id)

    report = explained(stores, run_id, Cause.FILL_PRICE)

    assert report.found.total == pytest.approx(-0.02 * bought["price"] * bought["quantity"])
    assert report.found.counts.fills_same == report.found.counts.fills_a - 1
    (item,) = report.found.evidence
    assert (item.session, item.instrument_id) == (
        bought["timestamp"].date(),
        bought["instrument_id"],
    )
    assert not report.within


def test_another_commission_is_named(stores, run_id):
    bought, _ = first_purchase(stores, run_id)
    fills = tables.fills
    costly = sa.update(fills).where(fills.c.fill_id == bought["fill_id"])
    write(stores, costly.values(commission=bought["commission"] + 25.0))
    rebook(stores, run_id)

    report = explained(stores, run_id, Cause.COST)

    assert report.found.total == pytest.approx(-25.0)


def test_a_later_fill_is_named(stores, run_id):
    bought, next_day = first_purchase(stores, run_id)
    fills = tables.fills
    late = datetime(next_day.year, next_day.month, next_day.day, 14, 30, tzinfo=UTC)
    change = sa.update(fills).where(fills.c.fill_id == bought["fill_id"])
    write(stores, change.values(timestamp=late, price=bought["price"] * 1.01))
    rebook(stores, run_id)

    report = measured(stores, run_id)

    # For a night the commission is not paid yet either.
    assert set(report.found.named) == {Cause.TIMING, Cause.COST}
    assert report.found.amount(Cause.COST) == pytest.approx(0.0, abs=1e-6)
    assert report.found.amount(Cause.TIMING) == pytest.approx(report.found.total)
    assert report.found.total == pytest.approx(-0.01 * bought["price"] * bought["quantity"])
    assert report.found.residual_bps < 1e-4


def lose_a_fill(stores, run_id):
    bought, _ = first_purchase(stores, run_id)
    write(stores, sa.delete(tables.fills).where(tables.fills.c.fill_id == bought["fill_id"]))
    rebook(stores, run_id)
    return bought


def test_a_missing_fill_is_named(stores, run_id):
    lost = lose_a_fill(stores, run_id)

    report = explained(stores, run_id, Cause.MISSED_FILL)

    assert {item.instrument_id for item in report.found.evidence} == {lost["instrument_id"]}
    assert report.found.counts.fills_a == report.found.counts.fills_b - 1


def test_a_missing_fill_of_a_recorded_fault_has_its_name(stores, run_id):
    lost = lose_a_fill(stores, run_id)
    fault = RunEvent(lost["timestamp"].date(), "reject_order", order_id=lost["order_id"])

    report = explained(stores, run_id, Cause.FAULT, fault)

    assert report.found.event_parts == (pytest.approx(report.found.total, abs=1e-3),)
    assert {item.event for item in report.found.evidence} == {"reject_order"}
    assert "FAULT: reject_order (MISSED_FILL)" in report.page.read_text()


def test_an_alert_that_names_its_session_is_such_a_fault(stores, run_id):
    lost = lose_a_fill(stores, run_id)
    session = lost["timestamp"].date()
    with stores.runtime.database.writer() as connection:
        raise_alert(
            connection,
            Alert(
                "link_lost",
                "WARNING",
                run_id,
                "gone",
                {"session": str(session), "order_id": lost["order_id"]},
                NOON,
            ),
        )

    report = explained(stores, run_id, Cause.FAULT)

    assert [event.name for event in report.found.events] == ["link_lost"]


def test_an_order_of_a_person_is_named(stores, run_id):
    bought, _ = first_purchase(stores, run_id)
    (order,) = read(
        stores, sa.select(tables.orders).where(tables.orders.c.order_id == bought["order_id"])
    )
    own = {"order_id": "by-hand", "quantity": 10.0}
    fill = bought | own | {"fill_id": "by-hand-1"}
    write(
        stores,
        sa.insert(tables.orders).values(order | own | {"decision_id": None}),
        sa.insert(tables.fills).values(fill),
    )
    rebook(stores, run_id)

    report = explained(stores, run_id, Cause.MANUAL)

    assert report.found.counts.only_a == 1
    assert report.found.evidence[0].order_a == "by-hand"


def test_a_position_that_nothing_explains_is_named(stores, run_id):
    bought, _ = first_purchase(stores, run_id)
    session, name = bought["timestamp"].date(), bought["instrument_id"]
    rebook(stores, run_id, [(session, name, 10.0, -10.0 * bought["price"])])

    report = explained(stores, run_id, Cause.MANUAL)

    assert [item.shares for item in report.found.evidence] == [10.0, 0.0]


def interrupted(stores, **acts):
    """Trade sixty sessions of paper, and act after some of them; return the divergence."""

    def tell(status):
        if str(status.session) in acts["at"]:
            acts["at"][str(status.session)]()

    asked = PaperRequest(fast=True)
    (paper,) = run_paper(node(START, UNTIL), stores, asked, Event(), tell)
    return measured(stores, paper.run_id).found


def test_what_a_halt_kept_from_being_traded_is_its_own_cause(historical, sqlite_database, tmp_path):
    stores = stores_at(tmp_path / "home", historical, sqlite_database)

    found = interrupted(
        stores,
        at={
            "2006-01-19": lambda: halt(stores, SLEEVE, "looks wrong", "anna"),
            "2006-02-08": lambda: arm(stores, SLEEVE, "looks right", "anna", SLEEVE),
        },
    )

    (event,) = found.events
    assert (event.name, event.cause) == ("halt", Cause.HALT)
    assert date(2006, 1, 19) < event.session < event.until <= date(2006, 2, 8)
    assert "looks wrong" in event.detail
    assert found.named == (Cause.HALT,)
    assert found.event_parts == (pytest.approx(found.total, abs=1e-6),)
    assert abs(found.total) > 1.0


def test_a_wind_down_is_of_a_person_and_what_its_halt_keeps_back_is_of_the_halt(
    historical, sqlite_database, tmp_path
):
    stores = stores_at(tmp_path / "home", historical, sqlite_database)

    found = interrupted(
        stores, at={"2006-01-19": lambda: flatten(stores, SLEEVE, "get out", "anna")}
    )

    assert [(event.name, event.cause) for event in found.events] == [
        ("flatten", Cause.MANUAL),
        ("halt", Cause.HALT),
    ]
    assert found.named == (Cause.MANUAL, Cause.HALT)
    assert sum(found.event_parts) == pytest.approx(found.total, abs=1e-6)


def test_a_halt_that_held_orders_back_at_night_is_found_by_its_time(stores, run_id):
    """A broker's node asks the switch when it sends, which no phase of a session remembers."""
    halt(stores, SLEEVE, "the broker holds other shares", "broker adapter")
    run = stores.runtime.run(run_id)
    sessions = MarketCalendar.of("US_EQ").between(START, UNTIL)

    live = {**run, "run_id": "of-today"}
    today = MarketCalendar.of("US_EQ").between(date(2006, 1, 3), datetime.now(UTC).date())[-5:]

    assert list(recorded_events(stores, live, sessions)) == []
    (event,) = recorded_events(stores, live, today)
    assert (event.name, event.cause, event.until) == ("halt", Cause.HALT, today[-1].item())
    assert "the broker holds other shares" in event.detail


def test_a_node_that_halted_itself_is_a_halt_of_its_session(stores, run_id):
    at = datetime(2006, 2, 1, 22, tzinfo=UTC)
    with stores.runtime.database.writer() as connection:
        raise_alert(connection, Alert("trading_halted", "CRITICAL", run_id, "no link", {}, at))

    (event,) = measured(stores, run_id).found.events

    assert (event.name, event.cause) == ("halt", Cause.HALT)
    assert (event.session, event.until) == (date(2006, 2, 1), date(2006, 2, 1))


def buy_more(stores, run_id):
    """Have the paper run decide and fill ten shares more than the backtest."""
    bought, _ = first_purchase(stores, run_id)
    orders, fills, targets = tables.orders, tables.fills, tables.target_portfolios
    (order,) = read(stores, sa.select(orders).where(orders.c.order_id == bought["order_id"]))
    decided = date.fromisoformat(order["decision_id"].rpartition(":")[2])
    here = (targets.c.run_id == run_id, targets.c.as_of_date == decided)
    (target,) = read(stores, sa.select(targets).where(*here))
    weights = dict(target["target_positions"]["weights"])
    weights[bought["instrument_id"]] = weights.get(bought["instrument_id"], 0.0) + 0.01
    more = bought["quantity"] + 10.0
    write(
        stores,
        sa.update(orders).where(orders.c.order_id == bought["order_id"]).values(quantity=more),
        sa.update(fills)
        .where(fills.c.fill_id == bought["fill_id"])
        .values(quantity=more, commission=bought["commission"] * more / bought["quantity"]),
        sa.update(targets).where(*here).values(target_positions={"weights": weights}),
    )
    rebook(stores, run_id)
    return decided


def test_another_target_is_a_signal(stores, run_id):
    buy_more(stores, run_id)

    report = explained(stores, run_id, Cause.SIGNAL)

    (item,) = report.found.evidence
    assert item.shares == pytest.approx(10.0)
    assert "another target, by up to 0.0100" in item.detail


def test_another_target_from_other_data_is_data(stores, run_id):
    decided = buy_more(stores, run_id)
    made = tables.engine_decisions
    write(
        stores,
        sa.update(made)
        .where(made.c.run_id == run_id, made.c.as_of_date == decided)
        .where(made.c.engine_name == "ASSESSMENT")
        .values(output_refs={"record_hash": "of other prices"}),
    )

    report = explained(stores, run_id, Cause.DATA)

    assert report.found.evidence[0].detail == "the engines saw other data"


def test_what_is_found_is_plain_and_stored_beside_the_page(stores, run_id):
    lose_a_fill(stores, run_id)

    report = measured(stores, run_id)

    stored = json.loads(report.page.with_name("divergence.json").read_text())
    found = summary(report)
    assert stored == json.loads(json.dumps(found, default=str))
    assert sum(row["usd"] for row in stored["causes"]) == pytest.approx(stored["gap_usd"])
    assert stored["within"] is False


def test_runs_that_cannot_be_compared_are_refused(stores, run_id):
    backtest = measured(stores, run_id).found.run_b
    (other,) = run_backtest(node(date(2006, 2, 1), date(2006, 2, 10), "backtest"), stores)

    with pytest.raises(ConfigError, match="is given twice"):
        measured(stores, run_id, backtest=run_id)
    with pytest.raises(ConfigError, match="is a backtest; name the run"):
        measured(stores, backtest)
    with pytest.raises(ConfigError, match=r"begins on 2006-01-03.*begins on 2006-02-01"):
        measured(stores, run_id, backtest=other.run_id)
