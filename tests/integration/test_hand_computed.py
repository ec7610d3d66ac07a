"""Two names, ten sessions, every cent computed by hand.

The target is 40 % A and 40 % B of equity, decided once, at the close of session 0; half a spread
is 10 bps; the broker takes half a cent a share, at least a dollar.

- Close of session 0: equity 100,000; A closes at 50.00, B at 20.00.
  Whole shares: A 40,000 / 50 = 800; B 40,000 / 20 = 2,000.
- Open of session 1: A opens at 50.50, so buying costs 50.50 * 1.001 = 50.5505;
  B opens at 19.90, so 19.9199.
  A: 800 * 50.5505 = 40,440.40, fee 800 * 0.005 = 4.00
  B: 2,000 * 19.9199 = 39,839.80, fee 2,000 * 0.005 = 10.00
  Cash: 100,000 - 40,440.40 - 4.00 - 39,839.80 - 10.00 = 19,705.80
- Session 4: A pays 0.25 a share to holders: 800 * 0.25 = 200.00; cash 19,905.80.
- Session 6: B splits 2 for 1: 4,000 shares at half the price; equity does not move.
- Close of session 9: A 53.00, B 10.60: 19,905.80 + 42,400.00 + 42,400.00 = 104,705.80.
"""

from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.panel import MarketPanel

pytestmark = pytest.mark.integration

CLOSE_A = [50.0, 50.8, 51.0, 51.2, 51.0, 51.5, 52.0, 52.4, 52.8, 53.0]
CLOSE_B = [20.0, 20.1, 20.4, 20.6, 20.8, 21.0, 10.5, 10.4, 10.5, 10.6]
OPEN_A = [49.9, 50.5, 50.9, 51.1, 50.9, 51.2, 51.8, 52.1, 52.5, 52.9]
OPEN_B = [20.1, 19.9, 20.2, 20.5, 20.7, 20.9, 10.4, 10.5, 10.4, 10.5]


@pytest.fixture
def ten_sessions():
    close = np.column_stack([CLOSE_A, CLOSE_B])
    open_ = np.column_stack([OPEN_A, OPEN_B])
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


def test_ten_sessions_agree_with_the_hand_computed_books(ten_sessions, run, configured, fixed_book):
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

    with fixed_book({"A.US": 0.4, "B.US": 0.4}):
        node = run(config, ten_sessions)

    fills = [(fill.quantity, fill.price, fill.commission) for fill in node.mirror.fills]
    assert fills == [(800, 50.5505, 4.0), (4000, 9.95995, 10.0)]
    by_session = [(round(held.cash, 2), round(held.equity, 2)) for held in node.mirror.holdings]
    assert by_session[0] == (100_000.00, 100_000.00)
    assert by_session[1] == (19_705.80, 19_705.80 + 800 * 50.8 + 2000 * 20.1)
    assert by_session[3] == (19_705.80, 19_705.80 + 800 * 51.2 + 2000 * 20.6)
    assert by_session[4] == (19_905.80, 19_905.80 + 800 * 51.0 + 2000 * 20.8)
    assert by_session[6] == (19_905.80, 19_905.80 + 800 * 52.0 + 4000 * 10.5)
    assert by_session[9] == (19_905.80, 104_705.80)


def test_a_split_leaves_the_equity_curve_where_it_was(ten_sessions, run, configured, fixed_book):
    config = configured(
        sessions={"start": date(2012, 3, 1)},
        sleeves=[{"horizon": 63, "capital_usd": 100_000}],
        gate={"max_position_weight": 1.0},
        engines={"risk": {"max_abs_weight_per_name": 1.0}},
        execution={"planner": {"cash_buffer": 0.0, "no_trade_band": 0.05}},
    )

    with fixed_book({"B.US": 0.9}):
        node = run(config, ten_sessions)

    equity = np.array([held.equity for held in node.mirror.holdings])
    shares, price_move = 4500 * 2, 10.5 - 21.0 / 2
    assert equity[6] - equity[5] == pytest.approx(shares * price_move, abs=0.01)
