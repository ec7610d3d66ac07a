"""What a meta-portfolio's book follows, session by session: weights as decided, targets as decided.

1. `decided_books` puts a member's recorded targets on the instruments of a panel;
2. `BookSchedule.at` says what was known at a close: the newest weighing, and of each of its members
   the newest target. Nothing decided later is ever looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from prometheus_nt.domain.books import MemberBooks
from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.domain.record import FloatArray, SessionArray, content_hash
from prometheus_nt.meta.flattening import CONSERVED


@dataclass(frozen=True)
class Weighing:
    """A finished meta-portfolio: what each sleeve below weighs in it, decided at `as_of`."""

    meta_id: str
    as_of: date
    shares: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class DecidedBooks:
    """Everything that one member decided: (D,) ascending sessions and (D, N) signed weights."""

    sessions: SessionArray
    books: FloatArray


@dataclass(frozen=True, eq=False)
class BookSchedule:
    """The weighings of a meta-portfolio's book, the oldest first, and what its members decided.

    Attributes
    ----------
    decided : mapping of member to all of its targets
    ends : mapping of member to the last session of its record
        Whoever follows it later would follow a target that it may have given up.
    """

    instruments: tuple[str, ...]
    weighings: tuple[Weighing, ...]
    decided: Mapping[str, DecidedBooks]
    ends: Mapping[str, date]

    @property
    def digest(self) -> str:
        """The content hash of all of it."""
        weighings = [(one.meta_id, one.as_of, dict(one.shares)) for one in self.weighings]
        made = [
            (name, one.sessions.astype(np.int64), one.books)
            for name, one in sorted(self.decided.items())
        ]
        return content_hash([self.instruments, weighings, made])

    def at(self, as_of: date) -> MemberBooks | None:
        """Return what was known at the close of `as_of`; None before the first weighing.

        Raises
        ------
        MetaFailure
            META_NO_TARGET if a member had decided nothing by then.
        """
        weighed = [one for one in self.weighings if one.as_of <= as_of]
        if not weighed:
            return None
        newest = weighed[-1]
        members = tuple(sorted(newest.shares))
        rows = [self._row(member, as_of) for member in members]
        made = [self.decided[member] for member in members]
        return MemberBooks(
            as_of=as_of,
            meta_id=newest.meta_id,
            as_of_weighed=newest.as_of,
            instruments=self.instruments,
            members=members,
            shares=np.array([newest.shares[member] for member in members], dtype=np.float64),
            decided=np.array([one.sessions[row] for one, row in zip(made, rows, strict=True)]),
            books=np.array([one.books[row] for one, row in zip(made, rows, strict=True)]),
        )

    def _row(self, member: str, as_of: date) -> int:
        """Return which of a member's targets is the newest that was decided by then."""
        day = np.datetime64(as_of, "D")
        after = int(np.searchsorted(self.decided[member].sessions, day, side="right"))
        if not after:
            raise MetaFailure("META_NO_TARGET", member, f"no target was recorded by {as_of}")
        return after - 1


def decided_books(
    member: str, targets: Sequence[tuple[date, Mapping[str, float]]], instruments: tuple[str, ...]
) -> DecidedBooks:
    """Return a member's targets, oldest first, on these instruments.

    Raises
    ------
    MetaFailure
        META_NOT_CONSERVED if a target holds what is not among them, or an unknown weight.
    """
    columns = {name: column for column, name in enumerate(instruments)}
    books: FloatArray = np.zeros((len(targets), len(instruments)))
    for row, (session, target) in enumerate(targets):
        known = {columns[name]: weight for name, weight in target.items() if name in columns}
        books[row, list(known)] = list(known.values())
        asked = sum(abs(weight) for weight in target.values())
        # Not `>`: NaN is no conservation.
        if not abs(float(np.abs(books[row]).sum()) - asked) <= CONSERVED:
            absent = ", ".join(sorted(set(target) - set(columns))) or "an unknown weight"
            said = f"its target of {session} holds what the node does not trade: {absent}"
            raise MetaFailure("META_NOT_CONSERVED", member, said)
    sessions = np.array([session for session, _ in targets], dtype="datetime64[D]")
    return DecidedBooks(sessions, books)
