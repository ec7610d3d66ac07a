"""What a source may know besides prices: accounts, news, index members, sectors and holidays.

Every record carries `known_at`, the first instant at which anybody could have known it. A restated
figure is a second record of the same period with a later `known_at`; nothing is overwritten.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol


class StatementType(StrEnum):
    """IS: income statement. BS: balance sheet. CF: cash flow statement."""

    IS = "IS"
    BS = "BS"
    CF = "CF"


class Frequency(StrEnum):
    """What a figure of a statement covers: a fiscal quarter or a fiscal year."""

    QUARTERLY = "QUARTERLY"
    ANNUAL = "ANNUAL"


@dataclass(frozen=True)
class Statement:
    """One statement of one period, as it was first published or later restated.

    Attributes
    ----------
    period_end : date
    report_date : date or None
        Day of publication as the source names it.
    known_at : datetime
        Aware. Where the source gives a day only, the end of that day in the market's time zone.
    values : mapping of names to numbers
        Under the names of `domain.profiles` where one fits (`revenue`, `equity`, ...), under the
        source's own name otherwise; unknown figures are absent.
    """

    issuer_id: str
    statement_type: StatementType
    frequency: Frequency
    period_end: date
    report_date: date | None
    known_at: datetime
    currency: str
    values: Mapping[str, float]
    source: str


@dataclass(frozen=True)
class NewsArticle:
    """One article and the instruments it is about; `known_at` is when it was published."""

    known_at: datetime
    source: str
    headline: str
    instrument_ids: tuple[str, ...]
    body: str | None = None
    language: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexMembership:
    """A stay of an instrument in an index: from `start` until before `end` (None: still there)."""

    index_id: str
    instrument_id: str
    start: date | None
    end: date | None
    known_at: datetime
    source: str


@dataclass(frozen=True)
class SectorAssignment:
    """The sector of an issuer from `start` on, until another assignment follows."""

    issuer_id: str
    sector: str
    industry: str | None
    start: date | None
    known_at: datetime
    source: str


@dataclass(frozen=True)
class Holiday:
    """A weekday on which a market stays closed."""

    market_id: str
    day: date
    name: str
    source: str


class ReferenceSource(Protocol):
    """Facts about instruments besides their prices; a source without one kind returns nothing.

    The methods about one instrument may be called from several threads, in any order, and again.
    """

    def statements(self, instrument_id: str) -> Sequence[Statement]: ...

    def sectors(self, instrument_id: str) -> Sequence[SectorAssignment]: ...

    def news(self, instrument_id: str, start: date, end: date) -> Iterable[NewsArticle]: ...

    def memberships(self, index_id: str) -> Sequence[IndexMembership]: ...

    def holidays(self, market_id: str) -> Sequence[Holiday]: ...
