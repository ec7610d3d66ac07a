"""Measure how well each alpha family of a sleeve ranked the returns that followed.

A score of session t is compared with returns from the close of t + 1 on: what was decided at a
close could not be bought before the next session. Two controls keep the measurement honest: a
random score, which must show nothing, and the reversed combined score, which must show the
opposite. The families have no fitted parameter, so every session is out of their sample; what
nobody can count here is how many other families were tried before these.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from prometheus_nt.config import EnginesConfig, NodeConfig
from prometheus_nt.domain.errors import DataError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.assessment import assess
from prometheus_nt.engines.numerics import total_return_index
from prometheus_nt.engines.stability import measure_stability
from prometheus_nt.jobs.data import panel_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.alpha import ICSummary, rank_ic, rank_turnover, summarise_ic

Progress = Callable[[int, int, str], None]

HORIZONS = (1, 5, 21, 63)
"""Sessions over which a score's decay is followed."""


@dataclass(frozen=True)
class AlphaQuality:
    """One family of one sleeve over one horizon; turnover is over that horizon too."""

    sleeve_id: str
    family: str
    horizon: int
    ic: ICSummary
    turnover: float | None


def measure_alpha(
    config: NodeConfig, stores: Stores, progress: Progress | None = None
) -> list[AlphaQuality]:
    """Return the quality of every family of every sleeve, over the node's own sessions.

    Raises
    ------
    DataError
        If no session of the window has a score.
    """
    panel = panel_of(stores, config.data.dataset)
    if config.instruments != "all":
        panel = panel.select(config.instruments)
    found: list[AlphaQuality] = []
    for done, sleeve in enumerate(config.sleeves, start=1):
        scores = _scores(panel, config, config.engines_of(sleeve))
        found.extend(_qualities(sleeve.sleeve_id, scores, panel))
        if progress is not None:
            progress(done, len(config.sleeves), sleeve.sleeve_id)
    return found


def _scores(
    panel: MarketPanel, config: NodeConfig, engines: EnginesConfig
) -> dict[str, FloatArray]:
    """Return the scores of each family, (T, N), NaN outside the node's sessions."""
    families: dict[str, FloatArray] = {}
    for row, session in enumerate(panel.sessions.astype(object).tolist()):
        if session < config.sessions.start or session > (config.sessions.end or session):
            continue
        view = panel.until(session)
        try:
            record = assess(view, measure_stability(view, engines.stability), engines.assessment)
        except InsufficientHistory:
            continue
        for family, values in {**record.alpha_components, "combined": record.score}.items():
            families.setdefault(family, np.full(panel.close.shape, np.nan))[row] = values
    if not families:
        raise DataError(
            f"no session from {config.sessions.start} on has a score: the dataset ends at "
            f"{panel.as_of}, or its history is shorter than the lookbacks"
        )
    return families | _controls(families["combined"], config.seed)


def _controls(combined: FloatArray, seed: int) -> dict[str, FloatArray]:
    noise = np.random.default_rng(seed).standard_normal(combined.shape)
    return {
        "control: random": np.where(np.isnan(combined), np.nan, noise),
        "control: reversed": -combined,
    }


def _qualities(
    sleeve_id: str, scores: dict[str, FloatArray], panel: MarketPanel
) -> Iterator[AlphaQuality]:
    for horizon in HORIZONS:
        outcomes = forward_returns(panel, horizon)
        for family, values in scores.items():
            ic = summarise_ic(rank_ic(values, outcomes), overlap=horizon)
            yield AlphaQuality(sleeve_id, family, horizon, ic, rank_turnover(values, horizon))


def forward_returns(panel: MarketPanel, horizon: int) -> FloatArray:
    """Return the total return from the close of t + 1 to that of t + 1 + `horizon`, (T, N)."""
    index = panel.derived(total_return_index)
    returns: FloatArray = np.full(index.shape, np.nan)
    returns[: -horizon - 1] = index[horizon + 1 :] / index[1:-horizon] - 1.0
    return returns
