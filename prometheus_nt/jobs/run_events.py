"""What is recorded beside a run: halts, wind-downs and alerts, by the sessions they touched.

1. The run's own record of the phases that a kill switch stopped, which it keeps for its replays.
2. The moves of the switches, for what was held back at a broker between two sessions.
3. Alerts of the run: a node that halted itself, and those whose details say their session.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from persistence.spool import records_of
from persistence.traded_rows import alert_rows
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.record import SessionArray
from prometheus_nt.domain.runs import Mode
from prometheus_nt.domain.safety import TradingState
from prometheus_nt.jobs.paper_run import HALTED, SWITCH
from prometheus_nt.jobs.safety import moves
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.divergence_records import Cause, RunEvent

NAMES = {TradingState.HALTED: "halt", TradingState.FLATTENING: "flatten"}
CAUSES_OF = {TradingState.HALTED: Cause.HALT, TradingState.FLATTENING: Cause.MANUAL}
"""A halt keeps orders back; a wind-down sends orders that no plan asked for."""


def recorded_events(
    stores: Stores, run: Mapping[str, Any], sessions: SessionArray
) -> Iterator[RunEvent]:
    """Yield the events of a run over its sessions, (T,), the most certain first."""
    if run["mode"] != Mode.BACKTEST:
        yield from _stopped_phases(stores, run)
        yield from _moved_switches(stores, run, sessions)
    yield from _alerts(stores, run, sessions)


def _stopped_phases(stores: Stores, run: Mapping[str, Any]) -> Iterator[RunEvent]:
    """Yield one event for each time that a switch stopped phases of sessions in a row."""
    file = stores.settings.home / run["mode"].lower() / run["run_id"] / SWITCH
    calendar = MarketCalendar.of(run["market_id"])
    times: list[tuple[TradingState, date, date, str]] = []
    for found in sorted(map(json.loads, records_of(file)), key=lambda said: said["session"]):
        session, state = date.fromisoformat(found["session"]), TradingState(found["state"])
        if times and times[-1][0] is state and session <= calendar.next_session(times[-1][2]):
            _, begun, _, said = times.pop()
            times.append((state, begun, session, said))
        else:
            times.append((state, session, session, found["by"]))
    for state, begun, ended, said in times:
        yield _event(state, (begun, ended), said)


def _moved_switches(
    stores: Stores, run: Mapping[str, Any], sessions: SessionArray
) -> Iterator[RunEvent]:
    for history in moves(stores, run["sleeve_id"]).values():
        ends = [*(moved.at for moved in history[1:]), None]
        for begun, ended in zip(history, ends, strict=False):
            if begun.state is TradingState.ARMED:
                continue
            touched = _touched(run, sessions, begun.at, ended)
            if touched is not None:
                yield _event(begun.state, touched, str(begun))


def _alerts(stores: Stores, run: Mapping[str, Any], sessions: SessionArray) -> Iterator[RunEvent]:
    for alert in alert_rows(stores.runtime.database, run["run_id"]):
        details = alert["details"] or {}
        if "session" in details:
            yield RunEvent(
                session=date.fromisoformat(details["session"]),
                name=alert["rule"],
                instrument_id=details.get("instrument_id"),
                order_id=details.get("order_id"),
                detail=alert["message"],
            )
        elif alert["rule"] == HALTED:
            touched = _touched(run, sessions, alert["first_at"], alert["last_at"])
            if touched is not None:
                yield _event(TradingState.HALTED, touched, alert["message"])


def _event(state: TradingState, touched: tuple[date, date], detail: str) -> RunEvent:
    first, last = touched
    return RunEvent(first, NAMES[state], CAUSES_OF[state], until=last, detail=detail)


def _touched(
    run: Mapping[str, Any],
    sessions: SessionArray,
    begun: datetime | None,
    ended: datetime | None,
) -> tuple[date, date] | None:
    """Return the first and last session of which orders could have been sent between two moments.

    Those of a session are sent after its close and before the next open.
    """
    calendar = MarketCalendar.of(run["market_id"])
    rows = calendar.rows(sessions)
    since = -np.inf if begun is None else begun.timestamp() * 1e9
    until = np.inf if ended is None else ended.timestamp() * 1e9
    hit = (calendar.opens_ns[rows + 1] > since) & (calendar.closes_ns[rows] <= until)
    found = sessions[hit].astype(object)
    return None if not len(found) else (found[0], found[-1])
