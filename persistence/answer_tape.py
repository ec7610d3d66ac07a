"""What a broker answered to the orders of a run, open by open, as the node booked it.

Like the tape of sessions it is written before anybody acts on it: a node that starts again books
what it booked, whatever the broker says by then.
"""

import json
from dataclasses import asdict
from datetime import date

from persistence.spool import Spool
from prometheus_nt.domain.answers import Answer, End, ToldFill
from prometheus_nt.domain.errors import StoreError


class AnswerTape:
    """The answers of one run.

    Parameters
    ----------
    spool : Spool
        Held by this process alone.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._answers = dict(_read(record) for record in spool.records())

    def of(self, session: date) -> tuple[Answer, ...] | None:
        """Return the answers of a session's open, or None if none were written."""
        return self._answers.get(session)

    def write(self, session: date, answers: tuple[Answer, ...]) -> None:
        """Write the answers of an open; on return they are on the disk.

        Raises
        ------
        StoreError
            If those of the session were written before.
        """
        if session in self._answers:
            raise StoreError(f"{self._spool.path}: the answers of {session} were written before")
        document = {"session": session.isoformat(), "answers": [asdict(each) for each in answers]}
        self._spool.append(json.dumps(document).encode())
        self._answers[session] = answers


def _read(record: bytes) -> tuple[date, tuple[Answer, ...]]:
    document = json.loads(record)
    return date.fromisoformat(document["session"]), tuple(map(_answer, document["answers"]))


def _answer(fields: dict[str, object]) -> Answer:
    fills = tuple(ToldFill(**fill) for fill in fields.pop("fills"))  # type: ignore[attr-defined]
    return Answer(**fields | {"end": End(str(fields["end"])), "fills": fills})  # type: ignore[arg-type]
