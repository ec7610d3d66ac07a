import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prometheus_nt.engines.numerics.cross_section import (
    cross_sectional_zscore,
    first_ascending,
    midrank,
    named_sectors,
    percentile_rank,
    sector_codes,
)

NAN = np.nan


def test_zscores_have_mean_zero_and_deviation_one():
    z = cross_sectional_zscore(np.array([1.0, NAN, 2.0, 3.0, np.inf]))

    half = np.sqrt(1.5)
    assert np.allclose(z, [-half, NAN, 0.0, half, NAN], equal_nan=True)


def test_an_outlier_is_pulled_in_to_its_neighbour():
    x = np.arange(40.0)
    x[-1] = 1e9

    z = cross_sectional_zscore(x)

    assert z[-1] == z[-2]
    assert z[0] == z[1]
    assert np.allclose(z, cross_sectional_zscore(np.clip(np.arange(40.0), 1.0, 38.0), 0.0))


def test_values_that_do_not_vary_score_zero():
    z = cross_sectional_zscore(np.array([[0.1] * 3, [0.0] * 3, [NAN, 7.0, NAN], [NAN] * 3]))

    expected = [[0.0] * 3, [0.0] * 3, [NAN, 0.0, NAN], [NAN] * 3]
    assert np.array_equal(z, expected, equal_nan=True)


def test_each_row_is_a_cross_section_of_its_own():
    x = np.random.default_rng(0).normal(size=(3, 100))
    x[1, ::3] = NAN

    rows = [cross_sectional_zscore(row) for row in x]

    assert np.array_equal(cross_sectional_zscore(x), rows, equal_nan=True)


def test_ties_share_the_average_of_their_ranks():
    rank = percentile_rank(np.array([3.0, 1.0, NAN, 1.0, 0.0, 9.0]))

    assert np.array_equal(rank, [0.75, 0.375, NAN, 0.375, 0.0, 1.0], equal_nan=True)


def test_a_single_value_ranks_in_the_middle():
    assert np.array_equal(percentile_rank(np.array([NAN, 2.0])), [NAN, 0.5], equal_nan=True)
    assert np.isnan(percentile_rank(np.array([NAN, NAN]))).all()


def test_midranks_count_from_one_half_and_lie_within_zero_and_one():
    tied = midrank(np.array([3.0, 1.0, NAN, 1.0, 0.0]))
    plain = midrank(np.array([[2.0, 1.0], [5.0, 7.0]]))

    assert np.allclose(tied, [0.875, 0.5, NAN, 0.5, 0.125], equal_nan=True)
    assert np.allclose(plain, [[0.75, 0.25], [0.25, 0.75]])


def test_ranks_of_a_block_are_those_of_its_rows():
    block = np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 0.0], [NAN, 4.0, NAN], [NAN, NAN, NAN]])

    for ranked in (percentile_rank, midrank):
        rows = np.stack([ranked(row) for row in block])
        assert np.array_equal(ranked(block), rows, equal_nan=True)


def test_sectors_have_one_numbering_with_and_without_names(panel_of):
    panel = panel_of(np.ones((2, 4)), sectors=("TECH", None, "BANKS", "TECH"))

    names, places = named_sectors(panel)

    assert names == ("UNKNOWN", "BANKS", "TECH")
    assert places.tolist() == [2, 0, 1, 2]
    assert sector_codes(panel).tolist() == [1, -1, 0, 1]
    assert named_sectors(panel_of(np.ones((2, 2))))[0] == ("UNKNOWN",)


def test_a_sector_that_is_called_unknown_is_unknown(panel_of):
    panel = panel_of(np.ones((2, 3)), sectors=("UNKNOWN", None, "BANKS"))

    names, places = named_sectors(panel)

    assert (names, places.tolist()) == (("UNKNOWN", "BANKS"), [0, 0, 1])


@given(
    values=arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([-1.0, -0.0, 0.0, 2.0])),
    count=st.integers(0, 40),
)
def test_the_first_ascending_are_those_of_a_stable_sort(values, count):
    smallest = first_ascending(values, count)

    assert smallest.tolist() == np.argsort(values, kind="stable")[:count].tolist()


def test_the_first_ascending_are_found_without_a_tie():
    assert first_ascending(np.array([3.0, 1.0, 2.0, np.inf]), 3).tolist() == [1, 2, 0]
