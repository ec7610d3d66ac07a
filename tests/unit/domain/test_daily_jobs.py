"""The rules of a day's jobs, case by case."""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.daily_jobs import (
    DEFAULT_RULES,
    JITTER,
    LONGEST_WAIT,
    Job,
    JobKind,
    JobPriority,
    JobRule,
    JobStatus,
    Standing,
    late,
    late_at,
    never,
    next_moment,
    require_no_circle,
    require_status_move,
    rules_of,
    startable,
    starts_at,
    wait_after,
)
from prometheus_nt.domain.errors import ConfigError, PhaseError

NOON = datetime(2024, 3, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = date(2024, 3, 28)
PENDING, RUNNING, SUCCESS, FAILED, SKIPPED = JobStatus
OVER = Standing(FAILED, 4)
WAITS = Standing(FAILED, 1, NOON + HOUR)
DUE = Standing(FAILED, 1, NOON)


def job(name, *needs, session=DAY, kind=JobKind.RUN_SIGNALS, subject=None, late_in=None, **rule):
    """Return a job that may start at noon."""
    return Job(
        job_id=name,
        dag_id=f"day_{session}",
        kind=kind,
        session=session,
        subject=subject or name,
        rule=JobRule(**rule),
        needs=needs,
        starts_at=NOON,
        late_at=None if late_in is None else NOON + late_in,
    )


CHAIN = [job("a"), job("b", "a"), job("c", "b")]
SOFT = [job("a", mandatory=False), job("b", "a")]


@pytest.mark.parametrize(
    ("plan", "standings", "now", "expected"),
    [
        pytest.param(CHAIN, {}, NOON, ["a"], id="who needs nobody begins"),
        pytest.param(CHAIN, {}, NOON - HOUR, [], id="nobody begins before his time"),
        pytest.param(CHAIN, {"a": Standing(RUNNING, 1)}, NOON, [], id="a need at work is not over"),
        pytest.param(CHAIN, {"a": Standing(SUCCESS, 1)}, NOON, ["b"], id="a need that is done"),
        pytest.param(CHAIN, {"a": WAITS}, NOON, [], id="a failure waits"),
        pytest.param(CHAIN, {"a": DUE}, NOON, ["a"], id="until it is due"),
        pytest.param(CHAIN, {"a": Standing(PENDING, 0, NOON + HOUR)}, NOON, [], id="polling waits"),
        pytest.param(CHAIN, {"a": OVER}, NOON, [], id="nothing follows a mandatory failure"),
        pytest.param(SOFT, {"a": OVER}, NOON, ["b"], id="an optional failure holds nobody up"),
        pytest.param(SOFT, {"a": Standing(SKIPPED)}, NOON, ["b"], id="nor one that was skipped"),
        pytest.param(SOFT, {"a": WAITS}, NOON, [], id="but it has to be over"),
        pytest.param(CHAIN, {"a": Standing(SKIPPED)}, NOON, [], id="skipped is not done"),
        pytest.param(
            [job("x", priority=3), job("y", priority=1), job("z", priority=2)],
            {},
            NOON,
            ["y", "z", "x"],
            id="the higher priority goes first",
        ),
        pytest.param(
            [job("new", priority=1), job("old", session=date(2024, 3, 27), priority=3)],
            {},
            NOON,
            ["old", "new"],
            id="the older session goes first",
        ),
        pytest.param(
            [job("new"), job("old", session=date(2024, 3, 27))],
            {"old": DUE},
            NOON,
            ["new", "old"],
            id="what goes on failing does not starve the newest",
        ),
        pytest.param(
            [job("new", subject="s"), job("old", session=date(2024, 3, 27), subject="s")],
            {},
            NOON,
            ["old"],
            id="one session of a kind and subject at a time",
        ),
        pytest.param(
            [job("new", subject="s"), job("old", session=date(2024, 3, 27), subject="s")],
            {"old": Standing(RUNNING, 1)},
            NOON,
            [],
            id="also if it is at work already",
        ),
    ],
)
def test_what_may_start(plan, standings, now, expected):
    assert [each.job_id for each in startable(plan, standings, now)] == expected


def test_what_needs_a_lost_job_never_begins_however_far_away_and_in_whatever_order():
    plan = [job("d", "c", "z"), *CHAIN[::-1], job("z"), job("free", "soft"), job("soft", "a")]

    lost = never(plan, {"a": OVER})

    assert lost == {
        "b": "needs a, which is FAILED",
        "c": "needs b, which is SKIPPED",
        "d": "needs c, which is SKIPPED",
        "soft": "needs a, which is FAILED",
        "free": "needs soft, which is SKIPPED",
    }
    assert never(CHAIN, {"a": WAITS}) == {}
    assert never(SOFT, {"a": OVER}) == {}


def test_what_needs_an_optional_job_that_is_lost_goes_on_without_it():
    plan = [job("a"), job("soft", "a", mandatory=False), job("b", "soft")]

    assert set(never(plan, {"a": OVER})) == {"soft"}


MOVES = {
    *((PENDING, RUNNING), (PENDING, SKIPPED)),
    *((RUNNING, PENDING), (RUNNING, SUCCESS), (RUNNING, FAILED), (RUNNING, SKIPPED)),
    *((FAILED, RUNNING), (FAILED, PENDING), (SKIPPED, PENDING)),
}


@pytest.mark.parametrize(("before", "after"), list(product(JobStatus, JobStatus)))
def test_a_job_makes_legal_moves_only(before, after):
    if (before, after) in MOVES:
        require_status_move(before, after)
    else:
        with pytest.raises(PhaseError, match=f"job {before} -> {after}: no such move"):
            require_status_move(before, after)


def test_waits_double_up_to_an_hour_each_a_quarter_longer_or_shorter_and_the_same_every_time():
    one = job("one", retry_seconds=60)

    waits = [wait_after(one, attempt) for attempt in range(1, 11)]

    plain = [min(timedelta(minutes=2**n), LONGEST_WAIT) for n in range(10)]
    assert all(
        abs(wait / expected - 1.0) <= JITTER for wait, expected in zip(waits, plain, strict=True)
    )
    assert waits == [wait_after(one, attempt) for attempt in range(1, 11)]
    assert len({wait / expected for wait, expected in zip(waits, plain, strict=True)}) == 10
    assert wait_after(job("other", retry_seconds=60), 1) != waits[0]


@pytest.mark.parametrize(
    ("market", "session", "rule", "expected"),
    [
        # The clocks of New York go forward on 10 March 2024, London's and nobody's in Tokyo later.
        ("US_EQ", date(2024, 3, 8), {}, datetime(2024, 3, 8, 21, tzinfo=UTC)),
        ("US_EQ", date(2024, 3, 11), {}, datetime(2024, 3, 11, 20, tzinfo=UTC)),
        ("US_EQ", date(2024, 11, 29), {}, datetime(2024, 11, 29, 18, tzinfo=UTC)),
        (
            "US_EQ",
            date(2024, 3, 8),
            {"starts": "SESSION"},
            datetime(2024, 3, 8, 14, 30, tzinfo=UTC),
        ),
        (
            "US_EQ",
            date(2024, 3, 8),
            {"starts": "PRE_OPEN", "delay_minutes": 5},
            datetime(2024, 3, 8, 13, 35, tzinfo=UTC),
        ),
        ("EU_EQ", date(2024, 3, 28), {}, datetime(2024, 3, 28, 16, 30, tzinfo=UTC)),
        ("EU_EQ", date(2024, 4, 2), {}, datetime(2024, 4, 2, 15, 30, tzinfo=UTC)),
        ("ASIA_EQ", date(2024, 3, 28), {}, datetime(2024, 3, 28, 6, tzinfo=UTC)),
        (
            "ASIA_EQ",
            date(2024, 3, 28),
            {"starts": "PRE_OPEN"},
            datetime(2024, 3, 27, 23, tzinfo=UTC),
        ),
    ],
)
def test_a_job_starts_when_its_own_market_does_what_it_waits_for(market, session, rule, expected):
    assert starts_at(JobRule(**rule), session, MarketCalendar.of(market)) == expected


def test_a_job_is_late_so_long_after_the_close_and_who_took_it_up_late_has_as_long():
    calendar = MarketCalendar.of("US_EQ")
    at = late_at(JobRule(late_after_minutes=90), date(2024, 3, 8), calendar)
    plan = [job("a", late_in=2 * HOUR), job("b")]

    assert at == datetime(2024, 3, 8, 22, 30, tzinfo=UTC)
    assert late_at(JobRule(), date(2024, 3, 8), calendar) is None
    early, tardy = {"a": NOON - HOUR}, {"a": NOON + HOUR}
    assert late(plan, {}, NOON + 2 * HOUR, early) == plan[:1]
    assert late(plan, {}, NOON + 2 * HOUR - timedelta(seconds=1), early) == []
    assert late(plan, {"a": Standing(SUCCESS, 1)}, NOON + 2 * HOUR, early) == []
    assert late(plan, {}, NOON + 2 * HOUR, tardy) == []
    assert late(plan, {}, NOON + 3 * HOUR, tardy) == plan[:1]


def test_the_next_moment_is_the_first_start_wait_or_deadline_ahead():
    plan = [job("a", late_in=3 * HOUR), job("b", "a")]

    assert next_moment(plan, {}, NOON - HOUR) == NOON
    assert next_moment(plan, {}, NOON) == NOON + 3 * HOUR
    assert next_moment(plan, {"a": WAITS}, NOON) == NOON + HOUR
    assert next_moment(plan, {"a": Standing(SUCCESS, 1)}, NOON) is None


def test_every_default_job_can_be_reached_and_the_books_need_the_data():
    rules = rules_of({})

    assert set(rules) == set(JobKind) == set(DEFAULT_RULES)
    assert JobKind.CHECK_DATA in rules[JobKind.RUN_SIGNALS].needs
    assert not rules[JobKind.INGEST_PRICES].mandatory


def test_a_change_of_a_job_changes_what_it_sets_and_nothing_else():
    changed = rules_of({JobKind.RUN_SIGNALS: JobRule(timeout_seconds=5)})

    before = DEFAULT_RULES[JobKind.RUN_SIGNALS]
    assert changed[JobKind.RUN_SIGNALS] == before.model_copy(update={"timeout_seconds": 5})
    assert changed[JobKind.RUN_SIGNALS].priority is JobPriority.CRITICAL


def test_a_circle_of_needs_is_told_all_the_way_round():
    loop = {JobKind.RUN_SIGNALS: JobRule(needs=("run_books",))}

    with pytest.raises(ConfigError, match="run_signals -> run_books -> run_universes -> run_sig"):
        rules_of(loop)


def test_a_need_that_is_no_job_is_told_with_those_that_are():
    with pytest.raises(ConfigError, match="a: needs z, which is no job; known: a, b"):
        require_no_circle({"a": ("z",), "b": ()})


def test_only_what_a_day_can_do_without_may_be_disabled():
    off = JobRule(enabled=False)

    assert JobKind.AUDIT_DATA not in rules_of({JobKind.AUDIT_DATA: off})
    with pytest.raises(ConfigError, match="run_books: is mandatory and cannot be disabled"):
        rules_of({JobKind.RUN_BOOKS: off})
