"""Who runs: strategies, portfolios, and engines with their settings, since their first run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Database, upsert
from persistence.tables import governance as tables


@dataclass(frozen=True)
class Registration:
    """What a run is about, in the words of the registries.

    engines : settings of each engine by its name: their hash, and their values.
    """

    strategy_id: str
    portfolio_id: str
    sleeve_id: str
    market_id: str
    code_hash: str
    version: str
    created_by: str
    engines: Mapping[str, tuple[str, dict[str, Any]]]


def register(database: Database, run: Registration) -> None:
    """Write what a run is about, all of it or nothing; what is known keeps its first time."""
    now = datetime.now(UTC)
    with database.writer() as connection:
        _seen(connection, tables.strategies, _strategy(run), now)
        _seen(connection, tables.portfolios, _portfolio(run), now)
        for name, (config_id, body) in run.engines.items():
            _once(
                connection,
                tables.engine_configs,
                {
                    "config_id": config_id,
                    "engine_name": name,
                    "version": run.version,
                    "config_body": body,
                    "created_at": now,
                    "created_by": run.created_by,
                },
            )
            _once(
                connection,
                tables.models,
                {
                    "model_id": f"{name}-{config_id}",
                    "code_hash": run.code_hash,
                    "engine_name": name,
                    "type": "ENGINE",
                    "config_id": config_id,
                    "created_at": now,
                    "created_by": run.created_by,
                },
            )


def _strategy(run: Registration) -> dict[str, Any]:
    return {
        "strategy_id": run.strategy_id,
        "name": run.strategy_id,
        "metadata": {"market_id": run.market_id},
    }


def _portfolio(run: Registration) -> dict[str, Any]:
    return {
        "portfolio_id": run.portfolio_id,
        "strategy_id": run.strategy_id,
        "sleeve_id": run.sleeve_id,
        "name": run.sleeve_id,
        "base_currency": "USD",
        "metadata": {"market_id": run.market_id},
    }


def _once(connection: Connection, table: sa.Table, row: dict[str, Any]) -> None:
    upsert(connection, table, tuple(row), [tuple(row.values())], update=False)


def _seen(connection: Connection, table: sa.Table, row: dict[str, Any], now: datetime) -> None:
    _once(connection, table, {**row, "created_at": now, "updated_at": now})
    key = next(iter(table.primary_key))
    connection.execute(sa.update(table).where(key == row[key.name]).values(updated_at=now))
