"""The gap of two equity curves, by hand."""

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.concordance import yearly_gap_bps
from prometheus_nt.meta.findings import screen_gap


def test_the_largest_difference_of_any_session_counts_over_the_years():
    run = np.full(504, 100.0)
    screen = run.copy()
    screen[100], screen[300] = 100.01, 99.97

    # 3 cents of 100 are 3 bps, in two years.
    assert yearly_gap_bps(run, screen) == pytest.approx(1.5)
    assert yearly_gap_bps(run[:101], screen[:101]) == pytest.approx(1.0)
    assert yearly_gap_bps(run, run) == 0.0


def test_curves_of_other_sessions_do_not_compare():
    with pytest.raises(DataError, match="equity of 3 and of 2 sessions"):
        yearly_gap_bps(np.ones(3), np.ones(2))
    with pytest.raises(DataError, match="of 0 and of 0"):
        yearly_gap_bps(np.ones(0), np.ones(0))


def test_a_gap_is_a_finding_only_beyond_its_bound_or_if_it_is_unknown():
    assert screen_gap("S", 1.0, 1.0) is None
    found, unknown = screen_gap("S", 1.01, 1.0), screen_gap("S", None, 1.0)

    assert found is not None
    assert (found.level, found.code, found.subject) == ("WARN", "SCREEN_GAP", "S")
    assert found.message.startswith(
        "its run is 1.01 bps a year from its screen, at most 1 expected"
    )
    assert unknown is not None
    assert "its screen failed where the run did not" in unknown.message
