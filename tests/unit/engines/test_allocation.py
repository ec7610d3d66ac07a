import numpy as np

from prometheus_nt.engines.allocation import (
    beta_limit,
    fragility_limit,
    from_long_space,
    sector_limits,
    to_long_space,
)

NAN = np.nan


def test_a_long_stays_as_it_is_and_a_short_is_the_negative_return():
    returns = np.array([[0.01, 0.02], [-0.03, -0.04], [NAN, NAN]])

    streams = to_long_space(returns, np.array([1, -1]))

    assert np.array_equal(streams[:, 0], returns[:, 0], equal_nan=True)
    assert np.array_equal(streams[:, 1], -returns[:, 1], equal_nan=True)


def test_a_short_cannot_lose_more_than_the_cap_in_a_session():
    returns = np.array([[1.0], [1.5], [-0.9]])

    assert to_long_space(returns, np.array([-1])).ravel().tolist() == [-1.0, -1.0, 0.9]
    assert to_long_space(returns, np.array([1])).ravel().tolist() == [1.0, 1.5, -0.9]


def test_capping_and_inverting_is_inverting_and_clipping():
    returns = np.random.default_rng(1).normal(0.0, 1.0, (1000, 3))

    inverted = to_long_space(returns, np.array([-1, -1, -1]))

    assert (inverted == np.maximum(-returns, -1.0)).all()


def test_a_book_earns_in_long_space_what_its_signed_weights_earn():
    returns = np.random.default_rng(2).normal(0.0, 0.02, (50, 4))
    directions, weights = np.array([1, -1, 1, -1]), np.array([0.4, 0.3, 0.2, 0.1])

    signed = from_long_space(weights, directions)

    assert signed.tolist() == [0.4, -0.3, 0.2, -0.1]
    assert np.abs(signed).sum() == weights.sum()
    assert np.allclose(to_long_space(returns, directions) @ weights, returns @ signed)


def test_names_of_unknown_sector_share_one_limit():
    limits = sector_limits(("TECH", None, "BANKS", None), 0.3)

    assert [limit.name for limit in limits] == ["sector:BANKS", "sector:TECH", "sector:UNKNOWN"]
    assert limits[2].coefficients.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_a_name_of_unknown_fragility_counts_as_the_most_fragile():
    assert beta_limit(np.array([0.5, NAN, -0.3]), 0.5).coefficients.tolist() == [0.5, 1.0, 0.0]
    assert fragility_limit(np.array([0.2, NAN]), 0.5).coefficients.tolist() == [0.2, 1.0]
