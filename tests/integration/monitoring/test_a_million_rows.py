"""Every reading of the interface over a million rows, on both engines.

What is asked and what the rows are is `benchmarks/serve.py`'s; how long it takes is said there.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from persistence.database import Database
from prometheus_nt.monitoring import guard
from prometheus_nt.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS = 1_000_000
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
AS_OF = "2022-06-30"
"""In the middle of the year that the rows are of."""

NOTHING_STORED = ("/api/desk/",)
"""What the rows have none of: the run that is named is a backtest."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("serve")


@pytest.fixture
def filled(database: Database, bench: ModuleType, settings: Settings) -> Database:
    bench._fill(database, ROWS)
    bench._recorded(settings.home, database, bench.RECORDED[0])
    return database


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every question through to its route."""
    monkeypatch.setattr(guard, "READINGS_AT_ONCE", 1e9)


def test_every_reading_answers_in_its_own_shape_whatever_is_asked(
    filled: Database, bench: ModuleType, settings: Settings, client: httpx.Client
):
    client.timeout = httpx.Timeout(300)
    document = client.get("/api/openapi.json").json()
    asked = bench.paths_of(document, bench.NAMES | bench.traded_in(filled))
    answers = {path: client.get(path) for path in asked}
    known = {path: answer.json() for path, answer in answers.items() if is_document(answer)}

    assert stored(filled, bench) >= ROWS
    assert len(asked) > 40
    missing = {path for path, answer in answers.items() if answer.status_code != 200}
    assert all(path.startswith(NOTHING_STORED) for path in missing), {
        path: answers[path].text[:200] for path in missing
    }
    assert {path: problem for path in known if (problem := misshapen(document, path, known))} == {}
    assert disobeyed(client, document, asked) == {}
    assert {
        path: differing for path in known if (differing := torn(client, path, known[path]))
    } == {}


def stored(database: Database, bench: ModuleType) -> int:
    """Return how many rows of runs there are."""
    counts = [sa.select(sa.func.count()).select_from(table) for table, *_ in bench.OF_A_RUN]
    with database.reader() as connection:
        return sum(connection.execute(count).scalar_one() for count in counts)


def is_document(answer: httpx.Response) -> bool:
    kind = answer.headers["content-type"]
    return answer.status_code == 200 and kind.startswith("application/json")


def operation_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    """Return what the document says of a path that is filled in: the one with most in common."""
    parts = path.partition("?")[0].split("/")
    fitting = [
        (sum(one == other for one, other in zip(parts, name.split("/"), strict=False)), name)
        for name in document["paths"]
        if fits(parts, name.split("/"))
    ]
    return document["paths"][max(fitting)[1]]["get"]


def fits(parts: list[str], named: list[str]) -> bool:
    pairs = zip(parts, named, strict=False)
    return len(parts) == len(named) and all(one == other or "{" in other for one, other in pairs)


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def misshapen(document: dict[str, Any], path: str, known: dict[str, Any]) -> str | None:
    """Return what is wrong with the fields of an answer and of its rows; None if nothing."""
    told = operation_of(document, path)["responses"]["200"]["content"]["application/json"]
    schema = resolved(document, told["schema"])
    fields = schema["properties"]
    if set(known[path]) != set(fields):
        return f"fields {sorted(set(known[path]) ^ set(fields))}"
    rows = resolved(document, fields.get("rows", {}).get("items", {})).get("properties")
    given = known[path].get("rows") or []
    if rows is None:
        return None
    wrong = [row for row in given if isinstance(row, dict) and set(row) != set(rows)]
    return f"rows like {wrong[0]}" if wrong else None


def disobeyed(client: httpx.Client, document: dict[str, Any], asked: list[str]) -> dict[str, str]:
    """Return which readings fail, or know more than they may, when they are asked for less."""
    wrong = {}
    for path in asked:
        takes = {one["name"] for one in operation_of(document, path).get("parameters", [])}
        for name, value in (("as_of", AS_OF), ("limit", "1"), ("mode", "PAPER")):
            if name not in takes:
                continue
            answer = client.get(f"{path}&{name}={value}")
            body = answer.json()
            later = name == "as_of" and str(body.get("as_of_date") or "") > AS_OF
            many = name == "limit" and len(body.get("rows", ())) > 1
            if answer.status_code not in (200, 404) or later or many:
                wrong[f"{path}&{name}={value}"] = answer.text[:200]
    return wrong


def torn(client: httpx.Client, path: str, whole: dict[str, Any]) -> bool:
    """Return whether two short pages of a list are not the beginning of a long one."""
    if "next_offset" not in whole or len(whole["rows"]) < 10:
        return False
    pages = [client.get(f"{path}&limit=5&offset={start}").json()["rows"] for start in (0, 5)]
    return [*pages[0], *pages[1]] != whole["rows"][:10]
