"""A family that knows something is told from one that does not, on a market where we know which."""

from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs import alpha

pytestmark = pytest.mark.integration


@pytest.fixture
def trending_market(monkeypatch):
    """A market of 30 names whose drifts last for years, so that momentum really ranks them."""
    rng = np.random.default_rng(8)
    shape = (1500, 30)
    drift = rng.normal(0.0, 0.0015, shape[1])
    close = 50.0 * np.exp(np.cumsum(drift + rng.standard_normal(shape) * 0.012, axis=0))
    days = MarketCalendar.of("US_EQ").between(date(2005, 1, 3), date(2012, 12, 31))
    bars = {name: close for name in ("open", "high", "low", "close")}
    panel = MarketPanel(
        sessions=days[: shape[0]],
        instruments=tuple(f"N{number:02d}.US" for number in range(shape[1])),
        volume=np.full(shape, 1e6),
        split=np.ones(shape),
        dividend=np.zeros(shape),
        fingerprint="trending",
        **{name: values.copy() for name, values in bars.items()},
    )
    monkeypatch.setattr(alpha, "node_panel", lambda *_: panel)
    return panel


def test_momentum_is_seen_and_the_controls_look_like_controls(trending_market, configured):
    config = configured(
        sessions={"start": date(2005, 6, 1)}, sleeves=[{"horizon": 21}, {"horizon": 5}]
    )

    found = alpha.measure_alpha(config, stores=None)

    by_family = {
        (item.family, item.horizon): item.ic
        for item in found
        if item.sleeve_id == "US_CORE_LONG_EQ_H21"
    }
    assert by_family["momentum", 21].low > 0.2
    random, reversed_, combined = (
        by_family[name, 21] for name in ("control: random", "control: reversed", "combined")
    )
    assert random.low < 0.0 < random.high
    assert reversed_.mean == pytest.approx(-combined.mean)
    assert {item.sleeve_id for item in found} == {"US_CORE_LONG_EQ_H21", "US_CORE_LONG_EQ_H5"}


def test_a_forward_return_begins_one_session_after_its_score(trending_market):
    returns = alpha.forward_returns(trending_market, 5)

    close = trending_market.close
    assert returns[100] == pytest.approx(close[106] / close[101] - 1.0)
    assert np.isnan(returns[-6:]).all()
    assert np.isfinite(returns[-7]).all()
