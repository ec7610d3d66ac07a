"""Facts with two dates: the period they are about, and the session from which they were known."""

from dataclasses import dataclass, field
from datetime import date

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray

COLUMNS = ("column", "item", "period_end", "known_at", "value")


@dataclass(frozen=True, eq=False)
class Facts:
    """F facts about the instruments of a panel, ordered by when they became known; read-only.

    A restated figure is a second row with the same period and a later `known_at`: whoever looks
    between the two sees the first.

    Attributes
    ----------
    items : tuple of names
        What a fact can be, `revenue` for example.
    column : (F,) int array
        Instrument, as a column of the panel.
    item : (F,) int array
        Position in `items`.
    period_end : (F,) array of datetime64[D]
    known_at : (F,) array of datetime64[D], ascending
        First day on whose close the fact may be used.
    value : (F,) array
    """

    items: tuple[str, ...]
    column: IntArray
    item: IntArray
    period_end: SessionArray
    known_at: SessionArray
    value: FloatArray
    _cut: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self._cut:
            return  # a slice of arrays that were checked and made read-only before
        for name in COLUMNS:
            array = getattr(self, name)
            if len(array) != len(self.known_at):
                raise DataError(f"facts.{name}: {len(array)} rows, known_at {len(self.known_at)}")
            array.flags.writeable = False
        if (np.diff(self.known_at) < np.timedelta64(0)).any():
            raise DataError("facts.known_at: must ascend")

    def __len__(self) -> int:
        return len(self.known_at)

    def until(self, session: date) -> "Facts":
        """Return the facts known at the close of `session`, without copying."""
        stop = int(np.searchsorted(self.known_at, np.datetime64(session, "D"), side="right"))
        cut = {name: getattr(self, name)[:stop] for name in COLUMNS}
        return Facts(items=self.items, _cut=True, **cut)

    def select(self, columns: list[int]) -> "Facts":
        """Return the facts about these columns, renumbered in the order given."""
        width = max([*columns, *self.column.tolist()], default=-1) + 1
        position = np.full(width, -1, dtype=np.int64)
        position[columns] = np.arange(len(columns))
        kept = position[self.column] >= 0
        values = {name: getattr(self, name)[kept] for name in COLUMNS}
        values["column"] = position[values["column"]]
        return Facts(items=self.items, **values)
