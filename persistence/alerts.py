"""Alerts: what somebody has to know, one open row for each rule and subject."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import upsert
from persistence.tables.trading import alerts
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.record import content_hash

Severity = Literal["INFO", "WARNING", "CRITICAL"]


@dataclass(frozen=True)
class Alert:
    """Something that a rule found about a subject.

    details : plain values; those of the newest time stay.
    """

    rule: str
    severity: Severity
    subject: str
    message: str
    details: Mapping[str, Any]
    at: datetime


def raise_alert(connection: Connection, alert: Alert) -> str:
    """Record an alert in the caller's transaction; return its id.

    While the rule's alert about the subject is not resolved it is counted, not repeated.
    """
    found = connection.execute(
        sa.select(alerts).where(*_open(alert.rule, alert.subject))
    ).mappings()
    before = found.first()
    row = {
        "alert_id": content_hash([alert.rule, alert.subject, alert.at.isoformat()]),
        "first_at": alert.at,
        "count": 1,
        "acknowledged_by": None,
        "acknowledged_at": None,
        "resolved_at": None,
    }
    if before is not None:
        row = {name: before[name] for name in row} | {"count": before["count"] + 1}
    row |= {
        "rule": alert.rule,
        "severity": alert.severity,
        "subject": alert.subject,
        "message": alert.message[:1024],
        "details": dict(alert.details),
        "last_at": alert.at,
    }
    upsert(connection, alerts, tuple(row), [tuple(row.values())])
    return str(row["alert_id"])


def resolve(connection: Connection, rule: str, subject: str) -> None:
    """Mark the open alert of a rule about a subject as over, if there is one."""
    ended = {"resolved_at": datetime.now(UTC)}
    connection.execute(sa.update(alerts).where(*_open(rule, subject)).values(ended))


def acknowledge(connection: Connection, alert_id: str, by: str) -> None:
    """Record who has seen an alert.

    Raises
    ------
    StoreError
        If there is no such alert.
    """
    seen = {"acknowledged_by": by, "acknowledged_at": datetime.now(UTC)}
    done = connection.execute(sa.update(alerts).where(alerts.c.alert_id == alert_id).values(seen))
    if not done.rowcount:
        raise StoreError(f"no alert {alert_id!r}; `prometheus alerts list --all` lists them")


def _open(rule: str, subject: str) -> list[sa.ColumnElement[bool]]:
    return [alerts.c.rule == rule, alerts.c.subject == subject, alerts.c.resolved_at.is_(None)]
