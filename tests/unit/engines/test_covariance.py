import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from prometheus_nt.engines.covariance import (
    MAX_CONDITION,
    estimate_moments,
    shrunk_correlation,
)


def _correlated(seed, sessions, names):
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0005, 0.01, (sessions, 1))
    return market + rng.normal(0.0, 0.01, (sessions, names)) * rng.uniform(0.5, 2.0, names)


def test_the_shrinkage_is_that_of_scikit_learn():
    returns = _correlated(1, 60, 8)
    standardised = (returns - returns.mean(axis=0)) / returns.std(axis=0)

    correlation, shrinkage = shrunk_correlation(standardised)

    theirs, their_shrinkage = ledoit_wolf(standardised, assume_centered=True)
    assert 0.0 < shrinkage < 1.0
    assert shrinkage == pytest.approx(their_shrinkage, rel=1e-9)
    assert np.allclose(correlation, theirs, rtol=0, atol=1e-12)


def test_variances_are_those_of_the_sample_whatever_the_scale_of_the_others():
    returns = _correlated(2, 90, 5)
    louder = returns * np.array([1.0, 1.0, 1.0, 1.0, 1000.0])

    calm, loud = estimate_moments(returns), estimate_moments(louder)

    assert np.allclose(np.diag(calm.covariance), returns.var(axis=0, ddof=1))
    assert np.allclose(loud.volatility[:4], calm.volatility[:4])
    assert np.allclose(loud.correlation, calm.correlation)


def test_twins_and_more_names_than_sessions_are_still_invertible():
    few = _correlated(3, 10, 30)
    twins = np.column_stack([_correlated(3, 1000, 1)] * 20)

    for returns in (few, twins):
        moments = estimate_moments(returns)

        assert moments.condition_number <= MAX_CONDITION * (1.0 + 1e-9)
        assert np.linalg.cond(moments.correlation) == pytest.approx(
            moments.condition_number, rel=1e-6
        )
    assert estimate_moments(twins).ridge > 0.0


def test_the_volatility_of_a_book_is_that_of_its_covariance():
    moments = estimate_moments(_correlated(4, 60, 3))
    weights = np.array([0.5, -0.3, 0.2])

    expected = np.sqrt(weights @ moments.covariance @ weights)

    assert moments.volatility_of(weights) == pytest.approx(expected, rel=1e-12)
