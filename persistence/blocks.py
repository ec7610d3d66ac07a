"""Many rows at once, column by column: what arrays say becomes no tuple on its way to a table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

import numpy as np

from persistence.arrow import pa, pc
from prometheus_nt.domain.record import FloatArray

Row = tuple[Any, ...]

PLAIN_FROM, PLAIN_BELOW = 1e-4, 1e10
"""Between these Python writes a number without an exponent, and Arrow the same digits."""


class JsonText(str):
    """A document that is already JSON."""


class JsonTexts(list[str]):
    """A column of documents that are all JSON already."""


@dataclass(frozen=True, eq=False)
class Documents:
    """A column of JSON objects, one a row, written when somebody reads them.

    members : mapping of name to array
        What the objects say, sorted by name; unknown numbers are null.
    """

    members: Mapping[str, FloatArray]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def texts(self) -> JsonTexts:
        """Return the objects as text."""
        return documents(self.members, self.rows)

    @classmethod
    def joined(cls, parts: "Sequence[Documents]") -> "Documents | JsonTexts":
        """Return one column after the other: many sessions at once cost less than each alone."""
        names = parts[0].members.keys()
        if any(part.members.keys() != names for part in parts):
            return JsonTexts(chain.from_iterable(part.texts() for part in parts))
        members = {name: np.concatenate([part.members[name] for part in parts]) for name in names}
        return cls(members, sum(map(len, parts)))


Column = Sequence[Any] | FloatArray | Documents


class Block(Sequence[Row]):
    """Rows of one table, held as the columns that they consist of.

    To whoever iterates it is a sequence of tuples of plain values; a number that an array does not
    know is None there.
    """

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns: tuple[Column, ...] = tuple(columns)

    @property
    def columns(self) -> tuple[Sequence[Any] | FloatArray, ...]:
        """The columns, their documents written."""
        written = tuple(map(_written, self._columns))
        self._columns = written
        return written

    @classmethod
    def of(cls, length: int, *parts: Any) -> "Block":
        """Return `length` rows: lists, tuples and arrays are columns, other values are repeated."""
        columns = (part if isinstance(part, _MANY) else [part] * length for part in parts)
        return cls(tuple(columns))

    @classmethod
    def joined(cls, blocks: Iterable["Block"]) -> Sequence[Row]:
        """Return the rows of all blocks, one after the other."""
        columns = zip(*(block._columns for block in blocks), strict=True)
        joined = [_joined(parts) for parts in columns]
        return cls(joined) if joined else ()

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Row]:
        return zip(*self.plain_columns(), strict=True)

    def plain_columns(self) -> list[Sequence[Any]]:
        """Return the columns as plain values."""
        return [_plain_values(column) for column in self.columns]

    def __repr__(self) -> str:
        return f"Block({len(self)} rows of {len(self._columns)} columns)"

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> "Block": ...
    def __getitem__(self, place: int | slice) -> "Row | Block":
        if isinstance(place, slice):
            return Block([_part(column, place) for column in self.columns])
        one = Block([_part(column, slice(place, place + 1 or None)) for column in self.columns])
        return next(iter(one))


_MANY = (list, tuple, np.ndarray, Documents)


def _written(column: Column) -> Sequence[Any] | FloatArray:
    return column.texts() if isinstance(column, Documents) else column


def _joined(parts: Sequence[Column]) -> Column:
    documented = [part for part in parts if isinstance(part, Documents)]
    if len(documented) == len(parts):
        return Documents.joined(documented)
    return _one_after_the_other([*map(_written, parts)])


def _one_after_the_other(parts: Sequence[Sequence[Any] | FloatArray]) -> Column:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    kind = JsonTexts if all(isinstance(part, JsonTexts) for part in parts) else list
    return kind(chain.from_iterable(parts))


def _part(column: Sequence[Any] | FloatArray, place: slice) -> Sequence[Any] | FloatArray:
    return JsonTexts(column[place]) if isinstance(column, JsonTexts) else column[place]


def _plain_values(column: Sequence[Any] | FloatArray) -> Sequence[Any]:
    if isinstance(column, np.ndarray):
        return numbers(column)
    return [JsonText(text) for text in column] if isinstance(column, JsonTexts) else column


def numbers(values: FloatArray) -> list[float | None]:
    """Return the numbers of an array; those that are not finite are unknown."""
    listed: list[float | None] = values.tolist()
    for row in np.flatnonzero(~np.isfinite(values)):
        listed[row] = None
    return listed


def documents(members: Mapping[str, FloatArray], rows: int) -> JsonTexts:
    """Return one JSON object per row, its members sorted by name; unknown numbers are null.

    The text is that of `json.dumps`, to the byte: whoever writes the same document again by another
    way writes the same row.
    """
    if not members:
        return JsonTexts(["{}"] * rows)
    parts: list[Any] = []
    for name in sorted(members):
        parts += [f'{", " if parts else "{"}"{name}": ', _number_texts(members[name])]
    return JsonTexts(pc.binary_join_element_wise(*parts, "}", "").to_pylist())


def _number_texts(values: FloatArray) -> "pa.Array":
    known = np.isfinite(values)
    size = np.abs(values)
    with np.errstate(invalid="ignore"):
        otherwise = (size < PLAIN_FROM) | (size >= PLAIN_BELOW) | (values == np.trunc(values))
    texts = pa.array(values, mask=~known).cast(pa.string())
    # Arrow leaves the ".0" of a whole number away, and writes exponents in its own way.
    otherwise &= known
    if otherwise.any():
        said = pa.array([repr(value) for value in values[otherwise].tolist()])
        texts = pc.replace_with_mask(texts, pa.array(otherwise), said)
    return pc.fill_null(texts, "null")
