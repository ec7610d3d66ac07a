"""The moves of a job are those of its drawing."""

from itertools import product

import pytest

from prometheus_nt.domain.errors import JobError
from prometheus_nt.domain.jobs import ENDED, MOVES, JobStatus, require_move

DRAWN = {
    ("PENDING", "RUNNING"),
    ("PENDING", "CANCELLED"),
    ("RUNNING", "COMPLETED"),
    ("RUNNING", "FAILED"),
    ("RUNNING", "CANCELLED"),
    ("RUNNING", "PENDING"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
}


@pytest.mark.parametrize(("before", "after"), list(product(JobStatus, JobStatus)))
def test_only_the_drawn_moves_are_legal(before, after):
    if (before.value, after.value) in DRAWN:
        require_move("j", before, after)
    else:
        with pytest.raises(JobError, match=rf"j: is {before}, cannot become {after}; \w+"):
            require_move("j", before, after)


def test_every_state_has_its_moves_and_nothing_leaves_an_end_but_a_retry():
    assert set(MOVES) == set(JobStatus)
    assert {after for ended in ENDED for after in MOVES[ended]} == {JobStatus.PENDING}
