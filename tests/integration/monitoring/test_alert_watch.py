"""The thread that judges the rules of alerts beside the server."""

from time import monotonic, sleep

import pytest
import sqlalchemy as sa

from persistence.tables import trading
from persistence.watch import alert_rows
from prometheus_nt.domain.errors import StoreUnavailable
from prometheus_nt.jobs import alert_watch
from prometheus_nt.jobs.alert_watch import AlertWatch
from tests.integration.monitoring.world import World, at, fill, put

pytestmark = pytest.mark.integration


def fall(database, drawdown):
    world = World(mode="PAPER")
    fill(database, world)
    account = {"event_id": "a", "run_id": world.run_id("FAST"), "drawdown": drawdown}
    account |= {"timestamp": at(world.sessions[-1]), "as_of_date": world.sessions[-1]}
    put(database, trading.account_states, [account])


def until(found):
    begun = monotonic()
    while not found():
        assert monotonic() - begun < 60, "it did not happen"
        sleep(0.02)


def rules(database):
    return [row["rule"] for row in alert_rows(database, only_open=True) if row["rule"] != "X"]


def test_what_goes_wrong_is_raised_and_what_ends_is_resolved(settings, database):
    fall(database, -0.5)
    watch = AlertWatch(settings, every_seconds=0.05)

    watch.start()

    try:
        until(lambda: rules(database) == ["drawdown"])
        with database.writer() as connection:
            connection.execute(sa.update(trading.account_states).values(drawdown=-0.01))
        until(lambda: rules(database) == [])
    finally:
        watch.stop()
    assert not watch._thread.is_alive()


def test_a_check_that_fails_is_made_again(settings, database, monkeypatch):
    fall(database, -0.5)
    real, failed = alert_watch.check, []

    def check(*given):
        if not failed:
            failed.append(given)
            raise StoreUnavailable("the database is away")
        return real(*given)

    monkeypatch.setattr(alert_watch, "check", check)
    watch = AlertWatch(settings, every_seconds=0.05)
    watch.start()
    try:
        until(lambda: rules(database) == ["drawdown"])
    finally:
        watch.stop()
    assert failed
