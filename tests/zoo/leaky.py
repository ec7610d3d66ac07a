"""Strategies that read the future, each as somebody would write it by mistake."""

import numpy as np
import pandas as pd


def frame(values, panel):
    return pd.DataFrame(values, index=pd.DatetimeIndex(panel.sessions), columns=panel.instruments)


def closes(panel):
    return frame(panel.close, panel).ffill()


def long_only(signal):
    chosen = signal.gt(0.0).astype(float).where(signal.notna())
    return chosen.div(chosen.sum(axis=1).replace(0.0, np.nan), axis=0)


def shifted_the_wrong_way(panel):
    returns = closes(panel).pct_change(fill_method=None)
    return long_only(returns.shift(-1))


def same_bar_fill(panel):
    close = closes(panel)
    returns = close.pct_change(fill_method=None).fillna(0.0)
    weights = long_only(close.pct_change(5, fill_method=None)).fillna(0.0)
    return weights, (weights * returns).sum(axis=1)


def same_bar_fill_compounded(panel):
    close = closes(panel)
    strongest = close.pct_change(20, fill_method=None).rank(axis=1) > 5
    weights = strongest / strongest.sum(axis=1).replace(0, 1).to_numpy()[:, None]
    returns = np.log(close).diff().fillna(0.0)
    return weights, np.exp((weights * returns).sum(axis=1).cumsum())


def full_sample_zscore(panel):
    close = closes(panel)
    return -(close - close.mean()) / close.std()


def universe_of_the_last_day(panel):
    ranks = closes(panel).rank(axis=1)
    ranks.loc[:, ~panel.membership[-1]] = np.nan
    return ranks


def restated_fundamentals(panel):
    facts = pd.DataFrame(
        {
            "name": np.array(panel.instruments)[panel.facts.column],
            "period": panel.facts.period_end,
            "known_at": panel.facts.known_at,
            "value": panel.facts.value,
        }
    )
    first_known = facts.groupby(["name", "period"])["known_at"].first()
    latest = facts.groupby(["name", "period"])["value"].last()
    table = pd.DataFrame({"known_at": first_known, "value": latest}).reset_index()
    wide = table.pivot_table(index="known_at", columns="name", values="value", aggfunc="last")
    return wide.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def fundamentals_at_the_period_end(panel):
    table = pd.DataFrame(
        {
            "name": np.array(panel.instruments)[panel.facts.column],
            "period": panel.facts.period_end,
            "value": panel.facts.value,
        }
    )
    wide = table.pivot_table(index="period", columns="name", values="value", aggfunc="first")
    return wide.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def survivors(panel):
    close = frame(panel.close, panel)
    alive = close.columns[close.tail(5).notna().any()]
    momentum = close.ffill().pct_change(20, fill_method=None)
    return long_only(momentum[alive]).reindex(columns=close.columns)


def stamped_at_midnight_utc(panel):
    bars = closes(panel)
    bars.index = bars.index.tz_localize("UTC").tz_convert("America/New_York")
    bars.index = bars.index.tz_localize(None).normalize()
    daily = bars.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")
    return daily.pct_change(5, fill_method=None)


def month_labelled_at_its_start(panel):
    monthly = closes(panel).resample("MS").last().pct_change(fill_method=None)
    return monthly.reindex(pd.DatetimeIndex(panel.sessions), method="ffill")


def week_known_on_thursday(panel):
    close = closes(panel)
    weekly = close.resample("W-FRI").last()
    weekly.index = weekly.index - pd.Timedelta(days=1)
    return weekly.reindex(close.index, method="ffill").pct_change(5, fill_method=None)


def centred_window(panel):
    close = closes(panel)
    return close / close.rolling(21, center=True, min_periods=1).mean() - 1.0


def backfilled(panel):
    return frame(panel.close, panel).bfill().pct_change(20, fill_method=None)


def full_sample_transitions(panel):
    up = closes(panel).pct_change(fill_method=None) > 0
    stays = (up == up.shift(1)).mean()
    return up.mul(stays) + (~up).mul(1.0 - stays)


def fitted_on_every_outcome(panel):
    close = closes(panel)
    feature = close.pct_change(10, fill_method=None)
    outcome = close.shift(-5) / close - 1.0
    slope = (feature * outcome).sum() / (feature**2).sum()
    return feature * slope


def walk_forward_without_purging(panel):
    close = closes(panel)
    feature = close.pct_change(10, fill_method=None)
    outcome = close.shift(-5) / close - 1.0
    slope = (feature * outcome).expanding(60).sum() / (feature**2).expanding(60).sum()
    return feature * slope


def lookback_chosen_on_the_test_window(panel):
    close = closes(panel)
    returns = close.pct_change(fill_method=None)
    signals = [close.pct_change(lookback, fill_method=None) for lookback in (5, 20, 60)]
    earned = [(np.sign(signal).shift(1) * returns).sum(axis=1) for signal in signals]
    return signals[int(np.argmax([series.mean() / series.std() for series in earned]))]


def seeded_by_all_the_data(panel):
    seed = int(np.nansum(panel.close) * 1e6) % 2**32
    return np.random.default_rng(seed).random(panel.close.shape)
