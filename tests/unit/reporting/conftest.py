"""A small run that tests bend to their needs."""

from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.runs import Mode
from prometheus_nt.reporting.series import FillTable, RunSeries


@pytest.fixture
def fills():
    return FillTable(
        timestamps=np.array(["2021-01-05T14:30:00", "2021-01-06T14:30:00"], dtype="datetime64[s]"),
        instrument_id=np.array(["AAA.US", "BBB.US"], dtype=object),
        side=np.array(["BUY", "SELL"], dtype=object),
        quantity=np.array([400, 10], dtype=np.int64),
        price=np.array([25.25, 50.0]),
        commission_usd=np.array([2.0, 1.0]),
        spread_cost_usd=np.array([3.0, 0.5]),
        impact_cost_usd=np.array([4.0, 0.25]),
        decision_price=np.array([25.0, np.nan]),
        split_factor=np.array([4.0, 1.0]),
    )


@pytest.fixture
def make_series(fills):
    """Return a factory: T sessions from 2021, an alternating equity, and whatever is overridden."""

    def make(count: int = 300, **changes: object) -> RunSeries:
        sessions = np.busday_offset("2021-01-04", np.arange(count))
        rng = np.random.default_rng(3)
        growth = 1.0 + rng.normal(0.0005, 0.01, count)
        first = np.zeros(count)
        first[0] = 1.0
        weights = np.tile([0.5, 0.3, 0.0], (count, 1))
        series = RunSeries(
            run_id="RUN-1",
            strategy_id="US_CORE_LONG_EQ",
            sleeve_id="US_CORE_LONG_EQ_H21",
            mode=Mode.BACKTEST,
            sessions=sessions,
            equity=1000.0 * np.cumprod(growth),
            starting_capital=1000.0,
            benchmark=50.0 * np.cumprod(1.0 + rng.normal(0.0003, 0.01, count)),
            benchmark_id="SPY.US",
            cash=np.full(count, 0.2),
            gross=np.full(count, 0.8),
            net=np.full(count, 0.8),
            turnover=0.8 * first,
            costs={
                "commission": 2.0 * first,
                "spread": 3.0 * first,
                "impact": 5.0 * first,
                "borrow_fees": np.zeros(count),
                "interest_paid": np.zeros(count),
            },
            dividends=7.0 * first,
            weights=weights,
            instruments=("AAA.US", "BBB.US", "CCC.US"),
            sectors=("Energy", None, "Energy"),
            fills=fills,
            regimes=np.array(["CARRY", "CRISIS"], dtype=object)[np.arange(count) % 2],
        )
        return replace(series, **changes)

    return make
