"""Walk-forward folds: what is trained on, what is tested on, and choosing by the one for the other.

1. `walk_forward` lays the folds out, tests one after another, never overlapping;
2. `rows_tested` says which sessions any test has: the record out of sample;
3. `chosen_by_training` follows whoever was best in training through the test after it.
"""

from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Fold:
    """Rows of one fold; each range ends before its second number."""

    train: tuple[int, int]
    test: tuple[int, int]


def walk_forward(sessions: int, train: int, test: int, embargo: int = 0) -> tuple[Fold, ...]:
    """Return the folds of a record; the last test may be shorter.

    Parameters
    ----------
    train, test, embargo : int
        Sessions; the embargo lies between a training and its test and belongs to neither.

    Raises
    ------
    DataError
        If the record is too short for one test.
    """
    first = train + embargo
    if first >= sessions:
        raise DataError(
            f"{sessions} sessions: {train} to train and {embargo} of embargo leave none"
        )
    starts = range(first, sessions, test)
    return tuple(
        Fold((start - embargo - train, start - embargo), (start, min(start + test, sessions)))
        for start in starts
    )


def rows_tested(folds: tuple[Fold, ...], sessions: int) -> BoolArray:
    """Return which sessions a test has, (sessions,)."""
    tested = np.zeros(sessions, dtype=bool)
    for fold in folds:
        tested[slice(*fold.test)] = True
    return tested


def chosen_by_training(returns: FloatArray, folds: tuple[Fold, ...]) -> tuple[IntArray, FloatArray]:
    """Return who had the best Sharpe ratio in each training, and the returns of all tests stitched.

    Parameters
    ----------
    returns : (T, N) array

    Returns
    -------
    (folds,) int array, (tested sessions,) array
        What following the choice would have earned: the record of the selection itself.
    """
    chosen = np.array([_best(returns[slice(*fold.train)]) for fold in folds])
    tests = [
        returns[slice(*fold.test), best] for fold, best in zip(folds, chosen.tolist(), strict=True)
    ]
    return chosen, np.concatenate(tests)


def _best(returns: FloatArray) -> int:
    deviation = returns.std(axis=0)
    ratio = returns.mean(axis=0) / np.where(deviation > 0.0, deviation, np.inf)
    return int(ratio.argmax())
