import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.books import Exclusion
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.engines import natural_selection
from prometheus_nt.engines.clusters import ClusterParams, correlation_clusters
from prometheus_nt.engines.natural_selection import (
    MetricWeights,
    NaturalParams,
    cluster_history,
    select_naturally,
)

NAN = np.nan
NONE = int(Exclusion.NONE)
# Nothing is vetoed but by what a test switches on.
OPEN = NaturalParams(
    lookback=120,
    random_walk=(0.5, 0.5),
    trending_hurst=9.0,
    max_entropy=1.0,
    min_efficiency=0.0,
    friction_hurdle=None,
    min_recent_return=None,
    max_kurtosis=1e9,
    max_volatility=1e9,
    clusters=ClusterParams(lookbacks=(120,)),
)


def _panel(panel_of, returns, **fields):
    walk = 100.0 * np.cumprod(1.0 + returns, axis=0)
    return panel_of(np.concatenate((np.full((1, returns.shape[1]), 100.0), walk)), **fields)


def _market(seed, sizes, sessions=140, noise=0.4):
    """Returns of groups of names that follow one factor each."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    factors = rng.normal(0.0005, 0.01, (sessions, len(sizes)))
    return factors[:, group] + rng.normal(0.0, noise * 0.01, (sessions, len(group)))


def _select(panel, params=OPEN, candidates=None, multiplier=None):
    names = len(panel.instruments)
    candidates = np.ones(names, dtype=bool) if candidates is None else np.array(candidates)
    multiplier = np.ones(names) if multiplier is None else np.array(multiplier)
    return select_naturally(panel, candidates, multiplier, params)


def _with(**changed):
    return NaturalParams(**{**OPEN.model_dump(), **changed})


def test_the_best_of_each_cluster_win_at_the_first_stage(panel_of):
    panel = _panel(panel_of, _market(0, (5, 5, 5)))

    selection = _select(panel, _with(min_names=6, names_per_cluster=2))

    assert selection.stage == 1
    assert np.bincount(selection.clusters[selection.winners]).tolist() == [2, 2, 2]
    for cluster in range(3):
        inside = selection.clusters == cluster
        best = np.sort(selection.score[inside])[-2:]
        assert (np.sort(selection.score[inside & selection.winners]) == best).all()
    losers = ~selection.winners
    assert set(selection.exclusion[losers].tolist()) == {Exclusion.CLUSTER_FULL}


def _staged(monkeypatch, panel, params, *, entropy, efficiency=None, hurst=None, clusters=None):
    """Selection with measurements replaced, one value a name."""
    names = len(panel.instruments)
    given = {
        "_permutation_entropy": entropy,
        "_efficiency": np.full(names, 0.5) if efficiency is None else efficiency,
        "_hurst": np.full(names, 0.3) if hurst is None else hurst,
        "_newest_clusters": np.zeros(names, dtype=np.int64) if clusters is None else clusters,
    }
    for name, values in given.items():
        monkeypatch.setattr(natural_selection, name, lambda *_, values=values: np.array(values))
    return _select(panel, params)


STRICT = _with(max_entropy=0.75, min_efficiency=0.2, names_per_cluster=9, min_names=2, max_names=9)


def test_too_few_winners_relax_entropy_by_a_fifth_up_and_efficiency_by_a_fifth_down(
    monkeypatch, panel_of
):
    panel = _panel(panel_of, _market(1, (6,)))
    # Strict limits 0.75 and 0.2, relaxed ones 0.9 and 0.16.
    selection = _staged(
        monkeypatch,
        panel,
        STRICT,
        entropy=[0.75, 0.8999, 0.9001, 0.7, 0.7, 0.7],
        efficiency=[0.19, 0.5, 0.5, 0.1601, 0.1599, 0.1],
    )

    assert selection.stage == 2
    assert selection.winners.tolist() == [True, True, False, True, False, False]
    assert selection.exclusion.tolist() == [
        NONE,
        NONE,
        Exclusion.HIGH_ENTROPY,
        NONE,
        Exclusion.INEFFICIENT,
        Exclusion.INEFFICIENT,
    ]


def test_enough_winners_relax_nothing(monkeypatch, panel_of):
    panel = _panel(panel_of, _market(1, (3,)))

    selection = _staged(monkeypatch, panel, STRICT, entropy=[0.75, 0.75, 0.7501])

    assert selection.stage == 1
    assert selection.exclusion.tolist() == [NONE, NONE, Exclusion.HIGH_ENTROPY]


def test_relaxed_entropy_never_exceeds_one_and_disorder_tightens_it(monkeypatch, panel_of):
    panel = _panel(panel_of, _market(1, (2,)))

    for entropy, stage in (([0.96, 0.95], 2), ([0.95, 0.94], 1)):
        params = _with(max_entropy=0.95, min_names=2, max_names=9)
        selection = _staged(monkeypatch, panel, params, entropy=entropy)
        assert (selection.stage, selection.winners.tolist()) == (stage, [True, True])


def test_each_empty_cluster_gets_one_representative(monkeypatch, panel_of):
    panel = _panel(panel_of, _market(2, (8,)))
    params = _with(max_entropy=0.5, min_names=2, max_names=9, names_per_cluster=1)
    # Cluster 0 has a winner; 1 has two who fit; 2 is too disordered; 3 walks at random.
    selection = _staged(
        monkeypatch,
        panel,
        NaturalParams(**{**params.model_dump(), "random_walk": (0.48, 0.52)}),
        entropy=[0.5, 0.4, 0.9, 0.999, 0.9991, 1.0, 0.9, 0.9],
        hurst=[0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.49, 0.51],
        clusters=np.array([0, 0, 1, 1, 2, 2, 3, 3]),
    )

    winners = selection.winners
    assert winners[:2].sum() == 1
    assert winners[2:4].sum() == 1
    assert selection.score[:2][winners[:2]] == selection.score[:2].max()
    assert selection.score[2:4][winners[2:4]] == selection.score[2:4].max()
    assert not winners[4:6].any()
    assert selection.exclusion[6:].tolist() == [Exclusion.RANDOM_WALK] * 2


def test_the_last_stage_fills_up_with_those_within_the_relaxed_limits(monkeypatch, panel_of):
    panel = _panel(panel_of, _market(3, (6,)))
    params = _with(max_entropy=0.75, min_names=4, max_names=9, names_per_cluster=1)

    selection = _staged(
        monkeypatch,
        panel,
        params,
        entropy=[0.7, 0.7, 0.8, 0.8, 0.8, 0.91],
    )

    assert selection.stage == 4
    assert selection.winners.sum() == 4
    best = np.argsort(-selection.score[:5])[:4]
    assert selection.winners[best].all()
    assert selection.exclusion[5] == Exclusion.HIGH_ENTROPY


def test_no_stage_lets_a_vetoed_name_in(monkeypatch, panel_of):
    panel = _panel(panel_of, _market(4, (5,)))
    params = _with(random_walk=(0.48, 0.52), min_names=5, max_names=9)

    selection = _staged(monkeypatch, panel, params, entropy=[0.5] * 5, hurst=[0.5] * 5)

    assert selection.stage == 4
    assert not selection.winners.any()
    assert set(selection.exclusion.tolist()) == {Exclusion.RANDOM_WALK}


def test_there_are_at_most_so_many_winners(panel_of):
    panel = _panel(panel_of, _market(5, (9,)))

    selection = _select(panel, _with(names_per_cluster=9, min_names=2, max_names=4))

    assert selection.winners.sum() == 4
    assert selection.score[selection.winners].min() > selection.score[~selection.winners].max()
    assert set(selection.exclusion[~selection.winners].tolist()) == {Exclusion.MAX_UNIVERSE_SIZE}


def test_each_hard_limit_has_its_reason(monkeypatch, panel_of):
    returns = _market(6, (7,), sessions=140)
    returns[-120:, 1] -= returns[-120:, 1].mean() + 0.001
    returns[-60:, 2] -= returns[-60:, 2].mean() + 0.001
    returns[-100, 3] = 1.5
    volume = np.full((141, 7), 1e9)
    volume[:, 4] = 1.0
    volume[:, 5] = NAN
    panel = _panel(panel_of, returns, volume=volume)
    limits = {"friction_hurdle": -0.5, "max_kurtosis": 20.0, "min_recent_return": -0.05}
    params = _with(**limits, trending_hurst=0.55, random_walk=(0.48, 0.52))

    selection = _staged(
        monkeypatch,
        panel,
        params,
        entropy=[0.5] * 7,
        hurst=[0.3, 0.6, 0.3, 0.3, 0.3, 0.3, NAN],
    )

    assert selection.exclusion.tolist() == [
        NONE,
        Exclusion.FALLING_TREND,
        Exclusion.WEAK_MOMENTUM,
        Exclusion.FAT_TAILS,
        Exclusion.FRICTION,
        Exclusion.UNKNOWN_LIQUIDITY,
        Exclusion.UNKNOWN_METRICS,
    ]


def test_volatility_beyond_its_limit_is_a_fat_tail(panel_of):
    returns = _market(7, (2,))
    returns[:, 1] *= 20.0

    selection = _select(_panel(panel_of, np.clip(returns, -0.5, 0.5)), _with(max_volatility=0.5))

    assert selection.exclusion.tolist() == [NONE, Exclusion.FAT_TAILS]


def test_prices_alone_can_be_selected_from(panel_of):
    returns = _market(8, (4,))
    volumes = {"none": np.full((141, 4), NAN), "all": np.full((141, 4), 1e9)}
    volumes["some"] = volumes["all"] * np.where(np.arange(4) == 0, NAN, 1.0)
    chosen = {
        name: _select(_panel(panel_of, returns, volume=volume)) for name, volume in volumes.items()
    }

    assert chosen["none"].winners.sum() == 4
    assert (chosen["none"].score == chosen["some"].score).all()
    assert (chosen["none"].score != chosen["all"].score).all()


def test_the_score_is_a_weighted_geometric_mean_of_probabilities(panel_of):
    panel = _panel(panel_of, _market(9, (3,)))
    only = {name: 0.0 for name in MetricWeights.model_fields}
    drift = np.array(
        [(panel.close[-120:, i] / panel.close[-121:-1, i] - 1).mean() for i in range(3)]
    )
    rank = drift.argsort().argsort() / 2.0

    selection = _select(panel, _with(weights={**only, "momentum": 2.0}))

    assert np.allclose(selection.score, 100.0 * (0.01 + 0.99 * rank))


def test_a_multiplier_lowers_a_score(panel_of):
    panel = _panel(panel_of, _market(10, (3,)))

    plain, halved = _select(panel), _select(panel, multiplier=[1.0, 0.5, 1.0])

    assert np.allclose(halved.score / plain.score, [1.0, 0.5, 1.0])


def test_those_who_are_no_candidates_have_no_part(panel_of):
    panel = _panel(panel_of, _market(11, (4,)))

    selection = _select(panel, candidates=[True, True, False, True])

    assert selection.exclusion.tolist() == [NONE] * 4
    assert selection.winners.tolist() == [True, True, False, True]
    assert np.isnan(selection.score[2])
    alone = _select(panel.select(("I000", "I001", "I003")))
    assert np.allclose(alone.score, selection.score[[0, 1, 3]])


def test_unknown_constant_and_gappy_names_have_unknown_metrics(panel_of):
    returns = np.concatenate((_market(12, (4,)), np.zeros((140, 1))), axis=1)
    panel = _panel(panel_of, returns)
    close = panel.close.copy()
    close[:, 1] = NAN
    close[60:75, 2] = NAN
    close[60, 3] = NAN
    unknown = Exclusion.UNKNOWN_METRICS

    selection = _select(panel_of(close))

    assert selection.exclusion.tolist() == [NONE, unknown, unknown, NONE, unknown]
    assert np.isnan(selection.score).tolist() == [False, True, True, False, True]


def test_nothing_known_is_nothing_chosen(panel_of):
    selection = _select(panel_of(np.full((141, 3), NAN)))

    assert not selection.winners.any()
    assert selection.clusters.tolist() == [-1, -1, -1]


def test_one_instrument_can_win(panel_of):
    selection = _select(_panel(panel_of, _market(13, (1,))))

    assert selection.winners.tolist() == [True]


def test_a_short_history_is_a_shortage(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 121 sessions, has 120"):
        _select(_panel(panel_of, _market(14, (3,), sessions=119)))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_instruments_changes_nothing(panel_of, seed):
    panel = _panel(panel_of, _market(seed, (3, 3, 2), noise=1.0))
    order = np.random.default_rng(seed).permutation(8)
    params = _with(min_names=6, names_per_cluster=2, random_walk=(0.48, 0.52))

    straight = _select(panel, params)
    moved = _select(panel.select(tuple(f"I{name:03d}" for name in order)), params)

    assert moved.stage == straight.stage
    for left, right in zip(straight, moved, strict=True):
        if isinstance(left, np.ndarray):
            assert np.array_equal(left[order], right, equal_nan=True)


def test_clusters_hold_until_the_next_refresh_and_use_no_later_row(panel_of):
    panel = _panel(panel_of, _market(15, (2, 2), sessions=99, noise=1.0))
    params = ClusterParams(lookbacks=(40,))

    history = cluster_history(panel, params, 30)

    assert np.isnan(history[:29]).all()
    returns = panel.close[1:] / panel.close[:-1] - 1.0
    for row in (29, 59, 89):
        expected = correlation_clusters(returns[max(row - 40, 0) : row], params)
        assert (history[row : row + 30] == expected).all()


def test_permutation_entropy_of_known_series():
    rising = np.arange(120.0)
    turning = np.tile([1.0, 2.0], 60)
    path = np.stack((rising, turning, np.where(rising == 5.0, NAN, rising)), axis=1)

    entropy = natural_selection._permutation_entropy(path, 3)

    # Two of six orders, equally often: ln 2 / ln 6.
    assert entropy[0] == pytest.approx(0.0, abs=1e-12)
    assert entropy[1] == pytest.approx(np.log(2.0) / np.log(6.0))
    assert np.isnan(entropy[2])


def test_efficiency_is_net_over_gross_movement():
    path = np.array([[0.01, 0.01, 0.0], [0.03, -0.03, 0.0]])

    assert np.allclose(natural_selection._efficiency(path), [1.0, 0.5, NAN], equal_nan=True)


def test_the_hurst_exponent_tells_persistence_from_chance():
    rng = np.random.default_rng(16)
    noise = rng.normal(0.0, 0.01, (140, 2000))
    persistent, reverting = noise.copy(), noise.copy()
    for row in range(1, 140):
        persistent[row] += 0.6 * persistent[row - 1]
        reverting[row] -= 0.6 * reverting[row - 1]

    chance, trend, return_ = (
        natural_selection._hurst(path[20:]).mean() for path in (noise, persistent, reverting)
    )

    assert chance == pytest.approx(0.5, abs=0.01)
    assert trend > 0.6
    assert return_ < 0.4


def test_moments_are_those_of_the_text_book():
    window = np.random.default_rng(17).standard_t(5, (200, 2)) * 0.01
    window[7, 1] = NAN

    moments = natural_selection._moments(window)

    for column in range(2):
        x = window[~np.isnan(window[:, column]), column]
        z = (x - x.mean()) / x.std()
        assert moments["momentum"][column] == pytest.approx(252 * x.mean())
        assert moments["volatility"][column] == pytest.approx(x.std(ddof=1) * np.sqrt(252))
        assert moments["skew"][column] == pytest.approx((z**3).mean())
        assert moments["kurtosis"][column] == pytest.approx((z**4).mean() - 3.0)
        assert moments["cvar"][column] == pytest.approx(np.sort(x)[:10].mean())
        assert moments["tail_gain"][column] == pytest.approx(np.sort(x)[-10:].mean())
        assert moments["significance"][column] == pytest.approx(len(x) / 252)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"min_names": 30}, "max_names"),
        ({"random_walk": (0.6, 0.4)}, "random_walk"),
        ({"weights": dict.fromkeys(MetricWeights.model_fields, 0.0)}, "weights"),
    ],
)
def test_contradictory_settings_are_refused(changed, name):
    with pytest.raises(ValidationError, match=name):
        NaturalParams(**changed)
