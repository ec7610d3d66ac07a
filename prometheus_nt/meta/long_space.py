"""Long space: every position as a stream that its holder wants to rise, and the way back.

A strategy atom is one instrument held by one sleeve in one direction. Its sign is data, a column of
the table of atoms, never part of a name that somebody would have to parse.

A short's stream is the profit of a short of constant notional, rebalanced daily and without borrow
fees, and loses no more than was put in: an estimator's rule. What a real short costs is simulated
by the venue, and is already in a sleeve's own record.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray

LONG, SHORT = 1, -1

CAP = 1.0
"""Largest loss of a short in one session, as a fraction of its notional."""

ROUNDING = 1e-12
"""Below this a weight is what arithmetic leaves of zero."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """A directions each of an instrument, by a name that means nothing.

    Attributes
    ----------
    atom_id : tuple of A str, unique
    instrument_id : tuple of A str
    direction : (A,) int array of `LONG` or `SHORT`

    Raises
    ------
    DataError
        If the columns differ in length, an id is there twice or a direction is neither.
    """

    atom_id: tuple[str, ...]
    instrument_id: tuple[str, ...]
    direction: IntArray

    def __post_init__(self) -> None:
        if not len(self.atom_id) == len(self.instrument_id) == len(self.direction):
            raise DataError(
                f"atoms: columns of {len(self.atom_id)}, {len(self.instrument_id)} and "
                f"{len(self.direction)} rows; expected one length"
            )
        if len(set(self.atom_id)) < len(self.atom_id):
            raise DataError("atoms: one atom_id stands for two atoms")
        if not np.isin(self.direction, (LONG, SHORT)).all():
            raise DataError("atoms: a direction is neither 1 (long) nor -1 (short)")

    def __len__(self) -> int:
        return len(self.atom_id)


@dataclass(frozen=True, eq=False)
class ReturnsMatrix:
    """Simple returns per session of named columns; NaN where unknown.

    Attributes
    ----------
    sessions : (T,) array of datetime64[D]
    columns : tuple of N str
    values : (T, N) array

    Raises
    ------
    DataError
        If the shapes do not agree.
    """

    sessions: SessionArray
    columns: tuple[str, ...]
    values: FloatArray

    def __post_init__(self) -> None:
        expected = (len(self.sessions), len(self.columns))
        if self.values.shape != expected:
            raise DataError(f"returns matrix: expected shape {expected}, was {self.values.shape}")

    def __len__(self) -> int:
        return len(self.sessions)


def to_long_space(returns: FloatArray, directions: IntArray, cap: float = CAP) -> FloatArray:
    """Return the streams of holding each column in its direction, (T, A).

    R of a long, -min(R, cap) of a short, exactly; NaN stays NaN.

    Parameters
    ----------
    returns : (T, A) array
        Simple returns of the instrument of each atom.
    directions : (A,) int array of `LONG` or `SHORT`
    cap : float
        Rise of an instrument beyond which its short loses no more.
    """
    streams: FloatArray = np.where(directions > 0, returns, -np.minimum(returns, cap))
    return streams


def from_long_space(weights: FloatArray, directions: IntArray) -> FloatArray:
    """Return the signed weights of long-space weights, (A,).

    Raises
    ------
    DataError
        If a weight is unknown or negative: its sign would be turned twice.
    """
    if not (weights >= -ROUNDING).all():
        raise DataError("long space: a weight is negative or unknown; expected all to be >= 0")
    signed: FloatArray = weights * directions
    return signed


def atoms_of(books: Mapping[str, Mapping[str, float]]) -> tuple[Atoms, FloatArray]:
    """Return the atoms of the signed books of sleeves, and their long-space weights, (A,).

    In the order of sleeves and names; a weight of 0 is no atom.
    """
    rows = [
        (sleeve, name, weight)
        for sleeve, book in sorted(books.items())
        for name, weight in sorted(book.items())
        if weight != 0.0
    ]
    signed = np.array([weight for _, _, weight in rows], dtype=np.float64)
    directions = np.where(signed < 0.0, SHORT, LONG).astype(np.int64)
    words = {LONG: "LONG", SHORT: "SHORT"}
    ids = tuple(
        f"{name}_{sleeve}_{words[direction]}"
        for (sleeve, name, _), direction in zip(rows, directions.tolist(), strict=True)
    )
    return Atoms(ids, tuple(name for _, name, _ in rows), directions), np.abs(signed)


def synthesised(atoms: Atoms, raw: ReturnsMatrix, cap: float = CAP) -> ReturnsMatrix:
    """Return the long-space streams of the atoms whose instruments `raw` has."""
    column = {name: at for at, name in enumerate(raw.columns)}
    known = [row for row, name in enumerate(atoms.instrument_id) if name in column]
    physical = raw.values[:, [column[atoms.instrument_id[row]] for row in known]]
    streams = to_long_space(physical, atoms.direction[known], cap)
    return ReturnsMatrix(raw.sessions, tuple(atoms.atom_id[row] for row in known), streams)
