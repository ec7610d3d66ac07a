"""Which sessions and jobs there are for nodes, around holidays and changes of clocks."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.daily_jobs import JobKind
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.daemon import NodeFiles
from prometheus_nt.jobs.daily_dag import (
    in_order,
    jobs_of,
    region_nodes,
    sessions_of,
)
from prometheus_nt.jobs.daily_work import WORK

DAY = date(2024, 3, 28)
BASE = Path("configs/us_core_long_eq_ohlcv.yaml")


def node(region="US", dataset="prices", mode="backtest", family="US_CORE_LONG_EQ", **daemon):
    return NodeConfig.model_validate(
        {
            "mode": mode,
            "region": region,
            "market": REGIONS[region],
            "sessions": {"start": date(2020, 1, 2)},
            "data": {"dataset": dataset},
            "sleeves": [{"family": family, "horizon": 21, "capital_usd": 1_000_000}],
            "day": {"daemon": daemon},
        }
    )


def days(texts):
    return [date.fromisoformat(f"2024-{text}") for text in texts.split()]


@pytest.mark.parametrize(
    ("region", "now", "known_since", "expected"),
    [
        # Good Friday is 29 March; 1 April is a holiday in London only; clocks change on 31 March.
        pytest.param("US", "2024-03-28T19:59", "01-02", "03-25 03-26 03-27 03-28", id="open"),
        pytest.param("US", "2024-03-28T20:00", "01-02", "03-26 03-27 03-28", id="closed"),
        pytest.param("US", "2024-03-30T12:00", "01-02", "03-26 03-27 03-28", id="weekend"),
        pytest.param("US", "2024-04-01T12:29", "01-02", "03-26 03-27 03-28", id="before opening"),
        pytest.param("US", "2024-04-01T12:30", "01-02", "03-26 03-27 03-28 04-01", id="opening"),
        pytest.param("EU", "2024-04-01T12:30", "01-02", "03-26 03-27 03-28", id="easter monday"),
        pytest.param("EU", "2024-04-02T15:29", "01-02", "03-26 03-27 03-28 04-02", id="summer"),
        pytest.param("EU", "2024-04-02T15:30", "01-02", "03-27 03-28 04-02", id="summer close"),
        # Sunday night in London is Monday morning in Tokyo, and its 29 March was a session.
        pytest.param("ASIA", "2024-03-31T22:59", "01-02", "03-27 03-28 03-29", id="sunday"),
        pytest.param("ASIA", "2024-03-31T23:00", "01-02", "03-27 03-28 03-29 04-01", id="monday"),
        pytest.param("US", "2024-03-28T21:00", None, "03-28", id="nothing was missed at first"),
        pytest.param("US", "2024-03-28T14:00", None, "03-27 03-28", id="nor while it is open"),
        pytest.param("US", "2024-03-28T21:00", "03-27", "03-27 03-28", id="since it is known"),
        pytest.param("US", "2024-07-03T17:00", "01-02", "07-01 07-02 07-03", id="a half day"),
    ],
)
def test_the_sessions_looked_after_follow_the_market_of_the_node(
    region, now, known_since, expected
):
    instant = datetime.fromisoformat(now).replace(tzinfo=UTC)
    since = None if known_since is None else days(known_since)[0]

    assert sessions_of(node(region, catch_up_sessions=3), instant, since) == days(expected)


def test_a_node_is_looked_after_within_its_own_sessions_only():
    ended = node().model_copy(
        update={"sessions": node().sessions.model_copy(update={"end": date(2024, 3, 27)})}
    )
    evening = datetime(2024, 3, 28, 22, tzinfo=UTC)

    assert sessions_of(ended, evening, date(2024, 3, 25)) == days("03-25 03-26 03-27")
    assert sessions_of(ended, evening, None) == []


def test_what_is_done_for_a_dataset_is_done_once_and_waits_for_all_who_read_it():
    paper = node(mode="paper")

    jobs = {job.job_id: job for job in jobs_of([node(), paper], DAY)}

    kinds = [job.kind for job in jobs.values()]
    assert kinds.count(JobKind.INGEST_PRICES) == 1
    assert kinds.count(JobKind.RUN_BOOKS) == 2
    audit = jobs["us_eq_audit_data_prices_2024-03-28"]
    assert audit.needs == (
        "us_eq_check_data_US_CORE_LONG_EQ:BACKTEST_2024-03-28",
        "us_eq_check_data_US_CORE_LONG_EQ:PAPER_2024-03-28",
    )
    books = jobs["us_eq_run_books_US_CORE_LONG_EQ:PAPER_2024-03-28"]
    assert books.needs == ("us_eq_run_universes_US_CORE_LONG_EQ:PAPER_2024-03-28",)
    assert {job.dag_id for job in jobs.values()} == {"us_eq_daily_2024-03-28"}


def test_jobs_are_shown_after_what_they_need():
    shown = [job.job_id for job in in_order(jobs_of([node(), node(mode="paper")], DAY))]

    for job in jobs_of([node(), node(mode="paper")], DAY):
        assert all(shown.index(need) < shown.index(job.job_id) for need in job.needs)


def test_what_is_disabled_is_needed_by_nobody():
    off = node(jobs={"ingest_prices": {"enabled": False}})

    jobs = {job.kind: job for job in jobs_of([off], DAY)}

    assert JobKind.INGEST_PRICES not in jobs
    assert jobs[JobKind.CHECK_DATA].needs == ()


def test_rules_of_two_nodes_that_go_in_a_circle_together_are_refused():
    first = node(jobs={"derive_data": {"needs": ["run_signals"]}})
    second = node(mode="paper", jobs={"run_signals": {"needs": ["check_data", "derive_data"]}})

    assert jobs_of([first], DAY) and jobs_of([second], DAY)
    with pytest.raises(ConfigError, match="is a circle of needs"):
        jobs_of([first, second], DAY)
    with pytest.raises(ConfigError, match="is a circle of needs"):
        region_nodes([first, second])


def test_every_kind_of_job_has_its_work():
    assert set(WORK) == set(JobKind)


@pytest.mark.parametrize(
    ("nodes", "regions", "message"),
    [
        ([node()], ("MOON",), "--region: unknown region 'MOON'; known: US, EU, ASIA"),
        ([node()], ("US", "EU"), "--region EU: has no node; name its file with --config"),
        ([node(), node("EU")], ("US",), "--config: a node is of EU, asked was US"),
        ([node(), node()], (), "more than one node of US_CORE_LONG_EQ:BACKTEST in US"),
    ],
)
def test_nodes_and_regions_that_do_not_fit_are_refused(nodes, regions, message):
    with pytest.raises(ConfigError, match=message):
        region_nodes(nodes, regions)


def test_a_node_that_reads_the_past_is_refused():
    pinned = node().model_copy(update={"data": node().data.model_copy(update={"revision": 3})})

    with pytest.raises(ConfigError, match=r"data.revision: a daemon follows the newest data"):
        region_nodes([pinned])


def test_two_regions_and_two_modes_of_one_strategy_are_kept_apart():
    us, paper, eu = node(), node(mode="paper"), node("EU")

    assert region_nodes([us, eu, paper]) == {"US": (us, paper), "EU": (eu,)}


def test_files_of_nodes_are_read_again_when_they_have_changed(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("day: {daemon: {catch_up_sessions: 2}}\n", encoding="utf-8")
    load = NodeFiles([[BASE, mine]], ["seed=7"])

    first, again = load(), load()
    mine.write_text("day: {daemon: {catch_up_sessions: 17}}\n", encoding="utf-8")

    assert first is again
    assert (first[0].day.daemon.catch_up_sessions, first[0].seed) == (2, 7)
    assert load()[0].day.daemon.catch_up_sessions == 17
    mine.unlink()
    with pytest.raises(ConfigError, match=r"mine\.yaml: cannot be read"):
        load()


def test_nodes_are_read_again_when_something_was_applied_to_their_strategy():
    in_force = {}
    load = NodeFiles([[BASE]], applied=lambda _: in_force)

    before, again = load(), load()
    in_force["engines"] = {"portfolio": {"max_names": 3}}
    after, still = load(), load()
    in_force.clear()

    assert before is again and after is still
    assert after[0].engines_of(after[0].sleeves[0]).portfolio.max_names == 3
    assert load() == before and before != after


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("catch_up_sessions=0", "day.daemon.catch_up_sessions: Input should be greater than or"),
        ("catch_up=3", "day.daemon.catch_up: unknown field; did you mean 'catch_up_sessions'?"),
        ("jobs.run_signal={}", "day.daemon.jobs.run_signal.*should be 'ingest_prices', 'che"),
        ("jobs.run_books.timeout_second=5", "day.daemon.jobs.run_books.timeout_second: unknown"),
        ("jobs.run_books.needs=[run_book]", "run_books.needs.0: Input should be 'ingest_prices'"),
        ("jobs.run_signals.needs=[run_books]", "jobs: .*run_books -> .* is a circle of needs"),
        ("jobs.run_books.enabled=false", "jobs: run_books: is mandatory and cannot be disabled"),
    ],
)
def test_a_mistake_in_the_daemons_settings_is_told_when_they_are_read(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_config([BASE], [f"day.daemon.{setting}"])


def test_what_the_daemon_is_told_is_no_part_of_a_runs_identity():
    plain, told = (load_config([BASE], given) for given in ([], ["day.daemon.catch_up_sessions=9"]))

    assert plain.config_hash(plain.sleeves[0]) == told.config_hash(told.sleeves[0])
