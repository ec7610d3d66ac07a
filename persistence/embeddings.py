"""Stored vectors: what encoders made of a text, of an instrument's window, of all that is known.

Rules of the store:

- A vector is little-endian float32 under the model that made it; vectors of two models, or of two
  versions of one, do not compare, and their ids differ.
- `known_at` is when the newest thing that it was made of was known: of a text when it could be
  read, of a session its close. Nobody is told of a vector earlier.
- A vector that is not known is not stored, and one that is stored is never changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.blocks import Row
from persistence.database import Database, upsert
from persistence.historical import require_dataset
from persistence.tables import reference
from prometheus_nt.domain.record import FloatArray, content_hash

NEWS = "NEWS"
INSTRUMENT = "INSTRUMENT"
FLOAT = np.dtype("<f4")
LISTED = ("kind", "entity_id", "as_of_date", "model_id", "dimensions", "known_at")


@dataclass(frozen=True)
class Article:
    """A version of an article that has no vector of some model yet."""

    article_id: str
    text: str
    known_at: datetime


@dataclass(frozen=True)
class Close:
    """Of which dataset vectors are, after which session, and when that closed."""

    dataset_id: str
    as_of: date
    closed_at: datetime


class EmbeddingStore:
    """Vectors in the historical database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def articles_without(self, dataset_id: str, model_id: str, known_by: datetime) -> list[Article]:
        """Return the articles known by an instant that the model has not read, oldest first."""
        articles, vectors = reference.news_articles, reference.text_embeddings
        same = (vectors.c.source_id == articles.c.article_id) & (vectors.c.source_type == NEWS)
        query = (
            sa.select(*(articles.c[name] for name in ("article_id", "headline", "body")))
            .add_columns(articles.c.known_at)
            .outerjoin(vectors, same & (vectors.c.model_id == model_id))
            .where(articles.c.dataset_id == dataset_id, articles.c.known_at <= known_by)
            .where(vectors.c.source_id.is_(None))
            .order_by(articles.c.known_at, articles.c.article_id)
        )
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            return [
                Article(found.article_id, "\n".join(filter(None, found[1:3])), found.known_at)
                for found in connection.execute(query)
            ]

    def write_articles(
        self, model_id: str, articles: Sequence[Article], vectors: FloatArray
    ) -> int:
        """Store what a model made of articles, (M, D); return how many vectors are new."""
        rows = [
            (NEWS, articles[row].article_id, model_id, packed, articles[row].known_at)
            for row, packed in _packed(vectors)
        ]
        key = ("source_type", "source_id", "model_id")
        return self._add(reference.text_embeddings, (*key, "vector", "known_at"), rows)

    def write_windows(
        self, close: Close, model_id: str, spec: Mapping[str, Any], of: Mapping[str, FloatArray]
    ) -> int:
        """Store the vectors of instruments' windows by name; return how many are new.

        Parameters
        ----------
        spec : mapping
            What the windows are, beside their dataset.
        """
        window = {"dataset_id": close.dataset_id, **spec}
        rows = [
            (INSTRUMENT, name, close.as_of, model_id, window, packed, close.closed_at)
            for name, packed in _named(of)
        ]
        key = ("entity_type", "entity_id", "as_of_date", "model_id")
        names = (*key, "window_spec", "vector", "known_at")
        return self._add(reference.numeric_window_embeddings, names, rows)

    def write_joint(
        self, close: Close, joint_type: str, model_id: str, of: Mapping[str, FloatArray]
    ) -> int:
        """Store joint vectors of instruments by name; return how many are new."""
        rows: list[Row] = []
        for name, packed in _named(of):
            scope = {"dataset_id": close.dataset_id, "instrument_id": name}
            scope_id = content_hash([close.dataset_id, name])
            key = (joint_type, scope_id, close.as_of, model_id)
            rows.append((*key, scope, packed, close.closed_at))
        names = ("joint_type", "scope_id", "as_of_date", "model_id")
        return self._add(
            reference.joint_embeddings, (*names, "entity_scope", "vector", "known_at"), rows
        )

    def listed(
        self, dataset_id: str, known_by: datetime, about: str | None = None, limit: int = 50
    ) -> list[dict[str, Any]]:
        """Return what has a vector, under the names of `LISTED`, the newest known first."""
        queries = (
            _chosen(query, entity, known, about, known_by).limit(limit)
            for query, entity, known in _of_dataset(dataset_id)
        )
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            found = [row for query in queries for row in connection.execute(query)]
        rows = [
            dict(zip(LISTED, (*row[:4], len(row[4]) // FLOAT.itemsize, row[5]), strict=True))
            for row in found
        ]
        # Stable: of one moment, the kinds and names stay in order.
        return sorted(rows, key=lambda row: row["known_at"], reverse=True)[:limit]

    def window_vectors(self, as_of: date, model_id: str) -> dict[str, FloatArray]:
        """Return the stored vectors of instruments' windows after a session, by name."""
        table = reference.numeric_window_embeddings
        query = (
            sa.select(table.c.entity_id, table.c.vector)
            .where(table.c.as_of_date == as_of, table.c.model_id == model_id)
            .where(table.c.entity_type == INSTRUMENT)
            .order_by(table.c.entity_id)
        )
        with self.database.reader() as connection:
            return {name: unpacked(vector) for name, vector in connection.execute(query)}

    def _add(self, table: sa.Table, names: Sequence[str], rows: Sequence[Row]) -> int:
        """Write what is not there yet; return how many rows that were."""
        if not rows:
            return 0
        now = datetime.now(UTC)
        with self.database.writer() as connection:
            before = _count(connection, table)
            written = [(*row, now) for row in rows]
            upsert(connection, table, (*names, "created_at"), written, update=False)
            return _count(connection, table) - before


def unpacked(vector: bytes) -> FloatArray:
    """Return a stored vector as numbers."""
    return np.frombuffer(vector, dtype=FLOAT).astype(np.float64)


def _packed(vectors: FloatArray) -> list[tuple[int, bytes]]:
    known = np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
    return [(row, vectors[row].astype(FLOAT).tobytes()) for row in known]


def _named(of: Mapping[str, FloatArray]) -> list[tuple[str, bytes]]:
    return [
        (name, vector.astype(FLOAT).tobytes())
        for name, vector in of.items()
        if np.isfinite(vector).all()
    ]


def _count(connection: Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


_Listed = tuple["sa.Select[Any]", "sa.ColumnElement[Any]", "sa.ColumnElement[Any]"]


def _of_dataset(dataset_id: str) -> tuple[_Listed, _Listed, _Listed]:
    """Return a query of each kind of vector, and the columns of who it is of and of when."""
    texts, articles = reference.text_embeddings.c, reference.news_articles.c
    windows = reference.numeric_window_embeddings.c
    joints = reference.joint_embeddings.c
    named = joints.entity_scope["instrument_id"].as_string()
    day = sa.cast(sa.null(), sa.Date)
    of_texts = (
        sa.select(texts.source_type, texts.source_id, day, texts.model_id)
        .add_columns(texts.vector, texts.known_at)
        .join(reference.news_articles, articles.article_id == texts.source_id)
        .where(articles.dataset_id == dataset_id, texts.source_type == NEWS)
    )
    of_windows = (
        sa.select(windows.entity_type, windows.entity_id, windows.as_of_date, windows.model_id)
        .add_columns(windows.vector, windows.known_at)
        .where(windows.window_spec["dataset_id"].as_string() == dataset_id)
    )
    of_joints = (
        sa.select(joints.joint_type, named, joints.as_of_date, joints.model_id)
        .add_columns(joints.vector, joints.known_at)
        .where(joints.entity_scope["dataset_id"].as_string() == dataset_id)
    )
    return (
        (of_texts, texts.source_id, texts.known_at),
        (of_windows, windows.entity_id, windows.known_at),
        (of_joints, named, joints.known_at),
    )


def _chosen(
    query: "sa.Select[Any]",
    entity: "sa.ColumnElement[Any]",
    known: "sa.ColumnElement[Any]",
    about: str | None,
    known_by: datetime,
) -> "sa.Select[Any]":
    chosen = query.where(known <= known_by).order_by(known.desc(), entity)
    return chosen if about is None else chosen.where(entity == about)
