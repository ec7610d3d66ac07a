"""The daemon: every job once, whatever is killed, late or raced; each market on its own day."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from adapters.sample import sample_ohlcv
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.job_executions import JobExecutionStore
from persistence.runtime import RuntimeStore
from persistence.tables import runtime
from persistence.tables.governance import job_executions
from persistence.tables.trading import alerts
from prometheus_nt.cli import app
from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.daily_jobs import DEFAULT_RULES, OF_DATASETS, JobKind, JobStatus
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs import daemon as job
from prometheus_nt.jobs.daemon import DaemonRequest, run_daemon
from prometheus_nt.jobs.daily_work import Finding, Told
from prometheus_nt.jobs.day import DayRunner, ensure_day
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

DAY = date(2024, 3, 27)
EVENING = datetime(2024, 3, 27, 20, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROGRAM = Path("tests/integration/daemon_program.py")
CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")


class Clock:
    """A time that passes only while somebody waits; also what ends the waiting."""

    def __init__(self, at, lasts=timedelta(days=1), then=lambda _: None):
        self.at, self.end, self.then = at, at + lasts, then

    def now(self):
        return self.at

    def is_set(self):
        return self.at >= self.end

    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)
        self.then(self.at)
        return self.is_set()


class StandingClock(Clock):
    """A time that stands still while others work: daemons that race must agree on it."""

    def wait(self, seconds):
        time.sleep(min(seconds, 0.05))
        return False


def begin(spec):
    """Say that a job began, and in which process."""
    with (spec.settings.home / "begun.txt").open("a", encoding="utf-8") as file:
        file.write(f"{spec.job_id} {os.getpid()}\n")


def succeed(spec):
    begin(spec)
    return Told(Finding.DONE, "done").write()


def sleep_in_signals(spec):
    begin(spec)
    if spec.kind is JobKind.RUN_SIGNALS:
        time.sleep(600)
    return Told(Finding.DONE, "done").write()


def fail_in_signals(spec):
    begin(spec)
    if spec.kind is JobKind.RUN_SIGNALS and not (spec.settings.home / "mended").exists():
        raise DataError("nothing to measure")
    return Told(Finding.DONE, "done").write()


def fail_before_thursday(spec):
    begin(spec)
    if spec.kind is JobKind.RUN_SIGNALS and spec.session < date(2024, 4, 4):
        raise DataError("an old session")
    return Told(Finding.DONE, "done").write()


def die_in_signals(spec):
    begin(spec)
    if spec.kind is JobKind.RUN_SIGNALS and not (spec.settings.home / "mended").exists():
        (spec.settings.home / "mended").touch()
        os._exit(11)
    return Told(Finding.DONE, "done").write()


def wait_for_data(spec):
    begin(spec)
    if spec.kind is JobKind.CHECK_DATA and not (spec.settings.home / "data").exists():
        return Told(Finding.WAITS, "1 of 5 instruments").write()
    return Told(Finding.DONE, "done").write()


def node(region="US", **daemon):
    """Return a node whose days have only the jobs that they need, unless told otherwise."""
    off = {"enabled": False}
    jobs = {"audit_data": off, "derive_data": off, "update_outcomes": off, "ingest_prices": off}
    settings = {"catch_up_sessions": 3, **daemon}
    return NodeConfig.model_validate(
        {
            "region": region,
            "market": REGIONS[region],
            "sessions": {"start": date(2020, 1, 2)},
            "data": {"dataset": f"prices_{region.lower()}"},
            "sleeves": [{"family": "US_CORE_LONG_EQ", "horizon": 21, "capital_usd": 1_000_000}],
            "day": {"daemon": {**settings, "jobs": {**jobs, **settings.get("jobs", {})}}},
        }
    )


def stores_of(database, home):
    settings = Settings(home, database.safe_url, database.safe_url)
    return Stores(settings, HistoricalStore(database), RuntimeStore(database))


@pytest.fixture
def stores(sqlite_database, tmp_path):
    return stores_of(sqlite_database, tmp_path)


def run(stores, task, clock, nodes=None, **request):
    nodes = nodes or [node()]
    asked = DaemonRequest(task=task, **request)
    return run_daemon(lambda: nodes, stores, asked, clock, now=clock.now)


def standing(stores, *days, market="us_eq"):
    """Return how the jobs of days stand, by the kind and session."""
    dags = [f"{market}_daily_{day}" for day in days or (DAY,)]
    found = JobExecutionStore(stores.runtime.database).of_dags(dags).values()
    return {(each.job_type, each.as_of): each for each in found}


def begun(stores):
    """Return the jobs in the order in which they began, and the processes that did them."""
    path = stores.settings.home / "begun.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(name, int(pid)) for name, pid in (line.rsplit(" ", 1) for line in lines)]


def told(stores):
    """Return the alerts: rule, severity, times raised, and whether it is over."""
    query = sa.select(alerts).order_by(alerts.c.rule, alerts.c.subject)
    with stores.runtime.database.reader() as connection:
        return [
            (row["rule"], row["severity"], row["count"], row["resolved_at"] is not None)
            for row in connection.execute(query).mappings()
        ]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split(")")[1][:3]


def test_a_day_of_the_daemon_is_the_day_that_day_run_makes(sqlite_database, tmp_path):
    stores = stores_of(sqlite_database, tmp_path)
    ingest(sample_ohlcv(), stores.historical)
    sqlite_database.close()
    for part in tmp_path.glob("test.db*"):
        shutil.copy(part, tmp_path / part.name.replace("test", "other"))
    day = date(2005, 11, 1)
    config = load_config([CONFIG], ["sessions.start=2005-01-03", "sessions.end=2005-12-30"])
    clock = Clock(datetime(2005, 11, 1, 22, tzinfo=UTC))

    summary = run_daemon(lambda: [config], stores, DaemonRequest(once=True), clock, now=clock.now)

    other = Database.open(f"sqlite:///{tmp_path / 'other.db'}")
    theirs = stores_of(other, tmp_path / "other")
    done = DayRunner(config, theirs, "me").run_to_end(ensure_day(config, day, theirs))
    assert done.phase is RunPhase.COMPLETED
    assert summary.failed == () and summary.counts["SUCCESS"] == 8
    for table in (
        *(runtime.instrument_scores, runtime.universe_members, runtime.book_targets),
        *(runtime.target_portfolios, runtime.regimes, runtime.engine_decisions),
    ):
        ours = _rows(stores, table, day)
        assert ours == _rows(theirs, table, day), table.name
        assert ours, table.name
    other.close()
    # One replay served the three phases: their process kept it.
    again = run_daemon(lambda: [config], stores, DaemonRequest(once=True), clock, now=clock.now)
    assert again.counts == summary.counts
    assert all(each.attempt == 1 for each in standing(stores, day).values())


def _rows(stores, table, day):
    kept = [column for column in table.columns if column.name != "created_at"]
    query = sa.select(*kept).where(table.c.as_of_date == day)
    with stores.runtime.database.reader() as connection:
        return sorted(map(tuple, connection.execute(query).all()), key=str)


def test_a_job_that_takes_too_long_is_killed_tried_again_and_at_last_given_up(stores):
    limited = {"run_signals": {"timeout_seconds": 1, "max_attempts": 2, "retry_seconds": 600}}
    clock = Clock(EVENING)

    summary = run(stores, sleep_in_signals, clock, [node(jobs=limited)], as_of=DAY)

    signals = standing(stores)["run_signals", DAY]
    assert (signals.status, signals.attempt) == (JobStatus.FAILED, 2)
    assert signals.message == "took longer than 1 s and was ended"
    assert [each["error"] for each in signals.failures] == ["Timeout", "Timeout"]
    assert not any(is_alive(pid) for _, pid in begun(stores))
    assert timedelta(minutes=7) < clock.at - EVENING < timedelta(minutes=13)
    assert standing(stores)["run_books", DAY].status is JobStatus.SKIPPED
    assert "which is SKIPPED" in standing(stores)["run_books", DAY].message
    assert len(summary.failed) == 3
    assert told(stores) == [("job_failed", "CRITICAL", 1, False)]


def test_a_wait_between_attempts_outlives_the_daemon(stores):
    first = run(stores, fail_in_signals, Clock(EVENING), once=True)
    waits = standing(stores)["run_signals", DAY]

    run(stores, fail_in_signals, Clock(EVENING + timedelta(seconds=60)), once=True)
    assert standing(stores)["run_signals", DAY] == waits
    run(stores, fail_in_signals, Clock(waits.next_attempt_at), once=True)

    again = standing(stores)["run_signals", DAY]
    assert first.failed
    assert (waits.status, waits.attempt, again.attempt) == (JobStatus.FAILED, 1, 2)
    assert again.next_attempt_at - waits.next_attempt_at > 0.7 * 2 * timedelta(minutes=5)
    assert [each["message"] for each in again.failures] == ["nothing to measure"] * 2


def test_what_failed_for_good_goes_on_when_somebody_asks_and_its_alert_is_over(stores):
    strict = [node(jobs={"run_signals": {"max_attempts": 1}})]
    run(stores, fail_in_signals, Clock(EVENING), strict, once=True)
    (stores.settings.home / "mended").touch()

    unasked = run(stores, fail_in_signals, Clock(EVENING + HOUR), strict, once=True)
    asked = run(stores, fail_in_signals, Clock(EVENING + HOUR), strict, once=True, retry=True)

    assert len(unasked.failed) == 3
    assert asked.failed == ()
    assert told(stores) == [("job_failed", "CRITICAL", 1, True)]


def test_a_job_whose_process_dies_costs_an_attempt_and_no_other_job(stores):
    summary = run(stores, die_in_signals, Clock(EVENING), as_of=DAY)

    signals = standing(stores)["run_signals", DAY]
    assert summary.failed == ()
    assert (signals.status, signals.attempt) == (JobStatus.SUCCESS, 2)
    assert "exit code 11" in signals.failures[0]["message"]


def test_a_job_whose_daemons_never_come_back_is_given_up_after_its_attempts(stores):
    strict = [node(jobs={"run_signals": {"max_attempts": 2}})]
    held = JobExecutionStore(stores.runtime.database)
    run(stores, fail_in_signals, Clock(EVENING), [node()], once=True)
    again = standing(stores)["run_signals", DAY].next_attempt_at
    name = standing(stores)["run_signals", DAY].job_id
    held.claim(name, f"{socket.gethostname()}:999999999:gone", again)

    summary = run(stores, fail_in_signals, Clock(again), strict, once=True)

    signals = standing(stores)["run_signals", DAY]
    assert (signals.status, signals.attempt) == (JobStatus.FAILED, 2)
    assert signals.failures[-1]["error"] == "DaemonGone"
    assert len(summary.failed) == 3
    assert told(stores) == [("job_failed", "CRITICAL", 1, False)]


def test_a_job_that_was_taken_over_is_ended_here_and_left_to_its_owner(stores, monkeypatch):
    monkeypatch.setattr(job, "BEAT_SECONDS", 0.1)

    def take_over():
        _wait_until(lambda: any("run_signals" in name for name, _ in begun(stores)))
        mine = job_executions.c.job_type == "run_signals"
        with stores.runtime.database.writer() as connection:
            taken = {"owner": "elsewhere:1:other", "lease_until": EVENING + HOUR}
            connection.execute(sa.update(job_executions).where(mine).values(taken))

    thief = Thread(target=take_over)
    thief.start()
    run(stores, sleep_in_signals, StandingClock(EVENING), once=True)
    thief.join()

    signals = standing(stores)["run_signals", DAY]
    assert (signals.status, signals.owner) == (JobStatus.RUNNING, "elsewhere:1:other")
    assert not any(is_alive(pid) for _, pid in begun(stores))


def test_late_data_are_waited_for_somebody_is_told_once_and_the_day_is_done_when_they_come(stores):
    def arrive(at):
        if at >= EVENING + 6 * HOUR:
            (stores.settings.home / "data").touch()

    patient = [node(jobs={"check_data": {"poll_seconds": 1800}})]
    summary = run(stores, wait_for_data, Clock(EVENING, then=arrive), patient, as_of=DAY)

    check = standing(stores)["check_data", DAY]
    assert summary.failed == ()
    assert (check.status, check.attempt, check.failures) == (JobStatus.SUCCESS, 1, ())
    assert EVENING + 6 * HOUR <= check.completed_at <= EVENING + 6.6 * HOUR
    assert told(stores) == [("data_late", "WARNING", 1, True), ("job_late", "WARNING", 1, True)]


def test_two_daemons_never_do_a_job_twice(database, tmp_path):
    stores = stores_of(database, tmp_path)
    both = [node(), node("EU")]
    daemons = [
        Thread(
            target=run,
            args=(stores, succeed, StandingClock(EVENING), both),
            kwargs={"until": DAY, "workers": 2},
        )
        for _ in range(2)
    ]
    for each in daemons:
        each.start()
    for each in daemons:
        each.join()

    names = [name for name, _ in begun(stores)]
    assert len(names) == len(set(names)) == 8
    for market in ("us_eq", "eu_eq"):
        found = standing(stores, market=market).values()
        assert {(each.status, each.attempt) for each in found} == {(JobStatus.SUCCESS, 1)}


def test_missed_sessions_are_caught_up_in_order_but_no_more_than_asked_for(stores):
    both = [node(), node(catch_up_sessions=1).model_copy(update={"mode": "paper"})]
    run(stores, succeed, Clock(EVENING), both, once=True)
    first = len(begun(stores))

    run(stores, succeed, Clock(datetime(2024, 4, 4, 21, 30, tzinfo=UTC)), both, once=True)

    names = [name for name, _ in begun(stores)]
    assert first == 2 * 4
    assert all(name.endswith("2024-03-27") for name in names[:first])
    checks = [name[-10:] for name in names[first:] if "check_data" in name and "PAPER" not in name]
    assert checks == ["2024-04-02", "2024-04-03", "2024-04-04"]
    assert {name[-10:] for name in names[first:] if "PAPER" in name} == {"2024-04-04"}
    assert len(names) - first == (3 + 1) * 4


def test_old_sessions_that_go_on_failing_do_not_starve_the_newest(stores):
    run(stores, succeed, Clock(EVENING), once=True)

    late = datetime(2024, 4, 4, 21, 30, tzinfo=UTC)
    summary = run(stores, fail_before_thursday, Clock(late), once=True)

    days = [date(2024, 4, day) for day in (2, 3, 4)]
    found = standing(stores, *days)
    signals = [found["run_signals", day].status for day in days]
    assert signals == [JobStatus.FAILED, JobStatus.FAILED, JobStatus.SUCCESS]
    assert found["run_books", days[2]].status is JobStatus.SUCCESS
    assert len(summary.failed) == 2


def test_each_market_has_its_own_days_through_easter_and_the_change_of_clocks(stores, monkeypatch):
    monkeypatch.setattr(job, "LONGEST_SLEEP", 6 * HOUR)
    nodes = [node(region) for region in ("US", "EU", "ASIA")]
    start = datetime(2024, 3, 27, 22, tzinfo=UTC)

    summary = run(
        stores, succeed, Clock(start, timedelta(days=9)), nodes, until=date(2024, 4, 2), workers=2
    )

    # Good Friday closes New York and London, Easter Monday London; Europe's clocks change between.
    expected = {
        "us_eq": {(3, 27): (27, 22), (3, 28): (28, 20), (4, 1): (1, 20), (4, 2): (2, 20)},
        "eu_eq": {(3, 27): (27, 22), (3, 28): (28, 16.5), (4, 2): (2, 15.5)},
        "asia_eq": {
            **{(3, 27): (27, 22), (3, 28): (28, 6), (3, 29): (29, 6)},
            **{(4, 1): (1, 6), (4, 2): (2, 6)},
        },
    }
    sessions = [date(2024, 3, day) for day in range(27, 32)]
    sessions += [date(2024, 4, day) for day in range(1, 4)]
    assert summary.failed == ()
    for market, days in expected.items():
        found = standing(stores, *sessions, market=market)
        starts = {
            (as_of.month, as_of.day): (each.started_at.day, _hour(each.started_at))
            for (kind, as_of), each in found.items()
            if kind == "check_data"
        }
        assert starts == days, market
        assert {each.status for each in found.values()} == {JobStatus.SUCCESS}


def _hour(moment):
    return moment.hour + moment.minute / 60


def test_a_changed_configuration_is_heeded_and_a_broken_one_only_told(stores):
    slow = [node(jobs={"check_data": {"poll_seconds": 3600}})]
    calls = iter([slow, slow, None, None])

    def load():
        found = next(calls, [node(jobs={"check_data": {"poll_seconds": 900}})])
        if found is None:
            raise ConfigError("configs/mine.yaml: sleevs: unknown field")
        return found

    clock = Clock(EVENING, 4 * HOUR)
    run_daemon(load, stores, DaemonRequest(task=wait_for_data), clock, now=clock.now)

    polls = sum("check_data" in name for name, _ in begun(stores))
    assert 10 <= polls <= 17
    assert ("daemon_config_invalid", "WARNING", 1, True) in told(stores)


def test_a_daemon_with_nothing_to_look_after_says_so(stores):
    ended = load_config([CONFIG])

    with pytest.raises(ConfigError, match="no session of it is to be looked after; name one with"):
        run(stores, succeed, Clock(EVENING), [ended], once=True)


@pytest.mark.parametrize(
    ("number", "code", "attempts"),
    [(signal.SIGKILL, -signal.SIGKILL, 2), (signal.SIGTERM, 0, 1), (signal.SIGINT, 130, 1)],
)
def test_a_daemon_that_is_stopped_in_a_job_does_it_once_more_and_nothing_else(
    tmp_path, number, code, attempts
):
    home = tmp_path / "home"
    home.mkdir()
    (home / "slow").touch()
    url = f"sqlite:///{home / 'runtime.db'}"
    first = _start(home)
    worker = _wait_for_signals(home, first)

    first.send_signal(number)

    assert first.wait(60) == code
    _wait_until(lambda: not is_alive(worker))
    database = Database.open(url)
    stores = stores_of(database, home)
    day = date(2013, 2, 28)
    left = standing(stores, day)["run_signals", day]
    assert left.status is (JobStatus.RUNNING if attempts == 2 else JobStatus.PENDING)
    (home / "slow").unlink()
    assert _start(home).wait(120) == 0
    found = standing(stores, day)
    assert {each.status for each in found.values()} == {JobStatus.SUCCESS}
    assert found["run_signals", day].attempt == attempts
    assert [each["error"] for each in found["run_signals", day].failures] == ["DaemonGone"] * (
        attempts - 1
    )
    names = [name for name, _ in begun(stores)]
    assert len(names) == 9 and len(set(names)) == 8
    assert sum("run_signals" in name for name in names) == 2
    database.close()


def _start(home):
    command = [sys.executable, str(PROGRAM), "day", "daemon", "--as-of", "2013-02-28"]
    environment = {**os.environ, "PROMETHEUS_HOME": str(home), "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _wait_for_signals(home, process):
    path = home / "begun.txt"

    def found():
        assert process.poll() is None
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [int(line.split()[-1]) for line in lines if "run_signals" in line]

    return _wait_until(found)[0]


def _wait_until(reached, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = reached()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("not reached in time")


PAGE = Path("docs/daily.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def table(heading):
    """Return the rows of the table of the page whose first column is called `heading`."""
    lines = PAGE.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} "))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_command_of_the_page_works(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path))
    commands = [line for block in blocks("bash") for line in block.splitlines()]

    results = [CliRunner().invoke(app, shlex.split(command)[1:]) for command in commands]

    assert len(commands) >= 6
    for command, result in zip(commands, results, strict=True):
        assert result.exit_code == 0, f"{command}: {result.output}"
    assert all(name in results[2].stdout for name in JobKind)
    assert "COMPLETED" in results[3].stdout
    shown = ["day", "dag", "--as-of", "2013-02-28", "--json"]
    document = json.loads(CliRunner().invoke(app, shown).stdout)
    assert {row["status"] for row in document} == {"SUCCESS"}
    assert {"needs", "starts_at", "timeout_seconds", "message"} <= set(document[0])


def test_the_pages_table_of_jobs_is_that_of_the_program():
    of_program = [
        [
            kind,
            "dataset" if kind in OF_DATASETS else "strategy",
            ", ".join(rule.needs),
            rule.starts,
            f"{rule.delay_minutes:g}",
            "yes" if rule.mandatory else "no",
            f"{rule.timeout_seconds:g}",
            str(rule.max_attempts),
            "" if rule.late_after_minutes is None else f"{rule.late_after_minutes:g}",
        ]
        for kind, rule in DEFAULT_RULES.items()
    ]

    assert table("job") == of_program


def test_the_page_tells_every_alert_and_its_settings_are_heeded(tmp_path):
    (block,) = blocks("yaml")
    mine = tmp_path / "mine.yaml"
    mine.write_text(block, encoding="utf-8")

    rules = load_config([CONFIG, mine]).day.daemon.rules

    assert [row[0] for row in table("rule")] == [
        *(job.JOB_FAILED, job.DATA_LATE, job.JOB_LATE),
        job.CONFIG_INVALID,
    ]
    assert rules[JobKind.RUN_SIGNALS].timeout_seconds == 1800
    assert rules[JobKind.RUN_SIGNALS].needs == (JobKind.CHECK_DATA,)
    assert JobKind.DERIVE_DATA not in rules
