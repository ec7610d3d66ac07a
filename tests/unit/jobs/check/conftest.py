"""A market of random walks without a gap, which every check of this folder changes."""

from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel

SESSIONS, NAMES = 420, 8


@pytest.fixture(scope="package")
def panel():
    rng = np.random.default_rng(5)
    shape = (SESSIONS, NAMES)
    close = 50.0 * np.exp(np.cumsum(rng.standard_normal(shape) * 0.015, axis=0))
    open_ = close * np.exp(rng.standard_normal(shape) * 0.004)
    days = MarketCalendar.of("US_EQ").between(date(2010, 1, 4), date(2012, 12, 31))
    return MarketPanel(
        sessions=days[:SESSIONS],
        instruments=tuple(f"N{number}.US" for number in range(NAMES)),
        open=open_,
        high=np.maximum(open_, close) * 1.01,
        low=np.minimum(open_, close) * 0.99,
        close=close,
        volume=rng.uniform(1e5, 1e6, shape),
        split=np.ones(shape),
        dividend=np.zeros(shape),
        fingerprint="check",
    )
