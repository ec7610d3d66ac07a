"""Prove an exported ledger by itself: an unbroken chain in which whatever began has ended."""

from pathlib import Path
from typing import Any

from persistence.events import verify_lines
from prometheus_nt.domain.errors import StoreError

COLUMNS = ("entry", "state", "finding")

INTENT, OUTCOME = "INTENT", "OUTCOME"
"""Kinds of entries that tell of a step: before it is done, and what became of it."""


def audit_file(path: Path) -> tuple[list[tuple[Any, ...]], bool]:
    """Return what is wrong with a file, or one row that says how much is right; and whether all is.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as unreadable:
        raise StoreError(f"{path}: cannot be read: {unreadable}") from unreadable
    if not lines:
        return [(None, "EMPTY", "not one entry; a ledger begins with what it is about")], False
    entries, breach = verify_lines(lines)
    if breach is not None:
        return [(breach.sequence, "BROKEN", breach.reason)], False
    rows = [
        (sequence, "OPEN", f"step {step} was begun and did not end")
        for sequence, step in open_steps(entries)
    ]
    if rows:
        return rows, False
    return [(len(entries), "ok", f"{len(entries)} entries of {entries[0]['stream']}")], True


def open_steps(entries: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Return the number and the step of every intent without an outcome before the next one."""
    begun: tuple[int, str] | None = None
    found = []
    for row in entries:
        if row["kind"] not in (INTENT, OUTCOME):
            continue
        if begun is not None and (row["kind"] == INTENT or row["payload"]["step"] != begun[1]):
            found.append(begun)
        begun = (row["sequence"], row["payload"]["step"]) if row["kind"] == INTENT else None
    return found if begun is None else [*found, begun]
