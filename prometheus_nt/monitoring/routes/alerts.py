"""Alerts: what somebody has to know, and who has seen it."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict

from persistence import watch
from persistence.alerts import acknowledge
from persistence.watch import Record
from prometheus_nt.monitoring.access import Role
from prometheus_nt.monitoring.answers import (
    DEFAULT_ROWS,
    Answer,
    Limit,
    Name,
    Offset,
    Page,
    page_of,
)
from prometheus_nt.monitoring.desk import Asking, OurDesk, needs

router = APIRouter(prefix="/api/alerts", tags=["alerts"])


class AlertRow(BaseModel):
    """Something that a rule found about a subject. count : how often, while it was not resolved."""

    model_config = ConfigDict(frozen=True)

    alert_id: str
    rule: str
    severity: str
    subject: str
    message: str
    details: dict[str, Any]
    raised_at: datetime
    last_at: datetime
    count: int
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolved_at: datetime | None


class Acknowledged(Answer):
    """An alert that somebody has seen."""

    alert_id: str
    acknowledged_by: str


@router.get("")
def alerts(
    desk: OurDesk,
    open_only: bool = Query(True, alias="open"),
    limit: Limit = DEFAULT_ROWS,
    offset: Offset = 0,
) -> Page[AlertRow]:
    """Return alerts, newest first; `open` ones are neither resolved nor acknowledged."""
    database = desk.stores.runtime.database
    rows = watch.alert_rows(database, only_open=open_only, offset=offset, limit=limit + 1)
    return page_of([_row(row) for row in rows], offset, limit)


@router.post("/{alert_id}/acknowledge", dependencies=[Depends(needs(Role.OPERATE))])
def acknowledge_alert(desk: OurDesk, caller: Asking, alert_id: Name) -> Acknowledged:
    """Record that the caller has seen an alert."""
    with desk.stores.runtime.database.writer() as connection:
        acknowledge(connection, alert_id, caller.name)
    return Acknowledged(alert_id=alert_id, acknowledged_by=caller.name)


def _row(row: Record) -> AlertRow:
    own = {name: row[name] for name in AlertRow.model_fields if name in row}
    return AlertRow(**{**own, "details": row["details"] or {}}, raised_at=row["first_at"])
