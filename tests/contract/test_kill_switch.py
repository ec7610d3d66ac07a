"""The kill switch on both databases: what halts, what survives, and what alone arms again."""

from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
import sqlalchemy as sa

from persistence import events
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.kill_switch import STREAM, Brake
from persistence.runtime import RuntimeStore
from persistence.tables.operations import events as events_table
from persistence.tables.trading import alerts
from prometheus_nt.domain.errors import ConfigError, StoreError, TradingHalted
from prometheus_nt.domain.safety import ALL, HaltCause, TradingState
from prometheus_nt.jobs.safety import (
    arm,
    flatten,
    halt,
    halts_of_broker,
    switch_state,
    switch_states,
)
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

SLEEVE, OTHER = "US_CORE_LONG_EQ_H21", "US_CORE_LONG_EQ_H5"


@pytest.fixture
def stores(database, tmp_path):
    return stores_of(database, tmp_path / "home")


def stores_of(database, home):
    settings = Settings(home, "unused", "unused")
    return Stores(settings, HistoricalStore(database), RuntimeStore(database))


def state(stores, scope=SLEEVE):
    return switch_state(stores, scope).state


def open_alerts(stores):
    query = sa.select(alerts.c.subject).where(
        alerts.c.rule == "kill_switch", alerts.c.resolved_at.is_(None)
    )
    with stores.runtime.database.reader() as connection:
        return list(connection.execute(query).scalars())


def test_a_switch_that_nobody_touched_is_armed(stores):
    found = switch_state(stores, SLEEVE)

    assert (found.state, found.at) == (TradingState.ARMED, None)


def test_a_halt_says_who_why_and_when_and_survives_the_process(stores, tmp_path):
    before = datetime.now(UTC)

    halt(stores, SLEEVE, "prices look wrong", "anna")

    # Of another process on another machine: the same database, no file of ours.
    elsewhere = stores_of(stores.runtime.database, tmp_path / "elsewhere")
    found = switch_state(elsewhere, SLEEVE)
    assert found.state is TradingState.HALTED
    assert (found.cause, found.by, found.reason) == (
        HaltCause.OPERATOR,
        "anna",
        "prices look wrong",
    )
    assert before <= found.at <= datetime.now(UTC)
    assert state(stores, OTHER) is TradingState.ARMED
    assert open_alerts(stores) == [SLEEVE]


def test_only_its_name_and_a_reason_arm_a_sleeve_again(stores):
    halt(stores, SLEEVE, "looks wrong", "anna")

    for reason, typed in (("fixed", "yes"), ("fixed", ""), (" ", SLEEVE)):
        with pytest.raises(ConfigError):
            arm(stores, SLEEVE, reason, "ben", typed)
    assert state(stores) is TradingState.HALTED

    arm(stores, SLEEVE, "feed is back", "ben", SLEEVE)

    assert state(stores) is TradingState.ARMED
    assert open_alerts(stores) == []
    with pytest.raises(ConfigError, match="armed already"):
        arm(stores, SLEEVE, "twice", "ben", SLEEVE)


def test_a_halt_of_all_holds_every_sleeve_until_all_is_armed(stores):
    halt(stores, ALL, "exchange is down", "anna")

    with pytest.raises(ConfigError, match="armed already"):
        arm(stores, SLEEVE, "mine is fine", "ben", SLEEVE)
    assert state(stores) is TradingState.HALTED
    assert state(stores, OTHER) is TradingState.HALTED

    arm(stores, ALL, "exchange is back", "anna", ALL)
    assert state(stores) is TradingState.ARMED


def test_arming_all_arms_no_sleeve_that_was_halted_itself(stores):
    halt(stores, SLEEVE, "its own trouble", "anna")
    halt(stores, ALL, "everybody's trouble", "anna")

    arm(stores, ALL, "over", "anna", ALL)

    assert state(stores) is TradingState.HALTED
    assert state(stores, OTHER) is TradingState.ARMED
    assert [(each.scope, each.state.value) for each in switch_states(stores)] == [
        ("ALL", "ARMED"),
        (SLEEVE, "HALTED"),
    ]


def test_a_halted_sleeve_may_be_wound_down_but_not_while_all_is_halted(stores):
    halt(stores, SLEEVE, "looks wrong", "anna")
    flatten(stores, SLEEVE, "get out", "anna")
    assert state(stores) is TradingState.FLATTENING

    halt(stores, ALL, "stop everything", "anna")
    with pytest.raises(ConfigError, match="arm it first"):
        flatten(stores, SLEEVE, "get out", "anna")
    assert state(stores) is TradingState.HALTED


def test_a_halt_without_a_reason_or_of_no_sleeve_is_refused(stores):
    with pytest.raises(ConfigError, match="--reason"):
        halt(stores, SLEEVE, "  ", "anna")
    with pytest.raises(ConfigError, match="no sleeve's id"):
        halt(stores, "../evil", "reason", "anna")


def test_what_the_broker_stops_for_halts_with_its_words(stores):
    halts_of_broker(stores, SLEEVE)("POSITION_BREAK AAPL: 10 here, 20 there")

    found = switch_state(stores, SLEEVE)
    assert (found.cause, found.reason) == (
        HaltCause.BROKER,
        "POSITION_BREAK AAPL: 10 here, 20 there",
    )


def test_a_switch_whose_record_was_changed_lets_nobody_trade(stores):
    halt(stores, SLEEVE, "looks wrong", "anna")
    with stores.runtime.database.writer() as connection:
        text = connection.execute(sa.select(events_table.c.payload)).scalar_one()
        forged = text.replace("HALTED", "ARMED")
        connection.execute(sa.update(events_table).values(payload=forged))

    with pytest.raises(TradingHalted, match=f"{STREAM}{SLEEVE}: entry 1"):
        switch_state(stores, SLEEVE)


def test_halts_from_many_processes_at_once_are_all_kept(stores):
    threads = [
        Thread(target=halt, args=(stores, SLEEVE, f"reason {number}", "anna"))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with stores.runtime.database.reader() as connection:
        assert len(events.read(connection, f"{STREAM}{SLEEVE}")) == 6
        assert events.verify(connection, f"{STREAM}{SLEEVE}") is None


def test_without_a_database_the_brake_of_the_machine_holds(tmp_path):
    # A file in the place of its folder: this database cannot be opened.
    (tmp_path / "blocked").write_text("")
    database = Database.open(f"sqlite:///{tmp_path}/blocked/runtime.db")
    stores = stores_of(database, tmp_path / "home")

    with pytest.raises(StoreError):
        halt(stores, SLEEVE, "the database is gone", "anna")

    found = Brake(tmp_path / "home", SLEEVE).read()
    assert (found.state, found.reason) == (TradingState.HALTED, "the database is gone")
    database.close()


def test_a_brake_counts_although_the_database_is_armed_and_arm_releases_it(stores):
    asked = halt(stores, SLEEVE, "looks wrong", "anna")
    arm(stores, SLEEVE, "fine", "anna", SLEEVE)
    brake = Brake(stores.settings.home, SLEEVE)
    assert brake.read() is None

    brake.pull(asked)
    assert state(stores) is TradingState.HALTED

    arm(stores, SLEEVE, "fine again", "anna", SLEEVE)
    assert state(stores) is TradingState.ARMED


def test_a_brake_that_cannot_be_read_stops_as_well(stores):
    brake = Brake(stores.settings.home, SLEEVE)
    brake.path.parent.mkdir(parents=True)
    brake.path.write_text("{ torn")

    assert state(stores) is TradingState.HALTED


def test_a_clock_that_is_ahead_hides_no_halt(stores, monkeypatch):
    from persistence import kill_switch

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr(kill_switch, "datetime", Ahead)
    halt(stores, SLEEVE, "from a machine an hour ahead", "anna")
    Brake(stores.settings.home, SLEEVE).release()

    monkeypatch.undo()
    assert state(stores) is TradingState.HALTED
