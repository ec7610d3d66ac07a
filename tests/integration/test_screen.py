"""The screen and the event-driven run are two ways to the same books."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.engine_outputs import OutputStore
from prometheus_nt.domain.books import BookTarget
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.screen import ScreenMarket, run_screen
from prometheus_nt.venue.carry import Delistings

pytestmark = pytest.mark.integration


class FixedTargets:
    """The same book after every close, or at the rows given."""

    def __init__(self, panel, weights, rows=None):
        self.panel, self.rows = panel, rows
        self.weights = np.array([weights.get(name, 0.0) for name in panel.instruments])

    def has(self, row):
        return self.rows is None or row in self.rows

    def at(self, row):
        as_of = self.panel.sessions[row].astype(object)
        return BookTarget(as_of, "B", self.panel.instruments, self.weights, None, ())


def screened(config, panel, tmp_path, *, first=0, last=None, delistings=None):
    last = len(panel) - 1 if last is None else last
    store = OutputStore(tmp_path / "outputs")
    sessions = SharedSessions(panel, first, last, panel.fingerprint)
    day = SharedDay.of(store, sessions, config, config.sleeves[0])
    market = ScreenMarket(panel, first, last, delistings)
    return run_screen(config, config.sleeves[0], market, day.targets())


def assert_same_books(screen, node, panel):
    rows = {day: row for row, day in enumerate(panel.sessions.astype(object).tolist())}
    fills = [
        (
            rows[np.datetime64(fill.ts_ns, "ns").astype("datetime64[D]").astype(object)],
            fill.order.column,
            fill.quantity if fill.order.side == "BUY" else -fill.quantity,
            round(fill.price * 1e6),
            round(fill.commission * 1e6),
        )
        for fill in node.mirror.fills
    ]
    assert sorted(map(tuple, screen.fills.tolist())) == sorted(fills)
    assert screen.cash_micros == node.sleeve.ledger.cash_micros
    assert (screen.shares == node.sleeve.ledger.shares).all()
    equity = np.array([held.equity for held in node.mirror.holdings])
    np.testing.assert_allclose(screen.equity, equity, rtol=1e-13, atol=0.0)


COSTS = {"quotes": {"half_spread_bps": 5.0, "impact_coefficient": 0.5}}
TIGHT = {"planner": {"max_participation": 0.002, "no_trade_band": 0.0}, **COSTS}
VARIANTS = {
    "weekly": {},
    "impact and spread": {"execution": COSTS},
    "participation cap": {"execution": TIGHT},
    "daily": {"sleeves": [{"horizon": 5, "capital_usd": 50_000, "rebalance": "daily"}]},
    "dropped orders": {"execution": {"router": {"unquoted": "drop"}}},
    "interest on cash": {"execution": {"financing": {"credit_rate_annual": 0.05}}},
    "gate that refuses": {"gate": {"max_order_notional_usd": 252_000}},
    "turnover limit": {"risk": {"max_turnover": 0.1}},
    "breaker": {"risk": {"drawdown_breaker": -0.03, "breaker_gross": 0.3}},
    "liquidity": {"risk": {"max_liquidation_days": 0.5}},
    "sticky members": {"universe": {"hysteresis_buffer": 2}},
    "long short": {
        "sleeves": [{"family": "US_LONG_SHORT_EQ", "horizon": 5}],
        "portfolio": {"max_names": 3, "max_names_short": 3, "max_weight_short": 0.3},
        "risk": {"max_abs_weight_per_name": 0.3},
        "gate": {"max_position_weight": 0.6},
    },
}


def variant(configured, settings):
    """Return a node with these sections, and these settings of engines over the fixture's."""
    plain = configured()
    engines = plain.model_dump(exclude_unset=True)["engines"]
    sections = dict(settings)
    for name in ("universe", "portfolio", "risk"):
        engines[name] = engines.get(name, {}) | sections.pop(name, {})
    return configured(engines=engines, **sections)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_screen_fills_and_earns_to_the_micro_dollar_what_the_run_does(
    name, market, run, configured, tmp_path
):
    config = variant(configured, VARIANTS[name])

    node = run(config, market)
    screen = screened(config, market, tmp_path)

    assert len(screen.fills) > 40
    assert_same_books(screen, node, market)


def test_a_recorded_delisting_pays_the_same_in_both(market, run, configured, tmp_path):
    on = np.full(12, "NaT", dtype="datetime64[D]")
    on[6], returns = market.sessions[305], np.full(12, np.nan)
    returns[6] = -0.4
    ends = Delistings(on, returns)
    config = configured(engines={"universe": {"min_history_sessions": 30, "max_size": 12}})
    config = variant(configured, {"portfolio": {"max_names": 12, "max_weight": 0.2}})

    node = run(config, market, delistings=ends)
    screen = screened(config, market, tmp_path, delistings=ends)

    assert any(flow.kind == "DELISTING" for flow in node.sleeve.ledger.cash_flows)
    assert_same_books(screen, node, market)


def test_a_window_inside_the_panel_is_screened_as_it_is_run(market, run, configured, tmp_path):
    config = configured()

    node = run(config, market, first=120, last=250)
    screen = screened(config, market, tmp_path, first=120, last=250)

    assert len(screen.equity) == 131
    assert_same_books(screen, node, market)


def test_noise_after_a_session_changes_nothing_before_it(market, configured, perturbed, tmp_path):
    config, row = configured(), 230
    noisy = perturbed(market, row, 5)
    units = np.ones_like(market.split)
    plain = MarketPanel(
        **{
            name: getattr(market, name)
            for name in ("sessions", "instruments", "open", "high", "low", "close", "volume")
        },
        dividend=market.dividend,
        split=units,
        fingerprint="plain",
    )
    noisy = perturbed(plain, row, 5)

    known, changed = (
        screened(config, panel, tmp_path / panel.fingerprint) for panel in (plain, noisy)
    )

    before = known.fills[known.fills[:, 0] <= row]
    assert len(before) > 40
    assert (before == changed.fills[changed.fills[:, 0] <= row]).all()
    assert (known.equity[: row + 1] == changed.equity[: row + 1]).all()
    assert not np.array_equal(known.equity[row + 1 :], changed.equity[row + 1 :])


def by_hand():
    """Return the market of `test_hand_computed`: two names, ten sessions, a dividend, a split."""
    close = np.column_stack(
        [
            [50.0, 50.8, 51.0, 51.2, 51.0, 51.5, 52.0, 52.4, 52.8, 53.0],
            [20.0, 20.1, 20.4, 20.6, 20.8, 21.0, 10.5, 10.4, 10.5, 10.6],
        ]
    )
    open_ = np.column_stack(
        [
            [49.9, 50.5, 50.9, 51.1, 50.9, 51.2, 51.8, 52.1, 52.5, 52.9],
            [20.1, 19.9, 20.2, 20.5, 20.7, 20.9, 10.4, 10.5, 10.4, 10.5],
        ]
    )
    split, dividend = np.ones((10, 2)), np.zeros((10, 2))
    dividend[4, 0], split[6, 1] = 0.25, 2.0
    return MarketPanel(
        sessions=MarketCalendar.of("US_EQ").between(date(2012, 3, 1), date(2012, 3, 14)),
        instruments=("A.US", "B.US"),
        open=open_,
        high=np.maximum(open_, close),
        low=np.minimum(open_, close),
        close=close,
        volume=np.full((10, 2), 1e6),
        split=split,
        dividend=dividend,
        fingerprint="by hand",
    )


def test_ten_sessions_agree_with_the_hand_computed_books(configured):
    panel = by_hand()
    config = configured(
        sessions={"start": date(2012, 3, 1)},
        sleeves=[{"horizon": 63, "capital_usd": 100_000}],
        gate={"max_position_weight": 0.5},
        engines={"risk": {"max_abs_weight_per_name": 0.5}},
        execution={
            "quotes": {"half_spread_bps": 10.0},
            "planner": {"no_trade_band": 0.05, "cash_buffer": 0.0},
        },
    )

    targets = FixedTargets(panel, {"A.US": 0.4, "B.US": 0.4})
    found = run_screen(config, config.sleeves[0], ScreenMarket(panel, 0, 9), targets)

    # Row, column, venue shares, price and fee in micro-dollars; see test_hand_computed.
    assert found.fills.tolist() == [
        [1, 0, 800, 50_550_500, 4_000_000],
        [1, 1, 4000, 9_959_950, 10_000_000],
    ]
    assert found.equity.round(2).tolist()[:2] == [100_000.0, 19_705.80 + 800 * 50.8 + 2000 * 20.1]
    assert round(found.equity[4], 2) == 19_905.80 + 800 * 51.0 + 2000 * 20.8
    assert round(found.equity[6], 2) == 19_905.80 + 800 * 52.0 + 4000 * 10.5
    assert round(found.equity[9], 2) == 104_705.80
    assert found.returns[0] == 0.0


@given(
    weights=st.tuples(*[st.floats(-0.4, 0.4)] * 2),
    spread=st.floats(0.0, 100.0),
    capital=st.floats(10_000.0, 1e6),
)
def test_cash_and_shares_explain_equity_whatever_the_book(weights, spread, capital):
    panel = by_hand()
    config = _any_book(spread, capital)

    targets = FixedTargets(panel, dict(zip(panel.instruments, weights, strict=True)))
    market = ScreenMarket(panel, 0, 9)
    found = run_screen(config, config.sleeves[0], market, targets)

    paid = (found.fills[:, 2] * found.fills[:, 3]).sum() + found.fills[:, 4].sum()
    held = np.zeros(2, dtype=np.int64)
    np.add.at(held, found.fills[:, 1], found.fills[:, 2])
    before_dividend = found.fills[found.fills[:, 0] <= 3]
    of_a = before_dividend[before_dividend[:, 1] == 0][:, 2].sum()
    cash = round(capital * 1e6) - paid + round(of_a * 0.25 * 1e6)
    assert found.cash_micros == cash
    assert (found.shares == held).all()
    assert found.equity[-1] == pytest.approx(cash / 1e6 + held @ market.closes[-1], rel=1e-12)


def _any_book(spread, capital):
    from prometheus_nt.config import NodeConfig

    return NodeConfig.model_validate(
        {
            "sessions": {"start": date(2012, 3, 1)},
            "data": {"dataset": "by hand"},
            "sleeves": [
                {
                    "family": "US_LONG_SHORT_EQ",
                    "horizon": 63,
                    "capital_usd": capital,
                    "rebalance": "daily",
                }
            ],
            "gate": {"max_position_weight": 1.0},
            "engines": {"risk": {"max_abs_weight_per_name": 0.5}},
            "execution": {
                "quotes": {"half_spread_bps": spread},
                "financing": {"borrow_fee_annual": 0.0, "debit_rate_annual": 0.0},
            },
        }
    )
