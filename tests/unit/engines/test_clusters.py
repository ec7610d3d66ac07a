import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.engines.clusters import ClusterParams, correlation_clusters

NAN = np.nan
PARAMS = ClusterParams()


def _groups(seed, sizes, sessions=200, noise=0.3):
    """Returns of names that follow one factor a group."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(0.0, 0.01, (sessions, len(sizes)))
    group = np.repeat(np.arange(len(sizes)), sizes)
    return factors[:, group] + rng.normal(0.0, noise * 0.01, (sessions, len(group))), group


def test_names_that_follow_one_factor_share_a_cluster_and_the_largest_is_the_first():
    returns, _ = _groups(0, (2, 5, 3))

    assert correlation_clusters(returns, PARAMS).tolist() == [2, 2, 0, 0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_columns_changes_no_label(seed):
    returns, _ = _groups(seed, (3, 3, 3, 1, 1), noise=1.0)
    returns[:, 4] = returns[:, 3]
    returns[::3, 7] = NAN
    order = np.random.default_rng(seed).permutation(returns.shape[1])

    labels = correlation_clusters(returns, PARAMS)

    assert labels[order].tolist() == correlation_clusters(returns[:, order], PARAMS).tolist()


def test_two_names_join_where_their_correlation_passes_the_threshold():
    t = np.arange(200)
    first, second = np.sin(np.pi * t / 10.0), np.cos(np.pi * t / 10.0)
    # Over whole periods the correlation of the two is 0.6; the distance is sqrt(0.2) = 0.447.
    returns = np.stack((first, 0.6 * first + 0.8 * second), axis=1)

    for threshold, joined in ((0.45, True), (0.44, False)):
        params = ClusterParams(lookbacks=(60, 120, 200), threshold=threshold)
        labels = correlation_clusters(returns, params)
        assert bool(labels[0] == labels[1]) is joined


def test_at_most_so_many_clusters_are_left():
    returns = np.random.default_rng(3).normal(0.0, 0.01, (200, 40))

    labels = correlation_clusters(returns, ClusterParams(max_clusters=7, threshold=0.01))

    assert sorted(set(labels.tolist())) == list(range(7))


def test_unknown_and_constant_columns_belong_to_no_cluster():
    returns, _ = _groups(1, (4,))
    returns = np.concatenate((returns, np.full((200, 3), 0.0)), axis=1)
    returns[:, 5] = NAN
    returns[:-19, 6], returns[-19:, 6] = NAN, returns[-19:, 0]

    assert correlation_clusters(returns, PARAMS).tolist() == [0, 0, 0, 0, -1, -1, -1]


def test_names_without_enough_common_sessions_count_as_uncorrelated():
    returns, _ = _groups(2, (2,), noise=0.01)
    returns[:100, 0], returns[100:, 1] = NAN, NAN

    assert correlation_clusters(returns, ClusterParams(lookbacks=(200,))).tolist() in (
        [0, 1],
        [1, 0],
    )


def test_a_recent_change_weighs_more_than_an_old_one():
    rng = np.random.default_rng(4)
    returns = rng.normal(0.0, 0.01, (200, 2))
    returns[140:, 1] = returns[140:, 0]

    assert len(set(correlation_clusters(returns, PARAMS).tolist())) == 1
    assert len(set(correlation_clusters(returns[::-1], PARAMS).tolist())) == 2


def test_a_history_shorter_than_every_lookback_is_one_lookback():
    returns, _ = _groups(5, (2, 1), sessions=30)

    assert correlation_clusters(returns, PARAMS).tolist() == [0, 0, 1]
    assert correlation_clusters(returns[:19], PARAMS).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("shape", [(200, 0), (0, 3), (1, 1)])
def test_nothing_to_compare_is_no_cluster(shape):
    assert correlation_clusters(np.zeros(shape), PARAMS).tolist() == [-1] * shape[1]


def test_one_instrument_is_a_cluster_of_its_own():
    returns, _ = _groups(6, (1,))

    assert correlation_clusters(returns, PARAMS).tolist() == [0]


def test_a_lookback_shorter_than_the_observations_it_needs_is_refused():
    with pytest.raises(ValidationError, match="lookbacks"):
        ClusterParams(lookbacks=(60, 10))
