"""A real campaign wherever it runs, and whoever is killed meanwhile: the same rows to the last bit.

Compared are all tables of the runtime database, order-list hashes and the ledger among them, and
the ranking. What a clock or a process says of itself is left out; so are attempts after a kill.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from persistence.tables.campaigns import campaign_trials
from persistence.tables.runtime import RUNTIME
from prometheus_nt.campaign_config import load_campaign
from prometheus_nt.jobs.campaign import campaign_status, resume_campaign, run_campaign
from prometheus_nt.jobs.meta import rank_campaign
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONTENT = {
    "campaign": "small",
    "base": str(Path("configs/us_core_long_eq_ohlcv.yaml").resolve()),
    "sessions": {"start": "2004-01-02", "end": "2004-09-30"},
    "folds": {"train": 42, "test": 21},
    "grid": {"sleeve.horizon": [21, 63], "engines.portfolio.max_names": [2, 4]},
}
CLOCKS = {"created_at", "completed_at", "recorded_at", "updated_at", "started_at", "ended_at"}
NOT_CONTENT = CLOCKS | {"worker", "seconds", "path", "sha256", "bytes"}
# Of what several variants share: the one that happened to be the first to register it.
NOT_CONTENT |= {"created_by"}
NOT_AFTER_A_KILL = {"attempt", "owner", "lease_until"}
KILLS = int(os.environ.get("PROMETHEUS_KILL_POINTS", "3"))
MANY_KILLS = 25
SEED = 11


@pytest.fixture(scope="module")
def historical(sample_history):
    """Return the address of one historical database that every home reads."""
    return f"sqlite:///{sample_history}"


@pytest.fixture(scope="module")
def campaign_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("campaign") / "campaign.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return path


@pytest.fixture(scope="module")
def undisturbed(historical, campaign_file, tmp_path_factory):
    """Return the rows and the ranking of the campaign in one process, not disturbed."""
    return ran(new_home(tmp_path_factory.mktemp("undisturbed"), historical), campaign_file)


def new_home(path, historical, **others):
    environment = {"PROMETHEUS_HOME": str(path), "PROMETHEUS_HISTORICAL_URL": historical}
    settings = Settings.from_environment(environment | others)
    with open_stores(settings, upgrade=True):
        return settings


def ran(settings, campaign_file, workers=0, executor=None):
    with open_stores(settings) as stores:
        status = run_campaign(
            load_campaign(campaign_file), stores, workers=workers, executor=executor
        )
        assert (status.ok, status.failed, status.status) == (4, 0, "COMPLETED")
        return found(stores, status.campaign_id)


def found(stores, campaign_id, but=frozenset()):
    """Return every row but `but`, then the ranking."""
    rows = {}
    with stores.runtime.database.reader() as connection:
        for name, table in RUNTIME.tables.items():
            columns = [column for column in table.columns if column.name not in NOT_CONTENT | but]
            # An event's number is the order in which variants ended; its content is compared.
            columns = [table.c.kind, table.c.payload] if name == "events" else columns
            rows[name] = sorted(
                tuple(map(str, row)) for row in connection.execute(sa.select(*columns))
            )
    document = rank_campaign(stores, campaign_id).document()
    document.pop("report")
    return rows, document, stores.trials.missing(), stores.trials.altered()


def same(one, other):
    for name in one[0]:
        assert one[0][name] == other[0][name], name
    assert one[1:] == other[1:]


def without(found, columns):
    """Return what was found, less columns of the variants and their campaign."""
    with_clean = {}
    for name, table in RUNTIME.tables.items():
        kept = [column.name for column in table.columns if column.name not in NOT_CONTENT]
        places = [at for at, column in enumerate(kept) if column not in columns]
        whole = name == "events"
        with_clean[name] = sorted(
            row if whole else tuple(row[at] for at in places) for row in found[0][name]
        )
    return (with_clean, *found[1:])


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_leave_what_one_process_leaves(
    workers, tmp_path, historical, campaign_file, undisturbed
):
    there = ran(new_home(tmp_path, historical), campaign_file, workers, "process")

    same(undisturbed, there)
    assert len({row for row in undisturbed[0]["fills"]}) > 0
    assert undisturbed[1]["pool"]["trials"] == 4


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_ray_cluster_leaves_what_one_process_leaves(
    workers, tmp_path, historical, campaign_file, undisturbed, ray_cluster
):
    settings = new_home(tmp_path, historical, PROMETHEUS_RAY_ADDRESS=ray_cluster)

    there = ran(settings, campaign_file, workers, "ray")

    same(undisturbed, there)


def test_two_nodes_write_to_one_database_server(
    tmp_path, historical, campaign_file, undisturbed, ray_cluster, postgres_url
):
    others = {
        "PROMETHEUS_RAY_ADDRESS": ray_cluster,
        "PROMETHEUS_RUNTIME_URL": postgres_url("migrated"),
    }
    settings = new_home(tmp_path, historical, **others)

    there = ran(settings, campaign_file, 2, "ray")

    assert hashes(undisturbed) == hashes(there)
    for name in ("fills", "orders", "trials"):
        assert len(undisturbed[0][name]) == len(there[0][name]) > 0, name
    assert undisturbed[1] == there[1]


def hashes(found):
    """Return the order-list hash of every run."""
    columns = [
        column.name
        for column in RUNTIME.tables["backtest_runs"].columns
        if column.name not in NOT_CONTENT
    ]
    at, run = columns.index("order_list_hash"), columns.index("run_id")
    return {row[run]: row[at] for row in found[0]["backtest_runs"]}


@pytest.mark.parametrize("point", range(KILLS))
def test_whoever_is_killed_the_resumed_campaign_is_the_undisturbed_one(
    point, tmp_path, historical, campaign_file, undisturbed
):
    killed_and_resumed(point, new_home(tmp_path, historical), campaign_file, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(KILLS, MANY_KILLS))
def test_many_more_kills_leave_the_undisturbed_campaign(
    point, tmp_path, historical, campaign_file, undisturbed
):
    killed_and_resumed(point, new_home(tmp_path, historical), campaign_file, undisturbed)


@pytest.mark.parametrize("point", range(2))
def test_whoever_is_killed_on_ray_the_resumed_campaign_is_the_undisturbed_one(
    point, tmp_path, historical, campaign_file, undisturbed, ray_cluster
):
    settings = new_home(tmp_path, historical, PROMETHEUS_RAY_ADDRESS=ray_cluster)

    killed_and_resumed(point, settings, campaign_file, undisturbed, "ray")


def killed_and_resumed(point, settings, campaign_file, undisturbed, kind="process"):
    """Kill the runner with or without its workers, or a worker alone; resume; compare."""
    rng = random.Random(SEED + point)
    runner = started(settings, campaign_file, kind)
    try:
        wait_until_run(settings, rng.randrange(4), runner)
        time.sleep(rng.uniform(0.0, 0.6))
        workers = workers_at_work(settings)
        kill([[runner.pid], [runner.pid, *workers], workers[:1]][point % 3])
        # Without a worker it goes on; otherwise it is gone.
        runner.wait(timeout=420)
    finally:
        kill([runner.pid])

    with open_stores(settings) as stores:
        campaign_id = campaign_status(stores, "latest").campaign_id
        status = resume_campaign(campaign_id, stores)
        # Whoever outlived the runner finishes its variant: that, too, may change nothing.
        wait_until_gone(workers)
        there = found(stores, campaign_id, NOT_AFTER_A_KILL)

    assert (status.done, status.failed, status.status) == (4, 0, "COMPLETED")
    same(without(undisturbed, NOT_AFTER_A_KILL), there)


def started(settings, path, kind):
    command = [sys.executable, "-m", "prometheus_nt.cli", "campaign", "run", str(path)]
    environment = os.environ | {
        "PROMETHEUS_HOME": str(settings.home),
        "PROMETHEUS_HISTORICAL_URL": settings.historical_url,
        "PYTHONPATH": str(Path.cwd()),
    }
    if settings.ray_address is not None:
        environment["PROMETHEUS_RAY_ADDRESS"] = settings.ray_address
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workers = ["--workers", "2", "--executor", kind]
    return subprocess.Popen([*command, *workers], env=environment, **quiet)


def variants(settings):
    with open_stores(settings) as stores, stores.runtime.database.reader() as connection:
        table = campaign_trials.c
        return connection.execute(sa.select(table.status, table.worker, table.attempt)).all()


def wait_until_run(settings, begun, runner, seconds=420):
    """Wait until more than `begun` variants were begun, or the campaign is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and runner.poll() is None:
        if sum(row.attempt > 0 for row in variants(settings)) > begun:
            return
        time.sleep(0.02)
    assert runner.poll() is not None, "the campaign did not get that far"


def workers_at_work(settings):
    running = [row.worker for row in variants(settings) if row.status == "RUNNING"]
    return [int(worker.split(":")[1]) for worker in running]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until_gone(pids, seconds=60):
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)


def alive(pid):
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().split(")")[1].split()[0] != "Z"
