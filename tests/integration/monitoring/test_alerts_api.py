"""Alerts over HTTP: what is open, and who has seen it."""

from datetime import timedelta

import pytest

from persistence.alerts import Alert, raise_alert, resolve
from prometheus_nt.monitoring.access import Access
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.world import SESSIONS, at

pytestmark = pytest.mark.integration

KNOWN = "ann:read:reader-token-0123456789, bob:operate:operator-token-0123456789"
NOW = at(SESSIONS[-1])


def wrong(database, subject, hours=0, **details):
    alert = Alert("drawdown", "CRITICAL", subject, f"{subject} falls", details, NOW)
    later = Alert("drawdown", "INFO", subject, "again", details, NOW + timedelta(hours=hours))
    with database.writer() as connection:
        alert_id = raise_alert(connection, alert)
        if hours:
            raise_alert(connection, later)
    return alert_id


def rows(client, **parameters):
    return client.get("/api/alerts", params=parameters).json()["rows"]


def test_nothing_is_wrong(client):
    assert rows(client) == rows(client, open=False) == []
    missing = client.post("/api/alerts/x/acknowledge")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "StoreError")


def test_open_alerts_are_listed_until_they_are_seen_or_over(client, database):
    first, second = wrong(database, "A", depth=0.5), wrong(database, "B", hours=1)

    b, a = rows(client)

    assert (a["alert_id"], b["alert_id"]) == (first, second)
    assert (a["count"], b["count"], a["severity"], b["severity"]) == (1, 2, "CRITICAL", "INFO")
    assert (a["message"], a["details"]) == ("A falls", {"depth": 0.5})
    assert (b["raised_at"], b["last_at"]) == ("2024-02-02T21:00:00Z", "2024-02-02T22:00:00Z")
    assert client.post(f"/api/alerts/{first}/acknowledge").json()["acknowledged_by"] == "local"
    assert [row["alert_id"] for row in rows(client)] == [second]
    with database.writer() as connection:
        resolve(connection, "drawdown", "B")
    assert rows(client) == []
    every = {row["subject"]: row for row in rows(client, open=False)}
    assert every["A"]["acknowledged_by"] == "local" and every["B"]["resolved_at"] is not None
    assert [row["subject"] for row in rows(client, open=False, limit=1, offset=1)] == ["A"]


def test_who_only_reads_acknowledges_nothing(settings, database):
    alert_id = wrong(database, "A")

    with running(settings, Access.of_tokens("127.0.0.1", 0, KNOWN)) as client:
        reader = {"Authorization": "Bearer reader-token-0123456789"}
        operator = {"Authorization": "Bearer operator-token-0123456789"}
        refused = client.post(f"/api/alerts/{alert_id}/acknowledge", headers=reader)
        done = client.post(f"/api/alerts/{alert_id}/acknowledge", headers=operator)

    assert refused.status_code == 403
    assert done.json()["acknowledged_by"] == "bob"
