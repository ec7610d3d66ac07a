"""The pace that threads share."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.http import Clock, RateLimiter
from prometheus_nt.domain.errors import ConfigError


class Still:
    """A clock that stands still and records the naps."""

    def __init__(self):
        self.time, self.naps = 0.0, []
        self.clock = Clock(lambda: self.time, self.naps.append)


def test_a_burst_leaves_at_once_and_the_rest_at_the_pace():
    still = Still()
    limiter = RateLimiter(60, still.clock, burst=3)

    for _ in range(6):
        limiter.wait()

    assert still.naps == pytest.approx([1.0, 2.0, 3.0])


def test_an_idle_time_gives_back_the_burst_and_no_more():
    still = Still()
    limiter = RateLimiter(60, still.clock, burst=2)
    for _ in range(4):
        limiter.wait()
    still.time, still.naps[:] = 1000.0, []

    for _ in range(4):
        limiter.wait()

    assert still.naps == pytest.approx([1.0, 2.0])


def test_threads_share_one_pace():
    still = Still()
    limiter = RateLimiter(600, still.clock, burst=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: limiter.wait(), range(100)))

    assert sorted(still.naps) == pytest.approx([turn / 10 for turn in range(1, 100)])


def test_a_hold_holds_everybody_back_and_then_the_pace_goes_on():
    still = Still()
    limiter = RateLimiter(60, still.clock, burst=5)

    limiter.hold(30.0)
    limiter.wait()
    limiter.wait()

    assert still.naps == pytest.approx([30.0, 31.0])


@pytest.mark.parametrize("per_minute", [0, -1])
def test_a_pace_of_nothing_is_refused(per_minute):
    with pytest.raises(ConfigError, match=f"expected at least 1, found {per_minute}"):
        RateLimiter(per_minute, Clock())
