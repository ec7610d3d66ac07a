"""The market of the zoo: gaps, a late listing, a delisting, an index, fundamentals restated."""

from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import MarketPanel

SESSIONS, NAMES = 520, 8


def _facts(sessions):
    """Return quarterly revenue, known 45 days after the quarter and restated 200 days after."""
    rng = np.random.default_rng(11)
    rows = []
    quarters = np.arange("2009-03", "2012-01", 3, dtype="datetime64[M]")
    for quarter in quarters:
        period_end = (quarter + 1).astype("datetime64[D]") - 1
        for column in range(NAMES):
            revenue = rng.uniform(50.0, 100.0)
            restated = revenue * rng.uniform(0.7, 1.3)
            for delay, value in ((45, revenue), (200, restated)):
                rows.append((period_end + delay, column, period_end, value))
    rows.sort()
    known_at, column, period_end, value = zip(*rows, strict=True)
    return Facts(
        items=("revenue",),
        column=np.array(column),
        item=np.zeros(len(rows), dtype=np.int64),
        period_end=np.array(period_end),
        known_at=np.array(known_at),
        value=np.array(value),
    )


@pytest.fixture(scope="session")
def market():
    rng = np.random.default_rng(7)
    shape = (SESSIONS, NAMES)
    sessions = MarketCalendar.of("US_EQ").between(date(2010, 1, 4), date(2012, 12, 31))[:SESSIONS]
    close = 50.0 * np.exp(np.cumsum(rng.standard_normal(shape) * 0.015, axis=0))
    open_ = close * np.exp(rng.standard_normal(shape) * 0.004)
    bars = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.01,
        "low": np.minimum(open_, close) * 0.99,
        "close": close,
        "volume": rng.uniform(1e5, 1e6, shape),
    }
    gaps = rng.random(shape) < 0.04
    gaps[:60, 1] = True
    gaps[400:, 2] = True
    for values in bars.values():
        values[gaps] = np.nan
    membership = np.ones(shape, dtype=bool)
    membership[:200, 3] = membership[300:, 4] = False
    return MarketPanel(
        sessions=sessions,
        instruments=tuple(f"N{number}.US" for number in range(NAMES)),
        split=np.ones(shape),
        dividend=np.zeros(shape),
        fingerprint="zoo",
        membership=membership,
        facts=_facts(sessions),
        **bars,
    )
