"""Where two records differ, to the last bit, and by how much."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def first_difference(ours: Any, theirs: Any) -> str | None:
    """Return the name of the first field in which two records differ by a single bit, or None."""
    return next(
        (
            path or "record"
            for path, one, other in leaves(ours, theirs)
            if not identical(one, other)
        ),
        None,
    )


def leaves(ours: Any, theirs: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each elementary value of two records side by side, with its dotted name.

    Where the records differ in kind or length, the two parts themselves are yielded.
    """
    if type(ours) is not type(theirs):
        yield path, ours, theirs
        return
    parts = _parts(ours, theirs)
    if parts is None:
        yield path, ours, theirs
        return
    for name, one, other in parts:
        yield from leaves(one, other, f"{path}.{name}" if path else name)


def identical(ours: Any, theirs: Any) -> bool:
    """Tell whether two elementary values are the same; two NaN are."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, np.ndarray):
        return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
    # By their text, so that two NaN are one value and 1 is not True.
    return repr(ours) == repr(theirs)


def relative_change(ours: Any, theirs: Any) -> float | None:
    """Return the largest difference, relative to the largest magnitude; 0 if identical.

    None where there is no such number: texts, other shapes, a value against a missing one.
    """
    if identical(ours, theirs):
        return 0.0
    numbers = int | float | np.ndarray | np.number
    if not (isinstance(ours, numbers) and isinstance(theirs, numbers)):
        return None
    one, other = np.asarray(ours), np.asarray(theirs)
    if one.shape != other.shape or one.dtype.kind not in "fiu" or other.dtype.kind not in "fiu":
        return None
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return None
    known = np.isfinite(one)
    if not known.any():
        return None
    scale = float(np.maximum(np.abs(one[known]), np.abs(other[known])).max())
    return float(np.abs(one[known] - other[known]).max()) / scale if scale > 0 else 0.0


def _parts(ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]] | None:
    """Return the named parts of two things of one type, or None if they are elementary."""
    if is_dataclass(ours):
        names = [field.name for field in fields(ours)]
        return ((name, getattr(ours, name), getattr(theirs, name)) for name in names)
    if isinstance(ours, Mapping):
        keys = sorted({*ours, *theirs})
        return ((str(key), ours.get(key), theirs.get(key)) for key in keys)
    if isinstance(ours, tuple):
        return _items(ours, theirs)
    return None


def _items(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> Iterator[tuple[str, Any, Any]]:
    yield "length", len(ours), len(theirs)
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        yield str(number), one, other
