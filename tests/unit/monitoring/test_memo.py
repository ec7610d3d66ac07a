from threading import Barrier, Event, Thread

import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.monitoring.memo import MOST_UNDER_WAY, Brief, Later, Memo


def test_of_many_who_ask_at_once_one_computes():
    memo, made, barrier = Memo(), [], Barrier(8)

    def ask():
        barrier.wait()
        found.append(memo.get("key", lambda: made.append(1) or len(made)))

    found = []
    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(made), found) == (1, [1] * 8)


def test_what_was_not_asked_for_longest_is_forgotten():
    memo = Memo(most=2)
    for key in ("a", "b", "a", "c"):
        memo.get(key, lambda key=key: key)

    assert memo.get("a", lambda: "anew") == "a"
    assert memo.get("b", lambda: "anew") == "anew"


def test_what_fails_is_tried_again():
    memo = Memo()

    with pytest.raises(ZeroDivisionError):
        memo.get("key", lambda: 1 / 0)

    assert memo.get("key", lambda: 7) == 7


def test_what_may_be_some_seconds_old_is_computed_again_when_it_is_older():
    clock, made = [100.0], []
    brief = Brief(10.0, now=lambda: clock[0])

    def state():
        made.append(clock[0])
        return clock[0]

    found = []
    for moment in (100.0, 109.9, 110.0, 119.9):
        clock[0] = moment
        found.append(brief.get("state", state))

    assert (found, made) == ([100.0, 100.0, 110.0, 110.0], [100.0, 110.0])


def test_the_age_of_a_result_counts_from_when_it_was_there():
    clock = [100.0]
    brief = Brief(10.0, now=lambda: clock[0])

    def slow():
        clock[0] += 4.0
        return "first"

    brief.get("state", slow)
    clock[0] = 113.9

    assert brief.get("state", lambda: "second") == "first"


def test_a_state_that_cannot_be_found_again_is_not_the_one_of_before():
    clock = [100.0]
    brief = Brief(10.0, now=lambda: clock[0])
    brief.get("state", lambda: "good")
    clock[0] = 110.0

    with pytest.raises(ZeroDivisionError):
        brief.get("state", lambda: 1 / 0)

    assert brief.get("state", lambda: "good again") == "good again"


def told(later, key, compute):
    """Return what is found in the end."""
    while (found := later.get(key, compute)) is None:
        Event().wait(0.001)
    return found


def test_nobody_waits_for_what_is_found_later_and_it_is_looked_for_once():
    later, may_end, made = Later(), Event(), []

    def compute():
        made.append(1)
        may_end.wait()
        return "found"

    at_once = [later.get("key", compute) for _ in range(3)]
    may_end.set()

    assert at_once == [None, None, None]
    assert told(later, "key", compute) == "found"
    assert len(made) == 1


def test_what_is_looked_for_at_once_is_bounded_and_the_rest_is_begun_when_it_is_asked_again():
    later, may_end, made = Later(), Event(), []

    def compute(key):
        made.append(key)
        may_end.wait()
        return key

    for key in range(MOST_UNDER_WAY + 1):
        assert later.get(key, lambda key=key: compute(key)) is None
    may_end.set()

    assert [told(later, key, lambda key=key: compute(key)) for key in range(MOST_UNDER_WAY)] == [
        *range(MOST_UNDER_WAY)
    ]
    assert MOST_UNDER_WAY not in made
    assert told(later, MOST_UNDER_WAY, lambda: compute(MOST_UNDER_WAY)) == MOST_UNDER_WAY


def test_what_fails_later_is_told_and_then_tried_again():
    later, tries = Later(), []

    def compute():
        tries.append(1)
        if len(tries) == 1:
            raise DataError("no prices")
        return "found"

    with pytest.raises(DataError, match="no prices"):
        told(later, "key", compute)

    assert told(later, "key", compute) == "found"


def test_what_was_found_later_and_not_asked_for_longest_is_forgotten():
    later, made = Later(most=1), []

    def compute(key):
        made.append(key)
        return key

    for key in ("a", "b", "a"):
        told(later, key, lambda key=key: compute(key))

    assert made == ["a", "b", "a"]
