import os
import time

import pytest

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.jobs.executor import Ending, InlineExecutor, ProcessExecutor, new_executor


def double(number):
    return f"run-{2 * number}"


def refuse(_):
    from datetime import date

    # Its constructor takes other arguments than its message: pickled as it is, it cannot return.
    raise InsufficientHistory(date(2020, 1, 2), needed=5, available=1)


def die_at_three(number):
    if number == 3:
        os._exit(11)
    return double(number)


def stumble(number):
    raise ValueError(f"a bug at {number}")


def sleep(seconds):
    time.sleep(seconds)
    return "awake"


@pytest.fixture
def processes():
    executor = ProcessExecutor(2)
    yield executor
    executor.close()


def outcomes(executor, task, specs, **options):
    handles = [executor.submit(task, spec, **options) for spec in specs]
    found = {handle.spec: handle.outcome for handle in executor.as_completed(handles)}
    return [found[spec] for spec in specs]


def test_inline_and_in_processes_give_the_same_outcomes(processes):
    inline = outcomes(InlineExecutor(), double, range(6))

    elsewhere = outcomes(processes, double, range(6))

    assert inline == elsewhere
    assert [one.result for one in inline] == [f"run-{2 * number}" for number in range(6)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_raised_on_purpose_fails_its_task_and_keeps_its_words(workers):
    executor = new_executor(workers)
    try:
        (one,) = outcomes(executor, refuse, [0])
    finally:
        executor.close()

    assert (one.ending, one.error) == (Ending.FAILED, "InsufficientHistory")
    assert one.message == "2020-01-02: needs 5 sessions, has 1"


def test_a_worker_that_dies_loses_its_own_task_and_no_other(processes):
    found = outcomes(processes, die_at_three, range(8))

    assert [one.ending for one in found].count(Ending.DONE) == 7
    assert found[3].ending is Ending.DIED
    assert "exit code 11" in found[3].message


def test_a_bug_stops_everything_inline_and_one_task_in_a_process(processes):
    with pytest.raises(ValueError, match="a bug at 1"):
        outcomes(InlineExecutor(), stumble, [1])

    (one,) = outcomes(processes, stumble, [1])

    assert (one.ending, one.message) == (Ending.FAILED, "ValueError: a bug at 1")


def test_a_task_that_takes_too_long_is_killed_and_the_next_one_is_served(processes):
    late, prompt = outcomes(processes, sleep, [60, 0], timeout=1.0)

    assert (late.ending, prompt.result) == (Ending.TIMED_OUT, "awake")


def test_a_cancelled_task_ends_and_its_worker_is_replaced(processes):
    handles = [processes.submit(sleep, 60), processes.submit(sleep, 61)]
    for handle in handles:
        processes.cancel(handle)

    endings = {handle.outcome.ending for handle in processes.as_completed(handles)}

    assert endings == {Ending.CANCELLED}
    assert outcomes(processes, double, [4])[0].result == "run-8"


def test_a_cancelled_inline_task_is_not_run():
    executor = InlineExecutor()
    handle = executor.submit(stumble, 1)

    executor.cancel(handle)

    assert [one.outcome.ending for one in executor.as_completed([handle])] == [Ending.CANCELLED]


def test_a_pause_is_offered_while_tasks_run():
    offered = []
    executor = InlineExecutor()
    handles = [executor.submit(double, number) for number in range(3)]

    list(executor.as_completed(handles, lambda: offered.append(1)))

    assert len(offered) == 3


def test_what_has_ended_is_told_apart_from_what_still_runs(processes):
    slow, quick = processes.submit(sleep, 600), processes.submit(double, 2)

    ended = []
    while not ended:
        ended = processes.ended([slow, quick], 0.2)

    assert ended == [quick]
    assert (quick.outcome.result, slow.outcome) == ("run-4", None)
