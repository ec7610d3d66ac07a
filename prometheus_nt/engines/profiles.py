"""Profile every instrument: price behaviour, accounts as they were known, news, and risk flags.

1. `_price_features` measures the last 63 closes of every session, once for the whole panel.
2. `_report_tables` puts next to every report, the day's facts about one instrument, what was known
   of each item right after it: `_known_after` adds up the newest quarters, restated or not.
3. `_newest_reports` says which report of each instrument was the newest at every session.
4. `build_profiles` looks the session's reports up, drops what is too old, and `_risk_flags` and
   `_weak` judge the result.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import (
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
from prometheus_nt.engines.numerics.returns import bar_counts, total_return_index
from prometheus_nt.engines.numerics.rolling import (
    rolling_max_drawdown,
    rolling_volatility_per_session,
)

LOOKBACK = 63
"""Closes that a price feature looks back on: part of its name, so no setting."""

MID_QUARTER = np.timedelta64(15, "D")
"""What a period's end is moved back by to find its quarter: fiscal quarters of 52 and 53 weeks
end a few days before or after the end of a month."""

FLOW, STOCK, NEWS = 4, 1, 1
"""Periods that add up to the figure: four quarters, one balance, one day."""

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
    prices = panel.derived(_price_features, params.min_observations, params.max_gap)[-1]
    features = dict(zip(PRICE_FEATURES, prices, strict=True))
    features |= _account_features(panel, params.max_report_age) | _news_features(panel)
    flags = _risk_flags(features, params)
    return Profiles(
        as_of=panel.as_of,
        instruments=panel.instruments,
        schema_id=SCHEMA_ID,
        features=features,
        risk_flags=flags,
        weak_profile=_weak(flags, params),
    )


def _price_features(panel: MarketPanel, min_observations: int, max_gap: int) -> FloatArray:
    """Return `PRICE_FEATURES` of every session, (T, 3, N)."""
    features = np.empty((len(panel), len(PRICE_FEATURES), len(panel.instruments)))
    features[:, 0] = rolling_volatility_per_session(panel, LOOKBACK - 1, min_observations)
    features[:, 1] = -rolling_max_drawdown(panel, LOOKBACK)
    index = panel.derived(total_return_index)
    before = index[: max(len(index) - LOOKBACK + 1, 0)]
    features[:, 2] = np.nan
    # The index is 1 at the first bar, so 1 is where an instrument listed within the lookback began.
    features[LOOKBACK - 1 :, 2] = (
        index[LOOKBACK - 1 :] / np.where(np.isnan(before), 1.0, before) - 1.0
    )
    recent = bar_counts(panel)
    recent[max_gap:] -= recent[:-max_gap].copy()
    unknown = np.isnan(features[:, 0]) | (recent == 0.0)
    features.transpose(0, 2, 1)[unknown] = np.nan
    # No drawdown is 0, not the -0 that its sign makes of it.
    features[:, 1] += 0.0
    return features


def _account_features(panel: MarketPanel, max_age: int) -> dict[str, FloatArray]:
    known = _looked_up(panel, ACCOUNTS)
    value, period_end = known[:, 0].T.copy(), known[:, 1].T
    today = panel.sessions[-1].astype(np.int64)
    with np.errstate(invalid="ignore"):
        value[~(today - period_end <= max_age)] = np.nan
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


def _news_features(panel: MarketPanel) -> dict[str, FloatArray]:
    known = _looked_up(panel, ((NEWS_ITEM, NEWS),))
    today = panel.sessions[-1].astype(np.int64)
    return {"news_articles": known[:, 0, 0].copy(), "days_since_news": today - known[:, 1, 0]}


def _risk_flags(features: dict[str, FloatArray], params: ProfileParams) -> dict[str, FloatArray]:
    quiet = np.minimum(features["days_since_news"], params.news_memory) / params.news_memory
    values = (
        np.minimum(1.0, features["vol_63d"] / params.vol_reference),
        np.minimum(1.0, features["dd_63d"] / params.drawdown_reference),
        np.clip(features["leverage"] / params.leverage_reference, 0.0, 1.0),
        1.0 - quiet,
    )
    return dict(zip(FLAGS, values, strict=True))


def _weak(flags: dict[str, FloatArray], params: ProfileParams) -> IntArray:
    weights = np.array([params.vol_weight, params.drawdown_weight, params.leverage_weight])
    weights /= weights.sum()
    judged = np.stack([flags[name] for name in FLAGS[: len(weights)]])
    known = np.where(np.isfinite(judged), weights[:, None], 0.0)
    share = known.sum(axis=0)
    verdict = np.where(known > 0.0, known * judged, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        weak = verdict / share >= params.weak_threshold
    return np.where(share >= params.min_known_weight, weak, -1).astype(np.int64)


_Items = tuple[tuple[str, int], ...]
"""Names of facts, each with the number of consecutive periods that add up to the figure."""


def _looked_up(panel: MarketPanel, items: _Items) -> FloatArray:
    """Return value and period end of each item as known at the last close, (N, 2, K)."""
    newest = panel.derived(_newest_reports, items)[-1]
    table = panel.derived(_report_tables, items)[-1]
    if not len(table):
        return np.full((len(newest), 2, len(items)), np.nan)
    known: FloatArray = table.take(newest, axis=0, mode="wrap")
    known[newest < 0] = np.nan
    return known


def _newest_reports(panel: MarketPanel, items: _Items) -> Any:
    """Return the number of each instrument's newest report, (T, N) int32; -1 before the first."""
    newest = np.full((len(panel), len(panel.instruments)), -1, dtype=np.int32)
    if panel.facts is None:
        return newest
    reports = _report_rows(panel.facts, items)
    sessions = np.searchsorted(panel.sessions, panel.facts.known_at[reports])
    inside = np.flatnonzero(sessions < len(panel))
    columns = panel.facts.column[reports[inside]]
    np.maximum.at(newest, (sessions[inside], columns), inside.astype(np.int32))
    np.maximum.accumulate(newest, axis=0, out=newest)
    return newest


def _report_tables(panel: MarketPanel, items: _Items) -> Any:
    """Return the table of reports known at each session, (T,) array of (R_t, 2, K) views.

    One table, in the order in which reports became known, and of it each session sees the rows
    of its past: a report's row says what was known then, and no later report changes it.
    """
    tables = np.empty(len(panel), dtype=object)
    if panel.facts is None:
        tables[:] = [np.empty((0, 2, len(items)))] * len(panel)
        return tables
    facts = panel.facts
    reports = _report_rows(facts, items)
    table = np.full((len(reports), 2, len(items)), np.nan)
    for place, (name, periods) in enumerate(items):
        if name in facts.items:
            table[:, :, place] = _as_reported(facts, reports, name, periods)
    table.flags.writeable = False
    stops = np.searchsorted(facts.known_at[reports], panel.sessions, side="right")
    tables[:] = [table[:stop] for stop in stops.tolist()]
    return tables


def _report_rows(facts: Facts, items: _Items) -> IntArray:
    """Return the last row of each instrument's facts of one day, ascending: a report."""
    wanted = [facts.items.index(name) for name, _ in items if name in facts.items]
    rows = np.flatnonzero(np.isin(facts.item, wanted))
    order = rows[np.lexsort((rows, facts.known_at[rows], facts.column[rows]))]
    column, known_at = facts.column[order], facts.known_at[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (column[1:] != column[:-1]) | (known_at[1:] != known_at[:-1])
    return np.sort(order[last])


def _as_reported(facts: Facts, reports: IntArray, name: str, periods: int) -> FloatArray:
    """Return value and period end of an item as known right after each report, (R, 2)."""
    # What ends after it is known is an estimate, not a fact; a day without an article is no news.
    usable = (facts.item == facts.items.index(name)) & (facts.period_end <= facts.known_at)
    if name == NEWS_ITEM:
        usable &= facts.value > 0.0
    rows = np.flatnonzero(usable)
    if not len(rows):
        return np.full((len(reports), 2), np.nan)
    after = _known_after(facts, rows, periods)
    events = facts.column[after.row] * len(facts) + after.row
    place = np.searchsorted(events, facts.column[reports] * len(facts) + reports, side="right") - 1
    found = (place >= 0) & (facts.column[after.row[place]] == facts.column[reports])
    return np.where(found[:, None], after.known[place], np.nan)


class _After(NamedTuple):
    """What was known right after a fact: `row` (E,) by column and row, `known` (E, 2)."""

    row: IntArray
    known: FloatArray


def _known_after(facts: Facts, rows: IntArray, periods: int) -> _After:
    """Return the sum of the newest `periods` periods, and their end, right after each fact.

    Of a period that was reported again the newest figure counts; the sum is unknown while one of
    the periods is.
    """
    rows = rows[np.lexsort((rows, facts.column[rows]))]
    number = _period_numbers(facts.period_end[rows], periods)
    number += periods - number.min()
    # Columns lie so far apart that no period of one is taken for a period of the next.
    period = facts.column[rows] * (int(number.max()) + 1) + number
    newest = np.maximum.accumulate(period)
    by_period = np.lexsort((rows, period))
    key = period[by_period] * len(rows) + by_period
    value, end = np.zeros(len(rows)), np.full(len(rows), np.nan)
    for before in range(periods):
        wanted = (newest - before) * len(rows) + np.arange(len(rows))
        place = np.searchsorted(key, wanted, side="right") - 1
        source = by_period[np.maximum(place, 0)]
        known = (place >= 0) & (period[source] == newest - before)
        value += np.where(known, facts.value[rows[source]], np.nan)
        if before == 0:
            end = facts.period_end[rows[source]].astype(np.int64).astype(np.float64)
    return _After(rows, np.stack((value, end), axis=1))


def _period_numbers(period_end: Any, periods: int) -> IntArray:
    """Return numbers that rise by one from a period to the next."""
    if periods == 1:
        days: IntArray = period_end.astype("datetime64[D]").astype(np.int64)
        return days
    months = (period_end - MID_QUARTER).astype("datetime64[M]").astype(np.int64)
    quarters: IntArray = months // 3
    return quarters
