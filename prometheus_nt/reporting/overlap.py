"""How much runs have in common: the books they held, and the returns they earned."""

from collections.abc import Sequence

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.reporting.series import RunSeries

MIN_SESSIONS = 20


def require_same_sessions(runs: Sequence[RunSeries]) -> None:
    """Raise `DataError` unless the runs cover the same sessions."""
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.sessions, first.sessions):
            raise DataError(
                f"{run.run_id} runs {_span(run)}, {first.run_id} {_span(first)}: compare runs of "
                "the same sessions"
            )


def book_overlap(runs: Sequence[RunSeries]) -> FloatArray:
    """Return, (K, K), the mean share of two books that is the same position on the same side.

    Of a session it is sum_i min(|a_i|, |b_i|) over names held on the same side, over the larger
    gross: 1 for equal books, 0 for books without a common name; for two fully invested long books
    it is 1 less the active share. Sessions on which either book is empty do not count; NaN if
    none is left.

    References
    ----------
    Cremers and Petajisto (2009), "How Active Is Your Fund Manager?": active share.
    """
    names = sorted({name for run in runs for name in run.instruments})
    books = [np.nan_to_num(_aligned(run, names)) for run in runs]
    gross = [np.abs(book).sum(axis=1) for book in books]
    overlap = np.full((len(runs), len(runs)), np.nan)
    for row, one in enumerate(books):
        for column, other in enumerate(books):
            both = (gross[row] > 0.0) & (gross[column] > 0.0)
            if both.any():
                shared = np.where(one * other > 0.0, np.minimum(np.abs(one), np.abs(other)), 0.0)
                larger = np.maximum(gross[row], gross[column])[both]
                overlap[row, column] = (shared.sum(axis=1)[both] / larger).mean()
    return overlap


def return_correlation(runs: Sequence[RunSeries]) -> FloatArray:
    """Return the correlation of the runs' session returns, (K, K); NaN where it is unknown."""
    returns = np.array([run.returns for run in runs])
    known = np.isfinite(returns).all(axis=0)
    varies = returns[:, known].std(axis=1) > 0.0 if known.any() else np.zeros(len(runs), bool)
    correlation = np.full((len(runs), len(runs)), np.nan)
    if known.sum() >= MIN_SESSIONS and varies.any():
        found = np.atleast_2d(np.corrcoef(returns[varies][:, known]))
        correlation[np.ix_(varies, varies)] = found
    return correlation


def _aligned(run: RunSeries, names: list[str]) -> FloatArray:
    weights: FloatArray = np.zeros((len(run), len(names)))
    weights[:, np.searchsorted(names, run.instruments)] = run.weights
    return weights


def _span(run: RunSeries) -> str:
    return f"{run.sessions[0]}..{run.sessions[-1]} ({len(run)} sessions)"
