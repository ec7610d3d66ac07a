"""The stream of what moves, heard over a real connection."""

import json
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from statistics import median
from threading import Thread
from time import monotonic

import httpx
import pytest
import sqlalchemy as sa

from persistence.alerts import Alert, acknowledge, raise_alert
from persistence.job_queue import Beat, JobQueue, NewJob
from persistence.tables import governance
from persistence.tables import runtime as tables
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.stream import EVENTS
from tests.integration.monitoring.conftest import running

pytestmark = pytest.mark.integration

SECOND = 1.0
"""Within which an event is heard after its commit; the poller's own pause is less than half."""


class Heard:
    """The events of one connection, in their order."""

    def __init__(self, lines):
        self._lines = lines
        self.last_id = None
        self.comments = []

    def next(self):
        """Return the name and the data of the next event."""
        name, data = None, None
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
            elif line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
            elif line.startswith(":"):
                self.comments.append(line)
            elif not line and name is not None:
                return name, data
        return None

    def until_listening(self):
        for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line[4:]
            if line == ": listening":
                return


@contextmanager
def listening(client, topics=None, last_id=None):
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    params = {} if topics is None else {"topics": topics}
    with client.stream("GET", "/api/stream", params=params, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        heard = Heard(answer.iter_lines())
        heard.until_listening()
        yield heard


@pytest.fixture
def queue(database):
    return JobQueue(database)


def report(number):
    return NewJob("report", {"run": f"run-{number}"}, "me")


def test_what_happens_to_a_job_is_heard_in_its_order_within_a_second(client, queue):
    with listening(client, "jobs") as heard:
        waits = []
        for number in range(5):
            job = queue.insert(report(number))
            committed = monotonic()
            name, data = heard.next()
            waits.append(monotonic() - committed)
            assert (name, data["job_id"], data["status"]) == ("job", job.job_id, "PENDING")

        # The middle one: a machine at its limits may stall any of them.
        assert median(waits) < SECOND
        held = queue.claim("w")
        assert heard.next()[1]["status"] == "RUNNING"
        queue.beat(held, Beat(0.5, "half"))
        assert heard.next()[1]["progress"] == 0.5
        queue.beat(held, Beat(0.5, "half"))
        queue.complete(held, {"report": "x"})
        last = heard.next()[1]
        assert (last["status"], last["result"]) == ("COMPLETED", {"report": "x"})


def test_who_comes_back_hears_what_was_missed_and_nothing_twice(client, queue):
    with listening(client, "jobs") as heard:
        queue.insert(report(1))
        heard.next()
        last_id = heard.last_id

    missed = [queue.insert(report(number)).job_id for number in (2, 3)]

    with listening(client, "jobs", last_id) as heard:
        assert [heard.next()[1]["job_id"] for _ in missed] == missed
        after = queue.insert(report(4)).job_id
        assert heard.next()[1]["job_id"] == after


def test_another_server_goes_on_where_the_last_one_ended(settings, queue):
    with running(settings, Access(port=0)) as client, listening(client, "jobs") as heard:
        queue.insert(report(1))
        heard.next()
        last_id = heard.last_id
    missed = queue.insert(report(2)).job_id

    with running(settings, Access(port=0)) as client, listening(client, "jobs", last_id) as heard:
        found = heard.next()[1]["job_id"]
        # What is close to the break may come twice; it is never missed.
        assert missed in (found, heard.next()[1]["job_id"])


def test_every_topic_has_its_events_and_only_those_asked_for_come(client, database, queue):
    with (
        listening(client, "runs,fills,alerts,steps") as heard,
        listening(client, "alerts") as other,
    ):
        queue.insert(report(1))
        now = datetime.now(UTC)
        with database.writer() as connection:
            _run(connection, "paper", "PAPER")
            _fill(connection)
            alert_id = raise_alert(
                connection, Alert("late", "WARNING", "prices", "are late", {}, now)
            )
            _step(connection, now)
        found = dict(heard.next() for _ in range(4))

        assert set(found) == {"run", "fill", "alert", "step"}
        assert (found["run"]["run_id"], found["run"]["status"]) == ("paper", "RUNNING")
        assert (found["fill"]["fill_id"], found["fill"]["price"]) == ("f1", 12.5)
        assert found["fill"]["timestamp"] == "2013-02-28T21:00:00Z"
        assert (found["alert"]["rule"], found["step"]["job_type"]) == ("late", "day")
        assert other.next()[1]["alert_id"] == alert_id

        with database.writer() as connection:
            acknowledge(connection, alert_id, "ann")
            changed = sa.update(tables.backtest_runs).values(status="HALTED")
            connection.execute(changed.where(tables.backtest_runs.c.run_id == "paper"))
        found = dict(heard.next() for _ in range(2))
        assert found["run"]["status"] == "HALTED"
        assert found["alert"]["acknowledged_by"] == "ann"
        assert other.next()[1]["acknowledged_by"] == "ann"


def test_the_server_ends_while_somebody_listens(settings):
    server = Serving(settings)
    own = httpx.Client(base_url=server.client.base_url, timeout=30)
    with own, listening(own) as heard:
        server.end()

        assert heard.next() is None, "the stream ends, it is not cut"
    server.wait()


class Serving:
    """A server that the test ends itself."""

    def __init__(self, settings):
        self._running = running(settings, Access(port=0))
        self.client = self._running.__enter__()
        self._leaving = Thread(target=self._running.__exit__, args=(None, None, None))

    def end(self):
        self._leaving.start()

    def wait(self):
        self._leaving.join(30)
        assert not self._leaving.is_alive()


@pytest.mark.parametrize("path", ["topics=nothing", "topics=", "topics=jobs,x"])
def test_an_unknown_topic_is_refused(client, path):
    assert client.get(f"/api/stream?{path}").status_code == 422


@pytest.mark.parametrize("last_id", ["x", "a-b-c", "a-1-99999999999999999999"])
def test_an_id_that_no_event_has_is_refused(client, last_id):
    answer = client.get("/api/stream", headers={"Last-Event-ID": last_id})

    assert (answer.status_code, "Last-Event-ID" in answer.text) == (422, True)


def test_there_is_a_name_for_the_events_of_every_topic():
    assert set(EVENTS) == {"jobs", "runs", "fills", "alerts", "steps"}


def _run(connection, run_id, mode):
    row = {
        **{"run_id": run_id, "mode": mode, "strategy_id": "S", "sleeve_id": "S_H5"},
        **{"portfolio_id": "P", "market_id": "US_EQ", "status": "RUNNING"},
        **{"start_date": date(2013, 1, 4), "end_date": date(2013, 12, 31)},
        **{"dataset_id": "d", "data_fingerprint": "f", "config_hash": "h", "code_hash": "c"},
        **{"config_json": {"large": 1}, "created_at": datetime.now(UTC) - timedelta(days=30)},
    }
    connection.execute(sa.insert(tables.backtest_runs).values(row))


def _fill(connection):
    same = {
        **{"run_id": "paper", "mode": "PAPER", "strategy_id": "S", "portfolio_id": "P"},
        **{"instrument_id": "A.US", "side": "BUY", "quantity": 10.0, "order_id": "o1"},
        "timestamp": datetime(2013, 2, 28, 21, tzinfo=UTC),
    }
    order = {"order_type": "MARKET", "filled_quantity": 10.0, "status": "FILLED"}
    order |= {"updated_at": same["timestamp"]}
    fill = {"fill_id": "f1", "price": 12.5, "commission": 1.0}
    connection.execute(sa.insert(tables.orders).values(same | order))
    connection.execute(sa.insert(tables.fills).values(same | fill))


def _step(connection, now):
    row = {
        **{"execution_id": "e1", "job_id": "j1", "job_type": "day", "dag_id": "us_eq_daily"},
        **{"as_of_date": date(2013, 2, 28), "status": "RUNNING", "attempt_number": 1},
        **{"created_at": now, "updated_at": now},
    }
    connection.execute(sa.insert(governance.job_executions).values(row))
