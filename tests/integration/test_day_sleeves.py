"""A day of several sleeves: what their engines share is made once, and nobody can tell."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.tables import runtime as tables
from prometheus_nt.actors import pipeline
from prometheus_nt.config import load_config
from prometheus_nt.domain.phases import RunPhase
from prometheus_nt.jobs import day
from prometheus_nt.jobs.day import DayRunner, ensure_day

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
DAY = date(2004, 6, 1)
SAME = (
    tables.profiles,
    tables.stability_vectors,
    tables.fragility_measures,
    tables.regimes,
    tables.instrument_scores,
    tables.universe_members,
    tables.book_targets,
    tables.target_portfolios,
    tables.portfolio_risk_reports,
    tables.engine_decisions,
)
CLOCKS = {"created_at", "recorded_at"}


def two_sleeves():
    config = load_config([CONFIG], ["sessions.start=2004-01-02", "sessions.end=2004-06-30"])
    (sleeve,) = config.sleeves
    other = sleeve.model_copy(update={"horizon": 63, "sleeve_id": "US_CORE_LONG_EQ_H63"})
    return config.model_copy(update={"sleeves": (sleeve, other)})


def rows_of_day(stores):
    """Return what a day writes, in an order that does not depend on who made it."""
    run = ensure_day(two_sleeves(), DAY, stores)
    done = DayRunner(two_sleeves(), stores, "me").run_to_end(run)
    assert done.phase is RunPhase.COMPLETED
    found = {}
    with stores.runtime.database.writer() as connection:
        for table in SAME:
            columns = [column for column in table.columns if column.name not in CLOCKS]
            found[table.name] = sorted(map(repr, connection.execute(sa.select(*columns))))
            connection.execute(sa.delete(table))
        connection.exec_driver_sql("DELETE FROM engine_run_attempts")
        connection.exec_driver_sql("DELETE FROM engine_runs")
    return found


def test_sleeves_that_share_engines_write_the_rows_of_sleeves_that_do_not(stores, monkeypatch):
    shared = rows_of_day(stores)

    monkeypatch.setattr(day, "SHARED_FROM", 99)
    alone = rows_of_day(stores)

    assert shared == alone
    assert len(shared["target_portfolios"]) == 2
    assert all(shared[name] for name in ("instrument_scores", "universe_members", "regimes"))
    assert list(stores.settings.cache_dir.glob("day-*")) == []


def test_stages_that_nobody_hears_make_nothing_and_nobody_can_tell(stores, monkeypatch):
    books = []
    build = pipeline.PIPELINE[-2].compute
    portfolio = replace(
        pipeline.PIPELINE[-2],
        compute=lambda *heard, **more: books.append(1) or build(*heard, **more),
    )
    monkeypatch.setattr(day, "SHARED_FROM", 99)
    monkeypatch.setattr(
        day, "PIPELINE", (*pipeline.PIPELINE[:-2], portfolio, pipeline.PIPELINE[-1])
    )

    silent, asked = rows_of_day(stores), len(books)
    books.clear()
    monkeypatch.setattr(day, "silent_between", lambda table, *_: table)
    every = rows_of_day(stores)

    assert silent == every
    assert 2 < asked < len(books) / 4
