"""Tasks on a Ray cluster of two nodes on this machine: what inline and processes promise, too."""

import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs import ray_executor
from prometheus_nt.jobs.executor import Ending, InlineExecutor, new_executor
from prometheus_nt.jobs.ray_executor import RayExecutor
from prometheus_nt.settings import Settings
from tests.integration import ray_tasks as tasks

pytestmark = [
    pytest.mark.integration,
    # What Ray itself leaves open or deprecates is not ours to mend.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster(ray_cluster):
    return ray_cluster


@pytest.fixture(scope="module")
def shared(cluster):
    executor = RayExecutor(2, cluster)
    yield executor
    executor.close()


def outcomes(executor, task, specs, **options):
    handles = [executor.submit(task, spec, **options) for spec in specs]
    found = {handle.spec: handle.outcome for handle in executor.as_completed(handles)}
    return [found[spec] for spec in specs]


def gone(pid):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def test_inline_and_on_two_nodes_the_outcomes_are_the_same(shared):
    inline = outcomes(InlineExecutor(), tasks.double, range(6))

    assert outcomes(shared, tasks.double, range(6)) == inline


def test_an_error_raised_on_purpose_fails_its_task_and_keeps_its_words(shared):
    (one,) = outcomes(shared, tasks.refuse, [0])

    assert (one.ending, one.error) == (Ending.FAILED, "InsufficientHistory")
    assert one.message == "2020-01-02: needs 5 sessions, has 1"


def test_a_worker_that_dies_loses_its_own_task_and_no_other(shared):
    found = outcomes(shared, tasks.die_at_three, range(6))

    assert [one.ending for one in found].count(Ending.DONE) == 5
    assert (found[3].ending, found[3].error) == (Ending.DIED, "WorkerDied")
    assert "the worker process ended" in found[3].message


def test_a_bug_fails_one_task(shared):
    bug, fine = outcomes(shared, tasks.stumble, [1]) + outcomes(shared, tasks.double, [1])

    assert (bug.ending, bug.message) == (Ending.FAILED, "ValueError: a bug at 1")
    assert fine.result == "run-2"


def test_a_task_that_takes_too_long_is_killed_and_the_next_one_is_served(shared):
    late, prompt = outcomes(shared, tasks.sleep, [600, 0], timeout=1.0)

    assert (late.ending, late.error, prompt.result) == (Ending.TIMED_OUT, "Timeout", "awake")


def test_the_time_that_a_task_waits_does_not_count(cluster, shared):
    # Three seconds each, and two at a time: the last ones wait longer than they may run.
    found = outcomes(shared, tasks.sleep, [3.0, 3.01, 3.02, 3.03], timeout=5.0)

    assert [one.ending for one in found] == [Ending.DONE] * 4


def test_a_cancelled_task_ends_with_its_process_and_one_that_waits_never_begins(shared, tmp_path):
    files = [tmp_path / name for name in ("one", "two", "never")]
    handles = [shared.submit(tasks.leave_a_pid_and_sleep, str(path)) for path in files]
    endings = []

    def cancel_once_two_run():
        if all(path.exists() and path.read_text() for path in files[:2]):
            for handle in handles:
                shared.cancel(handle)

    for handle in shared.as_completed(handles, cancel_once_two_run):
        endings.append(handle.outcome.ending)

    assert endings == [Ending.CANCELLED] * 3
    assert all(gone(int(path.read_text())) for path in files[:2])
    assert not files[2].exists()
    assert outcomes(shared, tasks.double, [4])[0].result == "run-8"


def test_a_worker_is_replaced_after_its_share_of_tasks(cluster, shared):
    shared.close()
    executor = RayExecutor(1, cluster, tasks_per_worker=1)
    try:
        pids = [one.result for one in outcomes(executor, tasks.process_id, range(3))]
    finally:
        executor.close()
        shared.__init__(2, cluster)

    assert len(set(pids)) == 3


def test_every_node_has_to_have_our_code_and_to_see_our_files(shared, tmp_path, monkeypatch):
    settings = Settings.from_environment({"PROMETHEUS_HOME": str(tmp_path / "home")})

    shared.require_same(settings)

    assert list((tmp_path / "home").iterdir()) == []
    monkeypatch.setattr(ray_executor, "code_hash", lambda: "another")
    with pytest.raises(ConfigError, match=r"has code .* this is another; install the same version"):
        shared.require_same(settings)


def test_a_home_that_a_node_does_not_see_is_refused(shared, tmp_path, monkeypatch):
    settings = Settings.from_environment({"PROMETHEUS_HOME": str(tmp_path)})
    looks = shared._looks
    monkeypatch.setattr(shared, "_looks", lambda nodes, _: looks(nodes, "/nowhere/.seen"))

    with pytest.raises(ConfigError, match=r"does not see .* set PROMETHEUS_HOME to a folder that"):
        shared.require_same(settings)


def test_several_machines_need_a_database_server():
    files = Settings.from_environment({"PROMETHEUS_HOME": "/x"})
    server = replace(files, runtime_url="postgresql+psycopg2://db/x", historical_url="postgresql:")

    ray_executor._require_server(server)

    with pytest.raises(ConfigError, match="PROMETHEUS_RUNTIME_URL and PROMETHEUS_HISTORICAL_URL"):
        ray_executor._require_server(files)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(ConfigError, match=r"pip install 'prometheus-nt\[ray\]'"):
        new_executor(2, "ray")


def test_a_cluster_of_our_own_ends_with_the_executor_and_writes_no_token(monkeypatch, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    program = f"""
import json, os
from pathlib import Path
from prometheus_nt.jobs.executor import new_executor
from tests.integration.ray_tasks import double
executor = new_executor(1, "ray")
folder = executor._cluster.folder
handles = [executor.submit(double, 3)]
found = [one.outcome.result for one in executor.as_completed(handles)]
executor.close()
Path({str(made / "told")!r}).write_text(json.dumps(
    [found, folder.exists(), os.environ["RAY_USAGE_STATS_ENABLED"], os.environ["RAY_AUTH_MODE"],
     (Path.home() / ".ray" / "auth_token").exists()]))
"""
    home = tmp_path / "user"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if "RAY_" not in name}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path.cwd())}

    ended = os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", program], environment)

    assert ended == 0
    assert (made / "told").read_text() == '[["run-6"], false, "0", "token", false]'
    assert shutil.which("ray") is None or not list(home.rglob("auth_token"))


def test_a_cluster_that_is_not_there_or_refuses_the_token_is_an_error_with_a_remedy(tmp_path):
    program = """
import sys
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.ray_executor import RayExecutor
try:
    RayExecutor(1, sys.argv[1])
except ConfigError as refused:
    sys.exit(0 if "is its token in RAY_AUTH_TOKEN" in str(refused) else 3)
sys.exit(4)
"""
    environment = {name: value for name, value in os.environ.items() if "RAY_" not in name}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", program, "127.0.0.1:1"]

    assert os.spawnve(os.P_WAIT, sys.executable, command, environment) == 0
