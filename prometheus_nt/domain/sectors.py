"""Sectors with dates: which sector each instrument was known to belong to, session by session."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import IntArray, SessionArray

Sectors = tuple[str | None, ...]
"""Name of each instrument's sector, None where unknown."""


@dataclass(frozen=True, eq=False)
class SectorHistory:
    """The sectors of N instruments in C eras, read-only; within an era none of them changes.

    Names are numbered in the order in which they were first seen, by name within an era: what is
    learnt later gives no earlier sector another number.

    Attributes
    ----------
    since : (C,) array of datetime64[D], ascending
        First session on whose close each era was known.
    codes : (C, N) int array
        Number of each instrument's sector; -1 where unknown.
    names : tuple of K sector names
    """

    since: SessionArray
    codes: IntArray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.since) or len(self.since) != len(self.codes):
            eras = len(self.since)
            raise DataError(f"sector history: {len(self.codes)} rows of codes for {eras} eras")
        if (np.diff(self.since) <= np.timedelta64(0)).any():
            raise DataError("sector history: since must ascend without duplicates")
        if self.codes.max(initial=-1) >= len(self.names):
            raise DataError(f"sector history: a code above its {len(self.names)} names")
        self.since.flags.writeable = self.codes.flags.writeable = False

    @classmethod
    def of(cls, eras: dict[date, Sectors]) -> "SectorHistory":
        """Return the history of these sectors by the first session of each era."""
        since = np.array(sorted(eras), dtype="datetime64[D]")
        number: dict[str, int] = {}
        for first in sorted(eras):
            for name in sorted({name for name in eras[first] if name is not None}):
                number.setdefault(name, len(number))
        codes = [
            [-1 if name is None else number[name] for name in eras[first]] for first in sorted(eras)
        ]
        return cls(since, np.array(codes, dtype=np.int64), tuple(number))

    def at(self, session: date | np.datetime64) -> Sectors:
        """Return the sectors known at the close of `session`; the same object within an era."""
        return self._eras[self._era(session)]

    def codes_at(self, session: date | np.datetime64) -> IntArray:
        """Return the number of each instrument's sector at the close of `session`, (N,)."""
        codes: IntArray = self.codes[self._era(session)]
        return codes

    def until(self, session: date | np.datetime64) -> "SectorHistory":
        """Return the history known at the close of `session`, without copying."""
        return self._past(self._era(session))

    def select(self, columns: list[int]) -> "SectorHistory":
        """Return the history of these columns, in the order given."""
        return SectorHistory(self.since, self.codes[:, columns], self.names)

    def _era(self, session: date | np.datetime64) -> int:
        era = int(np.searchsorted(self.since, np.array(session, "datetime64[D]"), side="right")) - 1
        if era < 0:
            raise DataError(f"sector history: begins at {self.since[0]}, asked for {session}")
        return era

    def _past(self, era: int) -> "SectorHistory":
        if era not in self._pasts:
            codes = self.codes[: era + 1]
            seen = int(codes.max(initial=-1)) + 1
            self._pasts[era] = SectorHistory(self.since[: era + 1], codes, self.names[:seen])
        return self._pasts[era]

    @cached_property
    def _eras(self) -> list[Sectors]:
        # The place after the last is what the code -1 of an unknown sector finds.
        named = np.array([*self.names, None], dtype=object)
        return [tuple(row) for row in named[self.codes].tolist()]

    @cached_property
    def _pasts(self) -> dict[int, "SectorHistory"]:
        return {}
