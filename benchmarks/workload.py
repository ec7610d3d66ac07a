"""The benchmark's market and node: 500 instruments, 2,520 sessions, 50 names a month."""

from datetime import date

import numpy as np

from persistence.historical import HistoricalStore
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import BAR_FIELDS, MarketPanel

INSTRUMENTS, SESSIONS, NAMES = 500, 2520, 50
FIRST = date(2010, 1, 4)
LEAN = {"engine_rows": "none", "positions": "trades"}


def market(instruments: int = INSTRUMENTS, sessions: int = SESSIONS, seed: int = 1) -> MarketPanel:
    """Return a seeded random market: fat-tailed returns with one common factor."""
    rng = np.random.default_rng(seed)
    shape = (sessions, instruments)
    days = MarketCalendar.of("US_EQ").between(FIRST, date(2023, 12, 29))[:sessions]
    common = rng.standard_normal((sessions, 1)) * 0.007
    log_returns = rng.standard_t(5, shape) * 0.012 + 0.0003 + common
    close = rng.uniform(20, 150, instruments) * np.exp(np.cumsum(log_returns, axis=0))
    gap = np.exp(rng.standard_normal(shape) * 0.004)
    open_ = np.vstack([close[:1], close[:-1]]) * gap
    return MarketPanel(
        sessions=days,
        instruments=tuple(f"S{number:04d}.US" for number in range(instruments)),
        open=open_.round(4),
        high=(np.maximum(open_, close) * (1 + rng.uniform(0, 0.01, shape))).round(4),
        low=(np.minimum(open_, close) * (1 - rng.uniform(0, 0.01, shape))).round(4),
        close=close.round(4),
        volume=rng.uniform(1e6, 5e6, shape).round(),
        split=np.ones(shape),
        dividend=np.zeros(shape),
        fingerprint=f"benchmark-{instruments}x{sessions}-{seed}",
    )


def node(replay: str = "sparse", *, lean: bool = True) -> NodeConfig:
    """Return the node that trades `NAMES` names of the market once a month.

    `lean` writes SQL rows as a campaign does; otherwise every candidate and session has its rows.
    """
    return NodeConfig.model_validate(
        {
            "sessions": {"start": FIRST},
            "data": {"dataset": "benchmark"},
            "without": ["profiles", "regime", "fragility"],
            "sleeves": [{"horizon": 21, "capital_usd": 10_000_000}],
            "engines": {"portfolio": {"max_names": NAMES}},
            "execution": {"replay": replay},
            "persistence": LEAN if lean else {},
        }
    )


def store_market(store: HistoricalStore, source: MarketPanel) -> None:
    """Write a market to the historical store as the dataset of the benchmarks."""
    store.write_dataset(
        {
            "dataset_id": "benchmark",
            "source": "random",
            "market_id": "US_EQ",
            "adjustment": "AS_TRADED",
            "synthetic_bars": True,
            "description": "A random market.",
            "survivorship": "Nobody dies in it.",
        }
    )
    facts = [
        {"instrument_id": name, "symbol": name, "issuer_id": name, "name": name, "sector": None}
        | {"asset_class": "EQUITY", "exchange": None, "currency": "USD"}
        for name in source.instruments
    ]
    store.write_instruments("benchmark", facts)
    for column, name in enumerate(source.instruments):
        bars = {field: getattr(source, field)[:, column] for field in BAR_FIELDS}
        bars |= {"trade_date": source.sessions, "adjusted_close": bars["close"]}
        store.write_prices("benchmark", name, bars, source="random")
