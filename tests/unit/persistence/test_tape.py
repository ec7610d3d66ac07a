from datetime import date

import numpy as np
import pytest

from persistence.spool import Spool
from persistence.tape import SessionTape, seen_session
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel

DAYS = np.array(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"], dtype="datetime64[D]")


def market(sectors=("Energy", None)):
    close = np.array([[10.0, 20.0], [11.0, np.nan], [12.0, 22.0], [13.0, 23.0]])
    fields = {name: close.copy() for name in PANEL_FIELDS[:5]}
    fields |= {"split": np.ones((4, 2)), "dividend": np.zeros((4, 2))}
    return MarketPanel(
        sessions=DAYS.copy(),
        instruments=("A.US", "B.US"),
        fingerprint="data",
        sectors=sectors,
        **fields,
    )


@pytest.fixture
def reopened(tmp_path):
    held = []

    def reopen():
        if held:
            held.pop().close()
        held.append(Spool(tmp_path / "tape.spool"))
        return SessionTape(held[0])

    yield reopen
    held.pop().close()


NOBODY, UNKNOWN = np.zeros(2, dtype=bool), np.full(2, np.nan)


@pytest.mark.parametrize("history", [0, 1, 2])
def test_a_tape_gives_back_the_panel_it_saw(reopened, history):
    panel = market()
    tape = reopened()
    tape.begin(panel.until(DAYS[history - 1].item()) if history else panel.last(0))
    tape.extend([seen_session(panel, row, NOBODY, UNKNOWN) for row in range(history, 3)])

    found = reopened().panel()

    assert found.sessions.tolist() == DAYS[:3].tolist()
    assert (found.instruments, found.sectors) == (panel.instruments, panel.sectors)
    assert found.fingerprint == "data"
    for name in PANEL_FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(panel, name)[:3])


def test_what_was_seen_stays_whatever_the_data_become(reopened):
    tape = reopened()
    tape.begin(market().until(DAYS[1].item()))
    seen = seen_session(market(), 2, NOBODY, UNKNOWN)
    tape.extend([seen])

    seen_again = reopened()

    assert seen_again.sessions == [date(2024, 1, 4)]
    assert seen_again.first_row == 2
    with pytest.raises(DataError, match="2024-01-04 does not follow 2024-01-04"):
        seen_again.extend([seen])


def test_a_delisting_is_paid_on_the_session_it_was_seen(reopened):
    tape = reopened()
    tape.begin(market().until(DAYS[1].item()))
    gone, paid = np.array([False, True]), np.array([np.nan, -0.4])
    tape.extend([seen_session(market(), 2, gone, paid), seen_session(market(), 3, NOBODY, UNKNOWN)])

    on, returns = reopened().delisted()

    assert np.isnat(on[0])
    assert on[1] == DAYS[2]
    assert returns[1] == -0.4


def test_a_market_without_sectors_stays_without(reopened):
    reopened().begin(market(sectors=()).until(DAYS[1].item()))

    assert reopened().panel().sectors == ()
