"""A notebook in a script: prices as pandas in one line, a run as a series of returns.

Run with: python examples/notebook.py
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.sample import sample_ohlcv
from prometheus_nt import load_panel, load_run
from prometheus_nt.config import load_config
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

CONFIG = Path(__file__).parent.parent / "configs" / "us_core_long_eq_ohlcv.yaml"
WINDOW = ["sessions.start=2005-01-03", "sessions.end=2006-12-29"]


def prepare() -> None:
    """Ingest the sample and make one run, as the command line does."""
    with open_stores(Settings.from_environment(), upgrade=True) as stores:
        ingest(sample_ohlcv(), stores.historical)
        run_backtest(load_config([CONFIG], WINDOW), stores)


def main() -> None:
    """Look at prices around Apple's split, then at what a run earned by month."""
    with TemporaryDirectory() as home:
        os.environ["PROMETHEUS_HOME"] = home
        prepare()

        panel = load_panel("sample_ohlcv", start="2005-02-23", end="2005-03-02", symbols=["AAPL"])
        print(panel.to_frame("close").join(panel.to_frame("total_return_index"), rsuffix=" index"))

        run = load_run("latest")
        monthly = (1.0 + run.returns).resample("ME").prod() - 1.0
        print(f"{run}: {len(monthly)} months, best {monthly.max():.1%}, worst {monthly.min():.1%}")


if __name__ == "__main__":
    main()
