"""Answers that are given again, by a real server over either engine."""

import pytest
import sqlalchemy as sa

from persistence.database import Database
from persistence.tables import runtime as tables
from prometheus_nt.monitoring.access import Access
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.world import World, fill

pytestmark = pytest.mark.integration

READER, OPERATOR = "reader-token-0123456789", "operator-token-0123456789"
KNOWN = f"ann:read:{READER}, bob:operate:{OPERATOR}"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_what_another_process_has_committed_is_told_at_once(client, database):
    fill(database, World())
    other = Database.open(database._url.render_as_string(hide_password=False))
    told = []
    for number in range(5):
        with other.writer() as connection:
            connection.execute(sa.update(tables.backtest_runs).values(dataset_id=f"D{number}"))
        for _ in range(2):
            rows = client.get("/api/runs").json()["rows"]
            told.append({row["dataset_id"] for row in rows})
    other.close()

    assert told == [{f"D{number}"} for number in range(5) for _ in range(2)]


def test_what_the_caller_has_just_done_is_in_his_next_answer(client):
    for number in range(1, 4):
        before = len(client.get("/api/jobs").json()["rows"])
        made = client.post("/api/jobs", json={"kind": "report", "spec": {"run": "latest"}})
        after = len(client.get("/api/jobs").json()["rows"])

        assert (made.status_code, before, after) == (202, number - 1, number), made.text


def test_nobody_is_told_what_was_found_for_somebody_else(settings):
    with running(settings, Access.of_tokens("127.0.0.1", 0, KNOWN)) as client:
        answers = [
            client.get("/api/options", headers=bearer(token))
            for token in (READER, OPERATOR, READER, "wrong-token-0123456789")
        ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 401]
    callers = [(one.json()["caller"], one.json()["role"]) for one in answers[:3]]
    assert callers == [("ann", "READ"), ("bob", "OPERATE"), ("ann", "READ")]


def test_an_answer_that_is_given_again_has_the_same_tag_and_headers(client):
    first = client.get("/api/scenes")
    again = client.get("/api/scenes")
    known = client.get("/api/scenes", headers={"If-None-Match": first.headers["etag"]})

    assert again.content == first.content
    assert {**again.headers, "date": ""} == {**first.headers, "date": ""}
    assert (known.status_code, known.content) == (304, b"")
    assert client.get("/api/scenes").content == first.content
