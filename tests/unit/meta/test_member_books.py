from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.meta.member_books import BookSchedule, Weighing, decided_books

NAMES = ("A.US", "B.US")
FIRST, SECOND, THIRD = date(2024, 1, 2), date(2024, 1, 9), date(2024, 1, 16)

FAST = [(FIRST, {"A.US": 0.5}), (SECOND, {"A.US": 0.25, "B.US": -0.25}), (THIRD, {})]
SLOW = [(FIRST, {"B.US": 0.5})]


def schedule_of(*weighings, fast=FAST):
    decided = {
        "FAST": decided_books("FAST", fast, NAMES),
        "SLOW": decided_books("SLOW", SLOW, NAMES),
    }
    return BookSchedule(NAMES, weighings, decided, {"FAST": THIRD, "SLOW": THIRD})


EARLY = Weighing("META-1", FIRST, {"SLOW": 0.4, "FAST": 0.6})
LATE = Weighing("META-2", SECOND, {"FAST": 1.0})


def test_before_the_first_weights_nothing_is_followed():
    assert schedule_of(EARLY).at(date(2024, 1, 1)) is None


def test_the_newest_target_of_each_member_is_followed():
    held = schedule_of(EARLY).at(date(2024, 1, 10))

    assert held.members == ("FAST", "SLOW")
    assert held.shares.tolist() == [0.6, 0.4]
    assert held.books.tolist() == [[0.25, -0.25], [0.0, 0.5]]
    assert held.decided.tolist() == [SECOND, FIRST]


def test_a_target_counts_from_the_close_it_was_decided_at():
    before, on = (schedule_of(EARLY).at(date(2024, 1, day)) for day in (15, 16))

    assert before.books[0].tolist() == [0.25, -0.25]
    assert on.books[0].tolist() == [0.0, 0.0]


def test_new_weights_count_from_their_own_close():
    before, on = (schedule_of(EARLY, LATE).at(date(2024, 1, day)) for day in (8, 9))

    assert (before.meta_id, before.members) == ("META-1", ("FAST", "SLOW"))
    assert (on.meta_id, on.members, on.as_of_weighed) == ("META-2", ("FAST",), SECOND)


def test_a_member_without_a_target_by_then_fails():
    with pytest.raises(MetaFailure, match="META_NO_TARGET"):
        schedule_of(EARLY, fast=FAST[1:]).at(date(2024, 1, 5))


@pytest.mark.parametrize("target", [{"C.US": 0.1}, {"A.US": float("nan")}])
def test_a_target_that_cannot_be_held_whole_is_not_conserved(target):
    with pytest.raises(MetaFailure, match="META_NOT_CONSERVED"):
        decided_books("FAST", [(FIRST, target)], NAMES)


def test_two_schedules_have_one_digest_only_if_they_decide_the_same():
    one = schedule_of(EARLY)

    assert schedule_of(EARLY).digest == one.digest
    assert schedule_of(EARLY, LATE).digest != one.digest
    assert schedule_of(EARLY, fast=FAST[:2]).digest != one.digest
    assert replace(one, instruments=("B.US", "A.US")).digest != one.digest
    assert np.array_equal(one.decided["SLOW"].books, [[0.0, 0.5]])
