"""Answers that are given again, in front of an application that counts how often it is asked."""

import asyncio
from dataclasses import dataclass

import pytest

from prometheus_nt.domain.errors import StoreUnavailable
from prometheus_nt.monitoring import kept
from prometheus_nt.monitoring.access import Caller, Role
from prometheus_nt.monitoring.kept import KEPT_SECONDS, Kept

ANN, BOB = Caller("ann", Role.READ), Caller("bob", Role.TRADE)
JSON = (b"content-type", b"application/json")


@dataclass
class Store:
    """A database that has committed so often. away : it cannot be asked."""

    commits: int = 0
    away: bool = False

    def commit_mark(self):
        if self.away:
            raise StoreUnavailable("away")
        return self.commits


class Application:
    """Answers with how often it was asked before, once it may."""

    def __init__(self, status=200, header=JSON):
        self.asked, self.status, self.header = 0, status, header
        self.may = asyncio.Event()
        self.may.set()

    async def __call__(self, scope, receive, send):
        number, self.asked = self.asked, self.asked + 1
        await self.may.wait()
        headers = [self.header]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": str(number).encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"!"})


class Desk:
    """An application behind `Kept`, a store, and a clock that stands still."""

    def __init__(self, **answer):
        self.application, self.store, self.clock = Application(**answer), Store(), 100.0
        self.kept = Kept(self.application, lambda _scope: (self.store,), now=lambda: self.clock)

    async def ask(self, path="/api/runs", query=b"", caller=ANN, method="GET"):
        heard = []

        async def send(message):
            heard.append(message)
            message.get("headers", []).append((b"seen", b"by one alone"))

        scope = {"type": "http", "method": method, "path": path, "query_string": query}
        await self.kept({**scope, "state": {"caller": caller}}, None, send)
        assert [key for key, _ in heard[0]["headers"]].count(b"seen") == 1
        return b"".join(message.get("body", b"") for message in heard).decode()


def answers_of(*questions, change=lambda desk: None, **answer):
    """Return what is answered one after the other; `change` is made after the first."""

    async def scenario():
        desk = Desk(**answer)
        first = await desk.ask(**questions[0])
        change(desk)
        return [first, *[await desk.ask(**question) for question in questions[1:]]]

    return asyncio.run(scenario())


def test_the_same_question_is_answered_once_while_nothing_moves():
    assert answers_of({}, {}, {}) == ["0!", "0!", "0!"]


@pytest.mark.parametrize(
    "other",
    [{"path": "/api/jobs"}, {"query": b"as_of=2024-01-31"}, {"caller": BOB}],
    ids=["path", "query", "caller"],
)
def test_another_question_or_another_caller_has_an_answer_of_its_own(other):
    assert answers_of({}, other) == ["0!", "1!"]


def test_a_commit_makes_what_was_begun_before_it_old():
    def commit(desk):
        desk.store.commits += 1

    assert answers_of({}, {}, {}, change=commit) == ["0!", "1!", "1!"]


def test_what_no_database_tells_of_is_at_most_so_old():
    def wait(seconds):
        return lambda desk: setattr(desk, "clock", desk.clock + seconds)

    assert answers_of({}, {}, change=wait(0.99 * KEPT_SECONDS)) == ["0!", "0!"]
    assert answers_of({}, {}, change=wait(KEPT_SECONDS)) == ["0!", "1!"]


def test_after_a_call_that_may_change_something_nothing_from_before_is_given():
    assert answers_of({}, {"method": "POST"}, {}) == ["0!", "1!", "2!"]


def test_a_store_that_is_away_has_each_question_answered_anew():
    assert answers_of({}, {}, change=lambda desk: setattr(desk.store, "away", True)) == ["0!", "1!"]


@pytest.mark.parametrize(
    "answer", [{"status": 404}, {"header": (b"content-type", b"text/html")}], ids=["error", "page"]
)
def test_errors_and_pages_are_not_given_again(answer):
    assert answers_of({}, {}, **answer) == ["0!", "1!"]


@pytest.mark.parametrize("path", ["/ready", "/api/runs/R-1", "/api/runs/R-1/equity"])
def test_what_is_not_of_the_interface_or_is_read_from_files_passes(path):
    assert answers_of({"path": path}, {"path": path}) == ["0!", "1!"]


def test_a_question_that_asks_for_headers_alone_changes_nothing():
    assert answers_of({}, {"method": "HEAD"}, {}) == ["0!", "1!", "0!"]


def test_of_many_who_ask_at_once_one_computes():
    async def scenario():
        desk = Desk()
        desk.application.may.clear()
        asking = [asyncio.create_task(desk.ask()) for _ in range(20)]
        await asyncio.sleep(0.05)
        desk.application.may.set()
        return await asyncio.gather(*asking), desk.application.asked

    assert asyncio.run(scenario()) == (["0!"] * 20, 1)


def test_a_commit_in_between_has_the_next_one_computed_beside_the_first():
    async def scenario():
        desk = Desk()
        desk.application.may.clear()
        first = asyncio.create_task(desk.ask())
        await asyncio.sleep(0.05)
        desk.store.commits += 1
        second = asyncio.create_task(desk.ask())
        await asyncio.sleep(0.05)
        desk.application.may.set()
        return await first, await second, await desk.ask()

    assert asyncio.run(scenario()) == ("0!", "1!", "1!")


def test_who_waits_for_what_cannot_be_given_twice_computes_it_himself():
    async def scenario():
        desk = Desk(status=404)
        desk.application.may.clear()
        asking = [asyncio.create_task(desk.ask()) for _ in range(3)]
        await asyncio.sleep(0.05)
        desk.application.may.set()
        return sorted(await asyncio.gather(*asking))

    assert asyncio.run(scenario()) == ["0!", "1!", "2!"]


def test_who_goes_away_takes_the_answer_from_nobody():
    async def scenario():
        desk = Desk()
        desk.application.may.clear()
        first, second, third = [asyncio.create_task(desk.ask()) for _ in range(3)]
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0.05)
        desk.application.may.set()
        return await first, await third

    assert asyncio.run(scenario()) == ("0!", "0!")


def test_a_failure_lets_those_who_wait_try_themselves():
    async def scenario():
        desk = Desk()
        desk.application.may.clear()
        first = asyncio.create_task(desk.ask())
        await asyncio.sleep(0.05)
        second = asyncio.create_task(desk.ask())
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.05)
        desk.application.may.set()
        return await second

    assert asyncio.run(scenario()) == "1!"


def test_what_is_old_is_forgotten_and_the_number_of_answers_is_bounded(monkeypatch):
    monkeypatch.setattr(kept, "MOST_KEPT", 3)

    async def scenario():
        desk = Desk()
        for number in range(5):
            await desk.ask(query=str(number).encode())
        bounded = len(desk.kept._answers)
        desk.clock += KEPT_SECONDS
        await desk.ask(query=b"later")
        return bounded, len(desk.kept._answers)

    assert asyncio.run(scenario()) == (3, 1)


def test_a_large_answer_is_not_kept(monkeypatch):
    monkeypatch.setattr(kept, "LARGEST_KEPT", 1)

    assert answers_of({}, {}) == ["0!", "1!"]
