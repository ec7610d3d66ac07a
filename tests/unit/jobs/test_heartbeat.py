import threading
from datetime import timedelta
from threading import Event

import pytest

from prometheus_nt.domain.errors import PhaseError, StoreUnavailable
from prometheus_nt.jobs.heartbeat import renewed

BEAT = timedelta(milliseconds=5)


class Lease:
    """Answers each renewal with the next of `answers`, then goes on with the last."""

    def __init__(self, *answers):
        self._answers, self.beats, self.seen = list(answers), 0, Event()

    def renew(self):
        self.beats += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if self.beats >= 3:
            self.seen.set()
        if answer is None:
            raise StoreUnavailable("away")
        return answer


def test_a_lease_is_renewed_until_the_work_ends():
    lease = Lease(True)

    with renewed("day", lease.renew, BEAT) as heart:
        assert lease.seen.wait(30)
        heart.require_held()

    beats = lease.beats
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
    assert lease.beats == beats


def test_a_lease_that_was_lost_is_not_asked_for_again_and_stops_the_writing():
    lost = Event()

    def renew():
        assert not lost.is_set()
        lost.set()
        return False

    with renewed("day", renew, BEAT) as heart:
        assert lost.wait(30)
        while not heart.lost:
            pass
        with pytest.raises(PhaseError, match="day: its lease was lost while it was worked on"):
            heart.require_held()


def test_a_database_that_is_away_for_a_beat_costs_nothing():
    lease = Lease(None, None, True)

    with renewed("day", lease.renew, BEAT) as heart:
        assert lease.seen.wait(30)
        heart.require_held()

    assert lease.beats >= 3
