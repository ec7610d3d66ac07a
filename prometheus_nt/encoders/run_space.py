"""Backtest runs side by side: how they were configured, into what market, and how they came out.

Every coordinate has a name and keeps it: settings are compared path by path, market figures and
outcomes name by name. Ids, dates, seeds and names of data say nothing about likeness and are left
out. The market is that of the sessions before a run began: what it was like during the run is
nearly its outcome. Whoever searches without outcomes gets a space that has no block for them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

import numpy as np

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.encoders.joint import Block, JointSpace, JointVectors, join
from prometheus_nt.encoders.scaling import (
    anchored,
    one_hot,
    robust_zscores,
    typical_where_unknown,
)
from prometheus_nt.engines.regime import FEATURES, RegimeParams, regime_features

SPACE = "META_CONFIG_ENV_V0"

MODEL_ID = "joint-meta-config-env-v1"
"""What the user calls the encoder of that space."""

ENVIRONMENT_SESSIONS = 252
"""Before a run, over which its market is averaged."""

LEAST_SESSIONS = 21
"""Before a run, with fewer of which nothing is known of its market."""

NOT_LIKENESS = frozenset(
    {
        "mode",
        "sessions",
        "instruments",
        "data",
        "seed",
        "engines.universe.universe_id",
        "engines.universe.exclude",
        "engines.portfolio.book_id",
        "execution.replay",
        "sleeve.sleeve_id",
        "sleeve.portfolio_id",
    }
)
"""Settings, or sections of them, that name things or leave every result as it is."""

ENVIRONMENT_FEATURES = (
    *(f"mean_{feature}" for feature in FEATURES),
    *(f"last_{feature}" for feature in FEATURES),
    "instruments",
)
OUTCOME_FEATURES = (
    "annualised_sharpe",
    "cagr",
    "annualised_vol",
    "max_drawdown",
    "expected_shortfall_95",
    "beta",
    "turnover_annual",
    "cost_drag_annual",
)


@dataclass(frozen=True)
class RunFacts:
    """What is stored of a run.

    config : the resolved configuration, nested.
    environment : each of `ENVIRONMENT_FEATURES`; None or absent where it was not recorded.
    outcome : figures of the run by name, those of `OUTCOME_FEATURES` among them.
    order_list_hash : of every order and fill; None where it was not recorded.
    """

    run_id: str
    config: Mapping[str, Any]
    environment: Mapping[str, float | None]
    outcome: Mapping[str, float | None]
    order_list_hash: str | None = None


def repeated_by(runs: Sequence[RunFacts]) -> dict[str, str]:
    """Return, for each run, the first of `runs` that it repeats; a new one is its own.

    A run repeats another if they are configured alike but for their sessions; or if nothing that
    counts as likeness tells their configurations apart, and neither do their orders.
    """
    first: dict[tuple[str, str], str] = {}
    found = {}
    for run in runs:
        settings = content_hash([sorted(_leaves(run.config), key=itemgetter(0))])
        keys = [("config", content_hash([_without_sessions(run.config)]))]
        if run.order_list_hash is not None:
            keys.append((run.order_list_hash, settings))
        known = next((first[key] for key in keys if key in first), run.run_id)
        found[run.run_id] = known
        for key in keys:
            first.setdefault(key, known)
    return found


def _without_sessions(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "sessions"}


def environment_before(
    panel: MarketPanel, start: date, params: RegimeParams | None = None
) -> dict[str, float | None]:
    """Return the market that a run beginning on `start` came from; {} if too little is known.

    Named `mean_<feature>` over the year before, `last_<feature>` at the last close before, and
    `instruments` that had a price then. Nothing of `start` or later is read.
    """
    before = int(np.searchsorted(panel.sessions, np.datetime64(start, "D")))
    if before < LEAST_SESSIONS:
        return {}
    seen = panel.until(panel.sessions[before - 1].astype(object))
    features = seen.derived(regime_features, params or RegimeParams())[-ENVIRONMENT_SESSIONS:]
    known = np.isfinite(features)
    totals = np.where(known, features, 0.0).sum(axis=0)
    means = totals / np.where(known.any(axis=0), known.sum(axis=0), np.nan)
    figures = (*means.tolist(), *features[-1].tolist(), float(np.isfinite(seen.close[-1]).sum()))
    return {
        name: None if np.isnan(figure) else figure
        for name, figure in zip(ENVIRONMENT_FEATURES, figures, strict=True)
    }


def run_vectors(
    runs: Sequence[RunFacts],
    *,
    with_outcome: bool = False,
    config_weight: float = 1.0,
    environment_weight: float = 1.0,
    outcome_weight: float = 1.0,
) -> JointVectors:
    """Return the joint vectors of these runs, standardised by these runs alone."""
    names, config = _config_block([dict(_leaves(run.config)) for run in runs])
    blocks = [
        Block("config", names, config_weight),
        Block("environment", (*ENVIRONMENT_FEATURES, "anchor"), environment_weight),
    ]
    parts = {
        "config": config,
        "environment": _named([run.environment for run in runs], ENVIRONMENT_FEATURES),
    }
    if with_outcome:
        blocks.append(Block("outcome", (*OUTCOME_FEATURES, "anchor"), outcome_weight))
        parts["outcome"] = _named([run.outcome for run in runs], OUTCOME_FEATURES)
    return join(JointSpace(SPACE, tuple(blocks)), tuple(run.run_id for run in runs), parts)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting that counts as (path, value), a list's members each by itself."""
    if path in NOT_LIKENESS:
        return
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _leaves(below, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for place, below in enumerate(value):
            yield from _leaves(below, f"{path}[{place}]")
    else:
        yield path, value


def _config_block(configs: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], FloatArray]:
    """Return names and values of the settings that differ among the runs, and an anchor.

    Numbers are robust z-scores, with an indicator of whether the setting is set where that
    differs; words and switches are one-hot.
    """
    names: list[str] = []
    columns: list[FloatArray] = []
    for path in sorted({path for config in configs for path in config}):
        values = [config.get(path) for config in configs]
        for name, column in _encoded(path, values):
            if (column != column[0]).any():
                names.append(name)
                columns.append(column)
    return (*names, "anchor"), anchored(np.array(columns).reshape(len(names), len(configs)).T)


def _encoded(path: str, values: Sequence[Any]) -> Iterator[tuple[str, FloatArray]]:
    if any(isinstance(value, str | bool) for value in values):
        words = [str(value) for value in values]
        categories = sorted(set(words))
        encoded = one_hot(words, categories)
        for place, category in enumerate(categories):
            yield f"{path}={category}", encoded[:, place]
        return
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    is_set = np.isfinite(numbers)
    yield f"{path} is set", is_set.astype(np.float64)
    yield path, np.where(is_set, robust_zscores(numbers[:, None])[:, 0], 0.0)


def _named(rows: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> FloatArray:
    values = [[row.get(name) for name in names] for row in rows]
    numbers = np.array(values, dtype=np.float64).reshape(len(rows), len(names))
    return anchored(typical_where_unknown(robust_zscores(numbers)))
