"""Strategies that look suspicious and are not: none of them reads the future."""

import numpy as np
import pandas as pd


def frame(values, panel):
    return pd.DataFrame(values, index=pd.DatetimeIndex(panel.sessions), columns=panel.instruments)


def closes(panel):
    return frame(panel.close, panel).ffill()


def long_only(signal):
    chosen = signal.gt(0.0).astype(float).where(signal.notna())
    return chosen.div(chosen.sum(axis=1).replace(0.0, np.nan), axis=0)


def trailing_momentum(panel):
    close = closes(panel)
    return long_only(close.shift(5) / close.shift(60) - 1.0)


def expanding_zscore(panel):
    close = closes(panel)
    return (close - close.expanding(20).mean()) / close.expanding(20).std()


def month_labelled_at_its_end(panel):
    monthly = closes(panel).resample("ME").last().pct_change(fill_method=None)
    return monthly.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def month_labelled_at_its_start_then_shifted(panel):
    monthly = closes(panel).resample("MS").last().shift(1).pct_change(fill_method=None)
    return monthly.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def forward_filled(panel):
    return frame(panel.close, panel).ffill().pct_change(20, fill_method=None)


def expanding_transitions(panel):
    up = closes(panel).pct_change(fill_method=None) > 0
    stays = (up == up.shift(1)).astype(float).expanding(20).mean()
    return up * stays + (~up) * (1.0 - stays)


def walk_forward_purged(panel):
    close = closes(panel)
    feature = close.pct_change(10, fill_method=None).shift(5)
    outcome = close / close.shift(5) - 1.0  # known today, of the feature five sessions ago
    slope = (feature * outcome).expanding(60).sum() / (feature**2).expanding(60).sum()
    return close.pct_change(10, fill_method=None) * slope


def trailing_window(panel):
    close = closes(panel)
    return close / close.rolling(21).mean() - 1.0


def cross_sectional_ranks(panel):
    return closes(panel).pct_change(20, fill_method=None).rank(axis=1, pct=True)


def fundamentals_as_known(panel):
    table = pd.DataFrame(
        {
            "name": np.array(panel.instruments)[panel.facts.column],
            "known_at": panel.facts.known_at,
            "value": panel.facts.value,
        }
    )
    wide = table.pivot_table(index="known_at", columns="name", values="value", aggfunc="last")
    return wide.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def members_of_the_day(panel):
    return closes(panel).rank(axis=1).where(panel.membership)


def seasonal(panel):
    close = closes(panel)
    half = np.isin(close.index.month, [11, 12, 1, 2, 3, 4])
    return close.notna().mul(half.astype(float), axis=0)


def exponential_average(panel):
    close = closes(panel)
    return close.ewm(span=10).mean() / close.ewm(span=50).mean() - 1.0


def running_drawdown(panel):
    close = closes(panel)
    return close / close.cummax() - 1.0


def filled_at_the_next_close_after_costs(panel):
    close = closes(panel)
    weights = long_only(close.pct_change(5, fill_method=None)).fillna(0.0)
    held = weights.shift(1).fillna(0.0)
    costs = 0.001 * held.diff().abs().sum(axis=1)
    returns = close.pct_change(fill_method=None).fillna(0.0)
    return weights, (held * returns).sum(axis=1) - costs


def equity_of_logarithmic_returns(panel):
    close = closes(panel)
    weights = np.sign(close.pct_change(3, fill_method=None)).fillna(0.0) / len(close.columns)
    returns = np.log(close).diff().fillna(0.0)
    return weights, 1e6 * np.exp((weights.shift(1).fillna(0.0) * returns).sum(axis=1).cumsum())


def filled_at_the_next_open(panel):
    close, opens = closes(panel), frame(panel.open, panel)
    opens = opens.fillna(close.shift(1)).fillna(close)
    weights = long_only(close.pct_change(5, fill_method=None)).fillna(0.0)
    night, day = opens / close.shift(1) - 1.0, close / opens - 1.0
    earned = weights.shift(2) * night + weights.shift(1) * day
    return weights, earned.fillna(0.0).sum(axis=1)
