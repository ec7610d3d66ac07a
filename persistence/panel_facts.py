"""Facts, index members and dated sectors on a market panel, kept as one file beside it.

1. `with_facts` asks for the revisions of the dataset's facts. Without any the panel stays as it is;
   their hash, with that of the prices, is the name of the cached file.
2. A miss reads what is stored once and lays it onto the panel's sessions and columns: a fact may be
   used from the first session whose close is not before its `known_at`.
3. The panel's new fingerprint is a hash of its prices' fingerprint and of what was laid onto it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, Self
from zipfile import BadZipFile

import numpy as np
from sqlalchemy import Connection, Select, Text, cast, select

from persistence.arrow import arrow_json, pa, pc
from persistence.reference_store import indexes_of, revisions_of
from persistence.tables import historical, reference
from persistence.whole_files import whole_file
from prometheus_nt.domain.calendar import TIMEZONES, MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, StoreError
from prometheus_nt.domain.facts import COLUMNS, Facts
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import ANNUAL, FLOWS, NEWS_ITEM, QUARTERLY, SHARES_ITEM, STOCKS
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray, content_hash
from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.engines.numerics.versions import group_numbers, superseded

Raw = tuple[Sequence[Any], ...]
"""Columns of a result."""

SUFFIX = {"QUARTERLY": QUARTERLY, "ANNUAL": ANNUAL}
BALANCES = (*STOCKS, SHARES_ITEM)
ITEMS = (*(flow + suffix for flow in FLOWS for suffix in SUFFIX.values()), *BALANCES, NEWS_ITEM)

_FORMAT = 1
"""Raised when the layout of the file changes, so that older files are not read."""


def with_facts(
    connection: Connection,
    panel: MarketPanel,
    dataset_id: str,
    cache_dir: Path,
    index: str | None = None,
) -> MarketPanel:
    """Return the panel with what its dataset knows besides prices, and with the index's members.

    Raises
    ------
    ConfigError
        If the dataset does not keep the members of `index`.
    """
    revisions = revisions_of(connection, dataset_id)
    _require_index(connection, dataset_id, index)
    if not revisions:
        return panel
    axes = _Axes.of(connection, panel, dataset_id)
    which = content_hash([index])[:8]
    key = content_hash([_FORMAT, panel.fingerprint, axes.market_id, revisions, axes.issuers])
    path = cache_dir / f"facts-{dataset_id}-{which}-{key}.npz"
    laid = _cached(path)
    if laid is None:
        laid = _Laid.made(
            _facts(connection, axes),
            None if index is None else _membership(connection, axes, index),
            _sectors(connection, axes),
        )
        _write(path, laid)
        _remove_older(path, f"facts-{dataset_id}-{which}")
    return laid.onto(panel)


def _require_index(connection: Connection, dataset_id: str, index: str | None) -> None:
    if index is None:
        return
    kept = indexes_of(connection, dataset_id)
    if index not in kept:
        known = ", ".join(kept) or "none; `prometheus data ingest-reference` brings them"
        raise ConfigError(
            f"data.index: dataset {dataset_id!r} keeps no members of {index!r}; it keeps: {known}"
        )


@dataclass(frozen=True, eq=False)
class _Axes:
    """Sessions and columns of a panel, and how to find them."""

    dataset_id: str
    market_id: str
    timezone: str
    sessions: SessionArray
    closes_ns: IntArray
    instruments: tuple[str, ...]
    issuers: tuple[str | None, ...]

    @classmethod
    def of(cls, connection: Connection, panel: MarketPanel, dataset_id: str) -> Self:
        table, member = historical.instruments.c, historical.dataset_instruments.c
        query = (
            select(table.instrument_id, table.issuer_id)
            .join(historical.dataset_instruments, member.instrument_id == table.instrument_id)
            .where(member.dataset_id == dataset_id)
        )
        issuer = {row.instrument_id: row.issuer_id for row in connection.execute(query)}
        market = select(historical.datasets.c.market_id).where(
            historical.datasets.c.dataset_id == dataset_id
        )
        market_id = connection.execute(market).scalar_one()
        calendar = MarketCalendar.of(market_id)
        closes = calendar.closes_ns[calendar.rows(panel.sessions)]
        issuers = tuple(issuer.get(name) for name in panel.instruments)
        return cls(
            *(dataset_id, market_id, TIMEZONES[market_id], panel.sessions, closes),
            *(panel.instruments, issuers),
        )

    def rows_known(self, moments_ns: IntArray) -> IntArray:
        """Return the first row whose close is not before each moment; T if there is none."""
        return np.searchsorted(self.closes_ns, moments_ns).astype(np.int64)

    def rows_from(self, days: SessionArray) -> IntArray:
        """Return the first row that is not before each day; 0 where the day is not known."""
        rows = np.searchsorted(self.sessions, days)
        return np.where(np.isnat(days), 0, rows).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Laid:
    """What was laid onto a panel, and its hash."""

    facts: Facts | None
    membership: BoolArray | None
    sectors: SectorHistory | None
    content: str

    @classmethod
    def made(
        cls, facts: Facts | None, membership: BoolArray | None, sectors: SectorHistory | None
    ) -> Self:
        return cls(facts, membership, sectors, content_hash([facts, membership, sectors]))

    def onto(self, panel: MarketPanel) -> MarketPanel:
        return replace(
            panel,
            facts=self.facts,
            membership=self.membership,
            sector_history=self.sectors,
            fingerprint=content_hash([panel.fingerprint, self.content]),
            _wall=None,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        arrays = {"content": np.array(self.content)}
        if self.facts is not None:
            arrays |= {f"facts_{name}": getattr(self.facts, name) for name in COLUMNS}
            arrays["facts_items"] = np.array(self.facts.items)
        if self.membership is not None:
            arrays["membership"] = self.membership
        if self.sectors is not None:
            arrays["sectors_since"] = self.sectors.since
            arrays["sectors_codes"] = self.sectors.codes
            arrays["sectors_names"] = np.array(self.sectors.names, dtype=np.str_)
        return arrays

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        facts = sectors = None
        if "facts_items" in arrays:
            columns = {name: arrays[f"facts_{name}"] for name in COLUMNS}
            facts = Facts(items=tuple(arrays["facts_items"].tolist()), _cut=False, **columns)
        if "sectors_since" in arrays:
            names = tuple(arrays["sectors_names"].tolist())
            sectors = SectorHistory(arrays["sectors_since"], arrays["sectors_codes"], names)
        return cls(facts, arrays.get("membership"), sectors, str(arrays["content"]))


@dataclass(frozen=True, eq=False)
class _Points:
    """Facts about columns before they are put in order, arrays of one length.

    Attributes
    ----------
    moment : nanoseconds at which each became known
    """

    column: IntArray
    item: IntArray
    period_end: SessionArray
    moment: IntArray
    value: FloatArray


def _facts(connection: Connection, axes: _Axes) -> Facts | None:
    """Return the figures and the news of the panel's columns known by its last close.

    None if the dataset keeps neither; none, if it does, and nothing was known yet.
    """
    parts = [
        found
        for found in (_figures(connection, axes), _news(connection, axes))
        if found is not None
    ]
    if not parts:
        return None
    names = ("column", "item", "period_end", "moment", "value")
    all_of = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    row = axes.rows_known(all_of["moment"])
    known = np.flatnonzero(row < len(axes.sessions))
    # By the instant within a session; the rest makes the order the same on every engine.
    keys = [all_of[name][known] for name in ("value", "period_end", "item", "column", "moment")]
    order = known[np.lexsort(keys)]
    return Facts(
        items=ITEMS,
        known_at=axes.sessions[row[order]],
        _cut=False,
        **{name: all_of[name][order] for name in names if name != "moment"},
    )


def _figures(connection: Connection, axes: _Axes) -> _Points | None:
    """Return every figure of every statement, in the versions that were the newest once."""
    table = reference.financial_statements.c
    query = select(
        *(table[name] for name in ("issuer_id", "statement_type", "frequency", "period_end")),
        *(table.stated_at, table.known_at, cast(table["values"], Text)),
    ).where(table.dataset_id == axes.dataset_id)
    found = _columns(connection, query)
    if found is None:
        return None
    issuers, types, frequencies, ends, stated, known, texts = found
    kind, frequency = np.array(types), np.array(frequencies)
    period, moment = np.array(ends, dtype="datetime64[D]"), _nanoseconds(known)
    group = group_numbers(np.array(issuers), kind, frequency, period)
    values = _parsed(texts, (*FLOWS, *BALANCES))
    values[superseded(group, _nanoseconds(stated), moment)] = np.nan
    items = _items(kind, frequency)
    row, name = np.nonzero(np.isfinite(values) & (items >= 0))
    place, column = _onto_columns([issuers[at] for at in row.tolist()], axes.issuers)
    row, name = row[place], name[place]
    return _Points(column, items[row, name], period[row], moment[row], values[row, name])


def _items(kind: np.ndarray, frequency: np.ndarray) -> IntArray:
    """Return which item each value of a statement is, (R, flows + balances); -1 if none.

    Flows are those of income statements: a cash flow statement repeats some of them.
    """
    items = np.full((len(kind), len(FLOWS) + len(BALANCES)), -1, dtype=np.int64)
    items[kind == "BS", len(FLOWS) :] = [ITEMS.index(name) for name in BALANCES]
    for name, suffix in SUFFIX.items():
        rows = (kind == "IS") & (frequency == name)
        items[rows, : len(FLOWS)] = [ITEMS.index(flow + suffix) for flow in FLOWS]
    return items


def _news(connection: Connection, axes: _Axes) -> _Points | None:
    """Return how many articles of each day about each column were known after each of them."""
    article, link = reference.news_articles.c, reference.news_links.c
    query = (
        select(link.instrument_id, article.timestamp)
        .select_from(reference.news_articles)
        .join(reference.news_links, link.article_id == article.article_id)
        # A later version is no second article.
        .where(article.dataset_id == axes.dataset_id, article.known_at == article.timestamp)
    )
    found = _columns(connection, query)
    if found is None:
        return None
    place, column = _onto_columns(found[0], axes.instruments)
    moment = _nanoseconds(found[1])[place]
    day = _local_days(moment, axes.timezone)
    order = np.lexsort((moment, day, column))
    column, day, moment = column[order], day[order], moment[order]
    group = group_numbers(column, day)
    count = np.arange(len(group)) - np.searchsorted(group, group) + 1
    item = np.full(len(group), ITEMS.index(NEWS_ITEM))
    return _Points(column, item, day, moment, count.astype(np.float64))


def _membership(connection: Connection, axes: _Axes, index: str) -> BoolArray:
    """Return who was known to belong to the index after each close, (T, N)."""
    table = reference.index_memberships.c
    names = ("instrument_id", "start_date", "end_date", "stated_at", "known_at")
    query = select(*(table[name] for name in names)).where(
        table.dataset_id == axes.dataset_id, table.index_id == index
    )
    changes = np.zeros((len(axes.sessions) + 1, len(axes.instruments)), dtype=np.int64)
    instruments, starts, ends, stated, known = _columns(connection, query) or ((),) * 5
    place, column = _onto_columns(instruments, axes.instruments)
    start, moment = _days(starts)[place], _nanoseconds(known)[place]
    end = _days(ends)[place]
    stay = group_numbers(column, start.astype(np.int64))
    current = np.flatnonzero(~superseded(stay, _nanoseconds(stated)[place], moment))
    current = current[np.lexsort((moment[current], stay[current]))]
    column, stay = column[current], stay[current]
    told = axes.rows_known(moment[current])
    # What is said of a stay holds until something else is.
    until = np.append(told[1:], len(axes.sessions))
    until[np.append(stay[1:] != stay[:-1], True)] = len(axes.sessions)
    end_row = np.where(np.isnat(end[current]), len(axes.sessions), axes.rows_from(end[current]))
    first = np.maximum(told, axes.rows_from(start[current]))
    after = np.maximum(np.minimum(until, end_row), first)
    np.add.at(changes, (first, column), 1)
    np.subtract.at(changes, (after, column), 1)
    member: BoolArray = np.cumsum(changes[:-1], axis=0) > 0
    return member


def _sectors(connection: Connection, axes: _Axes) -> SectorHistory | None:
    """Return the sectors by the time they were known; None if none carries a date.

    Where some carry dates no other is used: today's sector of one name must not stand beside
    that of ten years ago of another.
    """
    table = reference.sector_history.c
    names = ("issuer_id", "sector", "start_date", "stated_at", "known_at")
    query = select(*(table[name] for name in names)).where(table.dataset_id == axes.dataset_id)
    found = _columns(connection, query)
    if found is None:
        return None
    place, column = _onto_columns(found[0], axes.issuers)
    sector, start = np.array(found[1])[place], _days(found[2])[place]
    stated, moment = _nanoseconds(found[3])[place], _nanoseconds(found[4])[place]
    row = np.maximum(axes.rows_known(moment), axes.rows_from(start))
    # The latest start wins, then what was stated last, then its newest version; NaT is smallest.
    order = np.lexsort((sector, moment, stated, start.astype(np.int64)))
    order = order[row[order] < len(axes.sessions)]
    eras = np.unique(np.append(row[order], 0))
    newest = np.full((len(eras), len(axes.instruments)), -1, dtype=np.int64)
    places = (np.searchsorted(eras, row[order]), column[order])
    np.maximum.at(newest, places, np.arange(len(order)))
    np.maximum.accumulate(newest, axis=0, out=newest)
    # The place after the last is what -1, nothing known, finds.
    named = np.array([*sector[order].tolist(), None], dtype=object)[newest]
    changed = np.append(True, (newest[1:] != newest[:-1]).any(axis=1))
    days = axes.sessions[eras[changed]].astype(object)
    return SectorHistory.of(dict(zip(days, map(tuple, named[changed]), strict=True)))


def _columns(connection: Connection, query: Select[Any]) -> Raw | None:
    rows = connection.execute(query).all()
    return tuple(zip(*rows, strict=True)) if rows else None


def _parsed(documents: Sequence[str], names: Sequence[str]) -> FloatArray:
    """Return the numbers of JSON documents under `names`, (R, K); NaN where there is none."""
    lines = BytesIO("\n".join(documents).encode())
    options = arrow_json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.float64()) for name in names]),
        unexpected_field_behavior="ignore",
    )
    table = arrow_json.read_json(lines, parse_options=options)
    columns = [table[name].fill_null(np.nan).to_numpy() for name in names]
    parsed: FloatArray = np.column_stack(columns)
    return parsed


def _nanoseconds(moments: Sequence[datetime]) -> IntArray:
    # numpy knows no time zones; these are all UTC.
    naive = np.array([moment.replace(tzinfo=None) for moment in moments], dtype="datetime64[us]")
    return naive.astype(np.int64) * 1000


def _days(dates: Sequence[date | None]) -> SessionArray:
    return np.array(dates, dtype="datetime64[D]")


def _local_days(moments_ns: IntArray, timezone: str) -> SessionArray:
    local = pc.local_timestamp(pa.array(moments_ns).cast(pa.timestamp("ns", tz=timezone)))
    days: SessionArray = local.to_numpy(zero_copy_only=False).astype("datetime64[D]")
    return days


def _onto_columns(names: Sequence[str], columns: Sequence[str | None]) -> tuple[IntArray, IntArray]:
    """Return each pair of a place in `names` and a column of that name; several may share one."""
    number = {name: code for code, name in enumerate(sorted({*columns} - {None}, key=str))}
    of_column = np.array([number.get(name, -1) for name in columns], dtype=np.int64)
    of_name = np.array([number.get(name, -2) for name in names], dtype=np.int64)
    by_number = np.argsort(of_column, kind="stable")
    first, after = (np.searchsorted(of_column[by_number], of_name, side) for side in SIDES)
    count = after - first
    place = np.repeat(np.arange(len(of_name)), count)
    within = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    return place, by_number[first[place] + within].astype(np.int64)


SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")


def _cached(path: Path) -> _Laid | None:
    """Return what a file holds, or None if it is absent or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _Laid.of(dict(arrays))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, DataError):
        return None


def _write(path: Path, laid: _Laid) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez(file, allow_pickle=False, **laid.arrays())
    except OSError as unwritable:
        raise StoreError(f"{path.parent}: facts cannot be cached: {unwritable}") from unwritable


def _remove_older(path: Path, stem: str) -> None:
    ours = re.compile(rf"{re.escape(stem)}-[0-9a-f]{{16}}\.npz")
    for file in path.parent.iterdir():
        if ours.fullmatch(file.name) and file.name != path.name:
            file.unlink(missing_ok=True)
