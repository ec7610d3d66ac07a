"""No field of any answer is a constant, and no null is silent.

Of two worlds that share no value, each field differs in both:

1. `leaves` lists the fields of each answer from the interface's own document, so that a field that
   neither world fills is found as well as one that never changes.
2. Both worlds are asked for every GET that the document has (`QUESTIONS`).
3. What is the same in both must stand in `FIXED`, with the reason.
4. A null has a reason in the answer (`silent`), or what it means stands in `SPEAKS`.
"""

from dataclasses import replace

import pytest

from prometheus_nt.jobs.stores import open_stores, upgrade_schemas
from prometheus_nt.monitoring.access import Access
from prometheus_nt.settings import Settings
from tests.integration.monitoring.conftest import running, settled
from tests.integration.monitoring.full_world import engine_of, fill_all, plain
from tests.integration.monitoring.test_status import OTHER
from tests.integration.monitoring.world import World

pytestmark = pytest.mark.integration

WORLDS = (World(mode="PAPER"), replace(OTHER, mode="LIVE"))

NO_JSON = {"/metrics", "/api/stream", "/api/runs/{run_id}/report"}
"""What does not answer with JSON: their own tests read them."""

OF_PAGES = (".offset", ".next_offset")
"""Where a page begins and ends: each list's own test goes through its pages."""

DIAGNOSED = "/api/intelligence/diagnostics/{strategy_id}"
PAIR = "base changed corrected high improvement key low mean_annual new old p_value regime sessions"

FIXED = {
    "what the code is, not what is stored": [
        *(
            f"/api/jobs/kinds.kinds.{name}"
            for name in ["kind", "does", "attempts", "timeout_seconds", "spec"]
        ),
        *(
            f"/api/scenes.rows.{name}"
            for name in ["view_id", "display_name", "layout_type", "description"]
        ),
        "/api/intelligence/health.service",
        "/health.status",
        "/api/lineage/fills/{fill_id}.steps.kind",
        "/api/lineage/orders/{order_id}.steps.kind",
    ],
    "what the server is and who asks; test_guard changes them": [
        *(f"/api/options.{name}" for name in ["version", "open_to_all", "role", "caller"]),
        *("/ready.ready", "/ready.databases"),
    ],
    "the switch of all has one name": ["/api/desk.kill_switch.scope"],
    "repeats the question": [
        "/api/status/fragility.entity_type",
        "/api/status/fragility/{entity_id}.entity_id",
        f"{DIAGNOSED}.strategy_id",
    ],
    "whether more is to come: asked until nothing is; test_runs_api and test_intelligence_api": [
        *("/api/compare.computing", f"{DIAGNOSED}.computing"),
    ],
    "goes by the clock; test_market_state moves it": [
        *("/api/status/pipeline.market_state", "/api/status/pipeline.next_state"),
    ],
    "both kinds of column are in every table": ["/api/db/{branch}/{table}.columns.in_key"],
    "needs pairs of runs, which test_intelligence_api and the tests of the diagnosis have": [
        *(f"{DIAGNOSED}.pairs.{name}" for name in (*PAIR.split(), "survives", "why")),
        *(f"{DIAGNOSED}.{name}" for name in ("skipped", "underperforming_count")),
        f"{DIAGNOSED}.config_comparisons_count",
    ],
    "needs bars that lack, which test_lineage_and_data and test_health_store have": [
        *(f"/api/data/health.{name}" for name in ("instruments.gaps", "more_findings", "received")),
        "/api/data/health.findings.found_by",
    ],
    "needs a whole chain, which test_lineage_and_data has": [
        "/api/lineage/fills/{fill_id}.steps.missing",
        "/api/lineage/fills/{fill_id}.steps.rows",
        "/api/lineage/orders/{order_id}.steps.missing",
    ],
    "decisions with sleeves of a day are what test_scenes has": [
        *(f"/api/traces/{{trace_id}}.events.{name}" for name in ("event_type", "sleeve")),
    ],
    "moves of a proposal are what test_intelligence_api makes": [
        "/api/intelligence/proposals/{proposal_id}.notes",
    ],
}
"""Why fields are the same in both worlds -> which."""


SPEAKS = {
    "has not happened; the row's status says so": [
        *(f"/api/alerts.rows.{name}" for name in ("acknowledged_at", "acknowledged_by")),
        *("/api/alerts.rows.resolved_at", "/api/runs.rows.completed_at"),
    ],
    "nobody ever moved the switch, or it is armed": [
        *(f"/api/desk.kill_switch.{name}" for name in ("at", "by", "cause", "reason")),
        *(f"/api/desk.runs.switch.{name}" for name in ("at", "by", "cause", "reason")),
    ],
    "the instrument's own `reason` says that there is no bar": [
        *(f"/api/data/health.instruments.{name}" for name in ("age", "last")),
    ],
    "nothing to tell: no error, no bound, no sleeve, no objection": [
        *("/api/jobs/kinds.kinds.timeout_seconds", "/api/status/pipeline.jobs.slo_ms"),
        *(f"/api/traces/{{trace_id}}.events.{name}" for name in ("data.error", "sleeve")),
        *("/api/meta/ledger.rows.reason", "/api/traces/{trace_id}.events.data.coverage"),
        *(
            f"/api/lineage/{kind}.steps.missing"
            for kind in ("fills/{fill_id}", "orders/{order_id}")
        ),
    ],
    "rows as they are stored; a null there is the database's": [
        *("/api/db/{branch}/{table}.rows", "/api/lineage/fills/{fill_id}.steps.facts.metadata"),
        "/api/lineage/orders/{order_id}.steps.rows.metadata",
    ],
}
"""What a null means where the answer need not say so -> where."""

UNSET = ("/api/jobs/kinds.kinds.spec.", "/api/meta/configs.configs.parameters.")
"""Settings: one that is null is not set."""

LAST_PAGE = (".next_offset", ".next_after")


def questions(world, runs):
    """Return how each GET of the document is asked in a world."""
    run, sleeve, label = world.run_id("FAST"), world.sleeve("FAST"), world.label
    book = f"{sleeve}_PORTFOLIO"
    code = "JP" if world.size > 1 else "US"
    status = {"mode": world.mode, "strategy_id": world.strategy, "region": world.region}
    plainly = {
        "/health": {},
        "/ready": {},
        "/api/alerts": {"open": False},
        "/api/campaigns": {},
        "/api/data/datasets": {},
        "/api/data/health": {"dataset": f"demo{label}"},
        "/api/desk": {},
        "/api/geo/countries": {"mode": world.mode},
        "/api/intelligence/changes": {},
        "/api/intelligence/health": {},
        "/api/intelligence/proposals": {},
        "/api/jobs": {},
        "/api/jobs/kinds": {},
        "/api/meta/configs": {},
        "/api/meta/ledger": {},
        "/api/meta/performance": {
            "engine_name": engine_of(world),
            "run_id": run,
            "period": f"{int(30 * world.size)}d",
        },
        "/api/meta/ranking": {"strategy_id": world.strategy},
        "/api/options": {},
        "/api/runs": {"limit": 2 + int(world.size)},
        "/api/scenes": {},
        "/api/status/overview": status,
        "/api/status/regime": status,
        "/api/status/stability": status,
        "/api/status/fragility": status,
        "/api/status/assessment": status,
        "/api/status/universe": status,
        "/api/status/portfolio": {"portfolio_id": book, "mode": world.mode},
        "/api/status/portfolio_risk": {"portfolio_id": book, "mode": world.mode},
        "/api/status/execution": {"portfolio_id": book, "mode": world.mode},
        "/api/status/risk_actions": {"strategy_id": world.strategy},
        "/api/status/pipeline": {"market_id": world.market},
        "/api/traces": {},
        "/api/compare": {"run_id": runs},
    }
    table = "historical/markets" if world.size > 1 else "runtime/orders"
    named = {
        "/api/campaigns/{campaign_id}": (f"/api/campaigns/grid{label}", {}),
        "/api/control/jobs/{job_id}": (f"/api/control/jobs/job_id{label}", {}),
        "/api/db/{branch}": (f"/api/db/{'historical' if world.size > 1 else 'runtime'}", {}),
        "/api/db/{branch}/{table}": (f"/api/db/{table}", {"limit": int(world.size)}),
        "/api/desk/{run_id}": (f"/api/desk/{run}", {}),
        "/api/embedding_space/{space_id}": (
            f"/api/embedding_space/{'profiles' if world.size > 1 else 'stability'}",
            {"strategy_id": world.strategy},
        ),
        "/api/geo/country/{country_code}": (f"/api/geo/country/{code}", {"mode": world.mode}),
        "/api/intelligence/diagnostics/{strategy_id}": (
            "/api/intelligence/diagnostics/US_CORE_LONG_EQ",
            {"min_sample_size": 1},
        ),
        "/api/intelligence/proposals/{proposal_id}": (
            f"/api/intelligence/proposals/proposal{label}",
            {},
        ),
        "/api/jobs/{job_id}": (f"/api/jobs/job_id{label}", {}),
        "/api/jobs/{job_id}/logs": (f"/api/jobs/job_id{label}/logs", {}),
        "/api/lineage/fills/{fill_id}": (f"/api/lineage/fills/{run}:3%231", {}),
        "/api/lineage/orders/{order_id}": (f"/api/lineage/orders/{run}:3", {}),
        "/api/runs/{run_id}": (f"/api/runs/{run}", {}),
        "/api/runs/{run_id}/equity": (f"/api/runs/{runs[0]}/equity", {}),
        "/api/scene/{view_id}": (f"/api/scene/{'root' if world.size > 1 else 'runtime_db'}", {}),
        "/api/status/fragility/{entity_id}": (
            "/api/status/fragility/A.US",
            {"strategy_id": world.strategy},
        ),
        "/api/traces/{trace_id}": (f"/api/traces/{world.strategy}-{label}", {}),
    }
    return {path: (path, asked) for path, asked in plainly.items()} | named


def leaves(document, schema, name):
    """Yield the names of the fields of an answer that hold no other; a list is what it lists."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if parts := [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]:
        for part in parts:
            yield from leaves(document, part, name)
    elif schema.get("type") == "array":
        yield from leaves(document, schema.get("items", {}), name)
    elif "properties" in schema:
        for key, inner in schema["properties"].items():
            if key != "unknown":
                yield from leaves(document, inner, f"{name}.{key}")
    else:
        yield name


def collect(value, name, known, seen):
    """Note each field's value; a field whose inside the document does not tell is one value."""
    if isinstance(value, list) and not (
        name in known and all(not isinstance(one, dict) for one in value)
    ):
        for one in value:
            collect(one, name, known, seen)
    elif isinstance(value, dict) and name not in known:
        for key, inner in value.items():
            collect(inner, f"{name}.{key}", known, seen)
    elif value not in (None, [], {}):
        seen.setdefault(name, set()).add(plain(value))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return the document, and of each world what every question is answered."""
    answers, document = [], {}
    for world in WORLDS:
        home = tmp_path_factory.mktemp(world.label)
        settings = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
        upgrade_schemas(settings)
        with open_stores(settings) as stores:
            runs = fill_all(stores, settings, world)
        with running(settings, Access(port=0)) as client:
            document = client.get("/api/openapi.json").json()
            found = {}
            for name, (path, asked) in questions(world, runs).items():
                answer = settled(client, path, asked or None)
                assert answer.status_code == 200, (path, answer.text)
                found[name] = answer.json()
            answers.append(found)
    return document, answers


def gets(document):
    return {path for path, calls in document["paths"].items() if "get" in calls} - NO_JSON


def test_every_get_of_the_interface_is_asked(told):
    document, answers = told

    assert {path for path in gets(document) if not path.startswith("/static")} == set(answers[0])


def test_no_field_of_any_answer_is_a_constant(told):
    document, answers = told
    same = set()
    for path in answers[0]:
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        known = set(leaves(document, content["application/json"]["schema"], path))
        worlds = []
        for answer in answers:
            seen = {}
            collect(answer[path], path, known, seen)
            worlds.append(seen)
        one, two = worlds
        same |= {name for name in known if one.get(name) == two.get(name)}

    excused = {name for names in FIXED.values() for name in names}
    unexcused = {name for name in same - excused if not name.endswith(OF_PAGES)}
    assert sorted(unexcused) == []
    assert sorted(excused - same) == [], "what changes needs no excuse"


def is_answer(value):
    """Return whether a document has reasons of its own: settings may have an `unknown` as well."""
    return isinstance(value.get("unknown"), dict)


def silent(value, name, reasons=frozenset()):
    """Yield the names of nulls of which no answer that they are part of says why."""
    if isinstance(value, list):
        for one in value:
            yield from silent(one, name, reasons)
    elif isinstance(value, dict):
        why = value["unknown"] if is_answer(value) else {}
        known = reasons | {f"{name}.{field}" for field in why}
        for key, inner in value.items():
            if inner is not why and f"{name}.{key}" not in known:
                yield from silent(inner, f"{name}.{key}", known)
    elif value is None:
        yield name


def test_no_null_is_silent_about_why(told):
    _, answers = told
    found = {name for world in answers for path in world for name in silent(world[path], path)}

    explained = {name for names in SPEAKS.values() for name in names}
    unset = {name for name in found if name.startswith(UNSET) or name.endswith(LAST_PAGE)}
    assert sorted(found - explained - unset) == []
    assert sorted(explained - found) == [], "what has a reason of its own needs no other"
