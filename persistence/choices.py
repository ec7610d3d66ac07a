"""What there is to choose from: strategies and sleeves, regions, markets, modes, sessions."""

from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database
from persistence.listings import MOST_RUNS, RARE
from persistence.tables import governance, operations
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import REGIONS
from prometheus_nt.domain.runs import Mode

MOST_PORTFOLIOS = 1_000


def choices(database: Database) -> dict[str, Any]:
    """Return what has been recorded that people choose by.

    Returns
    -------
    dict of `strategies` (rows of strategy_id, sleeve_id, portfolio_id), `modes`, `regions`,
    `markets`, and `first_session` and `last_session` of the newest runs and days (None without any)
    """
    runs, days = tables.backtest_runs.c, operations.engine_runs.c
    newest = sa.select(runs.market_id, runs.start_date, runs.end_date)
    newest = newest.order_by(runs.created_at.desc()).limit(MOST_RUNS)
    with database.reader() as connection:
        found = connection.execute(newest).all()
        first_day, last_day = connection.execute(
            sa.select(sa.func.min(days.as_of_date), sa.func.max(days.as_of_date))
        ).one()
        markets = {row.market_id for row in found} | _traded_markets(connection)
        regions = {region for region, market in REGIONS.items() if market in markets}
        return {
            "strategies": _strategies(connection),
            "modes": _modes(connection),
            "regions": sorted(regions | _regions_of_days(connection)),
            "markets": sorted(markets),
            "first_session": _least([first_day, *(row.start_date for row in found)]),
            "last_session": _most([last_day, *(row.end_date for row in found)]),
        }


def _strategies(connection: Connection) -> list[dict[str, Any]]:
    known = governance.portfolios.c
    columns = (known.strategy_id, known.sleeve_id, known.portfolio_id)
    query = sa.select(*columns).order_by(*columns).limit(MOST_PORTFOLIOS)
    return [dict(row) for row in connection.execute(query).mappings()]


def _traded_markets(connection: Connection) -> set[str]:
    """Return the markets that registered strategies name; a campaign's runs hide no other."""
    query = sa.select(governance.strategies.c.metadata).limit(MOST_PORTFOLIOS)
    named = (document or {} for document in connection.execute(query).scalars())
    return {document["market_id"] for document in named if "market_id" in document}


def _regions_of_days(connection: Connection) -> set[str]:
    days = operations.engine_runs.c
    newest = sa.select(days.region).order_by(days.as_of_date.desc()).limit(MOST_RUNS)
    return set(connection.execute(newest).scalars())


def _modes(connection: Connection) -> list[str]:
    """Return the modes of which there are runs, one seek of an index for each."""
    runs, days = tables.backtest_runs.c, operations.engine_runs.c
    found = []
    for mode in Mode:
        of_mode = sa.select(sa.literal(1)).where(runs.mode == mode.value).limit(1)
        if mode is not Mode.BACKTEST:
            of_mode = of_mode.where(sa.text(RARE))
        of_days = sa.select(sa.literal(1)).where(days.mode == mode.value).limit(1)
        if any(connection.execute(query).first() for query in (of_mode, of_days)):
            found.append(mode.value)
    return found


def _least(days: list[date | None]) -> date | None:
    return min((day for day in days if day is not None), default=None)


def _most(days: list[date | None]) -> date | None:
    return max((day for day in days if day is not None), default=None)
