import json

import httpx
import pytest

from persistence import events
from persistence.database import Database
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.monitoring.access import TOKENS, Access, Role
from prometheus_nt.monitoring.app import CONTROL_STREAM
from prometheus_nt.monitoring.guard import MOST_BODY_BYTES
from tests.integration.monitoring.conftest import running

pytestmark = pytest.mark.integration

READER, OPERATOR = "reader-token-0123456789", "operator-token-0123456789"
KNOWN = f"ann:read:{READER}, bob:operate:{OPERATOR}"


@pytest.fixture
def guarded(settings):
    with running(settings, Access.of_tokens("127.0.0.1", 0, KNOWN)) as client:
        yield client


def control_calls(database: Database) -> list[dict]:
    with database.reader() as connection:
        return events.payloads(connection, CONTROL_STREAM, "control_call")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_address_that_others_can_reach_needs_tokens():
    with pytest.raises(ConfigError, match=TOKENS):
        Access.of_tokens("0.0.0.0", 8000, "")

    access = Access.of_tokens("0.0.0.0", 8000, KNOWN)

    assert access.caller(f"Bearer {READER}").role is Role.READ
    assert access.caller(f"Bearer {READER}x") is None
    assert READER not in repr(access)


@pytest.mark.parametrize("entry", ["ann", "ann:boss:0123456789abcdefg", "ann:read:short", ":read:"])
def test_a_malformed_token_is_refused_without_being_shown(entry):
    with pytest.raises(ConfigError, match="entry 1") as refused:
        Access.of_tokens("127.0.0.1", 8000, entry)

    assert "0123456789abcdefg" not in str(refused.value)
    assert "short" not in str(refused.value)


def test_without_a_token_only_life_is_told(guarded):
    assert guarded.get("/health").status_code == 200
    assert guarded.get("/metrics").status_code == 401
    assert guarded.get("/api/openapi.json").status_code == 401
    assert guarded.get("/metrics", headers=bearer("x" * 30)).status_code == 401
    assert guarded.get("/metrics", headers=bearer(READER)).status_code == 200


def test_a_control_call_from_another_page_is_refused_and_recorded(client, database):
    refused = client.post("/api/control/anything", headers={"Origin": "http://evil.example"})
    also = client.post("/api/control/anything", headers={"Sec-Fetch-Site": "cross-site"})

    assert (refused.status_code, also.status_code) == (403, 403)
    assert [call["status"] for call in control_calls(database)] == [403, 403]
    assert control_calls(database)[0]["path"] == "/api/control/anything"


def test_a_host_that_is_not_ours_is_refused(client):
    assert client.get("/health", headers={"Host": "rebound.example"}).status_code == 421
    assert client.get("/health", headers={"Host": "localhost:80"}).status_code == 200


def test_a_body_above_the_limit_is_refused_declared_or_not(client):
    body = b" " * (MOST_BODY_BYTES + 1)

    declared = client.post("/api/control/anything", content=body)
    streamed = client.post("/api/control/anything", content=iter([body]))

    assert declared.status_code == 413
    assert streamed.status_code in (404, 413)


def test_too_many_control_calls_are_put_off(client):
    answers = [client.post("/api/control/anything").status_code for _ in range(60)]

    assert answers[0] == 404
    assert 429 in answers


def test_what_is_refused_to_strangers_is_recorded_readings_as_well(guarded, database):
    guarded.get("/api/options")
    guarded.get("/api/options", headers=bearer("x" * 30))
    guarded.get("/api/options", headers=bearer(READER))

    calls = control_calls(database)
    assert [(call["method"], call["status"], call["caller"]) for call in calls] == [
        ("GET", 401, "unknown"),
        ("GET", 401, "unknown"),
    ]


def test_a_host_that_is_not_ours_is_recorded(client, database):
    client.get("/health", headers={"Host": "rebound.example"})

    assert [call["status"] for call in control_calls(database)] == [421]


def test_a_flood_of_refusals_cannot_fill_the_record(guarded, database):
    answers = [guarded.get("/api/options").status_code for _ in range(200)]

    assert set(answers) == {401, 429}
    assert len(control_calls(database)) == answers.count(401) < 100


def test_an_answer_that_the_client_has_is_not_sent_again(client):
    first = client.get("/ready")
    second = client.get("/ready", headers={"If-None-Match": first.headers["etag"]})

    assert first.status_code == 200
    assert (second.status_code, second.content) == (304, b"")


def test_every_answer_tells_browsers_what_not_to_do(client):
    for path in ("/health", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]


def test_a_schema_that_is_behind_is_not_ready(settings, database):
    with database.writer() as connection:
        connection.exec_driver_sql("DROP TABLE events")

    with running(settings, Access(port=0)) as client:
        answer = client.get("/ready")

    assert answer.status_code == 503
    assert "events" in json.dumps(answer.json()["databases"])


def test_a_schema_that_is_changed_under_the_server_is_not_ready_any_more(client, database):
    ready = client.get("/ready").status_code
    with database.writer() as connection:
        connection.exec_driver_sql("DROP TABLE events")
    changed = client.get("/ready").status_code

    assert (ready, changed) == (200, 503)


def test_a_revision_that_is_changed_under_the_server_is_not_ready_any_more(client, database):
    ready = client.get("/ready").status_code
    with database.writer() as connection:
        connection.exec_driver_sql("UPDATE alembic_version_runtime SET version_num = '0001'")
    changed = client.get("/ready")

    assert (ready, changed.status_code) == (200, 503)
    assert "0001" in changed.text


def test_an_unknown_path_is_an_error_in_the_common_form(client: httpx.Client):
    assert client.get("/api/nothing").json()["error"]["type"] == "Refused"
