"""Synthetic markets: random walks with gaps, late listings, a delisting, splits and dividends."""

from collections.abc import Callable

import numpy as np
import pytest

from prometheus_nt.domain.panel import MarketPanel


def _synthetic_panel(seed: int, sessions: int = 150, names: int = 24) -> MarketPanel:
    rng = np.random.default_rng(seed)
    shape = (sessions, names)
    sigma = rng.uniform(0.004, 0.04, names)
    market = rng.normal(0.0003, 0.008, (sessions, 1))
    split = np.where(rng.random(shape) < 0.003, rng.choice([0.5, 1.5, 2.0, 20.0], shape), 1.0)
    worth = 60.0 * np.exp(np.cumsum(market + rng.standard_t(5, shape) * sigma, axis=0))
    close = worth / np.cumprod(split, axis=0)
    close[rng.random(shape) < 0.01] = np.nan
    for column in range(0, names, 6):
        close[: rng.integers(5, sessions), column] = np.nan
    close[sessions - 20 :, 1] = np.nan
    close[:, 2] = 25.0
    close[:, 3] = np.nan
    opens = close * np.exp(rng.normal(0.0, 0.003, shape))
    volume = np.where(np.isnan(close), np.nan, rng.lognormal(12.0, 1.0, shape))
    volume[:, 4] = np.nan
    return MarketPanel(
        sessions=np.datetime64("2019-01-01") + np.arange(sessions),
        instruments=tuple(f"N{column:02d}.US" for column in range(names)),
        open=opens,
        high=np.fmax(opens, close) * 1.002,
        low=np.fmin(opens, close) * 0.998,
        close=close,
        volume=volume,
        split=split,
        dividend=np.where(rng.random(shape) < 0.02, 0.4, 0.0),
        fingerprint=f"synthetic-{seed}",
        sectors=tuple(None if column % 7 == 0 else f"S{column % 3}" for column in range(names)),
    )


@pytest.fixture(scope="session")
def synthetic_panel() -> Callable[..., MarketPanel]:
    return _synthetic_panel
