"""The desk as a person uses it: panels in every state, and work from its request to its end."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from adapters.sample import sample_ohlcv
from persistence.database import Database
from persistence.job_queue import Beat, JobQueue, NewJob
from persistence.tables import runtime as tables
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.proposals import store_of
from prometheus_nt.jobs.stores import open_stores, upgrade_schemas
from prometheus_nt.monitoring.access import Access
from prometheus_nt.settings import Settings
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.test_intelligence_api import KEY, STRATEGY, draft
from tests.integration.monitoring.test_serve import serving
from tests.integration.monitoring.world import put
from tests.ui.conftest import PATIENCE_MS, walk

pytestmark = pytest.mark.integration

CONFIGS = Path(__file__).parents[2] / "configs"
NODE = "us_core_long_eq_ohlcv"


def served(settings):
    return running(replace(settings, config_dir=CONFIGS), Access(port=0))


def address(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def typed(page, line, until):
    """Type a line into the terminal; return what it answered once that holds some words."""
    lines = page.locator(".terminal .lines p")
    before = lines.count()
    page.fill("input[aria-label=Command]", line)
    page.press("input[aria-label=Command]", "Enter")
    # The first line that follows is the one that was typed.
    answered = page.locator(f".terminal .lines p:nth-child(n+{before + 2})")
    answered.filter(has_text=until).first.wait_for()
    return "\n".join(answered.all_inner_texts())


def test_every_panel_says_what_to_do_where_nothing_is_recorded(visitor, settings):
    with served(settings) as client, visitor.at(address(client)) as page:
        failed = walk(page)

        assert failed == {}
        page.click("nav a[href='#/backtests']")
        page.wait_for_selector("text=Nothing has been run yet")


def test_a_thousand_runs_are_gone_through_page_by_page(visitor, settings, database: Database):
    made = datetime(2024, 1, 1, tzinfo=UTC)
    own = {"strategy_id": "S", "sleeve_id": "S_A", "portfolio_id": "S_A_P", "market_id": "US_EQ"}
    rows = [
        own
        | {"run_id": f"S_A-{number:04}", "mode": "BACKTEST", "status": "COMPLETED"}
        | {"created_at": made + timedelta(minutes=number)}
        for number in range(1_000)
    ]
    put(database, tables.backtest_runs, rows)
    with served(settings) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/backtests']")
        page.wait_for_selector("text=S_A-0999")
        shown = page.locator("main tbody tr").count()
        page.click("text=Older")
        page.wait_for_selector("text=S_A-0899")

        assert shown == 100
        assert page.locator("text=S_A-0999").count() == 0


def test_jobs_that_run_and_jobs_that_failed_are_told_apart(visitor, settings, database):
    queue = JobQueue(database)
    asked = NewJob("report", {"run": "latest"}, "ann", max_attempts=1)
    queue.insert(asked)
    broken = queue.claim("w")
    queue.fail(broken, {"type": "DataError", "message": "no such run"}, Beat())
    queue.insert(asked)
    held = queue.claim("w")
    queue.beat(held, Beat(progress=0.4, message="half way"))
    with served(settings) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/jobs']")
        page.wait_for_selector("text=half way")
        page.click(f"tr[data-key='{broken.job_id}']")
        page.wait_for_selector("text=no such run")

        assert page.get_attribute("[role=progressbar]", "aria-valuenow") == "40"
        assert page.is_enabled("text=Try again")


def test_mistakes_in_a_request_stand_at_their_fields(visitor, settings):
    with served(settings) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/backtests']")

        page.click("text=Run it")
        page.wait_for_selector("#backtest-strategy_id[aria-invalid=true]")
        page.fill("#backtest-strategy_id", STRATEGY)
        page.fill("#backtest-config", NODE)
        page.fill("#backtest-config_overrides", '{"execution.foo": 3}')
        page.click("text=Run it")
        page.wait_for_selector("#backtest-config_overrides[aria-invalid=true]")

        # A browser calls every answer that refuses an error.
        visitor.forgive("400")
        assert "unknown field" in page.inner_text("#backtest-config_overrides-why")


SMALL = """
sessions: {start: 2004-01-02, end: 2005-12-30}
data: {dataset: sample_ohlcv}
sleeves: [{horizon: 5}]
engines:
  universe: {min_dollar_volume: 1000000}
  portfolio: {max_names: 2, max_weight: 0.5}
  risk: {max_abs_weight_per_name: 0.5}
gate: {max_position_weight: 0.6}
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """Return a historical database of four stocks, made once."""
    home = tmp_path_factory.mktemp("prices")
    made = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
    upgrade_schemas(made)
    with open_stores(made) as stores:
        ingest(sample_ohlcv(), stores.historical)
    return home / "historical.db"


@pytest.fixture
def working(tmp_path, settings, monkeypatch, prices):
    """Yield a client of a server of its own that runs jobs, with four stocks to run them on."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / f"{STRATEGY.lower()}.yaml").write_text(SMALL)
    monkeypatch.setenv("PROMETHEUS_CONFIG_DIR", str(folder))
    for old in settings.home.glob("historical.db*"):
        old.unlink()
    with closing(sqlite3.connect(prices)) as made:
        made.execute("VACUUM INTO ?", (str(settings.home / "historical.db"),))
    with serving(settings.home) as client:
        yield client


def job_of(answer):
    return next(word for word in answer.split() if word.startswith("backtest_"))


def test_a_backtest_is_asked_for_watched_and_read_and_another_is_cancelled(visitor, working):
    with visitor.at(address(working)) as page:
        page.click("nav a[href='#/terminal']")

        first = job_of(typed(page, f"backtest run {STRATEGY} 2004-01-02 2004-04-30", " PENDING"))
        second = job_of(typed(page, f"backtest run {STRATEGY} 2004-01-02 2005-12-30", " PENDING"))
        typed(page, f"jobs cancel {second}", "CANCELLED")
        watched = typed(page, f"jobs watch {first}", "COMPLETED")
        page.click("nav a[href='#/backtests']")
        page.click("main tbody tr")
        page.wait_for_selector("text=Full report")
        page.wait_for_selector(".plot .main-svg")

        assert "completed" in watched
        assert page.locator("dl.figures dd", has_text="%").count() > 3
        assert working.get(f"/api/jobs/{second}").json()["status"] == "CANCELLED"


WATCH = """() => {
  window.lit = [];
  const look = () => document.querySelectorAll(".colony .lit").forEach(({ dataset: { node } }) =>
    window.lit.includes(node) || window.lit.push(node));
  new MutationObserver(look).observe(document.querySelector("main"),
    { subtree: true, childList: true, attributes: true });
}"""


def test_the_stages_of_a_day_light_up_on_the_map_while_it_runs(visitor, working):
    view = working.get("/api/scene/root").json()
    with visitor.at(address(working)) as page:
        page.click("nav a[href='#/ant_hill']")
        page.wait_for_selector(".colony [data-node=risk]")
        page.evaluate(WATCH)

        asked = {"config": [STRATEGY.lower()], "as_of": "2005-11-01"}
        working.post("/api/jobs", json={"kind": "day", "spec": asked})
        # A whole day is worked through meanwhile, by a process of its own.
        lit_last = "() => window.lit.includes('runtime_db')"
        page.wait_for_function(lit_last, timeout=5 * PATIENCE_MS)

        lit = page.evaluate("() => window.lit")
        assert set(lit) == {node for nodes in view["works_in"].values() for node in nodes}
        assert lit.index("stability") < lit.index("universe") < lit.index("risk")
        assert page.locator(".colony .edge").count() > len(view["nodes"])


def test_a_proposal_is_approved_applied_and_put_back(visitor, settings):
    with open_stores(settings) as stores:
        store_of(stores).propose(draft())
    with served(settings) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/meta_experiments']")

        page.click("main tbody tr[data-key]")
        page.click("button:text-is('Approve')")
        page.click("dialog button[value=go]")
        page.click("button:text-is('Apply')")
        page.fill("dialog input", STRATEGY)
        page.click("dialog button[value=go]")
        page.click("button:text-is('Put back')")
        page.fill("dialog input", "it lost money")
        page.click("dialog button[value=go]")
        page.wait_for_selector("text=put back 20")

        (change,) = client.get("/api/intelligence/changes").json()["rows"]
        told = (change["target_component"], change["is_reverted"], change["reversion_reason"])
        assert told == (KEY, True, "it lost money")


def test_everything_is_halted_by_a_typed_name_and_armed_again(visitor, settings):
    with served(settings) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/live_desk']")

        page.click("text=Halt everything")
        assert page.is_disabled("dialog button[value=go]")
        page.fill("dialog input", "ALL")
        page.click("dialog button[value=go]")
        page.fill("dialog input[aria-label=Reason]", "a fire drill")
        page.click("dialog button[value=go]")
        page.wait_for_selector("header >> text=trading halted")
        halted = client.get("/api/desk").json()["kill_switch"]
        page.click("text=Arm again")
        page.fill("dialog input", "ALL")
        page.click("dialog button[value=go]")
        page.fill("dialog input[aria-label=Reason]", "it is over")
        page.click("dialog button[value=go]")
        page.wait_for_selector("header >> text=trading armed")

        assert (halted["state"], halted["reason"]) == ("HALTED", "a fire drill")
        assert client.get("/api/desk").json()["kill_switch"]["state"] == "ARMED"
