import json
import math

import pytest

from persistence.tables import governance, operations
from persistence.tables import runtime as tables
from tests.integration.monitoring.world import SESSIONS, World, at, fill, put

pytestmark = pytest.mark.integration


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("branch", ["runtime", "historical"])
def test_every_table_can_be_read_empty_and_filled(client, database, branch):
    names = read(client, f"/api/db/{branch}")["tables"]
    empty = {name: read(client, f"/api/db/{branch}/{name}") for name in names}
    fill(database, World())
    filled = {name: read(client, f"/api/db/{branch}/{name}") for name in names}

    assert {"bars", "returns_daily"} & set(names) or {"orders", "jobs", "campaigns"} <= set(names)
    assert all(page["rows"] == [] and page["columns"] for page in empty.values())
    assert any(page["rows"] for page in filled.values()) == (branch == "runtime")


def test_pages_go_on_where_the_last_one_ended(client, database):
    fill(database, World())
    path = "/api/db/runtime/backtest_daily_equity"
    whole = read(client, path)["rows"]

    pages, after, offset = [], None, 0
    while True:
        by_key = read(client, path, limit=3, **({} if after is None else {"after": after}))
        by_offset = read(client, path, limit=3, offset=offset)
        assert by_key["rows"] == by_offset["rows"]
        pages += by_key["rows"]
        after, offset = by_key["next_after"], by_offset["next_offset"]
        if after is None:
            break

    assert offset is None
    assert pages == whole
    assert len(whole) == 8


def test_a_key_of_a_moment_or_a_number_is_a_page_s_beginning(client, database):
    rows = [{"job_id": "J", "sequence": number, "message": str(number)} for number in range(5)]
    put(database, governance.job_logs, [row | {"at": at(SESSIONS[0])} for row in rows])

    page = read(client, "/api/db/runtime/job_logs", after=json.dumps(["J", 2]))

    assert [row[1] for row in page["rows"]] == [3, 4]
    assert page["rows"][0][2] == "2023-12-20T21:00:00+00:00"


@pytest.mark.parametrize(
    "after", ["", "{}", "[]", '["J"]', '["J", "2"]', '["J", true]', '["J", 1e400]', "[" * 900]
)
def test_what_is_no_key_is_refused(client, after):
    answer = client.get("/api/db/runtime/job_logs", params={"after": after})

    assert answer.status_code == 400


def test_what_is_no_table_is_refused(client):
    assert client.get("/api/db/runtime/bars_").status_code == 404
    assert client.get("/api/db/runtime/alembic_version_runtime").status_code == 404
    assert client.get("/api/db/elsewhere/orders").status_code == 422


def test_numbers_that_are_none_are_null_and_long_documents_are_cut(client, database):
    put(
        database,
        tables.stability_vectors,
        [{"run_id": "R", "overall_score": math.nan, "vector_components": {"x": "y" * 5_000}}],
    )

    page = read(client, "/api/db/runtime/stability_vectors")

    kinds = {column["name"]: column["kind"] for column in page["columns"]}
    row = dict(zip(kinds, page["rows"][0], strict=True))
    assert (kinds["overall_score"], row["overall_score"]) == ("number", None)
    assert (kinds["vector_components"], len(row["vector_components"])) == ("document", 2_000)


def test_bytes_are_told_by_how_many_there_are(client):
    tables_ = read(client, "/api/db/historical")["tables"]
    kinds = {
        column["kind"]
        for name in tables_
        for column in read(client, f"/api/db/historical/{name}")["columns"]
    }

    assert "date" in kinds
    assert operations.events.name not in tables_
