"""Hand-made panels: every test states only what it is about."""

from collections.abc import Callable

import numpy as np
import pytest

from prometheus_nt.domain.panel import MarketPanel


def _panel_of(close, **fields) -> MarketPanel:
    arrays = {name: _table(close) for name in ("open", "high", "low", "close")}
    shape = arrays["close"].shape
    arrays |= {"volume": np.full(shape, 1e6), "split": np.ones(shape), "dividend": np.zeros(shape)}
    arrays |= {name: _table(values) for name, values in fields.items()}
    return MarketPanel(
        sessions=np.datetime64("2020-01-01") + np.arange(shape[0]),
        instruments=tuple("ABCDEFGH"[: shape[1]]),
        fingerprint="test",
        **arrays,
    )


def _table(values) -> np.ndarray:
    table = np.array(values, dtype=np.float64)
    return table[:, None] if table.ndim == 1 else table


@pytest.fixture(scope="session")
def panel_of() -> Callable[..., MarketPanel]:
    """Panel of a (T,) or (T, N) array of closes, one session a day; other fields by name."""
    return _panel_of
