"""Rules of alerts over real rows, on either engine, and channels that are real servers."""

import json
import socketserver
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import ClassVar

import pytest
import sqlalchemy as sa

from persistence.alerts import acknowledge
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from persistence.tables import governance, operations, runtime, trading
from persistence.watch import alert_rows
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.jobs.alerting import RULES, AlertParams, check, deliver
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
PARAMS = AlertParams()
DAY = {
    "run_id": "S-US-BACKTEST-20260227",
    "as_of_date": date(2026, 2, 27),
    "region": "US",
    "mode": "BACKTEST",
    "strategy_id": "S",
    "phase": "WAITING_FOR_DATA",
    "attempt": 1,
    "created_at": NOW - timedelta(hours=1),
    "updated_at": NOW - timedelta(hours=1),
}
JOB = {
    "job_id": "job-1",
    "kind": "backtest",
    "spec": {},
    "status": "RUNNING",
    "attempt": 1,
    "max_attempts": 1,
    "cancel_requested": False,
    "priority": 2,
    "not_before": NOW,
    "submitted_by": "me",
    "heartbeat_at": NOW - timedelta(seconds=5),
    "created_at": NOW - timedelta(minutes=5),
    "updated_at": NOW,
}
BOOK = {
    "event_id": "e1",
    "run_id": "R",
    "mode": "PAPER",
    "strategy_id": "S",
    "portfolio_id": "S_H21_PORTFOLIO",
    "account_id": "A",
    "as_of_date": date(2026, 2, 27),
    "timestamp": NOW,
    "cash": 1.0,
    "equity": 100.0,
    "gross_exposure": 90.0,
    "net_exposure": 90.0,
    "drawdown": -0.02,
    "positions": 3,
}


@pytest.fixture
def stores(database, tmp_path):
    return Stores(
        Settings(tmp_path, "unused", "unused"), HistoricalStore(database), RuntimeStore(database)
    )


def insert(stores, table, **row):
    with stores.runtime.database.writer() as connection:
        connection.execute(sa.insert(table).values(row))


def change(stores, table, **values):
    with stores.runtime.database.writer() as connection:
        connection.execute(sa.update(table).values(values))


def trade(stores, **state):
    run = {
        **{name: "x" for name in ("dataset_id", "data_fingerprint", "config_hash", "code_hash")},
        **{"run_id": "R", "mode": "PAPER", "strategy_id": "S", "sleeve_id": "S_H21"},
        **{"portfolio_id": "S_H21_PORTFOLIO", "market_id": "US_EQ", "status": "RUNNING"},
        **{"start_date": date(2026, 1, 2), "end_date": date(2026, 12, 31), "created_at": NOW},
        "config_json": {"gate": {"max_gross": 1.0}},
    }
    insert(stores, runtime.backtest_runs, **run)
    insert(stores, trading.account_states, **{**BOOK, **state})


def rules_of(found):
    return [alert.rule for alert in found]


def test_nothing_wrong_is_no_alert(stores):
    insert(stores, operations.engine_runs, **DAY)
    insert(stores, governance.jobs, **JOB)
    trade(stores)

    assert check(stores, PARAMS, NOW) == []
    assert alert_rows(stores.runtime.database, only_open=False) == []


@pytest.mark.parametrize(
    ("rule", "table", "row"),
    [
        ("data_waiting", "day", {"created_at": NOW - timedelta(hours=7)}),
        ("run_stuck", "day", {"phase": "DATA_READY", "updated_at": NOW - timedelta(hours=3)}),
        ("run_failed", "day", {"phase": "FAILED", "failed_phase": "DATA_READY"}),
        ("job_dead", "job", {"heartbeat_at": NOW - timedelta(minutes=3)}),
        ("job_failed", "job", {"status": "FAILED", "message": "no such dataset"}),
        ("drawdown", "book", {"drawdown": -0.11}),
        ("limit_breach", "book", {"gross_exposure": 101.0}),
    ],
)
def test_a_rule_speaks_when_what_it_watches_goes_wrong(stores, rule, table, row):
    if table == "day":
        insert(stores, operations.engine_runs, **{**DAY, **row})
    elif table == "job":
        insert(stores, governance.jobs, **{**JOB, **row})
    else:
        trade(stores, **row)

    assert rules_of(check(stores, PARAMS, NOW)) == [rule]


def test_what_lasts_is_counted_and_what_has_ended_is_resolved(stores):
    insert(stores, governance.jobs, **{**JOB, "heartbeat_at": NOW - timedelta(minutes=3)})

    check(stores, PARAMS, NOW)
    check(stores, PARAMS, NOW + timedelta(minutes=1))
    (lasting,) = alert_rows(stores.runtime.database, only_open=True)
    change(stores, governance.jobs, status="COMPLETED")
    check(stores, PARAMS, NOW + timedelta(minutes=2))

    assert (lasting["rule"], lasting["count"]) == ("job_dead", 2)
    assert alert_rows(stores.runtime.database, only_open=True) == []
    assert alert_rows(stores.runtime.database, only_open=False)[0]["resolved_at"] is not None


def test_an_alert_of_another_hand_is_left_alone(stores):
    assert "job_late" not in RULES
    insert(
        stores,
        trading.alerts,
        alert_id="a1",
        rule="job_late",
        severity="WARNING",
        subject="s",
        message="m",
        first_at=NOW,
        last_at=NOW,
        count=1,
    )

    check(stores, PARAMS, NOW)

    assert len(alert_rows(stores.runtime.database, only_open=True)) == 1


def test_an_unknown_alert_cannot_be_acknowledged(stores):
    with (
        stores.runtime.database.writer() as connection,
        pytest.raises(StoreError, match="no alert 'x'"),
    ):
        acknowledge(connection, "x", "me")


@contextmanager
def listening(server):
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


class Hook(BaseHTTPRequestHandler):
    answers: ClassVar[list[int]] = []
    bodies: ClassVar[list[dict]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.bodies.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_args):
        pass


def test_a_webhook_takes_each_alert_once_and_is_tried_again_after_an_outage(stores):
    Hook.answers, Hook.bodies = [500, 500, 500], []
    insert(stores, governance.jobs, **{**JOB, "heartbeat_at": NOW - timedelta(minutes=3)})
    check(stores, PARAMS, NOW)

    with listening(HTTPServer(("127.0.0.1", 0), Hook)) as port:
        told = Settings(
            stores.settings.home, "u", "u", alert_webhook=f"http://127.0.0.1:{port}/secret"
        )
        taken = [deliver(told, stores, NOW + timedelta(minutes=each)) for each in range(3)]

    assert taken == [0, 1, 0]
    assert [body["rule"] for body in Hook.bodies] == ["job_dead"]


def test_an_outage_of_a_channel_does_not_tell_its_address(stores, caplog):
    insert(stores, governance.jobs, **{**JOB, "heartbeat_at": NOW - timedelta(minutes=3)})
    check(stores, PARAMS, NOW)
    told = Settings(stores.settings.home, "u", "u", alert_webhook="http://127.0.0.1:1/secret")

    assert deliver(told, stores, NOW) == 0
    assert "secret" not in caplog.text
    assert "secret" not in repr(told)


class Post(socketserver.StreamRequestHandler):
    letters: ClassVar[list[str]] = []

    def handle(self):
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "DATA":
                self._say("354 go on")
                self.letters.append(self._letter())
            self._say("221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                return

    def _letter(self):
        lines = []
        while (line := self.rfile.readline().decode().rstrip("\r\n")) != ".":
            lines.append(line)
        return "\n".join(lines)

    def _say(self, text):
        self.wfile.write(f"{text}\r\n".encode())


def test_a_letter_says_what_happened(stores):
    Post.letters = []
    insert(stores, governance.jobs, **{**JOB, "status": "FAILED", "message": "no such dataset"})
    check(stores, PARAMS, NOW)

    with listening(socketserver.TCPServer(("127.0.0.1", 0), Post)) as port:
        mail = f"smtp://127.0.0.1:{port}/?from=a@example.org&to=b@example.org"
        told = Settings(stores.settings.home, "u", "u", alert_mail=mail)
        assert deliver(told, stores, NOW) == 1

    assert "no such dataset" in Post.letters[0]
    assert "To: b@example.org" in Post.letters[0]


def test_a_mail_address_without_a_receiver_is_refused(stores):
    told = Settings(stores.settings.home, "u", "u", alert_mail="smtp://127.0.0.1:25/?from=a@b")

    with pytest.raises(ConfigError, match="to=c@d"):
        deliver(told, stores, NOW)
