import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.reporting.overlap import (
    book_overlap,
    require_same_sessions,
    return_correlation,
)


def test_overlap_is_what_two_books_share_on_the_same_side(make_series):
    long_both = make_series(weights=np.tile([0.5, 0.3, 0.0], (300, 1)))
    long_short = make_series(weights=np.tile([0.4, -0.3, 0.3], (300, 1)))

    overlap = book_overlap([long_both, long_short])

    # Only the first name is on the same side: 0.4 of the larger gross, 1.0.
    assert overlap == pytest.approx(np.array([[1.0, 0.4], [0.4, 1.0]]))


def test_names_are_aligned_between_runs(make_series):
    one = make_series()
    reversed_names = make_series(
        instruments=("CCC.US", "BBB.US", "AAA.US"),
        sectors=(),
        weights=np.tile([0.0, 0.3, 0.5], (300, 1)),
    )

    assert book_overlap([one, reversed_names])[0, 1] == pytest.approx(1.0)


def test_an_empty_book_has_no_overlap_to_speak_of(make_series):
    empty = make_series(weights=np.zeros((300, 3)))

    assert np.isnan(book_overlap([make_series(), empty])[0, 1])


def test_opposite_returns_are_correlated_at_minus_one(make_series):
    one = make_series()
    mirrored = make_series(equity=1000.0 * np.cumprod(1.0 - one.returns))

    assert return_correlation([one, mirrored])[0, 1] == pytest.approx(-1.0)


def test_a_run_that_never_moved_is_not_correlated_with_anything(make_series):
    flat = make_series(equity=np.full(300, 1000.0))

    correlation = return_correlation([make_series(), flat])

    assert np.isnan(correlation[1]).all()
    assert correlation[0, 0] == pytest.approx(1.0)


def test_runs_of_other_sessions_are_refused(make_series):
    with pytest.raises(DataError, match="compare runs of the same sessions"):
        require_same_sessions([make_series(), make_series(299)])
