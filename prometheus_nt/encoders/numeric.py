"""Vectors of price and volume windows: scale-free channels, and what is learned from past ones.

1. `window_channels` describes an instrument's last sessions by four channels without a unit:
   returns and ranges in its own volatility, volume in its own deviations, drawdown in the fall
   that its volatility makes ordinary.
2. `_features` takes the channels as they are, or the responses of random convolutions to them.
3. `_fitted` finds the principal components of the features of windows that ended at or before
   `as_of`, on a schedule that begins with the panel: no later session moves them.
4. `encode_windows` projects the newest windows on them and scales the result to length 1.

References
----------
Dempster, Petitjean and Webb (2020), "ROCKET: exceptionally fast and accurate time series
classification using random convolutional kernels".
"""

from dataclasses import dataclass
from datetime import date
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, Params, content_hash
from prometheus_nt.encoders.scaling import unit_rows
from prometheus_nt.engines.numerics.constants import NEGLIGIBLE
from prometheus_nt.engines.numerics.returns import has_bar, log_total_returns

CHANNELS = ("returns", "volume", "range", "drawdown")
RETURNS, VOLUME, RANGE, DRAWDOWN = range(len(CHANNELS))

MODEL_ID = "num-window-v1"

KERNEL_LENGTH = 9
MOST_DEVIATIONS = 8.0
"""Where a channel ends: one absurd bar must not be the whole window."""


class WindowParams(Params):
    """Parameters of the window encoder; window and intervals in sessions.

    Attributes
    ----------
    min_observations
        Returns of the window that have to be known; so many volumes, or ranges, or that channel
        is unknown.
    features
        `channels` as they are, aligned by session: what moved together is similar. Or
        `convolutions`, the share of positive responses and the largest response of each random
        kernel: what behaved alike is similar, whenever in the window it did.
    kernels, seed
        How many random convolutions, and which.
    dimensions
        Principal components kept at most.
    fit_every
        Interval between the windows that the components are fitted to.
    min_windows
        Windows, each of one instrument, that a fit needs.
    """

    window: int = Field(63, ge=KERNEL_LENGTH)
    min_observations: int = Field(42, ge=3)
    features: Literal["channels", "convolutions"] = "channels"
    kernels: int = Field(64, ge=1, le=2048)
    seed: int = Field(0, ge=0)
    dimensions: int = Field(16, ge=1, le=384)
    fit_every: int = Field(63, ge=1)
    min_windows: int = Field(20, ge=2)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_observations > self.window:
            raise ValueError("min_observations: more than the window has sessions")
        return self


@dataclass(frozen=True, eq=False)
class WindowVectors:
    """The newest window of each instrument as a vector.

    Attributes
    ----------
    model_id, version : str
        The kind of model, and the hash of its settings and of what it has learned by `as_of`.
        Vectors of two versions do not compare.
    vectors : (N, D) array, each of length 1; NaN where the history is too short or constant
    channels_known : (N, C) bool array, in the order of `CHANNELS`
        Channels without data are 0 throughout, which is every channel's usual value.
    """

    as_of: date
    instruments: tuple[str, ...]
    model_id: str
    version: str
    vectors: FloatArray
    channels_known: BoolArray


def encode_windows(panel: MarketPanel, params: WindowParams) -> WindowVectors:
    """Return the vector of each instrument's last `window` sessions.

    Raises
    ------
    InsufficientHistory
        If the panel holds fewer than `window` + 1 sessions.
    DataError
        If fewer windows than `min_windows` are known, because bars are missing or never move.
    """
    if len(panel) <= params.window:
        raise InsufficientHistory(panel.as_of, params.window + 1, len(panel))
    ends = range(params.window, len(panel), params.fit_every)
    past = [window_channels(panel, end, params) for end in ends]
    known = np.concatenate([channels[usable[:, RETURNS]] for channels, usable in past])
    if len(known) < params.min_windows:
        raise DataError(
            f"{panel.as_of}: {len(known)} known windows of {params.window} sessions so far, "
            f"min_windows asks for {params.min_windows}"
        )
    components = _fitted(_features(known, params), params.dimensions)
    newest, channels_known = window_channels(panel, len(panel) - 1, params)
    scores = components.project(_features(newest, params))
    scores[~channels_known[:, RETURNS]] = np.nan
    return WindowVectors(
        as_of=panel.as_of,
        instruments=panel.instruments,
        model_id=f"{MODEL_ID}-{params.features}",
        version=content_hash([params.digest(), *components]),
        vectors=unit_rows(scores),
        channels_known=channels_known,
    )


def window_channels(
    panel: MarketPanel, end: int, params: WindowParams
) -> tuple[FloatArray, BoolArray]:
    """Return the channels of the window that ends at row `end`, and which of them are known.

    Returns
    -------
    (N, C, W) array
        0 where a value or a whole channel is unknown: the usual value of each.
    (N, C) bool array
        Returns and drawdown are unknown, and with them the instrument, where too few returns are
        known or none differs from the others.
    """
    rows = slice(end - params.window + 1, end + 1)
    returns = panel.derived(log_total_returns)[rows]
    centred, sigma, enough = _standardised(returns, params.min_observations)
    path = np.cumsum(np.where(np.isfinite(returns), returns, 0.0), axis=0)
    fall = path - np.maximum.accumulate(np.maximum(path, 0.0), axis=0)
    # Volume in today's shares: a split inside the window is no surge of trading.
    shares = np.cumsum(np.log(panel.split[rows]), axis=0)
    volume, _, traded = _standardised(_logs(panel.volume[rows]) - shares, params.min_observations)
    high, low = panel.high[rows], panel.low[rows]
    spread = np.where(has_bar(low) & (high >= low), _logs(high) - _logs(low), np.nan)
    ranged = (spread > 0.0).sum(axis=0) >= params.min_observations
    scale = np.where(enough, sigma, 1.0)
    drawdown = fall / (scale * np.sqrt(params.window))
    values = np.stack((centred, volume, spread / scale, drawdown), axis=0)
    known = np.stack((enough, traded & enough, ranged & enough, enough), axis=0)
    values = np.clip(np.where(np.isfinite(values), values, 0.0), -MOST_DEVIATIONS, MOST_DEVIATIONS)
    channels = np.where(known[:, None, :], values, 0.0)
    return np.ascontiguousarray(channels.transpose(2, 0, 1)), known.T.copy()


def _standardised(x: FloatArray, min_observations: int) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return z-scores along time, (W, N), their standard deviation, and where both are known."""
    # In one memory order, so that sums over time add up in the same order for every panel.
    x = np.ascontiguousarray(x)
    known = np.isfinite(x)
    count = known.sum(axis=0)
    values = np.where(known, x, 0.0)
    centre = values.sum(axis=0) / np.maximum(count, 1)
    deviation = np.where(known, x - centre, 0.0)
    sigma = np.sqrt((deviation * deviation).sum(axis=0) / np.maximum(count - 1, 1))
    largest = np.abs(values).max(axis=0, initial=0.0)
    enough = (count >= min_observations) & (sigma > NEGLIGIBLE * np.maximum(largest, 1.0))
    return deviation / np.where(enough, sigma, 1.0), sigma, enough


def _logs(x: FloatArray) -> FloatArray:
    positive = np.isfinite(x) & (x > 0.0)
    return np.where(positive, np.log(np.where(positive, x, 1.0)), np.nan)


def _features(channels: FloatArray, params: WindowParams) -> FloatArray:
    """Return the features of M windows, (M, F)."""
    if params.features == "channels":
        return channels.reshape(len(channels), -1)
    responses = np.empty((len(channels), 2 * params.kernels))
    for place, kernel in enumerate(_kernels(params)):
        span = params.window - (KERNEL_LENGTH - 1) * kernel.dilation
        channel = channels[:, kernel.channel]
        response = np.full((len(channels), span), -kernel.bias)
        for tap, weight in enumerate(kernel.weights):
            start = tap * kernel.dilation
            response += weight * channel[:, start : start + span]
        responses[:, 2 * place] = (response > 0.0).mean(axis=1)
        responses[:, 2 * place + 1] = response.max(axis=1)
    return responses


class _Kernel(NamedTuple):
    channel: int
    dilation: int
    bias: float
    weights: tuple[float, ...]


def _kernels(params: WindowParams) -> list[_Kernel]:
    """Return the random convolutions of a seed, drawn as in the reference, one channel each."""
    rng = np.random.default_rng(params.seed)
    widest = np.log2((params.window - 1) / (KERNEL_LENGTH - 1))
    kernels = []
    for _ in range(params.kernels):
        weights = rng.standard_normal(KERNEL_LENGTH)
        kernels.append(
            _Kernel(
                channel=int(rng.integers(len(CHANNELS))),
                dilation=int(2.0 ** rng.uniform(0.0, max(widest, 0.0))),
                bias=float(rng.uniform(-1.0, 1.0)),
                weights=tuple((weights - weights.mean()).tolist()),
            )
        )
    return kernels


class _Components(NamedTuple):
    """Where features are centred, what they are divided by, and the axes, (F, D)."""

    centre: FloatArray
    scale: FloatArray
    axes: FloatArray

    def project(self, features: FloatArray) -> FloatArray:
        standard = (features - self.centre) / self.scale
        # Not a matrix product: BLAS may round a row differently where others stand around it.
        scores: FloatArray = np.einsum("mf,fd->md", standard, self.axes, optimize=False)
        return scores


def _fitted(features: FloatArray, dimensions: int) -> _Components:
    """Return the principal components of M windows; the order of the windows is of no account."""
    ordered = features[np.lexsort(features.T[::-1])]
    centre = ordered.mean(axis=0)
    deviation = ordered - centre
    scale = np.sqrt((deviation * deviation).mean(axis=0))
    largest = np.abs(ordered).max(axis=0)
    varies = scale > NEGLIGIBLE * np.maximum(largest, 1.0)
    # A feature that never varied says nothing, however far the newest window is from it.
    scale = np.where(varies, scale, np.inf)
    standard = deviation / scale
    variance, axes = np.linalg.eigh(standard.T @ standard / len(ordered))
    largest_first = np.argsort(-variance, kind="stable")[:dimensions]
    kept = largest_first[variance[largest_first] > NEGLIGIBLE * max(float(variance.max()), 0.0)]
    axes = axes[:, kept]
    # An axis and its opposite explain the same; the largest coordinate decides.
    heaviest = np.abs(axes).argmax(axis=0)
    signs = np.where(axes[heaviest, np.arange(len(kept))] < 0.0, -1.0, 1.0)
    return _Components(centre, scale, np.ascontiguousarray(axes * signs))
