"""A backtest from Python: two schedules of one sleeve on five stocks as traded.

Run with: python examples/backtest.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.sample import sample_ohlcv
from prometheus_nt.config import load_config
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

CONFIG = Path(__file__).parent.parent / "configs" / "us_core_long_eq_ohlcv.yaml"
WINDOW = ["sessions.start=2005-01-03", "sessions.end=2008-12-31"]


def main() -> None:
    """Run the sleeve monthly and weekly, and compare what the trading cost."""
    with TemporaryDirectory() as home:
        settings = Settings.from_environment({"PROMETHEUS_HOME": home})
        with open_stores(settings, upgrade=True) as stores:
            ingest(sample_ohlcv(), stores.historical)
            for schedule in ("monthly", "weekly"):
                sleeve = f"sleeves=[{{horizon: 21, rebalance: {schedule}}}]"
                (run,) = run_backtest(load_config([CONFIG], [*WINDOW, sleeve]), stores)
                metrics = run.metrics
                print(
                    f"{schedule:<8} return {metrics['cagr']:7.2%} a year, "
                    f"costs {metrics['cost_drag_annual']:.2%} a year, {metrics['num_fills']} fills"
                )


if __name__ == "__main__":
    main()
