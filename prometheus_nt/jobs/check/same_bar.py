"""Prove that a strategy does not earn a session's return on what it decided at its close.

The rule: with everything before session t held fixed, the positions held through it are fixed.
What they earn is then a straight line in the session's closes (in their logarithms, where returns
are logarithmic), whatever the costs and fill prices were. A profit and loss that bends depends on
what was decided at the close of t itself, which nobody could trade before t + 1.

1. `_ended` makes histories that end with session t and differ in nothing but its closes, which
   move along one random direction in steps of equal size;
2. `_bend` is the largest second difference of the session's profit and loss along those steps.

A stop that triggers inside the session stays a constant: highs and lows are wide in all of them.
Costs that are booked on the session of the decision bend the line, too, and are reported: they
belong to the session of the fill.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.jobs.check.user_strategy import UserStrategy

STEPS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])

SIZES = (0.02, 0.12)
"""Size of a step: a small one for rules that turn on a day's move, a large one for a month's."""

ROUNDING = 1e-7
"""A bend smaller than this part of the line's own range is rounding."""


def same_bar_fill(
    strategy: UserStrategy, panel: MarketPanel, row: int, seed: int
) -> tuple[float, float] | None:
    """Return the figure expected on a straight line and the one found, or None if it is straight.

    Parameters
    ----------
    row : int
        The session, at least the second, whose closes are moved.
    """
    direction = np.random.default_rng([seed, row]).uniform(0.3, 1.0, len(panel.instruments))
    direction *= np.where(np.arange(len(direction)) % 3 == 2, -1.0, 1.0)
    for size in SIZES:
        moves = STEPS[:, None] * direction * size
        found = _bend(_earned(strategy, panel, row, 1.0 + moves))
        if found is not None and not _straight_in_logarithms(
            _earned(strategy, panel, row, np.exp(moves))
        ):
            return found
    return None


def _straight_in_logarithms(earned: FloatArray) -> bool:
    """Tell whether logarithmic returns explain a line, or the equity that they compound to."""
    if _bend(earned) is None:
        return True
    return bool((earned > 0).all()) and _bend(np.log(earned)) is None


def _earned(strategy: UserStrategy, panel: MarketPanel, row: int, ratios: FloatArray) -> FloatArray:
    """Return the profit and loss of session `row` for each row of closes, as ratios, (S,)."""
    found = []
    for ratio in ratios:
        earned = strategy.decide(_ended(panel, row, ratio)).earned
        assert earned is not None
        found.append(earned[row])
    return np.array(found)


def _bend(earned: FloatArray) -> tuple[float, float] | None:
    """Return the middle of a line and the figure found where it bends most, or None."""
    if not np.isfinite(earned).all():
        return None
    expected = (earned[:-2] + earned[2:]) / 2.0
    apart = np.abs(earned[1:-1] - expected)
    worst = int(np.argmax(apart))
    rounding = ROUNDING * np.ptp(earned) + 1e-12 * np.abs(earned).max()
    if apart[worst] <= rounding:
        return None
    return float(expected[worst]), float(earned[1 + worst])


def _ended(panel: MarketPanel, row: int, ratio: FloatArray) -> MarketPanel:
    """Return the history that ends with `row`, its closes `ratio` times those of the day before."""
    view = panel.until(panel.sessions[row].astype(object))
    arrays: dict[str, Any] = {name: getattr(view, name).copy() for name in ("close", "high", "low")}
    traded = ~np.isnan(arrays["close"][row])
    before = arrays["close"][row - 1] / view.split[row]
    before = np.where(np.isnan(before), arrays["close"][row], before)
    close = np.where(traded, before * ratio, np.nan)
    arrays["close"][row] = close
    arrays["high"][row], arrays["low"][row] = before * 2.0, before * 0.25
    arrays["high"][row, ~traded] = arrays["low"][row, ~traded] = np.nan
    fingerprint = content_hash([panel.fingerprint, row, ratio])
    return replace(view, _wall=None, fingerprint=fingerprint, **arrays)
