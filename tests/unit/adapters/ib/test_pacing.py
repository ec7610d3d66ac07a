import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ib.pacing import HistoryBudget, MessageBudget, Window


class Hand:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def most_in_any(times: list[float], seconds: float) -> int:
    return max(sum(1 for other in times if 0 <= at - other < seconds) for at in times)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=80), st.integers(1, 10))
def test_no_stretch_of_time_ever_holds_more_than_its_count(gaps, count):
    window, now, sent = Window(count, 2.0), 0.0, []
    for gap in gaps:
        now += gap
        wait = window.wait(now)
        now += wait
        assert window.wait(now + 1e-9) == 0.0
        now += 1e-9
        window.take(now)
        sent.append(now)

    assert most_in_any(sent, 2.0) <= count


def sent_as_soon_as_allowed(budget: MessageBudget, clock: Hand, count: int) -> list[float]:
    times = []
    for _ in range(count):
        clock.now += budget.wait()
        assert budget.wait() == 0.0
        budget.take()
        times.append(clock.now)
    return times


def test_no_second_holds_more_messages_than_the_budget_says():
    clock = Hand()

    times = sent_as_soon_as_allowed(MessageBudget(45, clock), clock, 200)

    assert 44 <= most_in_any(times, 1.0) <= 45
    assert times[-1] - times[0] == pytest.approx(195 / 40)


def test_a_burst_is_so_small_that_two_read_late_still_keep_the_gateways_limit():
    clock = Hand()

    times = sent_as_soon_as_allowed(MessageBudget(45, clock), clock, 200)

    # A gateway that reads a tenth of a second late sees 1.1 seconds' worth in one.
    assert most_in_any(times, 1.1) < 50


def test_messages_are_halved_for_a_while_after_too_many():
    clock = Hand()
    budget = MessageBudget(45, clock)

    budget.slow_down(60.0)
    slow = sent_as_soon_as_allowed(budget, clock, 100)
    clock.now += 60.0
    fast = sent_as_soon_as_allowed(budget, clock, 100)

    assert slow[-1] - slow[0] == pytest.approx(99 / 20)
    assert fast[-1] - fast[0] == pytest.approx(95 / 40)


def asked(budget: HistoryBudget, clock: Hand, contract: str, request: str) -> float:
    """Ask as soon as it is allowed; return when that was."""
    clock.now += budget.wait(contract, request)
    budget.take(contract, request)
    return clock.now


def test_history_stays_below_sixty_requests_in_ten_minutes():
    clock = Hand()
    budget = HistoryBudget(clock)

    times = [asked(budget, clock, f"C{n}", f"R{n}") for n in range(150)]

    assert most_in_any(times, 600.0) == 55
    assert times[54] == times[0] and times[55] == times[0] + 600


def test_one_contract_is_asked_less_than_six_times_in_two_seconds():
    clock = Hand()
    budget = HistoryBudget(clock)

    times = [asked(budget, clock, "AAPL", f"R{n}") for n in range(12)]

    assert most_in_any(times, 2.0) == 5


def test_the_same_question_waits_and_another_does_not():
    clock = Hand()
    budget = HistoryBudget(clock)
    asked(budget, clock, "AAPL", "one year")

    assert budget.wait("AAPL", "one year") == 16.0
    assert budget.wait("AAPL", "two years") == 0.0
    clock.now += 16.0
    assert budget.wait("AAPL", "one year") == 0.0
