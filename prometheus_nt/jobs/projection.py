"""Vectors in three dimensions: the axes along which they differ most.

1. Columns are standardised over the vectors that know them; what is unknown is typical, which is 0.
   Columns that hardly anybody knows, or in which nobody differs, are left out.
2. The axes are the first right singular vectors of that matrix; a sign is chosen so that the
   heaviest loading of an axis is positive, so that the same vectors give the same picture.
3. An axis is labelled by the columns that weigh most on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prometheus_nt.domain.record import FloatArray

DIMENSIONS = 3
LEAST_KNOWN = 0.5
"""Share of the vectors that must know a column."""
WIDEST = 8.0
"""Standard deviations beyond which a value says no more: one outlier would be an axis."""
NAMED = 2


@dataclass(frozen=True)
class Axis:
    """A direction. explained : share of the variance. loadings : column -> weight, sums to 1."""

    label: str
    explained: float
    loadings: dict[str, float]


@dataclass(frozen=True)
class Projection:
    """Vectors along the axes, the first explaining most; points is (M, at most 3)."""

    points: FloatArray
    axes: tuple[Axis, ...]
    columns: tuple[str, ...]


def project(vectors: FloatArray, columns: Sequence[str]) -> Projection | None:
    """Return (M, D) vectors along the axes of their largest variance; None without any.

    Parameters
    ----------
    vectors : NaN is unknown
    columns : their names
    """
    scaled, kept = _standardised(vectors, columns)
    if not kept:
        return None
    _, singular, axes = np.linalg.svd(scaled, full_matrices=False)
    real = int(np.sum(singular > singular[0] * 1e-9))
    count = min(DIMENSIONS, real)
    axes = axes[:count] * _signs(axes[:count])
    explained = singular[:count] ** 2 / np.sum(singular**2)
    return Projection(
        points=scaled @ axes.T,
        axes=tuple(_axis(row, share, kept) for row, share in zip(axes, explained, strict=True)),
        columns=kept,
    )


def _standardised(
    vectors: FloatArray, columns: Sequence[str]
) -> tuple[FloatArray, tuple[str, ...]]:
    known = np.isfinite(vectors)
    enough = known.sum(axis=0) >= max(2.0, LEAST_KNOWN * len(vectors))
    part, known = vectors[:, enough], known[:, enough]
    names = [name for name, keep in zip(columns, enough, strict=True) if keep]
    if not names:
        return part, ()
    mean = np.nanmean(np.where(known, part, np.nan), axis=0)
    spread = np.nanstd(np.where(known, part, np.nan), axis=0)
    differs = spread > 1e-12 * np.maximum(np.abs(mean), 1.0)
    scaled = (part - mean)[:, differs] / spread[differs]
    filled = np.where(known[:, differs], np.clip(scaled, -WIDEST, WIDEST), 0.0)
    return filled, tuple(name for name, keep in zip(names, differs, strict=True) if keep)


def _signs(axes: FloatArray) -> FloatArray:
    heaviest = np.abs(axes).argmax(axis=1)
    signs: FloatArray = np.sign(axes[np.arange(len(axes)), heaviest])[:, None]
    return signs


def _axis(row: FloatArray, explained: float, columns: Sequence[str]) -> Axis:
    order = np.argsort(-np.abs(row), kind="stable")
    named = [f"{'+' if row[place] >= 0 else '-'}{columns[place]}" for place in order[:NAMED]]
    weights = {columns[place]: float(row[place] ** 2) for place in order}
    return Axis(" ".join(named), float(explained), weights)
