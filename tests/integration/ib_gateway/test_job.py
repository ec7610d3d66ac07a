"""The simulator over a stored dataset: its prices are the backtest's, and the command serves it."""

import json
import socket
import subprocess
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from adapters.ib_gateway.market import Stage
from prometheus_nt.cli import main
from prometheus_nt.domain.errors import ConfigError, NonSession
from prometheus_nt.domain.instruments import Instrument, InstrumentMap
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.gateway import (
    GatewayRequest,
    faults_listing,
    gateway_of,
    open_prices,
    prices_of,
)
from prometheus_nt.venue.params import QuoteParams
from prometheus_nt.venue.quotes import ImpactModel
from tests.integration.ib_gateway.clients import OfficialClient, contract, order
from tests.integration.ib_gateway.driver import Driver, codes

pytestmark = pytest.mark.integration


def instruments(panel: MarketPanel) -> InstrumentMap:
    return InstrumentMap(
        {name: Instrument(name, "US_EQ", "EQUITY", "USD", "XNAS") for name in panel.instruments}
    )


def request_of(panel: MarketPanel, **options) -> GatewayRequest:
    start, end = panel.sessions[[100, 180]].astype(object)
    return GatewayRequest("random", start, end, fast=True, **options)


def test_the_prices_are_those_of_the_panel_on_the_markets_clock(market):
    prices = prices_of(market, "US_EQ")

    assert prices.time_zone == "America/New_York"
    assert np.array_equal(prices.open, market.open, equal_nan=True)
    assert len(prices.opens_ns) == len(market)


def test_a_fill_costs_half_a_spread_and_the_orders_own_impact_as_in_a_backtest(market):
    params = QuoteParams(half_spread_bps=4.0, impact_coefficient=0.8)
    price = open_prices(market, params)

    row, column, shares, middle = 150, 0, 3_000, float(market.open[150, 0])
    impact = ImpactModel(market, params).fraction(
        row - 1, np.array([column]), np.array([shares * middle])
    )[0]

    assert impact > 0
    assert price(row, column, 1, shares, middle) == pytest.approx(middle * (1 + 0.0004 + impact))
    assert price(row, column, -1, shares, middle) == pytest.approx(middle * (1 - 0.0004 - impact))


def test_a_fill_price_uses_nothing_of_its_own_session(market):
    params = QuoteParams(impact_coefficient=0.8)
    row = 150
    later = {
        name: np.vstack([getattr(market, name)[:row], getattr(market, name)[row:] * 1.7])
        for name in ("high", "low", "close", "volume")
    }
    changed = MarketPanel(
        market.sessions,
        market.instruments,
        open=market.open,
        split=market.split,
        dividend=market.dividend,
        fingerprint="changed",
        **later,
    )

    assert open_prices(changed, params)(row, 0, 1, 500, 50.0) == open_prices(market, params)(
        row, 0, 1, 500, 50.0
    )


def test_a_gateway_over_a_panel_trades_its_instruments(market):
    gateway = gateway_of(market, "US_EQ", instruments(market), request_of(market))
    client = Driver(gateway)

    said = client.place(1, symbol="N00", tif="OPG")
    client.advance(Stage.OPEN)

    assert codes(said) == [399]
    [fill] = gateway.book.fills
    opened = market.open[100, 0]
    assert fill.price == pytest.approx(opened * 1.00025, abs=1e-6)
    assert fill.commission == 1.0


def test_indices_are_not_traded(market):
    known = instruments(market)
    name = market.instruments[0]
    named = known.instruments | {name: Instrument(name, "US_EQ", "INDEX", "USD", None)}
    gateway = gateway_of(market, "US_EQ", InstrumentMap(named), request_of(market))

    assert len(gateway.book.terms.contracts.stocks) == len(market.instruments) - 1
    assert codes(Driver(gateway).place(1, symbol="N00", tif="OPG")) == [200]


def test_what_does_not_fit_is_an_error_of_the_user(market):
    known, request = instruments(market), request_of(market)

    with pytest.raises(NonSession):
        gateway_of(market, "US_EQ", known, GatewayRequest("x", date(2010, 7, 4), request.end))
    with pytest.raises(ConfigError, match="no paper account"):
        gateway_of(market, "US_EQ", known, request_of(market, account="U7654321"))
    with pytest.raises(ConfigError, match="not both"):
        gateway_of(market, "US_EQ", known, request_of(market, seconds_per_session=1.0))


def test_a_script_of_faults_is_read_from_a_file(market, tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text("faults:\n  - at: {orders: 1}\n    fault: warn\n")
    gateway = gateway_of(market, "US_EQ", instruments(market), request_of(market, script=script))

    assert 10349 in codes(Driver(gateway).place(1, symbol="N00", tif="OPG"))

    script.write_text("faults:\n  - at: {}\n    fault: warn\n")
    with pytest.raises(ConfigError, match="give a session, orders or seconds"):
        gateway_of(market, "US_EQ", instruments(market), request_of(market, script=script))


@contextmanager
def command(home, *arguments):
    """Run `prometheus gateway` in a process of its own; yield what it announces."""
    asked = [sys.executable, "-m", "prometheus_nt.cli", "gateway", "--json", *arguments]
    environment = {"PROMETHEUS_HOME": str(home), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(
        asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        else:
            raise AssertionError(process.stderr.read())
        try:
            yield json.loads("".join(lines)), process
        finally:
            process.terminate()


def test_the_command_serves_a_stored_dataset_and_ends_when_told(tmp_path, monkeypatch):
    home, folder = tmp_path / "home", tmp_path / "bars"
    folder.mkdir()
    bars = [f"2012-03-{day:02d},10.{day},11,9,10,1000\n" for day in (1, 2, 5, 6, 7, 8, 9)]
    (folder / "AAPL.csv").write_text("Date,Open,High,Low,Close,Volume\n" + "".join(bars))
    monkeypatch.setenv("PROMETHEUS_HOME", str(home))
    ingest = ["prometheus", "data", "ingest", "csv", str(folder), "--dataset", "mine"]
    monkeypatch.setattr("sys.argv", ingest)
    with pytest.raises(SystemExit, match="0"):
        main()

    sessions = ("--dataset", "mine", "--from", "2012-03-05", "--to", "2012-03-09")
    with command(home, *sessions, "--fast", "--for", "60") as (facts, process):
        client = OfficialClient().begin(facts["port"], 1)
        client.wait("nextValidId")
        client.placeOrder(1, contract("AAPL"), order("BUY", 10, tif="OPG"))
        client.wait("orderStatus")
        with socket.create_connection(("127.0.0.1", facts["control_port"])) as control:
            control.sendall(b"advance open\n")
            client.wait("commissionReport")
            control.sendall(b"stop\n")
            _, errors = process.communicate(timeout=30)
        client.end()

    [(_, _, execution)] = client.named("execDetails")
    assert execution.price == pytest.approx(10.5 * 1.00025, abs=1e-6)
    assert facts["session"] == "2012-03-02"
    assert process.returncode == 0
    assert "ended: stopped by command" in errors


def test_the_script_of_the_documentation_can_be_read(market, tmp_path):
    text = Path("docs/gateway.md").read_text(encoding="utf-8")
    script = tmp_path / "script.yaml"
    script.write_text(text.split("```yaml\n")[1].split("```")[0])

    request = request_of(market, script=script)

    assert gateway_of(market, "US_EQ", instruments(market), request).book.placed == 0


def test_every_fault_is_listed_with_what_it_does():
    columns, rows = faults_listing()

    assert columns == ("fault", "what happens", "waits for", "arguments")
    assert all(about.endswith(".") for _, about, _, _ in rows)
    assert len(rows) > 50
