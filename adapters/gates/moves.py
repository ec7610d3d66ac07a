"""Gates on how prices and volumes move from one kept row to the next."""

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from adapters.gates.case import Case, Finding, QualityParams, by_date, per_row
from adapters.source import ActionType, Severity
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray

SPIKE_OF_CONSTANT = 2.0
"""Where earlier volumes are all equal, a spike is more than so many times their mean."""
FEW_LAGS = 6
"""Sessions before a spike that it is compared with at first."""


def impossible_returns(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Quarantine prices that no market makes, and those that stay at such a level.

    A jump that either the adjusted close or a listed split explains is none.
    """
    rows = by_date(case.table, kept)
    prices = _comparable(case, rows)
    base = 0
    while (jump := _next_jump(prices, base, case.params)) is not None:
        change = _changes(prices[:, jump:], prices[:, jump - 1 : jump])
        stays = ~_impossible(change, case.params)
        length = int(stays.argmax()) if stays.any() else len(stays)
        problem = (
            f"the price changes {change[0, 0]:+.0%} against the row before"
            f" (and stays there for {length} rows)"
        )
        yield Finding(
            rows[jump : jump + length],
            "impossible_return",
            Severity.ERROR,
            "close",
            problem,
            "correct the price, or add the split that explains it",
            dropped=True,
        )
        rows = np.delete(rows, slice(jump, jump + length))
        prices = np.delete(prices, slice(jump, jump + length), axis=1)
        base = jump - 1


def large_returns(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Warn of changes that no split and no dividend explains."""
    table, bound = case.table, case.params.large_return
    rows = by_date(table, kept)
    dates, close, adjusted = table.dates[rows], table.close[rows], table.adjusted_close[rows]
    splits = per_row(case.actions, ActionType.SPLIT, dates)
    dividends = per_row(case.actions, ActionType.DIVIDEND, dates)
    explained = _changes(close[1:] * splits[1:] + dividends[1:], close[:-1])
    # Where the adjusted close is unknown it can neither explain a jump nor contradict the price.
    held = _changes(adjusted[1:], adjusted[:-1])
    jumps, moves, still = (np.abs(explained) > bound, np.abs(held) > bound, np.abs(held) <= bound)
    quiet = np.abs(_changes(close[1:], close[:-1])) <= bound
    yield _moved(case, rows, (jumps & ~still, explained), ("large_return", "close", *_UNEXPLAINED))
    yield _moved(case, rows, (jumps & still, explained), ("unlisted_action", "close", *_UNLISTED))
    only_adjusted = moves & ~jumps & quiet
    yield _moved(case, rows, (only_adjusted, held), ("large_return", "adjusted_close", *_ADJUSTED))


def _moved(
    case: Case, rows: IntArray, moved: tuple[BoolArray, FloatArray], rule: tuple[str, str, str, str]
) -> Finding:
    where, change = moved
    name, column, problem, remedy = rule
    at = np.flatnonzero(where)
    cells = getattr(case.table, column)[rows[at + 1]]
    values = [f"{cell:g} ({change[row]:+.0%})" for cell, row in zip(cells, at, strict=True)]
    problem = problem.format(bound=f"{case.params.large_return:.0%}")
    return Finding(rows[at + 1], name, Severity.WARNING, column, problem, remedy, values=values)


_UNEXPLAINED = (
    "the price moves more than {bound} and no split or dividend explains it",
    "the row was kept; check the price: a split that the file does not list can be inferred"
    " from its adjusted close",
)
_UNLISTED = (
    "the price moves more than {bound} and its adjusted close does not: an action is missing",
    "the row was kept; list the split or dividend, or ingest with --infer-actions",
)
_ADJUSTED = (
    "the adjusted close moves more than {bound} and the price does not",
    "the row was kept; check the adjusted close",
)


def stalls(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Warn of closes that repeat for long; quarantine what repeats longer, if so configured."""
    rows, params = by_date(case.table, kept), case.params
    close = case.table.close[rows]
    starts, lengths = _unchanged_runs(close)
    long = np.flatnonzero(lengths > params.stall_warned_after)
    values = [
        f"{close[start]:g} (unchanged for {length} sessions, {_volume(case, rows, start, length)})"
        for start, length in zip(starts[long], lengths[long], strict=True)
    ]
    yield Finding(
        rows[starts[long] + params.stall_warned_after + 1],
        "stalled_price",
        Severity.WARNING,
        "close",
        f"more than {params.stall_warned_after} sessions have the close of the one before",
        "check whether it traded; stall_rejected_after quarantines what nobody renewed",
        values=values,
    )
    if params.stall_rejected_after is not None:
        yield _stale_quotes(rows, starts, lengths, params.stall_rejected_after)


def volume_spikes(case: Case, kept: BoolArray) -> Iterator[Finding]:
    """Warn of volumes far above those of the month before; splits are taken into account."""
    rows, params = by_date(case.table, kept), case.params
    volume, before = case.table.volume[rows], params.spike_sessions
    if len(rows) <= before or np.isnan(volume).all():
        return
    splits = per_row(case.actions, ActionType.SPLIT, case.table.dates[rows])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shares = volume / np.cumprod(splits)
        likely = _candidates(shares, params)
        windows = sliding_window_view(shares, before)[likely - before]
        mean, deviation = windows.mean(axis=1), windows.std(axis=1, ddof=1)
        sigmas = (shares[likely] - mean) / deviation
        constant = (deviation == 0) & (shares[likely] > SPIKE_OF_CONSTANT * mean)
    spikes = np.flatnonzero(np.where(deviation == 0, constant, sigmas > params.spike_sigma))
    yield Finding(
        rows[likely[spikes]],
        "volume_spike",
        Severity.WARNING,
        "volume",
        f"more than {params.spike_sigma:g} standard deviations above the {before} sessions before",
        "the row was kept; check the volume if no news explains it",
        values=[f"{volume[likely[at]]:g} ({sigmas[at]:.1f} sigma)" for at in spikes],
    )


def _candidates(shares: FloatArray, params: QualityParams) -> IntArray:
    """Return the rows that can be spikes, so that few windows need a deviation.

    Of n values none lies more than (n - 1) / sqrt(n) standard deviations above their mean, so what
    lies further above is greater than each of them: also than the few that are compared here.
    """
    before = params.spike_sessions
    possible = np.ones(len(shares) - before, dtype=bool)
    if params.spike_sigma >= (before - 1) / before**0.5:
        for lag in range(1, min(before, FEW_LAGS) + 1):
            possible &= shares[before:] > shares[before - lag : len(shares) - lag]
    return np.flatnonzero(possible) + before


def _comparable(case: Case, rows: IntArray) -> FloatArray:
    """Return prices that splits do not move: by the listed splits, and as the source adjusts."""
    splits = per_row(case.actions, ActionType.SPLIT, case.table.dates[rows])
    by_splits = case.table.close[rows] * np.cumprod(splits)
    adjusted = case.table.adjusted_close[rows]
    complete = not np.isnan(adjusted).any()
    return np.stack([adjusted, by_splits] if complete else [by_splits])


def _next_jump(prices: FloatArray, base: int, params: QualityParams) -> int | None:
    change = _changes(prices[:, base + 1 :], prices[:, base:-1])
    jumps = np.flatnonzero(_impossible(change, params))
    return base + 1 + int(jumps[0]) if len(jumps) else None


def _impossible(change: FloatArray, params: QualityParams) -> BoolArray:
    beyond = (change > params.highest_return) | (change < params.lowest_return)
    impossible: BoolArray = np.logical_and.reduce(beyond, axis=0)
    return impossible


def _changes(after: FloatArray, before: FloatArray) -> FloatArray:
    # The smallest numbers a file can hold divide to infinity, which is impossible enough.
    with np.errstate(over="ignore"):
        change: FloatArray = after / before - 1
    return change


def _unchanged_runs(close: FloatArray) -> tuple[IntArray, IntArray]:
    """Return where closes start to repeat, and how many repeat the first of their run."""
    same = np.zeros(len(close) + 1, dtype=np.int8)
    same[1:-1] = close[1:] == close[:-1]
    edges = np.diff(same)
    starts = np.flatnonzero(edges == 1)
    return starts, np.flatnonzero(edges == -1) - starts


def _volume(case: Case, rows: IntArray, start: int, length: int) -> str:
    volume = case.table.volume[rows[start + 1 : start + length + 1]]
    if np.isnan(volume).all():
        return "volume unknown"
    return f"{int((volume > 0).sum())} of them with volume"


def _stale_quotes(rows: IntArray, starts: IntArray, lengths: IntArray, after: int) -> Finding:
    spans = [
        np.arange(start + after + 1, start + length + 1)
        for start, length in zip(starts, lengths, strict=True)
    ]
    return Finding(
        rows[np.concatenate([np.zeros(0, dtype=np.int64), *spans])],
        "stale_quote",
        Severity.ERROR,
        "close",
        f"the close has not changed for more than {after} sessions",
        "raise stall_rejected_after if it really traded",
        dropped=True,
    )
