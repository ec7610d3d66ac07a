"""A small market behind stores, for jobs that ask a dataset for its panel."""

from collections.abc import Callable
from datetime import date

import numpy as np
import pytest

from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs import sessions
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

DATASET = {
    "dataset_id": "data",
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}


def _small_market(until: date = date(2020, 12, 31), revised: float = 1.0) -> MarketPanel:
    days = MarketCalendar.of("US_EQ").between(date(2019, 1, 2), date(2020, 12, 31))
    shape = (len(days), 5)
    rng = np.random.default_rng(6)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0003, 0.012, shape), axis=0))
    close[100, 0] *= revised
    volume = rng.uniform(1e5, 1e6, shape) * np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    rows = int(np.searchsorted(days, np.datetime64(until), side="right"))
    bars = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    return MarketPanel(
        sessions=days[:rows].copy(),
        instruments=("A.US", "B.US", "C.US", "D.US", "E.US"),
        sectors=("X", "X", "Y", "Y", None),
        **{name: values[:rows].copy() for name, values in bars.items()},
        volume=volume[:rows].copy(),
        split=np.ones((rows, 5)),
        dividend=np.zeros((rows, 5)),
        fingerprint=content_hash([close[:rows]]),
    )


@pytest.fixture
def small_market() -> Callable[..., MarketPanel]:
    """Five names over two years, cut at a day, one price revised."""
    return _small_market


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[MarketPanel], None]:
    """Make a panel the one of every dataset."""

    def put(panel: MarketPanel) -> None:
        monkeypatch.setattr(sessions, "panel_of", lambda _stores, _dataset: panel)

    return put


@pytest.fixture
def market_stores(database: Database, tmp_path, serve: Callable[[MarketPanel], None]) -> Stores:
    serve(_small_market())
    settings = Settings(home=tmp_path / "home", historical_url="unused", runtime_url="unused")
    historical = HistoricalStore(database)
    historical.write_dataset(DATASET)
    return Stores(settings, historical, RuntimeStore(database))
