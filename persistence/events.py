"""Append-only streams of events, each entry sealed by a hash over itself and the one before.

Rules of a stream:

- Entries are numbered from 1 without a gap; nothing is changed or removed.
- The hash covers content alone, no clock: two histories with the same content have one hash.
- A changed, missing or reordered entry breaks the chain from there on, and `verify` says where.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.blocks import JsonText
from persistence.database import Statement, upsert
from persistence.tables.operations import events
from prometheus_nt.domain.errors import StoreError

GENESIS = "0" * 64
"""What the first entry of a stream follows."""

Payload = Mapping[str, Any] | JsonText
"""What an entry says; as text it is canonical already."""

COLUMNS = ("stream", "sequence", "kind", "payload", "recorded_at", "previous_hash", "hash")


@dataclass(frozen=True)
class Breach:
    """The first entry at which a stream is not what was written, and why."""

    stream: str
    sequence: int
    reason: str


def append(connection: Connection, stream: str, entries: Sequence[tuple[str, Payload]]) -> str:
    """Add `(kind, payload)` entries in the caller's transaction; return the stream's new hash."""
    lock(connection, stream)
    return extend(connection, stream, _last(connection, stream), entries)


def extend(
    connection: Connection,
    stream: str,
    last: tuple[int, str],
    entries: Sequence[tuple[str, Payload]],
) -> str:
    """Add entries after the `last` one, for a caller who is the stream's only writer."""
    sequence, seal = last
    now, rows = datetime.now(UTC), []
    for kind, payload in entries:
        text = _canonical(payload)
        sequence, before = sequence + 1, seal
        seal = _seal(stream, sequence, kind, text, before)
        rows.append((stream, sequence, kind, text, now, before, seal))
    upsert(connection, events, COLUMNS, rows, update=False)
    return seal


def position(connection: Connection, stream: str) -> tuple[int, str]:
    """Return the number and the hash of a stream's last entry; 0 and `GENESIS` if it has none."""
    return _last(connection, stream)


def read(connection: Connection, stream: str) -> list[tuple[int, str, str]]:
    """Return the number, the kind and the sealed text of every entry, oldest first."""
    query = sa.select(events.c.sequence, events.c.kind, events.c.payload)
    query = query.where(events.c.stream == stream).order_by(events.c.sequence)
    return [(row[0], row[1], row[2]) for row in connection.execute(query)]


def canonical(payload: Payload) -> str:
    """Return the text under which a payload is sealed: equal content, equal text."""
    return _canonical(payload)


def verify(connection: Connection, stream: str) -> Breach | None:
    """Return where a stream was tampered with, or None if every entry is as it was written."""
    query = sa.select(*(events.c[name] for name in COLUMNS)).where(events.c.stream == stream)
    expected, seal = 1, GENESIS
    for row in connection.execute(query.order_by(events.c.sequence)).mappings():
        if row["sequence"] != expected:
            return Breach(stream, expected, f"entry {expected} is missing")
        if row["previous_hash"] != seal:
            return Breach(stream, expected, "it does not follow the entry before it")
        if row["hash"] != _seal(stream, expected, row["kind"], row["payload"], seal):
            return Breach(stream, expected, "its content is not what was sealed")
        expected, seal = expected + 1, row["hash"]
    return None


def exported(connection: Connection, stream: str) -> list[str]:
    """Return a stream as lines of JSON that `verify_lines` can prove without a database."""
    names = ("stream", "sequence", "kind", "payload", "previous_hash", "hash")
    query = sa.select(*(events.c[name] for name in names)).where(events.c.stream == stream)
    rows = connection.execute(query.order_by(events.c.sequence)).mappings()
    return [_ENCODER.encode({**row, "payload": json.loads(row["payload"])}) for row in rows]


def verify_lines(lines: Sequence[str]) -> tuple[list[dict[str, Any]], Breach | None]:
    """Return the entries of an exported stream, and where it is not what was written.

    Raises
    ------
    StoreError
        If a line is no entry at all.
    """
    entries = [_entry(number, line) for number, line in enumerate(lines, start=1)]
    seal = GENESIS
    for expected, row in enumerate(entries, start=1):
        if (row["stream"], row["sequence"]) != (entries[0]["stream"], expected):
            return entries, Breach(row["stream"], expected, f"entry {expected} is missing")
        if row["previous_hash"] != seal:
            return entries, Breach(row["stream"], expected, "it does not follow the one before it")
        text = _canonical(row["payload"])
        if row["hash"] != _seal(row["stream"], expected, row["kind"], text, seal):
            return entries, Breach(row["stream"], expected, "its content is not what was sealed")
        seal = row["hash"]
    return entries, None


def _entry(number: int, line: str) -> dict[str, Any]:
    names = {"stream", "sequence", "kind", "payload", "previous_hash", "hash"}
    try:
        row = json.loads(line)
    except ValueError as unreadable:
        raise StoreError(f"line {number}: no JSON: {unreadable}") from unreadable
    if not isinstance(row, dict) or set(row) != names or not isinstance(row["payload"], dict):
        raise StoreError(f"line {number}: no entry; expected {', '.join(sorted(names))}")
    return row


def payloads(connection: Connection, stream: str, kind: str) -> list[dict[str, Any]]:
    """Return what entries of one kind say, oldest first."""
    query = sa.select(events.c.payload).where(events.c.stream == stream, events.c.kind == kind)
    texts = connection.execute(query.order_by(events.c.sequence)).scalars()
    return [json.loads(text) for text in texts]


def streams(connection: Connection) -> list[str]:
    """Return the names of the streams, sorted."""
    return list(
        connection.execute(sa.select(events.c.stream).distinct().order_by("stream")).scalars()
    )


def lock(connection: Connection, stream: str) -> None:
    """Keep every other transaction that locks this name waiting until the caller's ends."""
    # SQLite's writer holds the whole database already.
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(stream))))


# Asked before every append: building the question anew would cost more than the answer.
_NEWEST = Statement(
    sa.select(events.c.sequence, events.c.hash)
    .where(events.c.stream == sa.bindparam("of"))
    .order_by(events.c.sequence.desc())
    .limit(1)
)


def _last(connection: Connection, stream: str) -> tuple[int, str]:
    row = _NEWEST.ask(connection, {"of": stream})
    return (0, GENESIS) if row is None else (row[0], row[1])


def _seal(stream: str, sequence: int, kind: str, payload: str, previous_hash: str) -> str:
    said = (_name(stream), str(sequence), _name(kind), _quoted(payload), _quoted(previous_hash))
    return hashlib.sha256(f"[{', '.join(said)}]".encode()).hexdigest()


# A stream has one name and few kinds, and thousands of entries.
_name = lru_cache(maxsize=256)(_quoted)


_ENCODER = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, allow_nan=False, check_circular=False, default=str
)


def _canonical(payload: Payload) -> str:
    return str(payload) if isinstance(payload, JsonText) else _ENCODER.encode(payload)


def texts(columns: Mapping[str, Sequence[Any]]) -> list[JsonText]:
    """Return the canonical text of many payloads, given by the columns that they consist of.

    The text is that of `canonical`, to the byte, and costs a third of it. All times are in UTC.
    """
    names = sorted(columns)
    form = "{" + ", ".join(f'"{name}": %s' for name in names) + "}"
    return [JsonText(form % row) for row in zip(*map(_said, map(columns.get, names)), strict=True)]


def _said(values: Any) -> Sequence[Any]:
    """Return what stands in JSON, as a text or a number that is written as Python writes it."""
    kinds = set(map(type, values))
    if kinds == {int} or (kinds == {float} and isfinite(sum(values))):
        return list(values)
    if kinds <= _REPEATING:
        known = {value: _ENCODER.encode(value) for value in set(values)}
        return [known[value] for value in values]
    return [_ENCODER.encode(value) for value in values]


_REPEATING = {str, date, datetime, type(None)}
