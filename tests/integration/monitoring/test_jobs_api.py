"""Jobs and control calls over HTTP."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from persistence.job_queue import Beat, JobQueue
from persistence.tables import runtime as tables
from prometheus_nt.monitoring.access import Access
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.world import put

pytestmark = pytest.mark.integration

CONFIGS = Path(__file__).parents[3] / "configs"
KNOWN = "ann:read:reader-token-0123456789, bob:operate:operator-token-0123456789"


@pytest.fixture
def settings(settings):

    return replace(settings, config_dir=CONFIGS)


@pytest.fixture
def queue(database):
    return JobQueue(database)


def submit(client, run="latest", **others):
    return client.post("/api/jobs", json={"kind": "report", "spec": {"run": run}} | others)


def test_nothing_was_asked_for(client):
    assert client.get("/api/jobs").json() == {
        "unknown": {},
        "rows": [],
        "offset": 0,
        "next_offset": None,
    }
    for path in ("jobs/x", "jobs/x/logs", "control/jobs/x"):
        answer = client.get(f"/api/{path}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "UnknownJob")
    for path in ("cancel", "retry"):
        assert client.post(f"/api/jobs/x/{path}").status_code == 404
    kinds = {kind["kind"]: kind for kind in client.get("/api/jobs/kinds").json()["kinds"]}
    assert "run" in kinds["report"]["spec"]["properties"]


def test_a_job_is_followed_from_its_submission_to_its_end(client, queue):
    made = submit(client)

    assert made.status_code == 202
    job_id = made.json()["job_id"]
    waiting = client.get(f"/api/jobs/{job_id}").json()
    assert (waiting["status"], waiting["submitted_by"]) == ("PENDING", "local")
    assert waiting["progress"] is None
    assert set(waiting["unknown"]) >= {"progress", "started_at", "completed_at", "result"}

    held = queue.claim("w")
    now = datetime.now(UTC)
    queue.beat(held, Beat(0.25, "half of a half", [(now, "INFO", "one"), (now, "INFO", "two")]))

    running_ = client.get(f"/api/control/jobs/{job_id}").json()
    assert (running_["status"], running_["type"], running_["progress_pct"]) == (
        "RUNNING",
        "report",
        25.0,
    )
    assert running_["message"] == "half of a half"
    lines = client.get(f"/api/jobs/{job_id}/logs").json()
    assert ([line["message"] for line in lines["lines"]], lines["after"]) == (["one", "two"], 2)
    later = client.get(f"/api/jobs/{job_id}/logs?after=1&limit=5").json()
    assert [line["sequence"] for line in later["lines"]] == [2]

    queue.complete(held, {"report": "runs/x/report.html"})

    done = client.get(f"/api/jobs/{job_id}").json()
    assert (done["status"], done["result"]) == ("COMPLETED", {"report": "runs/x/report.html"})
    (row,) = client.get("/api/jobs?status=COMPLETED&kind=report").json()["rows"]
    assert (row["job_id"], row["result"], row["progress"]) == (job_id, done["result"], 1.0)
    assert client.get("/api/jobs?status=FAILED").json()["rows"] == []
    assert client.get("/api/jobs?kind=derive").json()["rows"] == []
    assert client.post(f"/api/jobs/{job_id}/cancel").status_code == 409
    assert client.post(f"/api/jobs/{job_id}/retry").status_code == 409


def test_pages_show_each_job_once_the_newest_first(client):
    ids = [submit(client, key=f"{number}").json()["job_id"] for number in range(5)]

    first = client.get("/api/jobs?limit=3").json()
    rest = client.get(f"/api/jobs?limit=3&offset={first['next_offset']}").json()

    assert [row["job_id"] for row in first["rows"] + rest["rows"]] == ids[::-1]
    assert rest["next_offset"] is None
    for bad in ("limit=0", "limit=1001", "offset=-1", "status=NONE", "kind=a%00b"):
        assert client.get(f"/api/jobs?{bad}").status_code == 422


def test_the_same_key_is_the_same_job_and_stands_for_one_spec(client, database):
    put(database, tables.backtest_runs, [{"run_id": "other"}])
    first, again = submit(client, key="k"), submit(client, key="k")

    assert first.json()["job_id"] == again.json()["job_id"]
    assert submit(client, run="other", key="k").status_code == 409


def test_a_job_is_cancelled_and_tried_again(client):
    job_id = submit(client).json()["job_id"]

    assert client.post(f"/api/jobs/{job_id}/cancel").json()["status"] == "CANCELLED"
    assert client.post(f"/api/jobs/{job_id}/retry").json()["status"] == "PENDING"


def test_a_run_is_kept_under_its_full_name_so_that_a_later_one_changes_nothing(
    client, database, queue
):
    put(database, tables.backtest_runs, [{"run_id": "fast-0123"}])

    made = submit(client, run="fast")

    assert queue.job(made.json()["job_id"]).spec == {"run": "fast-0123"}


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("jobs?kind=nope", "backtest"),
        ("jobs?status=nope", "PENDING"),
        ("runs?mode=nope", "BACKTEST"),
        ("runs?status=nope", "COMPLETED"),
        ("traces?market_id=NOPE", "US_EQ"),
        ("traces?mode=nope", "PAPER"),
        ("status/regime?region=MOON", "EU"),
        ("status/stability?region=MOON", "EU"),
        ("status/fragility?region=MOON", "EU"),
        ("status/pipeline?market_id=NOPE", "US_EQ"),
        ("status/execution?portfolio_id=X&mode=nope", "PAPER"),
        ("intelligence/proposals?status=nope", "APPROVED"),
        ("meta/performance?engine_name=nope", "SLEEVE"),
        ("embedding_space/nope", "profiles"),
        ("stream?topics=nope", "alerts"),
        ("db/nope", "runtime"),
    ],
)
def test_a_name_outside_a_closed_set_is_refused_with_the_set(client, path, known):
    answer = client.get(f"/api/{path}")

    assert answer.status_code in (400, 422), answer.text
    assert known in answer.json()["error"]["message"]


def test_a_body_that_is_no_json_is_told_where_and_what_to_send(client):
    typed = {"content-type": "application/json"}

    broken = client.post("/api/jobs", content=b'{"kind": ', headers=typed)
    text = client.post("/api/jobs", content=b"kind=report")

    assert (broken.status_code, text.status_code) == (422, 422)
    assert "no JSON at character 9" in broken.json()["error"]["message"]
    for answer in (broken, text):
        assert "Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "reprot"},
        {"kind": "report", "spec": {"rnu": "x"}},
        {"kind": "report", "spec": {"run": "../x"}},
        {"kind": "report", "spec": {"run": "nobody"}},
        {"kind": "compare", "spec": {"runs": ["one", "two"]}},
        {"kind": "evaluate", "spec": {"proposal": "none"}},
        {"kind": "report", "priority": "NOW"},
        {"kind": "backtest", "spec": {"config": ["../secret"]}},
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_kept(client, body):
    answer = client.post("/api/jobs", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "ConfigError"
    assert client.get("/api/jobs").json()["rows"] == []


def test_a_backtest_is_asked_for_with_its_settings_checked(client, queue):
    call = {
        "strategy_id": "US_CORE_LONG_EQ",
        "start_date": "2010-01-04",
        "end_date": "2010-06-30",
        "market_ids": ["US_EQ"],
        "config_overrides": {"engines.portfolio.max_names": 5},
    }

    made = client.post("/api/control/run_backtest", json=call)

    assert made.status_code == 202
    assert made.json()["job_id"].startswith("backtest_")
    node = queue.job(made.json()["job_id"]).spec["node"]
    assert node["engines"]["portfolio"]["max_names"] == 5
    assert node["sessions"] == {"start": "2010-01-04", "end": "2010-06-30"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"config_overrides": {"engines.portfolio.max_nams": 5}}, "max_names"),
        ({"config_overrides": {"engines.portfolio.max_names": "many"}}, "max_names"),
        ({"strategy_id": "NOBODY"}, "NOBODY"),
        ({"market_ids": ["XX_EQ"]}, "XX_EQ"),
        ({"start_date": "2011-01-03", "end_date": "2010-01-04"}, "2010-01-04"),
    ],
)
def test_a_backtest_with_a_mistake_is_told_and_not_kept(client, changed, told):
    answer = client.post(
        "/api/control/run_backtest", json={"strategy_id": "US_CORE_LONG_EQ"} | changed
    )

    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert client.get("/api/jobs").json()["rows"] == []


def test_a_day_is_scheduled_once_unless_it_is_forced(client, queue):
    call = {
        "market_id": "US_EQ",
        "dag_name": "US_CORE_LONG_EQ",
        "parameters": {"as_of": "2013-02-28"},
    }

    ids = [
        client.post("/api/control/schedule_dag", json=call | extra).json()["job_id"]
        for extra in ({}, {}, {"force": True})
    ]

    assert (ids[0] == ids[1], ids[1] == ids[2]) == (True, False)
    assert queue.job(ids[0]).spec["as_of"] == "2013-02-28"
    for bad in ({"as_of": "never"}, {"asof": "2013-02-28"}):
        answer = client.post("/api/control/schedule_dag", json=call | {"parameters": bad})
        assert answer.status_code == 400
    daily = client.post("/api/control/schedule_dag", json=call | {"dag_name": "us_eq_daily"})
    assert "strategy_id" in daily.json()["error"]["message"]


def test_a_set_of_futures_is_asked_for_with_its_generator_checked(client, queue):
    call = {"dataset_name": "calm", "scenario_type": "bootstrap", "num_samples": 50}
    given = {"dataset": "prices", "horizon": 10}

    made = client.post(
        "/api/control/create_synthetic_dataset", json=call | {"parameters": given}
    ).json()

    params = queue.job(made["job_id"]).spec["params"]
    assert (params["name"], params["category"], params["paths"], params["horizon"]) == (
        "calm",
        "BOOTSTRAP",
        50,
        10,
    )
    whose = client.post("/api/control/create_synthetic_dataset", json=call)
    assert (whose.status_code, "dataset" in whose.json()["error"]["message"]) == (400, True)
    wrong = call | {"parameters": given | {"horizn": 1}}
    assert client.post("/api/control/create_synthetic_dataset", json=wrong).status_code == 400


def test_a_change_of_a_setting_is_staged_as_a_trial_by_whoever_asks(client, queue):
    call = {
        "strategy_id": "US_CORE_LONG_EQ",
        "engine_name": "portfolio",
        "config_key": "max_names",
        "config_value": 4,
        "reason": "fewer names",
    }

    staged = client.post("/api/control/apply_config_change", json=call).json()
    direct = client.post(
        "/api/control/apply_config_change", json=call | {"requires_approval": False}
    ).json()

    assert (staged["status"], direct["status"]) == ("STAGED", "PENDING")
    spec = queue.job(staged["job_id"]).spec
    assert (spec["key"], spec["value"], spec["by"], spec["why"]) == (
        "engines.portfolio.max_names",
        4,
        "local",
        "fewer names",
    )
    assert [queue.job(one["job_id"]).spec["apply"] for one in (staged, direct)] == [False, True]
    for wrong in ({"config_key": "max_nams"}, {"engine_name": "data"}, {"config_value": "x"}):
        answer = client.post("/api/control/apply_config_change", json=call | wrong)
        assert answer.status_code == 400, wrong
    forged = {"config": ["us_core_long_eq"], "by": "boss", "key": spec["key"], "value": 3}
    made = client.post("/api/jobs", json={"kind": "propose", "spec": forged | {"why": "so"}})
    assert queue.job(made.json()["job_id"]).spec["by"] == "local"


def test_who_may_only_read_changes_nothing(settings):
    with running(settings, Access.of_tokens("127.0.0.1", 0, KNOWN)) as client:
        client.headers["authorization"] = "Bearer reader-token-0123456789"
        calls = [
            ("/api/jobs", {"kind": "report"}),
            ("/api/jobs/x/cancel", None),
            ("/api/jobs/x/retry", None),
            ("/api/control/run_backtest", {"strategy_id": "US_CORE_LONG_EQ"}),
            ("/api/control/schedule_dag", {"market_id": "US_EQ", "dag_name": "X"}),
            ("/api/control/create_synthetic_dataset", {}),
            ("/api/control/apply_config_change", {}),
            ("/api/intelligence/proposals/x/approve", None),
            ("/api/intelligence/proposals/x/reject", {"reason": "no"}),
            ("/api/intelligence/proposals/x/apply", None),
            ("/api/intelligence/proposals/apply-batch", None),
            ("/api/intelligence/proposals/generate/US_CORE_LONG_EQ", None),
            ("/api/intelligence/changes/x/revert", {"reason": "no"}),
        ]
        for path, body in calls:
            assert client.post(path, json=body).status_code == 403, path
        assert client.get("/api/jobs").json()["rows"] == []

        client.headers["authorization"] = "Bearer operator-token-0123456789"
        assert submit(client).status_code == 202
        assert client.get("/api/jobs").json()["rows"][0]["submitted_by"] == "bob"
