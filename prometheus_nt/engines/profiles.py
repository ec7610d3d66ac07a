"""Profile every instrument: price behaviour, accounts as they were known, news, and risk flags.

1. `_price_features` measures the last 63 closes of some sessions.
2. `accounts.known_over` looks up what was known of each item then, quarters added up;
   `_account_features` drops what is too old.
3. `_risk_flags` and `_weak` judge the result.
"""

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import (
    FEATURES,
    FLAGS,
    FLOWS,
    NEWS_ITEM,
    PRICE_FEATURES,
    QUARTERLY,
    SCHEMA_ID,
    STOCKS,
    Profiles,
)
from prometheus_nt.domain.record import FloatArray, IntArray, Params
from prometheus_nt.engines.accounts import DAY, FLOW, STOCK, Items, known_over
from prometheus_nt.engines.numerics.returns import stopped, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    rolling_max_drawdown,
    rolling_volatility_per_session,
)

LOOKBACK = 63
"""Closes that a price feature looks back on: part of its name, so no setting."""

ACCOUNTS = (*((flow + QUARTERLY, FLOW) for flow in FLOWS), *((stock, STOCK) for stock in STOCKS))


class ProfileParams(Params):
    """Parameters of the profiles engine; gap in sessions, ages in calendar days.

    Attributes
    ----------
    min_observations
        Log returns among the last 62 that the price features need.
    max_gap
        Sessions without a bar after which the price features are unknown.
    max_report_age
        Days from the end of its period after which a figure is too old to describe anybody.
    vol_reference, drawdown_reference, leverage_reference, news_memory
        What raises a flag to 1; a flag for news falls to 0 over `news_memory` days.
    vol_weight, drawdown_weight, leverage_weight
        Of the flags in the verdict; those that are known share the whole weight.
    min_known_weight
        Share of the weight that has to be known for a verdict.
    weak_threshold
        Weighted flags from which a profile is weak.
    """

    min_observations: int = Field(42, ge=2, lt=LOOKBACK)
    max_gap: int = Field(5, ge=1)
    max_report_age: int = Field(270, ge=1)
    vol_reference: float = Field(0.02, gt=0)
    drawdown_reference: float = Field(0.30, gt=0)
    leverage_reference: float = Field(3.0, gt=0)
    news_memory: int = Field(30, ge=1)
    vol_weight: float = Field(0.4, ge=0)
    drawdown_weight: float = Field(0.4, ge=0)
    leverage_weight: float = Field(0.2, ge=0)
    min_known_weight: float = Field(0.5, gt=0, le=1)
    weak_threshold: float = Field(0.7, gt=0, le=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.vol_weight + self.drawdown_weight + self.leverage_weight <= 0.0:
            raise ValueError("vol_weight, drawdown_weight, leverage_weight: one must be positive")
        return self


def build_profiles(panel: MarketPanel, params: ProfileParams) -> Profiles:
    """Return the profile of each instrument after the panel's last close.

    A figure counts from the day it became known, in the version known then. Trailing twelve
    months are unknown unless the newest quarter and the three before it are all known.

    Raises
    ------
    InsufficientHistory
        If the panel holds fewer than 63 sessions.
    """
    if len(panel) < LOOKBACK:
        raise InsufficientHistory(panel.as_of, LOOKBACK, len(panel))
    profiled = panel.newest(_profiled, params)
    flags = profiled[len(FEATURES) : -1]
    return Profiles(
        as_of=panel.as_of,
        instruments=panel.instruments,
        schema_id=SCHEMA_ID,
        features=dict(zip(FEATURES, profiled[: len(FEATURES)], strict=True)),
        risk_flags=dict(zip(FLAGS, flags, strict=True)),
        weak_profile=profiled[-1].astype(np.int64),
    )


def _profiled(panel: MarketPanel, rows: IntArray, params: ProfileParams) -> FloatArray:
    """Return `FEATURES`, `FLAGS` and the verdict at the given rows, (R, 18 + 4 + 1, N)."""
    profiled = np.full((len(FEATURES) + len(FLAGS) + 1, len(rows), len(panel.instruments)), np.nan)
    features = dict(zip(FEATURES, profiled, strict=False))
    profiled[: len(PRICE_FEATURES)] = _price_features(panel, rows, params)
    if panel.facts is not None:
        described = _account_features(panel, rows, params.max_report_age)
        for name, values in (described | _news_features(panel, rows)).items():
            features[name][:] = values
    flags = _risk_flags(features, params)
    profiled[len(FEATURES) : -1] = flags
    profiled[-1] = _weak(flags, params)
    return profiled.swapaxes(0, 1)


def _price_features(panel: MarketPanel, rows: IntArray, params: ProfileParams) -> FloatArray:
    """Return `PRICE_FEATURES` at the given rows, (3, R, N)."""
    features = np.empty((len(PRICE_FEATURES), len(rows), len(panel.instruments)))
    observed = (LOOKBACK - 1, params.min_observations)
    features[0] = panel.derived(rolling_volatility_per_session, *observed)[rows]
    features[1] = -panel.derived(rolling_max_drawdown, LOOKBACK)[rows]
    index = panel.derived(total_return_index)
    before = index[np.maximum(rows - LOOKBACK + 1, 0)]
    # The index is 1 at the first bar, so 1 is where an instrument listed within the lookback began.
    features[2] = index[rows] / np.where(np.isnan(before), 1.0, before) - 1.0
    features[2, rows < LOOKBACK - 1] = np.nan
    unknown = np.isnan(features[0]) | stopped(panel, rows, params.max_gap)
    np.copyto(features, np.nan, where=unknown)
    # No drawdown is 0, not the -0 that its sign makes of it.
    features[1] += 0.0
    return features


def _account_features(panel: MarketPanel, rows: IntArray, max_age: int) -> dict[str, FloatArray]:
    value, period_end = _known(panel, rows, ACCOUNTS)
    with np.errstate(invalid="ignore"):
        value[~(_days(panel, rows) - period_end <= max_age)] = np.nan
    names = (*(f"{flow}_ttm" for flow in FLOWS), *STOCKS)
    of = dict(zip(names, value, strict=True))
    ends = dict(zip(names, period_end, strict=True))

    def ratio(part: str, whole: str) -> FloatArray:
        comparable = (of[whole] > 0.0) & (ends[part] == ends[whole])
        return np.where(comparable, of[part], np.nan) / np.where(comparable, of[whole], 1.0)

    return of | {
        "gross_margin": ratio("gross_profit_ttm", "revenue_ttm"),
        "operating_margin": ratio("operating_income_ttm", "revenue_ttm"),
        "net_margin": ratio("net_income_ttm", "revenue_ttm"),
        "leverage": ratio("total_liabilities", "equity"),
    }


def _news_features(panel: MarketPanel, rows: IntArray) -> dict[str, FloatArray]:
    (articles,), (newest,) = _known(panel, rows, ((NEWS_ITEM, DAY),))
    return {"news_articles": articles, "days_since_news": _days(panel, rows) - newest}


def _known(panel: MarketPanel, rows: IntArray, items: Items) -> FloatArray:
    """Return value and period end of each item as known at the given rows, (2, K, R, N)."""
    known = known_over(panel, items, slice(rows[0], rows[-1] + 1))
    return np.ascontiguousarray(known.transpose(2, 3, 0, 1))


def _days(panel: MarketPanel, rows: IntArray) -> IntArray:
    """Return the days since 1970 of the given rows, (R, 1)."""
    return panel.sessions[rows].astype(np.int64)[:, None]


def _risk_flags(features: dict[str, FloatArray], params: ProfileParams) -> FloatArray:
    """Return `FLAGS` of features of any one shape, (4, ...)."""
    quiet = np.minimum(features["days_since_news"], params.news_memory) / params.news_memory
    return np.array(
        (
            np.minimum(1.0, features["vol_63d"] / params.vol_reference),
            np.minimum(1.0, features["dd_63d"] / params.drawdown_reference),
            np.clip(features["leverage"] / params.leverage_reference, 0.0, 1.0),
            1.0 - quiet,
        )
    )


def _weak(flags: FloatArray, params: ProfileParams) -> FloatArray:
    """Return 1 where the flags together say weak, 0 where not, -1 where too few are known."""
    weights = np.array([params.vol_weight, params.drawdown_weight, params.leverage_weight])
    weights /= weights.sum()
    judged = flags[: len(weights)]
    known = np.isfinite(judged) * weights[:, None, None]
    share = known.sum(axis=0)
    verdict = np.where(known > 0.0, known * judged, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weak = verdict / share >= params.weak_threshold
    return np.where(share >= params.min_known_weight, weak, -1.0)
