"""One real run pinned to the share and the cent; `make golden` refreshes it, with its diff."""

import json
import os
from pathlib import Path

import pytest

from adapters.sample import sample_ohlcv
from persistence.artifacts import RunFolder
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.config import load_config
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

GOLDEN = Path("tests/golden/us_core_long_eq_h21_2003_2006.json")
WINDOW = ["sessions.start=2003-01-02", "sessions.end=2006-12-29"]


def test_the_golden_run_has_not_moved(sqlite_database, tmp_path):
    settings = Settings(tmp_path, "unused", "unused")
    stores = Stores(settings, HistoricalStore(sqlite_database), RuntimeStore(sqlite_database))
    ingest(sample_ohlcv(), stores.historical)
    config = load_config([Path("configs/us_core_long_eq_ohlcv.yaml")], WINDOW)

    (summary,) = run_backtest(config, stores)

    found = _digest(summary, RunFolder(settings.runs_dir, summary.run_id))
    if os.environ.get("PROMETHEUS_REFRESH_GOLDEN") == "1":
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    expected = json.loads(GOLDEN.read_text())
    assert found["fills"] == expected["fills"]
    assert found["order_list_hash"] == expected["order_list_hash"]
    assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-9)


def _digest(summary, folder):
    fills = folder.read_table("fills.parquet")
    columns = ("timestamp", "instrument_id", "side", "quantity", "price", "commission_usd")
    rows = zip(*(fills[name].tolist() for name in columns), strict=True)
    return {
        "order_list_hash": summary.order_list_hash,
        "metrics": {key: value for key, value in summary.metrics.items() if value is not None},
        "fills": [" ".join(str(value) for value in row) for row in rows],
    }
