"""The reference store: what is known of instruments besides prices, and since when.

Rules of the store:

- What a source states is never overwritten. A source that comes to say something else of the same
  key and time adds a version, known from the time we were told.
- Writing the same facts again writes nothing. `reference_revisions` rises when something changed.
- Every read has an instant, and sees the newest version known by then.
- Facts belong to a dataset, like its prices: two sources under two names never blend.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import isfinite
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from persistence.database import Database, upsert
from persistence.historical import require_dataset
from persistence.tables import historical, reference
from persistence.tables.types import utc
from prometheus_nt.domain.record import content_hash

LOOK_UP = 5_000
"""Keys per query: SQLite takes no more than 32,766 parameters."""

RATIOS = (
    *("roe", "roic", "gross_margin", "op_margin", "net_margin", "leverage"),
    *("interest_coverage", "revenue_growth", "eps_growth"),
)

Fact = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class _Kind:
    """One kind of stated fact.

    Attributes
    ----------
    stated : column of the time at which it was known, as the source says
    key : columns that, with that time, make two facts versions of one
    about : columns that make a fact stated later replace one that was stated earlier
    said : columns of what is stated
    """

    name: str
    table: Table
    row_id: str
    stated: str
    key: tuple[str, ...]
    about: tuple[str, ...]
    said: tuple[str, ...]


STATEMENTS = _Kind(
    "statements",
    reference.financial_statements,
    "statement_id",
    "stated_at",
    ("issuer_id", "statement_type", "frequency", "period_end"),
    ("issuer_id", "statement_type", "frequency", "period_end"),
    ("report_date", "currency", "values"),
)
NEWS = _Kind(
    "news",
    reference.news_articles,
    "article_id",
    "timestamp",
    ("source", "headline"),
    ("key_id",),
    ("body", "language", "metadata"),
)
MEMBERSHIP = _Kind(
    "membership",
    reference.index_memberships,
    "membership_id",
    "stated_at",
    ("index_id", "instrument_id", "start_date"),
    ("index_id", "instrument_id", "start_date"),
    ("end_date",),
)
SECTORS = _Kind(
    "sectors",
    reference.sector_history,
    "assignment_id",
    "stated_at",
    ("issuer_id", "start_date"),
    ("issuer_id", "start_date"),
    ("sector", "industry"),
)
RATIO_ROWS = _Kind(
    "ratios",
    reference.fundamental_ratios,
    "known_at",
    "known_at",
    (),
    ("issuer_id", "frequency", "period_end"),
    (),
)

COMPUTED = "computed from statements"


class ReferenceStore:
    """Facts besides prices in one database, by dataset."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def write_statements(
        self, dataset_id: str, statements: Iterable[Fact], now: datetime | None = None
    ) -> int:
        """Store statements; return how many versions are new.

        Parameters
        ----------
        statements : mappings with the names of `adapters.reference.Statement`
            `known_at` is what the source states. Figures that are not finite are left out.
        now : datetime, optional
            Aware; from when a changed figure is known. The clock's by default.
        """
        facts = [_statement(fact) for fact in statements]
        with self.database.writer() as connection:
            require_dataset(connection, dataset_id)
            return len(_add_versions(connection, STATEMENTS, dataset_id, facts, now))

    def write_news(
        self, dataset_id: str, articles: Iterable[Fact], now: datetime | None = None
    ) -> int:
        """Store articles and whom they are about; return how many articles and links are new."""
        facts = [_article(fact) for fact in articles]
        with self.database.writer() as connection:
            require_dataset(connection, dataset_id)
            new = _add_versions(connection, NEWS, dataset_id, facts, now)
            links = _add_links(connection, dataset_id, facts, new)
            return len(new) + links

    def write_memberships(
        self, dataset_id: str, stays: Iterable[Fact], now: datetime | None = None
    ) -> int:
        """Store stays in indexes; return how many versions are new."""
        facts = [_stay(fact) for fact in stays]
        with self.database.writer() as connection:
            require_dataset(connection, dataset_id)
            return len(_add_versions(connection, MEMBERSHIP, dataset_id, facts, now))

    def write_sectors(
        self, dataset_id: str, assignments: Iterable[Fact], now: datetime | None = None
    ) -> int:
        """Store dated sectors of issuers; return how many versions are new."""
        facts = [_assignment(fact) for fact in assignments]
        with self.database.writer() as connection:
            require_dataset(connection, dataset_id)
            return len(_add_versions(connection, SECTORS, dataset_id, facts, now))

    def write_holidays(self, holidays: Iterable[Fact], now: datetime | None = None) -> int:
        """Store holidays of markets; return how many are new or renamed."""
        now = now or datetime.now(UTC)
        table = reference.market_holidays
        named = ("market_id", "holiday_date", "holiday_name")
        facts = [
            (fact["market_id"], fact["day"], fact["name"], fact["source"]) for fact in holidays
        ]
        with self.database.writer() as connection:
            stored = connection.execute(select(*(table.c[name] for name in named)))
            known = {tuple(row) for row in stored}
            rows = [(*fact, now, now) for fact in facts if fact[:3] not in known]
            return upsert(connection, table, (*named, "source", "known_at", "ingested_at"), rows)

    def write_ratios(
        self, dataset_id: str, ratios: Iterable[Fact], now: datetime | None = None
    ) -> int:
        """Store ratios computed of statements; return how many are new or different.

        Parameters
        ----------
        ratios : mappings
            issuer_id, frequency, period_end, known_at, period_start and each of `RATIOS`; None or
            NaN where unknown.
        """
        now = now or datetime.now(UTC)
        table = reference.fundamental_ratios
        key = ("issuer_id", "frequency", "period_end", "known_at")
        names = (*key, "period_start", *RATIOS)
        with self.database.writer() as connection:
            query = select(*(table.c[name] for name in names))
            stored = connection.execute(query.where(table.c.dataset_id == dataset_id))
            known = {tuple(row) for row in stored}
            facts = [tuple(_known_value(fact[name]) for name in names) for fact in ratios]
            rows = [(dataset_id, *fact, COMPUTED, now) for fact in facts if fact not in known]
            return upsert(connection, table, ("dataset_id", *names, "source", "ingested_at"), rows)

    def statements(self, dataset_id: str, as_of: datetime, **only: str) -> list[Row]:
        """Return each period's newest statement known at `as_of`, the newest known first.

        Parameters
        ----------
        only : values of columns to choose by, `issuer_id` for example
        """
        return self._known(STATEMENTS, dataset_id, as_of, only)

    def statement_versions(self, dataset_id: str) -> list[Row]:
        """Return every version of every statement, by the time it became known."""
        table = reference.financial_statements
        query = select(table).where(table.c.dataset_id == dataset_id)
        with self.database.reader() as connection:
            rows = _rows(connection.execute(query))
        return sorted(rows, key=lambda row: (row["known_at"], row["statement_id"]))

    def ratios(self, dataset_id: str, as_of: datetime, **only: str) -> list[Row]:
        """Return each period's newest ratios known at `as_of`, the newest known first."""
        return self._known(RATIO_ROWS, dataset_id, as_of, only)

    def news(
        self, dataset_id: str, as_of: datetime, instrument_id: str | None = None, limit: int = 1000
    ) -> list[Row]:
        """Return the newest articles known at `as_of`, each in its newest version known then."""
        links, chosen = reference.news_links.c, []
        if instrument_id is not None:
            about = select(links.article_id).where(links.instrument_id == instrument_id)
            chosen = [reference.news_articles.c.article_id.in_(about)]
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            return _newest(connection, NEWS, dataset_id, as_of, chosen, limit)

    def memberships(self, dataset_id: str, as_of: datetime, day: date, **only: str) -> list[Row]:
        """Return the stays that cover `day`, as known at `as_of`, by index and instrument."""
        stays = self._known(MEMBERSHIP, dataset_id, as_of, only)
        covering = [
            stay
            for stay in stays
            if (stay["start_date"] is None or stay["start_date"] <= day)
            and (stay["end_date"] is None or day < stay["end_date"])
        ]
        return sorted(covering, key=lambda stay: (stay["index_id"], stay["instrument_id"]))

    def sectors(self, dataset_id: str, as_of: datetime, **only: str) -> list[Row]:
        """Return each issuer's sectors by their start, as known at `as_of`."""
        rows = self._known(SECTORS, dataset_id, as_of, only)
        return sorted(rows, key=lambda row: (row["issuer_id"], row["start_date"] or date.min))

    def filings(self, dataset_id: str, as_of: datetime, **only: str) -> list[Row]:
        """Return the filings known at `as_of`, the newest known first; no source states any yet."""
        return self._stated(reference.filings, dataset_id, as_of, only)

    def earnings_calls(self, dataset_id: str, as_of: datetime, **only: str) -> list[Row]:
        """Return the calls known at `as_of`, the newest known first; no source states any yet."""
        return self._stated(reference.earnings_calls, dataset_id, as_of, only)

    def macro_events(self, as_of: datetime) -> list[Row]:
        """Return the events known at `as_of`, the newest first; no source states any yet."""
        table = reference.macro_events
        query = select(table).where(table.c.known_at <= as_of)
        with self.database.reader() as connection:
            return _rows(connection.execute(query.order_by(table.c.timestamp.desc())))

    def holidays(self, market_id: str) -> list[Row]:
        """Return the stored holidays of a market, by day."""
        table = reference.market_holidays
        query = select(table).where(table.c.market_id == market_id).order_by(table.c.holiday_date)
        with self.database.reader() as connection:
            return _rows(connection.execute(query))

    def indexes(self, dataset_id: str) -> list[str]:
        """Return the indexes whose members the dataset keeps, by name."""
        with self.database.reader() as connection:
            return indexes_of(connection, dataset_id)

    def _stated(
        self, table: Table, dataset_id: str, as_of: datetime, only: Mapping[str, str]
    ) -> list[Row]:
        chosen = [table.c[name] == value for name, value in only.items()]
        query = select(table).where(table.c.dataset_id == dataset_id, *chosen)
        query = query.where(table.c.known_at <= as_of).order_by(table.c.known_at.desc())
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            return _rows(connection.execute(query))

    def _known(
        self, kind: _Kind, dataset_id: str, as_of: datetime, only: Mapping[str, str]
    ) -> list[Row]:
        with self.database.reader() as connection:
            require_dataset(connection, dataset_id)
            chosen = [kind.table.c[name] == value for name, value in only.items()]
            return _newest(connection, kind, dataset_id, as_of, chosen)


def revisions_of(connection: Connection, dataset_id: str) -> dict[str, tuple[int, datetime]]:
    """Return how often each kind of fact of a dataset has changed, and when it did last.

    Two databases may count alike and hold other facts; they were not filled at the same moment.
    """
    table = reference.reference_revisions.c
    names = (table.kind, table.revision, table.ingested_at)
    query = select(*names).where(table.dataset_id == dataset_id)
    return {kind: (count, last) for kind, count, last in connection.execute(query)}


def indexes_of(connection: Connection, dataset_id: str) -> list[str]:
    """Return the indexes whose members a dataset keeps, by name."""
    table = reference.index_memberships.c
    query = select(table.index_id).where(table.dataset_id == dataset_id).distinct()
    return sorted(connection.execute(query).scalars())


def _statement(fact: Fact) -> Row:
    figures = {name: float(value) for name, value in fact["values"].items() if isfinite(value)}
    ends = fact["period_end"]
    # Fiscal quarters of 52 and 53 weeks end a few days before or after the end of a month.
    middle = ends - timedelta(days=15)
    annual = str(fact["frequency"]) == "ANNUAL"
    quarter = "A" if annual else f"Q{(middle.month - 1) // 3 + 1}"
    return {
        "issuer_id": fact["issuer_id"],
        "statement_type": str(fact["statement_type"]),
        "frequency": str(fact["frequency"]),
        "period_end": ends,
        "fiscal_period": f"{middle.year}{quarter}",
        "fiscal_year": middle.year,
        "report_date": fact["report_date"],
        "stated_at": utc(fact["known_at"]),
        "currency": fact["currency"],
        "values": figures,
        "source": fact["source"],
    }


def _article(fact: Fact) -> Row:
    return {
        "timestamp": utc(fact["known_at"]),
        "source": fact["source"],
        "headline": fact["headline"],
        "body": fact["body"],
        "language": fact["language"],
        "metadata": dict(fact["metadata"]) or None,
        "instrument_ids": tuple(fact["instrument_ids"]),
    }


def _stay(fact: Fact) -> Row:
    names = ("index_id", "instrument_id", "source")
    dates = {"start_date": fact["start"], "end_date": fact["end"]}
    return {name: fact[name] for name in names} | dates | {"stated_at": utc(fact["known_at"])}


def _assignment(fact: Fact) -> Row:
    names = ("issuer_id", "sector", "industry", "source")
    dates = {"start_date": fact["start"], "stated_at": utc(fact["known_at"])}
    return {name: fact[name] for name in names} | dates


def _add_versions(
    connection: Connection,
    kind: _Kind,
    dataset_id: str,
    facts: Sequence[Row],
    now: datetime | None,
) -> dict[str, datetime]:
    """Insert what is new or said differently; return when it is known from, by `key_id`."""
    now = utc(now or datetime.now(UTC))
    by_key = {_key_id(kind, dataset_id, fact): fact for fact in facts}
    newest = _newest_versions(connection, kind, list(by_key))
    undated = _undated(connection, kind, dataset_id)
    added: dict[str, datetime] = {}
    for key_id, fact in by_key.items():
        known_at, said = newest.get(key_id, (None, None))
        if known_at is None:
            # Whoever does not say since when states what holds as he is asked: to be told the
            # same again later is no news.
            about = tuple(fact[name] for name in kind.key)
            if undated.get(about) != _said(kind, fact):
                added[key_id] = fact[kind.stated]
        elif said != _said(kind, fact):
            added[key_id] = max(now, known_at + timedelta(microseconds=1))
    if added:
        stored = [name for name in facts[0] if name in kind.table.c]
        rows = [
            (
                *(_row_id(key_id, known_at), key_id, dataset_id, known_at, now),
                *(by_key[key_id][name] for name in stored),
            )
            for key_id, known_at in added.items()
        ]
        columns = (kind.row_id, "key_id", "dataset_id", "known_at", "ingested_at", *stored)
        upsert(connection, kind.table, columns, rows, update=False)
        _bump(connection, dataset_id, kind.name, len(added), now)
    return added


def _undated(
    connection: Connection, kind: _Kind, dataset_id: str
) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return what was said last of each thing that has no first day, by its key."""
    if "start_date" not in kind.key:
        return {}
    table = kind.table
    columns = [table.c[name] for name in (*kind.key, *kind.said)]
    query = select(*columns).where(table.c.dataset_id == dataset_id, table.c.start_date.is_(None))
    rows = [tuple(row) for row in connection.execute(query.order_by(table.c.known_at))]
    return {row[: len(kind.key)]: row[len(kind.key) :] for row in rows}


def _key_id(kind: _Kind, dataset_id: str, fact: Row) -> str:
    return content_hash([kind.name, dataset_id, *(fact[name] for name in (*kind.key, kind.stated))])


def _row_id(key_id: str, known_at: datetime) -> str:
    return content_hash([key_id, known_at])


def _said(kind: _Kind, fact: Row) -> tuple[Any, ...]:
    return tuple(fact[name] for name in kind.said)


def _newest_versions(
    connection: Connection, kind: _Kind, key_ids: Sequence[str]
) -> dict[str, tuple[datetime, tuple[Any, ...]]]:
    table, newest = kind.table, {}
    columns = [table.c[name] for name in ("key_id", "known_at", *kind.said)]
    for some in _chunks(key_ids):
        query = select(*columns).where(table.c.key_id.in_(some)).order_by(table.c.known_at)
        for key_id, known_at, *said in connection.execute(query):
            newest[key_id] = (known_at, tuple(said))
    return newest


def _add_links(
    connection: Connection, dataset_id: str, facts: Sequence[Row], added: Mapping[str, datetime]
) -> int:
    """Link articles, and versions of them just added, to whom they are about."""
    now, pairs = datetime.now(UTC), []
    for fact in facts:
        key_id, first = _key_id(NEWS, dataset_id, fact), fact["timestamp"]
        for known_at in {first, added.get(key_id, first)}:
            article_id = _row_id(key_id, known_at)
            pairs += [(article_id, name, known_at) for name in fact["instrument_ids"]]
    issuers = _issuers(connection, sorted({name for _, name, _ in pairs}))
    rows = {
        content_hash([article_id, name]): (article_id, issuers.get(name), name, known_at, now)
        for article_id, name, known_at in pairs
    }
    links = reference.news_links
    for some in _chunks(list(rows)):
        for link_id in connection.execute(select(links.c.link_id).where(links.c.link_id.in_(some))):
            del rows[link_id[0]]
    columns = ("article_id", "issuer_id", "instrument_id", "known_at", "ingested_at")
    listed = [(link_id, *row) for link_id, row in rows.items()]
    if listed:
        upsert(connection, links, ("link_id", *columns), listed, update=False)
        _bump(connection, dataset_id, "news_links", len(listed), now)
    return len(listed)


def _issuers(connection: Connection, instrument_ids: Sequence[str]) -> dict[str, str]:
    table = historical.instruments.c
    found: dict[str, str] = {}
    for some in _chunks(instrument_ids):
        query = select(table.instrument_id, table.issuer_id).where(table.instrument_id.in_(some))
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def _newest(
    connection: Connection,
    kind: _Kind,
    dataset_id: str,
    as_of: datetime,
    chosen: Sequence[ColumnElement[bool]],
    limit: int | None = None,
) -> list[Row]:
    """Return of each thing that facts are about the one stated last, in its newest version."""
    table = kind.table.c
    # What is known later is cut before versions are compared, or it would hide what was known.
    known = (table.dataset_id == dataset_id, table.known_at <= as_of, *chosen)
    rank = (
        func.row_number()
        .over(
            partition_by=[table[name] for name in kind.about],
            order_by=[table[kind.stated].desc(), table.known_at.desc(), table[kind.row_id].desc()],
        )
        .label("rank")
    )
    ranked = select(kind.table, rank).where(*known).subquery()
    order = [ranked.c[name] for name in kind.about]
    query = select(*(column for column in ranked.c if column.name != "rank"))
    query = query.where(ranked.c.rank == 1).order_by(ranked.c.known_at.desc(), *order).limit(limit)
    return _rows(connection.execute(query))


def _bump(connection: Connection, dataset_id: str, kind: str, rows: int, now: datetime) -> None:
    table = reference.reference_revisions
    mine = (table.c.dataset_id == dataset_id, table.c.kind == kind)
    old = connection.execute(select(table.c.revision, table.c.row_count).where(*mine)).one_or_none()
    revision, before = old or (0, 0)
    columns = ("dataset_id", "kind", "revision", "row_count", "ingested_at")
    upsert(connection, table, columns, [(dataset_id, kind, revision + 1, before + rows, now)])


def _known_value(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def _chunks(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), LOOK_UP):
        yield items[start : start + LOOK_UP]


def _rows(found: Iterable[Any]) -> list[Row]:
    return [dict(row._mapping) for row in found]
