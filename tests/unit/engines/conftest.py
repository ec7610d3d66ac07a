"""Hand-made panels and records: every test states only what it is about."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from prometheus_nt.domain.books import BookTarget, Tier, Universe
from prometheus_nt.domain.market import InstrumentScores, StabilityVectors
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray


def _panel_of(close, *, sectors=(), **fields) -> MarketPanel:
    close = np.array(close, dtype=np.float64)
    close = close[:, None] if close.ndim == 1 else close
    defaults = {
        **{name: close for name in ("open", "high", "low", "close")},
        "volume": np.where(np.isnan(close), np.nan, 1e6),
        "split": np.ones_like(close),
        "dividend": np.zeros_like(close),
    }
    for name, values in fields.items():
        values = np.array(values, dtype=np.float64)
        defaults[name] = values[:, None] if values.ndim == 1 else values
    return MarketPanel(
        sessions=np.datetime64("2020-01-01") + np.arange(len(close)),
        instruments=tuple(f"I{column:03d}" for column in range(close.shape[1])),
        fingerprint="test",
        sectors=sectors,
        **{name: array.copy() for name, array in defaults.items()},
    )


@pytest.fixture(scope="session")
def panel_of() -> Callable[..., MarketPanel]:
    """Panel of a (T,) or (T, N) array of closes; other fields by name, quiet unless given."""
    return _panel_of


@pytest.fixture(scope="session")
def random_close() -> Callable[..., np.ndarray]:
    """Random walks with a few missing bars and, for the last column, a late listing."""

    def close(seed: int, sessions: int, names: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        sigma = rng.uniform(0.005, 0.03, names)
        walk = 50.0 * np.exp(np.cumsum(rng.normal(0.0, sigma, (sessions, names)), axis=0))
        walk[rng.random((sessions, names)) < 0.03] = np.nan
        walk[: sessions // 2, -1] = np.nan
        walk[-1] = np.where(np.isnan(walk[-1]), 50.0, walk[-1])
        return walk

    return close


@pytest.fixture(scope="session")
def stability_of() -> Callable[..., StabilityVectors]:
    def build(panel, overall, *, sigma=0.01, classes=0, change_risk=None) -> StabilityVectors:
        overall = np.array(overall, dtype=np.float64)
        measured = {
            field.name: np.zeros_like(overall)
            for field in fields(StabilityVectors)
            if field.type is FloatArray
        }
        measured |= {
            "overall_score": overall,
            "complacent_pricing": np.full_like(overall, np.nan),
            "sigma": np.broadcast_to(np.asarray(sigma, dtype=np.float64), overall.shape).copy(),
            "transition_matrix": np.eye(5),
        }
        return StabilityVectors(
            as_of=panel.as_of,
            instruments=panel.instruments,
            soft_target_class=np.broadcast_to(np.asarray(classes), overall.shape).copy(),
            change_risk=change_risk or {},
            **measured,
        )

    return build


@pytest.fixture(scope="session")
def scores_of() -> Callable[..., InstrumentScores]:
    def build(panel, score, *, expected_return=None) -> InstrumentScores:
        score = np.array(score, dtype=np.float64)
        expected = 0.01 * score if expected_return is None else np.array(expected_return)
        return InstrumentScores(
            as_of=panel.as_of,
            horizon=21,
            instruments=panel.instruments,
            score=score,
            expected_return=expected,
            confidence=np.ones_like(score),
            signal_label=np.zeros(len(score), dtype=np.int64),
            alpha_components={},
        )

    return build


@pytest.fixture(scope="session")
def universe_of() -> Callable[..., Universe]:
    def build(panel, score) -> Universe:
        score = np.array(score, dtype=np.float64)
        included = np.isfinite(score)
        return Universe(
            as_of=panel.as_of,
            universe_id="TEST",
            instruments=panel.instruments,
            score=score,
            included=included,
            tier=np.where(included, int(Tier.CORE), int(Tier.EXCLUDED)),
            exclusion=np.where(included, 0, 9),
        )

    return build


@pytest.fixture(scope="session")
def book_of() -> Callable[..., BookTarget]:
    def build(panel, weights) -> BookTarget:
        weights = np.array(weights, dtype=np.float64)
        return BookTarget(panel.as_of, "BOOK", panel.instruments, weights, None, ())

    return build
