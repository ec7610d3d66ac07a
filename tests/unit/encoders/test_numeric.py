import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.encoders.numeric import (
    CHANNELS,
    WindowParams,
    encode_windows,
    window_channels,
)

NAN = np.nan
SHORT = WindowParams(window=20, min_observations=12, dimensions=6, fit_every=10, kernels=20)
BOTH = [SHORT, SHORT.model_copy(update={"features": "convolutions"})]
PRICES = ("open", "high", "low", "close")


def test_the_channels_follow_their_definitions(market):
    panel = market()

    channels, known = window_channels(panel, 40, SHORT)

    rows = slice(21, 41)
    returns = np.log(panel.close[rows, 0] / panel.close[20:40, 0])
    volume = np.log(panel.volume[rows, 0])
    path = np.concatenate(([0.0], np.cumsum(returns)))
    fall = (path - np.maximum.accumulate(path))[1:]
    sigma = returns.std(ddof=1)
    expected = {
        "returns": (returns - returns.mean()) / sigma,
        "volume": (volume - volume.mean()) / volume.std(ddof=1),
        "range": np.log(panel.high[rows, 0] / panel.low[rows, 0]) / sigma,
        "drawdown": fall / (sigma * np.sqrt(20)),
    }
    for name, values in zip(CHANNELS, channels[0], strict=True):
        assert values == pytest.approx(expected[name]), name
    assert known.all()


@pytest.mark.parametrize("params", BOTH, ids=lambda params: params.features)
def test_prices_and_volumes_in_other_units_make_the_same_vectors(market, changed, params):
    panel = market()
    scaled = {name: panel.__getattribute__(name).copy() for name in PANEL_FIELDS}
    for name in PRICES:
        scaled[name][:, 0] *= 1000.0
    scaled["volume"][:, 1] *= 1000.0

    vectors = encode_windows(panel, params).vectors
    found = encode_windows(changed(panel, **scaled), params).vectors

    assert np.allclose(found, vectors, rtol=1e-7, atol=1e-9)


def test_a_split_moves_nothing(market, changed):
    panel = market()
    fields = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    fields["split"][140, 0] = 4.0
    for name in PRICES:
        fields[name][140:, 0] /= 4.0
    fields["volume"][140:, 0] *= 4.0

    found = encode_windows(changed(panel, **fields), SHORT).vectors

    assert np.allclose(found, encode_windows(panel, SHORT).vectors, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("params", BOTH, ids=lambda params: params.features)
def test_no_later_session_moves_a_vector(market, changed, params):
    panel = market()
    rng = np.random.default_rng(8)
    fields = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in fields.values():
        array[101:] = rng.uniform(0.5, 9.0, array[101:].shape)
    as_of = panel.sessions[100].astype(object)
    cut = {name: array[:101].copy() for name, array in fields.items()}
    short = changed(panel, sessions=panel.sessions[:101].copy(), **cut)

    expected = encode_windows(panel.until(as_of), params)

    for other in (changed(panel, **fields).until(as_of), short):
        found = encode_windows(other, params)
        assert np.array_equal(found.vectors, expected.vectors)
        assert found.version == expected.version


@pytest.mark.parametrize("params", BOTH, ids=lambda params: params.features)
def test_the_order_of_the_instruments_only_moves_the_vectors(market, params):
    panel = market()
    order = np.random.default_rng(1).permutation(len(panel.instruments))
    moved = panel.select(tuple(panel.instruments[column] for column in order))

    expected, found = encode_windows(panel, params), encode_windows(moved, params)

    assert np.array_equal(found.vectors, expected.vectors[order])
    assert found.version == expected.version


def test_vectors_have_length_one_or_are_unknown(market):
    close = market().close.copy()
    close[-15:, 0] = NAN
    close[:, 1] = 30.0
    close[:135, 2] = NAN
    prices = dict.fromkeys(PRICES, close)

    encoded = encode_windows(market(**prices), SHORT)

    assert np.isnan(encoded.vectors).all(axis=1).tolist() == [True, True, False] + [False] * 5
    assert np.linalg.norm(encoded.vectors[2:], axis=1) == pytest.approx(np.ones(6))


def test_a_market_without_volume_or_ranges_is_told_by_its_returns(market):
    close = market().close
    nothing = np.full(close.shape, NAN)

    encoded = encode_windows(market(open=close, high=close, low=close, volume=nothing), SHORT)

    assert encoded.channels_known.tolist() == [[True, False, False, True]] * 8
    assert np.isfinite(encoded.vectors).all()


def test_instruments_that_move_alike_are_alike(market):
    close = market().close.copy()
    close[:, 3] = 7.0 * close[:, 0] ** 1.0001
    prices = dict.fromkeys(PRICES, close)

    vectors = encode_windows(market(**prices), SHORT).vectors

    likeness = vectors @ vectors[0]
    assert likeness[3] > 0.9
    assert np.argsort(-likeness)[:2].tolist() == [0, 3]


def test_another_seed_is_another_version(market):
    other = BOTH[1].model_copy(update={"seed": 1})

    versions = {encode_windows(market(), params).version for params in (*BOTH, other)}

    assert len(versions) == 3


def test_short_or_motionless_history_is_a_named_error(market):
    with pytest.raises(InsufficientHistory, match="needs 21 sessions, has 20"):
        encode_windows(market(sessions=20), SHORT)
    still = dict.fromkeys(PRICES, np.full((150, 8), 5.0))
    with pytest.raises(DataError, match="0 known windows of 20 sessions"):
        encode_windows(market(**still), SHORT)


def test_more_observations_than_sessions_are_refused():
    with pytest.raises(ValidationError, match="min_observations"):
        WindowParams(window=20, min_observations=21)
