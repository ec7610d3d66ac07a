"""Scenes drawn from the code's own tables, and traces of what days did."""

from datetime import timedelta
from itertools import pairwise

import pytest

from persistence.browse import references, table_names
from persistence.tables import operations
from persistence.tables import runtime as tables
from prometheus_nt.actors.pipeline import PIPELINE
from prometheus_nt.domain.daily_jobs import DEFAULT_RULES, JobKind
from prometheus_nt.jobs.scenes import SCENES, Edge, Graph, laid_out
from tests.integration.monitoring.world import World, at, fill, put

pytestmark = pytest.mark.integration

IDS = [
    *("root", "regime", "stability", "portfolio", "orchestration"),
    *("runtime_db", "historical_db", "encoders"),
]
TRACE = "US_CORE-ONE"


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_scene_has_content_whose_nodes_stand_apart(client):
    listed = [row["view_id"] for row in read(client, "/api/scenes")["rows"]]

    assert listed == IDS == list(SCENES)
    for name in listed:
        view = read(client, f"/api/scene/{name}")
        places = {tuple(node["pos"]) for node in view["nodes"].values()}
        ends = {end for one in view["connections"] for end in (one["from"], one["to"])}
        assert view["connections"] and len(places) == len(view["nodes"])
        assert ends <= set(view["nodes"])
    assert client.get("/api/scene/attic").status_code == 404


def test_the_day_shows_what_each_stage_hears(client):
    view = read(client, "/api/scene/root")

    heard = {
        stage.name: {
            one["data_type"]
            for one in view["connections"]
            if one["to"] == stage.name and one["from"] != stage.name
        }
        for stage in PIPELINE
    }
    assert heard == {
        stage.name: {kind.__name__ for kind in (*stage.inputs, *stage.optional.values())}
        for stage in PIPELINE
    }
    x = {name: node["pos"][0] for name, node in view["nodes"].items()}
    order = ("historical_db", "market_data", "stability", "assessment", "universe", "portfolio")
    assert all(x[one] < x[after] for one, after in pairwise(order))
    both = [one for one in view["connections"] if one["bidirectional"]]
    assert {(one["from"], one["to"]) for one in both} >= {
        ("risk", "sleeve"),
        ("sleeve", "risk"),
    }


def test_databases_and_jobs_are_drawn_by_what_they_refer_to(client):
    for branch in ("runtime", "historical"):
        view = read(client, f"/api/scene/{branch}_db")
        assert sorted(view["nodes"]) == table_names(branch)
        drawn = {(one["to"], one["data_type"], one["from"]) for one in view["connections"]}
        assert drawn == set(references(branch))
    jobs = read(client, "/api/scene/orchestration")["connections"]
    needs = {one["from"] for one in jobs if one["to"] == JobKind.RUN_BOOKS}
    assert needs == {kind.value for kind in DEFAULT_RULES[JobKind.RUN_BOOKS].needs}


def test_a_layer_stands_after_all_that_leads_to_it():
    edges = (
        Edge("a", "b", "x"),
        Edge("b", "c", "x"),
        Edge("a", "c", "x"),
        Edge("c", "a", "x", True),
    )

    places = laid_out(Graph(dict.fromkeys("abcd", "engine"), edges))

    assert [places[name][0] for name in "abcd"] == [0.0, 4.0, 8.0, 0.0]
    assert (places["a"][1], places["d"][1]) == (-1.0, 1.0)


def test_nothing_was_done_yet(client):
    assert read(client, "/api/traces")["rows"] == []
    assert client.get("/api/traces/x").status_code == 404


def test_days_are_listed_by_market_and_mode_and_session(client, database):
    fill(database, World())
    fill(database, World(strategy="EU_CORE", region="EU", label="TWO", mode="PAPER", later=3))

    one, two = read(client, "/api/traces")["rows"], read(client, "/api/traces", market_id="US_EQ")

    assert [row["trace_id"] for row in one] == ["EU_CORE-TWO", TRACE]
    assert [row["trace_id"] for row in two["rows"]] == [TRACE]
    assert [row["mode"] for row in read(client, "/api/traces", mode="PAPER")["rows"]] == ["PAPER"]
    early = read(client, "/api/traces", as_of="2024-02-02")["rows"]
    assert [row["trace_id"] for row in early] == [TRACE]
    assert early[0]["start_time"] == "2024-02-02T21:00:00Z"
    assert early[0]["end_time"] == "2024-02-02T21:00:01Z"


def test_a_trace_tells_attempts_by_time_and_then_decisions(client, database):
    fill(database, World())
    begun = at(World().sessions[-1]) + timedelta(minutes=1)
    second = {"run_id": TRACE, "phase": "DATA_READY", "attempt": 1, "status": "FAILED"}
    second |= {"started_at": begun, "ended_at": begun, "error": {"message": "no bars"}}
    running = {"run_id": TRACE, "phase": "DATA_READY", "attempt": 2, "status": "RUNNING"}
    running |= {"started_at": begun + timedelta(minutes=1), "owner": "me"}
    put(database, operations.engine_run_attempts, [second])
    put(database, operations.engine_run_attempts, [running])
    made = {"run_id": f"{TRACE}:US_CORE_FAST", "as_of_date": World().sessions[-1]}
    made |= {"decision_id": "D", "engine_name": "REGIME", "output_refs": {"known": 2}}
    put(database, tables.engine_decisions, [made])

    found = read(client, f"/api/traces/{TRACE}")

    assert [(event["event_type"], event["node"]) for event in found["events"]] == [
        ("phase_started", "WAITING_FOR_DATA"),
        ("phase_ended", "WAITING_FOR_DATA"),
        ("phase_started", "DATA_READY"),
        ("phase_ended", "DATA_READY"),
        ("phase_started", "DATA_READY"),
        ("decision", "regime"),
    ]
    assert found["events"][3]["data"]["error"] == {"message": "no bars"}
    assert found["events"][4]["data"] == {"attempt": 2, "owner": "me"}
    assert found["events"][5]["sleeve"] == "US_CORE_FAST"
    assert found["events"][5]["data"]["outputs"] == {"known": 2}
    assert "events.timestamp" in found["unknown"]


def test_every_stage_works_in_a_phase_of_the_day(client):
    day = read(client, "/api/scene/root")["works_in"]
    phases = read(client, "/api/scene/orchestration")["works_in"]

    at_work = [node for nodes in day.values() for node in nodes]
    assert {stage.name for stage in PIPELINE} <= set(at_work)
    assert len(at_work) == len(set(at_work))
    assert day["SIGNALS_DONE"] == ["universe"]
    assert all(phase in nodes for phase, nodes in phases.items())
