"""What other tools read of an exported dataset, and what an export never does."""

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy

from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.jobs.export import ExportKind, export_dataset, export_named
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.selection import Selection
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
DATASET = {
    "source": "test",
    "market_id": "US_EQ",
    "adjustment": "AS_TRADED",
    "synthetic_bars": False,
    "description": "a test",
    "survivorship": "unknown",
}
CLOSE = {
    "A.US": [100.0, 102.0, 104.0, 53.0, 54.0, 55.0, 56.0, 57.0, 58.0],  # splits 2 for 1 in row 3
    "B.US": [20.0, 21.0, 22.0, 23.0, 24.0, 25.0, 26.0, 27.0, 28.0],
}


def bars(name):
    close = np.array(CLOSE[name])
    columns = {"open": close - 1, "high": close + 2, "low": close - 2, "close": close}
    volume = np.full(len(close), 1000.0)
    return columns | {"trade_date": SESSIONS, "adjusted_close": close, "volume": volume}


def fill(store, dataset_id):
    facts = {"asset_class": "EQUITY", "exchange": None, "currency": "USD", "sector": None}
    store.write_dataset(DATASET | {"dataset_id": dataset_id})
    members = [
        facts | {"instrument_id": name, "symbol": name[0], "issuer_id": name, "name": name}
        for name in CLOSE
    ]
    store.write_instruments(dataset_id, members)
    for name in CLOSE:
        prices = bars(name)
        if name == "B.US":
            prices = {key: values[2:] for key, values in prices.items()}
        store.write_prices(dataset_id, name, prices, source="test")
    split = {"ex_date": date(2024, 1, 5), "action_type": "SPLIT", "value": 2.0, "source": "test"}
    store.write_actions(dataset_id, "A.US", [split])


@pytest.fixture
def stores(sqlite_database, tmp_path):
    historical = HistoricalStore(sqlite_database)
    fill(historical, "demo")
    settings = Settings(tmp_path / "home", "unused", "unused")
    return Stores(settings, historical, RuntimeStore(sqlite_database))


@pytest.fixture
def export(stores, tmp_path):
    def exported(kind=ExportKind.PARQUET, folder="out", dataset="demo", **wanted):
        return export_dataset(stores, Selection(dataset, **wanted), kind, tmp_path / folder)

    return exported


def test_pandas_reads_the_table_in_one_line(export, stores, tmp_path):
    report = export()

    frame = pd.read_parquet(tmp_path / "out" / "prices.parquet")

    panel = panel_of(stores, "demo")
    assert report.bars == len(frame) == 9 + 7
    assert str(frame["session"].dtype).startswith("datetime64") and frame["session"].dt.tz is None
    assert frame["instrument_id"].dtype == "category"
    close = frame.pivot_table("close", "session", "instrument_id", observed=True)
    np.testing.assert_array_equal(close.to_numpy(), panel.close)
    assert frame.set_index("session").query("split != 1").index[0] == pd.Timestamp("2024-01-05")


def test_symbols_and_days_choose_what_is_written(export, tmp_path):
    report = export(symbols=["A"], start=date(2024, 1, 6), end=date(2024, 1, 10))

    frame = pd.read_parquet(tmp_path / "out" / "prices.parquet")

    assert (report.instruments, report.first, report.last) == (1, "2024-01-08", "2024-01-10")
    assert frame["close"].tolist() == [54.0, 55.0, 56.0]


def test_a_nautilus_catalog_holds_instruments_and_split_adjusted_bars(export, tmp_path):
    export(ExportKind.NAUTILUS)

    catalog = ParquetDataCatalog(tmp_path / "out")

    assert [str(each.id) for each in catalog.instruments()] == ["A.US", "B.US"]
    read = catalog.bars(bar_types=["A.US-1-DAY-LAST-EXTERNAL"])
    closes = [float(bar.close) for bar in read]
    assert closes == [50.0, 51.0, 52.0, 53.0, 54.0, 55.0, 56.0, 57.0, 58.0]
    assert [float(bar.volume) for bar in read][:4] == [2000.0, 2000.0, 2000.0, 1000.0]
    calendar = MarketCalendar.of("US_EQ")
    assert [bar.ts_init for bar in read] == [calendar.close_ns(day) for day in SESSIONS.tolist()]
    assert len(catalog.bars(bar_types=["B.US-1-DAY-LAST-EXTERNAL"])) == 7


class BuyOnce(Strategy):
    """Buys ten shares after the first bar."""

    def on_start(self):
        self.subscribe_bars(BarType.from_str("A.US-1-DAY-LAST-EXTERNAL"))

    def on_bar(self, bar):
        if not self.cache.orders():
            side, quantity = OrderSide.BUY, Quantity.from_int(10)
            self.submit_order(self.order_factory.market(bar.bar_type.instrument_id, side, quantity))


def test_a_nautilus_engine_runs_on_the_catalog(export, tmp_path):
    export(ExportKind.NAUTILUS)
    catalog = ParquetDataCatalog(tmp_path / "out")
    engine = BacktestEngine(
        BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
    )
    engine.add_venue(
        venue=Venue("US"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.CASH,
        starting_balances=[Money(10_000, USD)],
        base_currency=USD,
    )
    for instrument in catalog.instruments():
        engine.add_instrument(instrument)
    engine.add_data(catalog.bars())
    engine.add_strategy(BuyOnce())

    engine.run()

    (order,) = engine.cache.orders()
    (position,) = engine.cache.positions_open()
    assert engine.iteration == 9 + 7
    assert (position.quantity.as_decimal(), float(order.avg_px)) == (Decimal(10), 50.0)
    engine.dispose()


def test_an_export_of_the_same_data_is_left_as_it_is(export, tmp_path):
    first = export()
    before = (tmp_path / "out" / "prices.parquet").stat().st_ino

    again = export()

    assert (first.unchanged, again.unchanged) == (False, True)
    assert (tmp_path / "out" / "prices.parquet").stat().st_ino == before


@pytest.mark.parametrize("kind", ExportKind)
def test_changed_data_replace_an_older_export_and_leave_nothing_behind(
    export, stores, tmp_path, kind
):
    export(kind)
    changed = bars("B.US")
    changed["close"][-1] += 1.0
    stores.historical.write_prices("demo", "B.US", changed, source="test")

    assert not export(kind).unchanged
    assert export(kind).unchanged
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith("test.db")}
    assert left == {"home", "out"}


def test_a_damaged_export_is_written_again(export, tmp_path):
    export()
    (tmp_path / "out" / "prices.parquet").unlink()

    assert not export().unchanged
    assert len(pd.read_parquet(tmp_path / "out" / "prices.parquet")) == 16


def test_what_no_export_wrote_is_never_touched(export, stores, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    export()
    (tmp_path / "out" / "notes.txt").write_text("mine too")
    fill(stores.historical, "other")
    export(folder="third", dataset="other")

    with pytest.raises(StoreError, match="mine: holds files that no export wrote"):
        export(folder="mine")
    with pytest.raises(StoreError, match=r"notes\.txt is not of the export; move it"):
        export()
    with pytest.raises(StoreError, match="holds an export of dataset 'other'"):
        export(folder="third")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_exported_is_named(export, stores, tmp_path):
    with pytest.raises(ConfigError, match=r"has no session from 2025-01-02 .* it has 2024-01-02"):
        export(start=date(2025, 1, 2))
    with pytest.raises(ConfigError, match="'NOPE': no instrument goes by that name"):
        export(symbols=["NOPE"])
    with pytest.raises(ConfigError, match="--to: unknown 'xlsx'; known: parquet, nautilus"):
        export_named(stores.settings, Selection("demo"), "xlsx", tmp_path / "out")
    assert not (tmp_path / "out").exists()
