"""The whole OpenAPI document, asked with whatever it allows."""

import re

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from prometheus_nt.monitoring import guard
from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.app import create_app
from prometheus_nt.monitoring.guard import MOST_BODY_BYTES
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.world import World, fill

pytestmark = pytest.mark.integration

ENDLESS = "/api/stream"
"""An answer without an end; what it refuses is tested with it."""

EXAMPLES = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def operations_of(client: httpx.Client):
    document = client.get("/api/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    found = [operation.ok() for operation in schema.get_all_operations()]
    return [operation for operation in found if operation.path != ENDLESS]


@pytest.fixture
def patient(monkeypatch):
    """Let every call through to its route, however many there are."""
    monkeypatch.setattr(guard, "CONTROLS_AT_ONCE", 1e9)
    monkeypatch.setattr(guard, "READINGS_AT_ONCE", 1e9)


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "populated"])
@pytest.mark.usefixtures("patient")
def test_nothing_that_the_document_allows_breaks_the_server(client, database, filled):
    if filled:
        fill(database, World())
    broken = []

    for operation in operations_of(client):

        @EXAMPLES
        @given(case=operation.as_strategy())
        def ask(case):
            answer = case.call(base_url=str(client.base_url), timeout=30)
            if answer.status_code >= 500:
                broken.append((answer.status_code, case.as_curl_command(), answer.text[:200]))

        ask()

    assert broken == []


def test_a_body_above_the_limit_is_refused_while_a_route_reads_it(settings):
    app = create_app(settings, Access(port=0))

    @app.post("/api/control/read")
    def read(body: dict) -> int:
        return len(body)

    large = b'{"x": "' + b" " * MOST_BODY_BYTES + b'"}'
    with running(settings, Access(port=0), app) as client:
        json_type = {"Content-Type": "application/json"}
        declared = client.post("/api/control/read", content=large, headers=json_type)
        streamed = client.post("/api/control/read", content=iter([large]), headers=json_type)
        small = client.post("/api/control/read", json={"x": 1})

    assert (declared.status_code, streamed.status_code) == (413, 413)
    assert "bytes" in streamed.json()["error"]["message"]
    assert (small.status_code, small.json()) == (200, 1)


def test_the_interface_lists_itself_without_asking_anybody_else(client):
    for path in ("/api/docs", "/api/redoc"):
        page = client.get(path)
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)

        assert page.status_code == 200
        assert linked and all(target.startswith("/") for target in linked)
        assert all(client.get(target).status_code == 200 for target in linked)
