"""A node on the simulated venue: what it records, and that nothing can make it record otherwise."""

import os
import random
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import sqlalchemy as sa

from persistence import events, schema
from persistence.database import Database
from persistence.tables import runtime as tables
from persistence.tables.historical import bars, dataset_instruments
from persistence.tables.trading import account_states, alerts, executions, order_status_history
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import (
    AccountingError,
    DataError,
    DeterminismError,
    PhaseError,
    StoreError,
    StoreUnavailable,
    TradingHalted,
)
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from tests.integration.conftest import stores_at

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
KILL_POINTS = int(os.environ.get("PROMETHEUS_KILL_POINTS", "8"))
"""PROMETHEUS_KILL_POINTS=100 makes that many trials."""

SHARED = (
    tables.orders,
    tables.fills,
    tables.executed_actions,
    tables.backtest_trades,
    tables.backtest_daily_equity,
    tables.positions_snapshots,
    tables.cash_flows,
    tables.target_portfolios,
    tables.portfolio_risk_reports,
    tables.book_targets,
    tables.universe_members,
    tables.instrument_scores,
    tables.profiles,
    tables.stability_vectors,
    tables.soft_target_classes,
    tables.fragility_measures,
    tables.regimes,
    tables.regime_transitions,
    tables.risk_actions,
    tables.engine_decisions,
    tables.decision_outcomes,
)
ONLY_PAPER = (order_status_history, account_states, executions)
WALL_CLOCK = {"recorded_at", "created_at", "config_snapshot"}
RECORDING = (str(Path("persistence").absolute()), str(Path("prometheus_nt/jobs").absolute()))


def node(*assignments, mode="paper", horizon=5):
    own = [f"mode={mode}", *assignments]
    config = load_config([CONFIG], own)
    return config.model_copy(
        update={"sleeves": (config.sleeves[0].model_copy(update={"horizon": horizon}),)}
    )


def traded(config, stores, start, until, **options):
    request = PaperRequest(fast=True, start=start, until=until)
    (summary,) = run_paper(config, stores, request, options.pop("stop", Event()), **options)
    return summary


def rows(database, table, run_id):
    """Return the rows of a run without what has to differ: id, mode, settings' hash, clocks."""
    columns = [column for column in table.columns if column.name not in WALL_CLOCK | {"mode"}]
    query = sa.select(*columns).order_by(*table.primary_key)
    if "run_id" in table.columns:
        query = query.where(table.c.run_id == run_id)
    with database.reader() as connection:
        found = connection.execute(query).all()
    return [
        tuple(without(value, run_id) for value in row)
        for row in found
        if "run_id" in table.columns or run_id in str(row)
    ]


def without(value, run_id):
    if isinstance(value, str):
        return value.replace(run_id, "RUN")
    if isinstance(value, dict):
        return {name: without(each, run_id) for name, each in value.items() if name != "mode"}
    return value


def everything(database, run_id):
    found = {table.name: rows(database, table, run_id) for table in (*SHARED, *ONLY_PAPER)}
    with database.reader() as connection:
        assert events.verify(connection, run_id) is None
        stream = events.read(connection, run_id)
    return found | {"events": [without(str(each), run_id) for each in stream]}


def test_sixty_sessions_of_paper_leave_the_rows_of_the_backtest(stores):
    start, until = date(2006, 1, 3), date(2006, 3, 29)
    window = [f"sessions.start={start}", f"sessions.end={until}"]
    (backtest,) = run_backtest(node(*window, mode="backtest"), stores)

    paper = traded(node(*window), stores, None, None)

    assert paper.sessions == 60
    assert paper.fills > 20
    for table in SHARED:
        expected = rows(stores.runtime.database, table, backtest.run_id)
        found = rows(stores.runtime.database, table, paper.run_id)
        if table is tables.engine_decisions:
            expected = [row for row in expected if "BACKTEST_SLEEVE_RUNNER" not in row]
        if table is tables.decision_outcomes:
            # A backtest's decisions are also evaluated on the sessions after its end.
            known = {row[:2] for row in found}
            expected = [row[:-2] for row in expected if row[:2] in known]
            found = [row[:-2] for row in found]
            # Eleven rebalances have five sessions after them, ten also have twenty-one.
            assert {horizon for _, horizon in known} == {5, 21}
        assert found == expected, table.name


def test_a_split_in_the_middle_is_the_same_trade_in_other_shares(stores):
    """AAPL 2-for-1 on 2005-02-28: the backtest counts tomorrow's shares, paper today's."""
    start, until = date(2005, 2, 14), date(2005, 3, 18)
    window = [f"sessions.start={start}", f"sessions.end={until}"]
    (backtest,) = run_backtest(node(*window, mode="backtest"), stores)

    paper = traded(node(*window), stores, None, None)

    before, after = (
        rows(stores.runtime.database, tables.fills, run.run_id) for run in (backtest, paper)
    )
    names = [column.name for column in tables.fills.columns if column.name != "mode"]
    at = {name: names.index(name) for name in ("timestamp", "instrument_id", "quantity", "price")}
    assert len(before) == len(after) > 10
    halved = 0
    for one, other in zip(before, after, strict=True):
        assert one[at["instrument_id"]] == other[at["instrument_id"]]
        early = one[at["timestamp"]].date() < date(2005, 2, 28)
        ratio = 2.0 if early and one[at["instrument_id"]] == "AAPL.US" else 1.0
        halved += ratio == 2.0
        assert one[at["quantity"]] == ratio * other[at["quantity"]]
        assert one[at["price"]] == pytest.approx(other[at["price"]] / ratio, abs=2e-6)
    assert halved > 0
    flows = rows(stores.runtime.database, tables.cash_flows, paper.run_id)
    (split,) = [flow for flow in flows if "SPLIT" in flow]
    assert split[-2] > 0
    assert split[-1] == 0.0
    curves = [
        [row[3] for row in rows(stores.runtime.database, tables.backtest_daily_equity, run.run_id)]
        for run in (backtest, paper)
    ]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-8)


class Calendar:
    """A clock that moves a few hours whenever somebody waits."""

    def __init__(self, begins, ends):
        self.time, self.ends = begins, ends

    def now(self):
        return self.time

    def is_set(self):
        return self.time >= self.ends

    def wait(self, timeout):
        self.time += timedelta(hours=5)
        return self.is_set()


def test_sessions_that_arrive_one_by_one_leave_the_rows_of_a_run_in_one_go(
    historical, both_databases, tmp_path
):
    first, second = both_databases
    at_once = stores_at(tmp_path / "a", historical, first)
    day_by_day = stores_at(tmp_path / "b", historical, second)
    start, until = date(2005, 2, 14), date(2005, 3, 18)
    whole = traded(node(), at_once, start, until)
    clock = Calendar(datetime(2005, 2, 13, tzinfo=UTC), datetime(2005, 3, 19, tzinfo=UTC))

    (slow,) = run_paper(node(), day_by_day, PaperRequest(start=start), clock, now=clock.now)

    assert slow == whole
    assert slow.sessions == slow.new_sessions == 24
    assert everything(second, slow.run_id) == everything(first, whole.run_id)


def test_a_run_goes_on_where_it_was_and_knows_itself_without_its_start(stores):
    start = date(2005, 2, 14)
    first = traded(node(), stores, start, date(2005, 3, 1))

    second = traded(node(), stores, None, date(2005, 3, 18))

    assert second.run_id == first.run_id
    assert (second.sessions, second.new_sessions) == (24, 13)
    run = stores.runtime.run(first.run_id)
    assert (run["mode"], run["status"], run["end_date"]) == ("PAPER", "STOPPED", date(2005, 3, 18))


def test_a_late_correction_of_prices_changes_no_past_and_raises_an_alert(stores, historical):
    first = traded(node(), stores, date(2005, 2, 14), date(2005, 3, 1))
    before = everything(stores.runtime.database, first.run_id)

    with corrected(stores, date(2005, 2, 18)):
        second = traded(node(), stores, None, date(2005, 3, 4))

    after = everything(stores.runtime.database, second.run_id)
    assert after["events"][: len(before["events"])] == before["events"]
    (alert,) = alerts_of(stores)
    assert (alert["rule"], alert["subject"]) == ("history_revised", first.run_id)
    assert alert["details"] == {"close": 1}


def test_a_lost_tape_and_other_prices_halt_with_the_first_difference(stores, historical):
    first = traded(node(), stores, date(2005, 2, 14), date(2005, 3, 1))
    (stores.settings.home / "paper" / first.run_id / "tape.spool").unlink()

    with (
        corrected(stores, date(2005, 2, 18)),
        pytest.raises(DeterminismError, match=r"event \d+, of 2005-02-18.*account_states"),
    ):
        traded(node(), stores, None, date(2005, 3, 4))

    (alert,) = [each for each in alerts_of(stores) if each["rule"] == "trading_halted"]
    assert "DeterminismError" in alert["message"]
    assert stores.runtime.run(first.run_id)["status"] == "HALTED"


@contextmanager
def corrected(stores, session):
    """Change a stored close as nothing in the product would: without a revision of the data."""
    this = one_bar(stores, "IBM.US", session)
    for factor in (1.5, 1 / 1.5):
        with stores.historical.database.writer() as connection:
            change = sa.update(bars).where(*this)
            connection.execute(change.values(close=bars.c.close * factor))
        forget_panels(stores)
        if factor > 1:
            yield


def one_bar(stores, instrument_id, session):
    members = dataset_instruments.c
    query = sa.select(members.series_id).where(
        members.dataset_id == "sample_ohlcv", members.instrument_id == instrument_id
    )
    with stores.historical.database.reader() as connection:
        series = connection.execute(query).scalar_one()
    return bars.c.series_id == series, bars.c.day == (session - date(1970, 1, 1)).days


def forget_panels(stores):
    for file in stores.settings.cache_dir.glob("panel-*"):
        file.unlink()


def alerts_of(stores):
    with stores.runtime.database.reader() as connection:
        return [dict(row) for row in connection.execute(sa.select(alerts)).mappings()]


def test_rows_that_do_not_add_up_to_the_books_halt(stores):
    first = traded(node(), stores, date(2005, 2, 14), date(2005, 3, 1))
    with stores.runtime.database.writer() as connection:
        connection.execute(sa.delete(tables.cash_flows).where(tables.cash_flows.c.kind == "SPLIT"))

    with pytest.raises(AccountingError, match=r"rows add up to shares.*AAPL\.US"):
        traded(node(), stores, None, date(2005, 3, 4))

    assert stores.runtime.run(first.run_id)["status"] == "HALTED"


def test_a_changed_event_halts(stores):
    first = traded(node(), stores, date(2005, 2, 14), date(2005, 3, 1))
    with stores.runtime.database.writer() as connection:
        connection.exec_driver_sql("UPDATE events SET payload = '{}' WHERE sequence = 7")

    with pytest.raises(TradingHalted, match="event 7 is not what was recorded"):
        traded(node(), stores, None, date(2005, 3, 4))

    assert first.run_id


def test_too_few_bars_stop_a_rehearsal_after_what_was_complete(stores):
    config = node()
    config = config.model_copy(update={"instruments": ("AAPL.US", "GOOG.US", "MSFT.US")})

    with (
        missing_bar(stores, "MSFT.US", date(2005, 2, 16)),
        pytest.raises(DataError, match="2005-02-16: 2 of 3 instruments have their bar"),
    ):
        traded(config, stores, date(2005, 2, 14), date(2005, 3, 1))

    (run,) = stores.runtime.trading_runs(
        config.sleeves[0].sleeve_id, "PAPER", config.trading_hash(config.sleeves[0])
    )
    assert run["end_date"] == date(2005, 2, 15)


@contextmanager
def missing_bar(stores, instrument_id, session):
    this = one_bar(stores, instrument_id, session)
    with stores.historical.database.writer() as connection:
        kept = connection.execute(sa.select(bars).where(*this)).mappings().one()
        connection.execute(sa.delete(bars).where(*this))
    forget_panels(stores)
    try:
        yield
    finally:
        with stores.historical.database.writer() as connection:
            connection.execute(sa.insert(bars).values(**kept))


def test_a_second_process_may_not_trade_the_same_run(stores):
    refusals = []

    def again(_status):
        if not refusals:
            with pytest.raises(StoreError, match="another process trades this run") as refused:
                traded(node(), stores, date(2005, 2, 14), date(2005, 2, 18))
            refusals.append(refused.value)

    traded(node(), stores, date(2005, 2, 14), date(2005, 2, 18), tell=again)

    assert refusals


def test_a_process_elsewhere_is_refused_while_the_lease_lasts(stores, tmp_path):
    elsewhere = replace(stores, settings=replace(stores.settings, home=tmp_path / "elsewhere"))
    refusals = []

    def again(_status):
        if not refusals:
            with pytest.raises(PhaseError, match="trades it until") as refused:
                traded(node(), elsewhere, date(2005, 2, 14), date(2005, 2, 18))
            refusals.append(refused.value)

    traded(node(), stores, date(2005, 2, 14), date(2005, 2, 18), tell=again)

    assert refusals


def test_a_process_that_lost_its_lease_can_write_nothing_more(stores):
    def steal(_status):
        with stores.runtime.database.writer() as connection:
            connection.exec_driver_sql("UPDATE trading_leases SET owner = 'somebody else'")

    with pytest.raises(TradingHalted, match="was taken over"):
        traded(node(), stores, date(2005, 2, 14), date(2005, 2, 18), tell=steal)

    (run,) = stores.runtime.trading_runs(
        "US_CORE_LONG_EQ_H5", "PAPER", node().trading_hash(node().sleeves[0])
    )
    assert run["end_date"] == date(2005, 2, 14)


def test_a_stop_between_two_sessions_leaves_whole_sessions(stores):
    stop = Event()

    first = traded(
        node(),
        stores,
        date(2005, 2, 14),
        date(2005, 3, 18),
        stop=stop,
        tell=lambda status: stop.set() if status.session.day == 17 else None,
    )

    assert first.last == date(2005, 2, 17)
    second = traded(node(), stores, None, date(2005, 3, 18))
    assert (second.sessions, second.new_sessions) == (24, 20)


def test_a_database_that_goes_away_and_comes_back_loses_nothing(
    historical, sqlite_database, stoppable_postgres, tmp_path
):
    calm = stores_at(tmp_path / "calm", historical, sqlite_database)
    start, until = date(2005, 2, 14), date(2005, 3, 18)
    expected = traded(node(), calm, start, until)
    url = stoppable_postgres.url.render_as_string(hide_password=False)
    database = Database.open(url)
    schema.upgrade(database, "runtime")
    stormy = stores_at(tmp_path / "stormy", historical, database)

    def weather(status):
        if status.session == date(2005, 2, 24):
            stoppable_postgres.stop()
        if status.session == date(2005, 3, 9):
            stoppable_postgres.start()

    found = traded(node(), stormy, start, until, tell=weather)

    assert found == expected
    assert everything(database, found.run_id) == everything(sqlite_database, expected.run_id)
    (alert,) = alerts_of(stormy)
    assert (alert["rule"], alert["severity"], alert["count"]) == (
        "database_unavailable",
        "CRITICAL",
        1,
    )
    assert alert["details"]["session"] == "2005-02-25"
    assert alert["resolved_at"] is not None
    database.close()


def test_a_run_that_ends_while_the_database_is_away_is_written_at_the_next_start(
    historical, sqlite_database, stoppable_postgres, tmp_path
):
    calm = stores_at(tmp_path / "calm", historical, sqlite_database)
    start, until = date(2005, 2, 14), date(2005, 3, 4)
    expected = traded(node(), calm, start, until)
    database = Database.open(stoppable_postgres.url.render_as_string(hide_password=False))
    schema.upgrade(database, "runtime")
    stormy = stores_at(tmp_path / "stormy", historical, database)
    config = node("paper.wait_for_database_seconds=0")

    def weather(status):
        if status.session == date(2005, 2, 24):
            stoppable_postgres.stop()

    with pytest.raises(StoreUnavailable, match="bytes wait in the spool"):
        traded(config, stormy, start, until, tell=weather)
    stoppable_postgres.start()
    found = traded(config, stormy, start, until)

    assert replace(found, new_sessions=expected.new_sessions) == expected
    assert everything(database, found.run_id) == everything(sqlite_database, expected.run_id)
    database.close()


def test_neither_database_nor_spool_halts_trading(historical, stoppable_postgres, tmp_path):
    database = Database.open(stoppable_postgres.url.render_as_string(hide_password=False))
    schema.upgrade(database, "runtime")
    stores = stores_at(tmp_path / "home", historical, database)
    start = date(2005, 2, 14)
    first = traded(node(), stores, start, date(2005, 2, 18))
    outbox = tmp_path / "home" / "paper" / first.run_id / "outbox.spool"
    outbox.unlink()
    outbox.symlink_to("/dev/full")
    told = []

    def weather(status):
        told.append(status.session)
        if status.session == date(2005, 2, 24):
            stoppable_postgres.stop()

    with pytest.raises(TradingHalted, match="trading halts and positions stay"):
        traded(node(), stores, None, date(2005, 3, 18), tell=weather)

    assert told[-1] == date(2005, 2, 24)
    database.close()
    stoppable_postgres.start()


def test_killed_anywhere_and_started_again_the_record_is_that_of_a_calm_run(
    historical, sqlite_template, tmp_path
):
    start, until = date(2005, 2, 23), date(2005, 3, 4)
    calm = Trial(historical, sqlite_template, tmp_path / "calm", start, until)
    assert not calm.killed_at(None)
    expected = calm.everything()
    # What the first look at a run imports and remembers is inherited by every later process.
    counted = Trial(historical, sqlite_template, tmp_path / "counted", start, until)
    length = counted.count_calls()
    rng = random.Random(20050228)
    points = sorted(rng.randrange(length) for _ in range(KILL_POINTS))

    for number, point in enumerate(points):
        trial = Trial(historical, sqlite_template, tmp_path / f"trial{number}", start, until)
        assert trial.killed_at(point), point
        if number % 3 == 0:
            trial.killed_at(rng.randrange(length))
        assert trial.killed_at(None) is False
        assert trial.everything() == expected, point


class Trial:
    """A paper run in a process of its own, which kills itself at the n-th call it makes."""

    def __init__(self, historical, template, home, start, until):
        home.mkdir()
        self.home, self.start, self.until = home, start, until
        self.historical = historical
        self.file = home / "runtime.db"
        self.file.write_bytes(template.read_bytes())

    def stores(self):
        historical = Database.open(f"sqlite:///{self.historical._path}")
        return stores_at(self.home, historical, Database.open(f"sqlite:///{self.file}"))

    def count_calls(self):
        assert self.killed_at(None) is False
        return int((self.home / "calls").read_text())

    def killed_at(self, point):
        child = os.fork()
        if child == 0:
            self._child(point)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return True
        assert os.WEXITSTATUS(status) == 0
        return False

    def _child(self, point):
        calls = 0

        def count(frame, _event, _argument):
            nonlocal calls
            # The engines cannot lose anything: only calls of, and from, what records are counted.
            calls += frame.f_code.co_filename.startswith(RECORDING)
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            stores = self.stores()
            config = node()
            sys.setprofile(count)
            traded(config, stores, self.start, self.until)
            sys.setprofile(None)
            (self.home / "calls").write_text(str(calls))
            code = 0
        finally:
            # Not a line of pytest's own may run in the copy of its process.
            os._exit(code)

    def everything(self):
        database = Database.open(f"sqlite:///{self.file}")
        with database.reader() as connection:
            (run_id,) = connection.execute(sa.select(tables.backtest_runs.c.run_id)).scalars()
        found = everything(database, run_id)
        database.close()
        assert found["fills"]
        return found
