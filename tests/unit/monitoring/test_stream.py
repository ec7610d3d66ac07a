"""The hub of the stream, over a store that the test writes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from persistence.news import Moved
from prometheus_nt.domain.errors import StoreUnavailable
from prometheus_nt.monitoring import stream
from prometheus_nt.monitoring.stream import Hub, TooManyListeners

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Rows:
    """A store: what is put into it has moved."""

    def __init__(self):
        self.rows = {}
        self.readings = 0

    def put(self, key, at=NOW, **row):
        self.rows[key] = Moved("jobs", key, at, {"job_id": key, **row})

    def read(self, since, topics):
        self.readings += 1
        return [one for one in self.rows.values() if one.at > since and one.topic in topics]


@pytest.fixture
def rows():
    return Rows()


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(stream, "POLL_SECONDS", 0.001)


async def heard(events, most):
    return [(await anext(events)).decode() for _ in range(most)]


def test_what_commits_late_is_told_and_a_heartbeat_is_no_news(rows):
    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        events = hub.listen(["jobs"], None)
        await heard(events, 1)
        rows.put("late", at=NOW - timedelta(seconds=30), status="PENDING")
        (first,) = await heard(events, 1)
        rows.put("late", at=NOW, status="PENDING", heartbeat_at=NOW)
        await asyncio.sleep(0.05)
        rows.put("late", at=NOW, status="RUNNING", heartbeat_at=NOW)
        (second,) = await heard(events, 1)
        await events.aclose()
        return first, second

    first, second = asyncio.run(scenario())

    assert '"status": "PENDING"' in first
    assert '"status": "RUNNING"' in second


def test_one_poller_serves_all_and_rests_while_nobody_listens(rows):
    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        listeners = [hub.listen(["jobs"], None) for _ in range(20)]
        for events in listeners:
            await heard(events, 1)
        before = rows.readings
        await asyncio.sleep(0.1)
        many = rows.readings - before
        for events in listeners:
            await events.aclose()
        before = rows.readings
        await asyncio.sleep(0.1)
        return many, rows.readings - before

    many, after = asyncio.run(scenario())

    assert 0 < many <= 100, "as many as one poller makes in a tenth of a second"
    assert after <= 1


def test_while_nobody_commits_nothing_is_read_and_the_next_commit_is_told(rows):
    commits = [1]

    async def scenario():
        hub = Hub(rows.read, lambda: NOW, mark=lambda: commits[0])
        events = hub.listen(["jobs"], None)
        await heard(events, 1)
        await asyncio.sleep(0.05)
        before = rows.readings
        await asyncio.sleep(0.1)
        resting = rows.readings - before
        rows.put("new", at=NOW, status="PENDING")
        commits[0] += 1
        (told,) = await heard(events, 1)
        await events.aclose()
        return resting, told

    resting, told = asyncio.run(scenario())

    assert resting == 0
    assert '"status": "PENDING"' in told


def test_what_could_not_be_read_is_read_at_the_next_turn_though_nobody_commits(rows):
    failures = [StoreUnavailable("away")]
    read, commits = rows.read, [1]

    def sometimes(since, topics):
        if commits[0] == 2 and failures:
            raise failures.pop()
        return read(since, topics)

    async def scenario():
        hub = Hub(sometimes, lambda: NOW, mark=lambda: commits[0])
        events = hub.listen(["jobs"], None)
        await heard(events, 1)
        await asyncio.sleep(0.05)
        rows.put("new", at=NOW, status="PENDING")
        commits[0] = 2
        (told,) = await heard(events, 1)
        await events.aclose()
        return told

    assert '"status": "PENDING"' in asyncio.run(scenario())
    assert failures == []


def test_who_does_not_keep_up_is_given_up_and_the_others_hear_on(rows, monkeypatch):
    monkeypatch.setattr(stream, "MOST_WAITING", 3)

    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        slow, quick = hub.listen(["jobs"], None), hub.listen(["jobs"], None)
        await heard(slow, 1)
        await heard(quick, 1)
        told = []
        for number in range(8):
            rows.put(f"{number}", status="PENDING")
            told += await heard(quick, 1)
        left = [text async for text in slow if text]
        await quick.aclose()
        return told, left

    told, left = asyncio.run(scenario())

    assert len(told) == 8
    assert left == [b": the end\n\n"], "what waited is dropped, and it is told to come back"


def test_the_end_of_the_server_is_the_end_of_every_stream(rows):
    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        listeners = [hub.listen(["jobs"], None) for _ in range(3)]
        for events in listeners:
            await heard(events, 1)
        hub.close()
        with pytest.raises(TooManyListeners):
            hub.require_place()
        return [[text async for text in events if text] for events in listeners]

    assert asyncio.run(scenario()) == [[b": the end\n\n"]] * 3


def test_silence_is_broken_by_a_heartbeat(rows, monkeypatch):
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)

    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        events = hub.listen(["jobs"], None)
        found = await heard(events, 2)
        await events.aclose()
        return found

    assert asyncio.run(scenario())[1] == ": heartbeat\n\n"


def test_a_place_is_refused_when_all_are_taken(rows, monkeypatch):
    monkeypatch.setattr(stream, "MOST_LISTENERS", 1)

    async def scenario():
        hub = Hub(rows.read, lambda: NOW)
        hub.require_place()
        events = hub.listen(["jobs"], None)
        await heard(events, 1)
        with pytest.raises(TooManyListeners):
            hub.require_place()
        await events.aclose()
        hub.require_place()

    asyncio.run(scenario())


def test_of_a_database_that_is_away_nothing_is_heard_until_it_is_back(rows):
    async def scenario():
        away = {"is": False}

        def read(since, topics):
            if away["is"]:
                raise StoreUnavailable("away")
            return rows.read(since, topics)

        hub = Hub(read, lambda: NOW)
        events = hub.listen(["jobs"], None)
        await heard(events, 1)
        away["is"] = True
        rows.put("one", status="PENDING")
        await asyncio.sleep(0.05)
        away["is"] = False
        (found,) = await heard(events, 1)
        await events.aclose()
        return found

    assert '"job_id": "one"' in asyncio.run(scenario())
