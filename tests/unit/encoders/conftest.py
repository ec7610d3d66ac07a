"""Markets for the encoders: the engines' synthetic ones, with and without parts of them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel


def _market(seed: int = 4, sessions: int = 150, names: int = 8, **fields) -> MarketPanel:
    rng = np.random.default_rng(seed)
    shape = (sessions, names)
    moves = rng.normal(0.0, 0.01, (sessions, 1)) + rng.normal(0.0, 0.01, shape)
    close = 50.0 * np.exp(np.cumsum(moves, axis=0))
    arrays = {
        "open": close,
        "high": close * np.exp(rng.uniform(0.0, 0.01, shape)),
        "low": close * np.exp(-rng.uniform(0.0, 0.01, shape)),
        "close": close,
        "volume": rng.lognormal(12.0, 0.5, shape),
        "split": np.ones(shape),
        "dividend": np.zeros(shape),
    }
    for name, array in (arrays | fields).items():
        arrays[name] = np.array(array, dtype=np.float64)
    return MarketPanel(
        sessions=np.datetime64("2020-01-01") + np.arange(sessions),
        instruments=tuple(f"N{column:02d}.US" for column in range(names)),
        fingerprint="market",
        sectors=tuple(f"S{column % 3}" for column in range(names)),
        **arrays,
    )


@pytest.fixture(scope="session")
def market() -> Callable[..., MarketPanel]:
    return _market


@pytest.fixture(scope="session")
def changed() -> Callable[..., MarketPanel]:
    """Return a copy of a panel with these fields put in place of its own."""

    def change(panel: MarketPanel, **fields) -> MarketPanel:
        arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS} | fields
        return replace(panel, _wall=None, **arrays)

    return change
