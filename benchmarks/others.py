"""The orders of a verified run in backtrader and in zipline, against that run, as ratios of CPU.

1. `ours` makes verified runs of a variant of the campaign and saves the market and every order.
2. `in_backtrader` and `in_zipline` send the same whole-share orders at the same closes, to fill at
   the next open with the same spread and commissions; the final equities are compared.

The others neither plan nor record anything. What it costs them to take the market in (backtrader's
pandas feeds, zipline's ingestion) is told apart: the first ratio leaves it out, the second has it.
They need an environment of their own; one that is not installed there is left out.
Example: python -m venv ~/others && ~/others/bin/pip install backtrader zipline-reloaded pandas
         python benchmarks/others.py --python ~/others/bin/python
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

CASE = "--case"
"""Says that this process is to run one case."""

MARKET = "market.npz"
VARIANT = 12
"""Of the campaign: the one that plain Nautilus runs there as well."""
RUNS = 3
"""Verified runs whose mean is taken; the others run for long enough to run once."""

MISSING = 3
"""What a case exits with if its framework is not installed."""

MAX_GAP = 1e-5
"""Largest relative difference of the final equity: only ours rounds fees to cents and caps them,
and zipline keeps prices in thousandths of a dollar."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLOSC_NTHREADS"), "1")

Saved = Mapping[str, np.ndarray]
"""The market (T, N), its sessions (T,), orders as (row, column, shares), and what trading costs."""


def ours(folder: Path) -> dict[str, Any]:
    """Run the variant event by event on engine outputs that are there, mirror attached."""
    # The other cases run where nothing of ours is installed.
    sys.path.insert(0, str(Path(__file__).parent))
    from campaign import shared, variants
    from replay import Fill, build, collect_fills
    from workload import market

    panel, config, fills = market(), variants()[VARIANT], []
    shared(folder, panel, config).targets()

    def run() -> float:
        kept: list[Fill] = []
        table = shared(folder, panel, config).table()
        wired = build("sparse", panel, table=table, config=config)
        wired.mirror.attach(wired.engine.kernel.msgbus)
        collect_fills(wired, kept)
        wired.feed.run(0, len(panel) - 1)
        fills[:] = kept
        equity = wired.mirror.holdings[-1].equity
        wired.close()
        return equity

    began = _calm()
    equity = [run() for _ in range(RUNS)][-1]
    seconds = (time.process_time() - began) / RUNS
    _save(folder / MARKET, panel, config, fills)
    return {"cpu": seconds, "equity": equity, "fills": len(fills)}


def in_backtrader(folder: Path) -> dict[str, Any]:
    """Send the orders from a strategy over one pandas feed an instrument, without observers."""
    import backtrader as bt
    import pandas as pd

    saved = _load(folder)
    orders, per_share, minimum = _orders(saved), saved["per_share"].item(), saved["minimum"].item()

    class PerShare(bt.CommInfoBase):  # type: ignore[misc]
        params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_FIXED))

        def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:  # noqa: ARG002
            return max(per_share * abs(size), minimum)

    class Recorded(bt.Strategy):  # type: ignore[misc]
        def start(self) -> None:
            self.began, self.fills = time.process_time(), 0

        def next(self) -> None:
            for column, shares in orders.get(len(self) - 1, ()):
                send = self.buy if shares > 0 else self.sell
                send(data=self.datas[column], size=abs(shares))

        def notify_order(self, order: Any) -> None:
            self.fills += order.status == order.Completed

    began = _calm()
    cerebro = bt.Cerebro(stdstats=False)
    for frame in _frames(saved, pd):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.broker.setcash(saved["capital"].item())
    cerebro.broker.addcommissioninfo(PerShare())
    cerebro.broker.set_slippage_perc(saved["half_spread"].item(), slip_open=True, slip_out=True)
    cerebro.broker.set_checksubmit(False)
    cerebro.addstrategy(Recorded)
    strategy = cerebro.run()[0]
    ended, equity = time.process_time(), cerebro.broker.getvalue()
    return {"cpu": ended - strategy.began, "taking_in": strategy.began - began} | {
        "equity": equity,
        "fills": strategy.fills,
    }


def in_zipline(folder: Path) -> dict[str, Any]:
    """Send the orders from an algorithm over the daily bars of a bundle, default metrics."""
    import pandas as pd
    from zipline.algorithm import TradingAlgorithm
    from zipline.api import order, set_commission, set_slippage, sid
    from zipline.finance.commission import PerShare
    from zipline.finance.slippage import SlippageModel
    from zipline.finance.trading import SimulationParameters

    saved = _load(folder)
    orders, half_spread = _orders(saved), saved["half_spread"].item()

    class AtTheOpen(SlippageModel):  # type: ignore[misc]
        def process_order(self, data: Any, placed: Any) -> tuple[float, int]:
            price = data.current(placed.asset, "open")
            return price * (1.0 + half_spread * placed.direction), placed.open_amount

    def initialize(context: Any) -> None:
        context.row = -1
        set_slippage(AtTheOpen())
        per_share, minimum = saved["per_share"].item(), saved["minimum"].item()
        set_commission(PerShare(cost=per_share, min_trade_cost=minimum))

    def handle_data(context: Any, _data: Any) -> None:
        context.row += 1
        for column, shares in orders.get(context.row, ()):
            order(sid(column), shares)

    began = _calm()
    portal, calendar = _bundle(folder, saved)
    first, last = (pd.Timestamp(saved["sessions"][row]) for row in (0, -1))
    taken_in = time.process_time()
    done = TradingAlgorithm(
        SimulationParameters(first, last, calendar, capital_base=saved["capital"].item()),
        data_portal=portal,
        asset_finder=portal.asset_finder,
        trading_calendar=calendar,
        initialize=initialize,
        handle_data=handle_data,
        benchmark_returns=pd.Series(0.0, index=pd.DatetimeIndex(saved["sessions"])),
    ).run()
    ended = time.process_time()
    return {"cpu": ended - taken_in, "taking_in": taken_in - began} | {
        "equity": float(done["portfolio_value"].iloc[-1]),
        "fills": sum(map(len, done["transactions"])),
    }


def _bundle(folder: Path, saved: Saved) -> tuple[Any, Any]:
    """Return zipline's portal on the market, written as its bundles are, and its calendar."""
    import pandas as pd
    from zipline.assets import AssetDBWriter, AssetFinder
    from zipline.data.bcolz_daily_bars import BcolzDailyBarReader, BcolzDailyBarWriter
    from zipline.data.data_portal import DataPortal
    from zipline.utils.calendar_utils import get_calendar

    calendar = get_calendar("XNYS")
    first, last = (pd.Timestamp(saved["sessions"][row]) for row in (0, -1))
    bars, assets = str(folder / "bars.bcolz"), str(folder / "assets.sqlite")
    writer = BcolzDailyBarWriter(bars, calendar, first, last)
    writer.write(enumerate(_frames(saved, pd)))
    symbols = [f"S{number:04d}" for number in range(saved["close"].shape[1])]
    listed = pd.DataFrame({"symbol": symbols, "start_date": first, "end_date": last})
    listed["exchange"] = "NYSE"
    exchange = {"exchange": ["NYSE"], "canonical_name": ["NYSE"], "country_code": ["US"]}
    AssetDBWriter(assets).write(equities=listed, exchanges=pd.DataFrame(exchange))
    reader = BcolzDailyBarReader(bars)
    return DataPortal(AssetFinder(assets), calendar, first, equity_daily_reader=reader), calendar


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ours": ours,
    "backtrader": in_backtrader,
    "zipline": in_zipline,
}


def main(python: Path) -> None:
    """Run every case, print the ratios, and fail if a final equity is not that of our run."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            found = _in_process(sys.executable if case == "ours" else str(python), case, Path(name))
            if found is None:
                print(f"{case}: not installed in that environment, left out")
            else:
                results[case] = found
    _print_results(results)
    ours_found = results["ours"]
    if any(
        abs(found["equity"] / ours_found["equity"] - 1.0) > MAX_GAP
        or found["fills"] != ours_found["fills"]
        for found in results.values()
    ):
        sys.exit(f"other fills than ours, or a final equity more than {MAX_GAP:g} away from ours")


def _print_results(results: dict[str, dict[str, Any]]) -> None:
    base = results["ours"]
    print(f"\n{'case':<12}{'CPU s':>8}{'x ours':>8}{'taking in, s':>14}", end="")
    print(f"{'x ours, both':>14}{'fills':>8}{'equity gap':>12}")
    for case, found in results.items():
        taking_in = found.get("taking_in", 0.0)
        print(
            f"{case:<12}{found['cpu']:>8.2f}{found['cpu'] / base['cpu']:>8.1f}{taking_in:>14.2f}"
            f"{(found['cpu'] + taking_in) / base['cpu']:>14.1f}{found['fills']:>8,}"
            f"{found['equity'] / base['equity'] - 1.0:>12.1e}"
        )


def _in_process(python: str, case: str, folder: Path) -> dict[str, Any] | None:
    environment = os.environ | ONE_THREAD
    if case != "ours":
        environment.pop("PYTHONPATH", None)  # they see what is installed with them, nothing of ours
    done = subprocess.run(
        [python, __file__, CASE, case, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode == MISSING:
        return None
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run_case(case: str, folder: Path) -> None:
    try:
        found = CASES[case](folder)
    except ModuleNotFoundError as missing:
        if missing.name != case:
            raise
        sys.exit(MISSING)
    print(json.dumps(found))


def _calm() -> float:
    """Let the collector seldom run, as in every run of ours; return the CPU seconds so far."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    return time.process_time()


def _save(path: Path, panel: Any, config: Any, fills: list[Any]) -> None:
    """Write the market and the orders; one that filled at an open was sent at the close before."""
    from prometheus_nt.domain.calendar import MarketCalendar

    calendar = MarketCalendar.of("US_EQ")
    opens = calendar.opens_ns[calendar.rows(panel.sessions)]
    times, columns, shares = (np.array([fill[part] for fill in fills]) for part in range(3))
    fees = config.execution.fees
    np.savez(
        path,
        **{name: getattr(panel, name) for name in ("open", "high", "low", "close", "volume")},
        sessions=panel.sessions,
        orders=np.column_stack([np.searchsorted(opens, times) - 1, columns, shares]),
        capital=config.sleeves[0].capital_usd,
        half_spread=config.execution.quotes.half_spread_bps / 1e4,
        per_share=fees.per_share_usd,
        minimum=fees.minimum_usd,
    )


def _load(folder: Path) -> Saved:
    with np.load(folder / MARKET) as saved:
        return {name: saved[name] for name in saved.files}


def _orders(saved: Saved) -> dict[int, list[tuple[int, int]]]:
    """Return row -> (column, shares), sales first: what they bring pays for the rest."""
    found: dict[int, list[tuple[int, int]]] = {}
    for row, column, shares in saved["orders"][np.argsort(saved["orders"][:, 2])].tolist():
        found.setdefault(row, []).append((column, shares))
    return found


def _frames(saved: Saved, pd: Any) -> Any:
    """Yield the bars of one instrument after the other as a pandas frame by session."""
    index = pd.DatetimeIndex(saved["sessions"])
    for column in range(saved["close"].shape[1]):
        fields = ("open", "high", "low", "close", "volume")
        yield pd.DataFrame({name: saved[name][:, column] for name in fields}, index=index)


if __name__ == "__main__":
    if sys.argv[1:2] == [CASE]:
        _run_case(sys.argv[2], Path(sys.argv[3]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--python", type=Path, required=True, help="of the other environment")
        main(parser.parse_args().python)
