import numpy as np
import pytest

from prometheus_nt.encoders.scaling import (
    anchored,
    one_hot,
    robust_zscores,
    typical_where_unknown,
    unit_rows,
)

NAN = np.nan


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def test_scores_are_distances_from_the_median_in_median_deviations():
    scores = robust_zscores(column(1.0, 2.0, 3.0, 5.0, NAN))

    expected = (np.array([1.0, 2.0, 3.0, 5.0]) - 2.5) / (1.4826 * 1.0)
    assert scores[:4, 0] == pytest.approx(expected)
    assert np.isnan(scores[4, 0])


def test_where_most_values_are_equal_the_mean_deviation_is_the_scale():
    scores = robust_zscores(column(0.0, 0.0, 0.0, 4.0))

    assert scores[:, 0] == pytest.approx([0.0, 0.0, 0.0, 4.0 / 1.2533])


def test_a_column_that_does_not_vary_is_typical_throughout():
    assert robust_zscores(column(7.0, 7.0)).tolist() == [[0.0], [0.0]]


def test_a_difference_that_is_small_for_its_size_stays_small():
    scores = robust_zscores(column(100.0, 100.0, 101.0))

    assert scores[2, 0] == pytest.approx(1.0 / 5.0)


def test_an_absurd_value_ends_where_scores_end():
    assert robust_zscores(column(1.0, 2.0, 3.0, 1e300))[3, 0] == 5.0


def test_a_column_without_any_value_stays_unknown():
    assert np.isnan(robust_zscores(column(NAN, NAN))).all()


def test_unknown_features_are_typical_unless_half_are_unknown():
    z = np.array([[1.0, NAN], [NAN, NAN]])

    filled = typical_where_unknown(z)

    assert filled[0].tolist() == [1.0, 0.0]
    assert np.isnan(filled[1]).all()


def test_the_anchor_makes_typical_rows_alike_and_keeps_extremes_apart():
    rows = unit_rows(anchored(np.array([[0.01, -0.01], [-0.01, 0.01], [5.0, -5.0]])))

    assert rows[0] @ rows[1] > 0.99
    assert rows[0] @ rows[2] < 0.2


def test_one_hot_leaves_the_unknown_unknown():
    encoded = one_hot(["b", None], ["a", "b"])

    assert encoded[0].tolist() == [0.0, 1.0]
    assert np.isnan(encoded[1]).all()


def test_a_row_without_length_or_with_a_gap_has_no_direction():
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0], [1.0, NAN]]))

    assert rows[0] == pytest.approx([0.6, 0.8])
    assert np.isnan(rows[1:]).all()
