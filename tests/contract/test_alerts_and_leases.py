"""Alerts are counted, leases are held by one, on either engine."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from persistence.alerts import Alert, acknowledge, raise_alert, resolve
from persistence.leases import Lease
from persistence.tables.trading import alerts
from prometheus_nt.domain.errors import PhaseError, TradingHalted

AT = datetime(2024, 3, 1, 14, 30, tzinfo=UTC)


def alert(minutes=0, **facts):
    usual = {"rule": "r", "severity": "WARNING", "subject": "s", "message": "m", "details": {}}
    return Alert(**usual | facts, at=AT + timedelta(minutes=minutes))


def stored(database):
    query = sa.select(alerts).order_by(alerts.c.first_at, alerts.c.subject)
    with database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_one_rule_about_one_subject_is_one_row_that_counts(database):
    with database.writer() as connection:
        first = raise_alert(connection, alert())
        acknowledge(connection, first, "me")
        again = raise_alert(connection, alert(5, message="worse", details={"n": 2}))
        raise_alert(connection, alert(6, subject="other"))

    (row, other) = stored(database)
    assert first == again == row["alert_id"]
    assert (row["count"], row["message"], row["details"]) == (2, "worse", {"n": 2})
    assert (row["first_at"], row["last_at"]) == (AT, AT + timedelta(minutes=5))
    assert row["acknowledged_by"] == "me"
    assert other["count"] == 1


def test_what_comes_back_after_it_was_resolved_is_a_new_alert(database):
    with database.writer() as connection:
        raise_alert(connection, alert())
        resolve(connection, "r", "s")
        raise_alert(connection, alert(9))

    (over, now) = stored(database)
    assert over["resolved_at"] is not None
    assert (now["resolved_at"], now["count"]) == (None, 1)


def lease(owner, place):
    return Lease("RUN", owner, place)


def test_a_lease_is_refused_to_another_place_until_it_ends(database):
    with database.writer() as connection:
        lease("a", "here").take(connection)
    with database.writer() as connection, pytest.raises(PhaseError, match="a at here trades it"):
        lease("b", "there").take(connection)
    with database.writer() as connection:
        connection.execute(
            sa.text("UPDATE trading_leases SET lease_until = :past"),
            {"past": "2024-01-01 00:00:00.000000+00:00"},
        )

    with database.writer() as connection:
        lease("b", "there").take(connection)

    with (
        database.writer() as connection,
        pytest.raises(TradingHalted, match="lease of a was taken"),
    ):
        lease("a", "here").renew(connection)


def test_a_lease_of_the_same_place_is_taken_over_and_given_back(database):
    with database.writer() as connection:
        lease("a", "here").take(connection)
        lease("b", "here").take(connection)
        lease("b", "here").renew(connection)
        lease("a", "here").give_back(connection)
        lease("b", "here").renew(connection)
        lease("b", "here").give_back(connection)

    with database.writer() as connection:
        lease("c", "there").take(connection)
