"""A company fails in the middle of a run; every cent of it computed by hand.

The target is 40 % A and 40 % B of 100,000, decided at the close of session 0 and filled at the open
of session 1 without costs, at 50.00 and 20.00: 800 and 2,000 shares, cash 20,000. A trades for the
last time in session 4, at 30.00.

- Nothing recorded: at the open of session 5 holders of A get 800 * 30.00 = 24,000.00.
- A delisting on session 7 with a return of -75 %: sessions 5 and 6 hold A at a stale 30.00; at the
  open of session 7 they get 800 * 7.50 = 6,000.00.
"""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from persistence.artifacts import RunFolder
from prometheus_nt.config import load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import MissingMetadata
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.instruments import import_instruments
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.venue.carry import Delistings

pytestmark = pytest.mark.integration

SESSIONS = MarketCalendar.of("US_EQ").between(date(2012, 3, 1), date(2012, 3, 14))
NODE = {
    "sessions": {"start": date(2012, 3, 1)},
    "sleeves": [{"horizon": 63, "capital_usd": 100_000}],
    "gate": {"max_position_weight": 0.5},
    "engines": {"risk": {"max_abs_weight_per_name": 0.5}},
    "execution": {
        "quotes": {"half_spread_bps": 0.0},
        "fees": {"per_share_usd": 0.0, "minimum_usd": 0.0},
        "financing": {"borrow_fee_annual": 0.0, "debit_rate_annual": 0.0},
        "planner": {"no_trade_band": 0.05, "cash_buffer": 0.0},
    },
}


@pytest.fixture
def failing():
    close = np.column_stack([[50.0, 50.0, 45.0, 40.0, 30.0] + [np.nan] * 5, [20.0] * 10])
    bars = {name: close for name in ("open", "high", "low", "close")}
    return MarketPanel(
        sessions=SESSIONS,
        instruments=("A.US", "B.US"),
        volume=np.full((10, 2), 1e6),
        split=np.ones((10, 2)),
        dividend=np.zeros((10, 2)),
        fingerprint="by hand",
        **bars,
    )


def _books(node):
    return [(round(held.cash, 2), round(held.equity, 2)) for held in node.mirror.holdings]


def test_without_a_record_the_last_price_is_paid_on_the_next_session(
    failing, run, configured, fixed_book
):
    with fixed_book({"A.US": 0.4, "B.US": 0.4}):
        books = _books(run(configured(**NODE), failing))

    assert books[4] == (20_000.0, 20_000.0 + 24_000.0 + 40_000.0)
    assert books[5:] == [(44_000.0, 84_000.0)] * 5


def test_a_recorded_delisting_pays_its_return_on_its_day(failing, run, configured, fixed_book):
    ends = Delistings(np.array([SESSIONS[7], "NaT"], "datetime64[D]"), np.array([-0.75, np.nan]))

    with fixed_book({"A.US": 0.4, "B.US": 0.4}):
        node = run(configured(**NODE), failing, delistings=ends)

    books = _books(node)
    assert books[5:7] == [(20_000.0, 84_000.0)] * 2
    assert books[7:] == [(26_000.0, 66_000.0)] * 3
    (flow,) = node.mirror.ledger.cash_flows
    assert (flow.session, flow.kind, flow.shares) == (date(2012, 3, 12), "DELISTING", 800)


def test_a_recorded_delisting_is_part_of_what_a_run_is_and_of_its_notes(sample_home, tmp_path):
    settings = sample_home(tmp_path)
    window = ["sessions.start=2005-01-03", "sessions.end=2005-03-31"]
    config = load_config([Path("configs/us_core_long_eq_ohlcv.yaml")], window)
    ends = tmp_path / "ends.csv"
    ends.write_text(
        "instrument_id,exchange,delisted_on,delisting_return\nIBM.US,XNYS,2013-06-03,0\n"
    )
    with open_stores(settings) as stores:
        before = run_backtest(config, stores)[0].run_id
        import_instruments(settings, ends)

        after = run_backtest(config, stores)[0].run_id

    manifest = RunFolder(settings.runs_dir, before).read_json("manifest.json")
    assert after != before
    assert manifest["metadata"] == {
        "instruments": 5,
        "coverage": 1.0,
        "sources": {"default of US_EQ": 5},
    }
    assert any("tick and lot of 5 of 5 are the default of US_EQ" in n for n in manifest["notes"])


def test_a_sleeve_does_not_start_while_metadata_are_missing(stores, historical):
    with historical.writer() as connection:
        connection.exec_driver_sql(
            "UPDATE instruments SET market_id = NULL WHERE instrument_id = 'IBM.US'"
        )

    with pytest.raises(MissingMetadata, match=r"4 of 5 instruments.*IBM\.US lacks market_id"):
        run_backtest(load_config([Path("configs/us_core_long_eq_ohlcv.yaml")]), stores)
