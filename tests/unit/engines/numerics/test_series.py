import numpy as np
import pytest

from prometheus_nt.engines.numerics.series import own_history_percentiles, rolling_mean

NAN = np.nan


def test_the_percentile_in_the_own_past_compares_with_the_first_row_of_earlier_blocks():
    x = np.array([[3.0], [9.0], [1.0], [9.0], [2.0], [3.0], [4.0], [NAN]])

    percentile = _percentiles(x, lookback=8, step=2, min_snapshots=2)[:, 0]
    recent = _percentiles(x, lookback=4, step=2, min_snapshots=2)[:, 0]

    # Blocks begin at rows 0, 2, 4 and 6: with 3, 1 and 2. Equal values count half.
    expected = [NAN, NAN, NAN, NAN, 0.5, 0.75, 1.0, NAN]
    assert np.array_equal(percentile, expected, equal_nan=True)
    assert recent[6] == 1.0


def test_many_snapshots_are_counted_without_overflow():
    x = np.arange(600.0)[:, None]

    percentile = _percentiles(x, lookback=600, step=1, min_snapshots=1)[:, 0]

    assert (percentile[1:] == 1.0).all()


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 2), (6, 3), (6, 2, 2)])
def test_a_rolling_mean_looks_back_in_time_alone(shape):
    x = np.random.default_rng(8).standard_normal(shape)

    mean = rolling_mean(x, 3, 1)

    for row in range(6):
        assert np.allclose(mean[row], x[max(row - 2, 0) : row + 1].mean(axis=0))


def _percentiles(x, **past):
    blocks = list(own_history_percentiles(x, **past))
    assert [row for rows, _ in blocks for row in range(len(x))[rows]] == list(range(len(x)))
    return np.concatenate([block for _, block in blocks])
