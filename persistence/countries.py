"""Where instruments are: the country of the issuer, and what tells it where that is not stored."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from persistence.database import Database
from persistence.tables.historical import instruments, issuers

MOST_AT_ONCE = 500
"""Names of one statement: SQLite takes no more than 999 values."""


@dataclass(frozen=True)
class Home:
    """What is stored of where an instrument is; None is not stored."""

    country: str | None
    exchange: str | None
    market_id: str | None


def homes_of(database: Database, names: Collection[str]) -> dict[str, Home]:
    """Return where instruments are; those that are not stored are absent."""
    columns = (instruments.c.instrument_id, issuers.c.country, instruments.c.exchange)
    query = sa.select(*columns, instruments.c.market_id).select_from(
        instruments.outerjoin(issuers, issuers.c.issuer_id == instruments.c.issuer_id)
    )
    ordered = sorted(names)
    found: dict[str, Home] = {}
    with database.reader() as connection:
        for first in range(0, len(ordered), MOST_AT_ONCE):
            part = ordered[first : first + MOST_AT_ONCE]
            rows = connection.execute(query.where(instruments.c.instrument_id.in_(part)))
            found |= {name: Home(*home) for name, *home in rows}
    return found
