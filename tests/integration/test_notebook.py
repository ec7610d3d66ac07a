"""What a notebook gets from one line."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import prometheus_nt
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError, PrometheusError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(sample_home, tmp_path_factory):
    path = tmp_path_factory.mktemp("home")
    with open_stores(sample_home(path)) as s:
        window = ["sessions.start=2005-01-03", "sessions.end=2005-12-30"]
        run_backtest(load_config([Path("configs/us_core_long_eq_ohlcv.yaml")], window), s)
        return path, panel_of(s, "sample_ohlcv")


@pytest.fixture
def panel(home, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home[0]))
    return home[1]


def test_a_field_is_a_frame_of_sessions_and_instruments(panel):
    frames = prometheus_nt.load_panel("sample_ohlcv")

    close = frames.to_frame("close")

    assert close.index.tz is None and isinstance(close.index, pd.DatetimeIndex)
    assert close.columns.tolist() == list(panel.instruments)
    np.testing.assert_array_equal(close.to_numpy(), panel.close)
    assert close.loc["2005-02-28", "AAPL.US"] == 44.86
    assert len(frames) == len(panel)
    assert "sample_ohlcv: 3,270 sessions" in repr(frames)
    assert "<table" in frames._repr_html_()


def test_a_frame_is_a_copy_that_a_notebook_may_change(panel):
    frames = prometheus_nt.load_panel("sample_ohlcv", start="2005-01-03", end="2005-01-05")

    close = frames.to_frame("close")
    close.iloc[:] = 0.0

    assert not (frames.to_frame("close") == 0.0).any().any()


def test_days_roll_inwards_and_as_of_is_a_wall(panel):
    chosen = prometheus_nt.load_panel(
        "sample_ohlcv", start="2005-01-01", end=date(2005, 1, 9), symbols="AAPL"
    )
    known = prometheus_nt.load_panel("sample_ohlcv", as_of=pd.Timestamp("2008-09-14"))

    assert chosen.sessions[[0, -1]].strftime("%F").tolist() == ["2005-01-03", "2005-01-07"]
    assert chosen.instruments == ("AAPL.US",)
    assert known.panel.as_of == date(2008, 9, 12)


def test_what_is_computed_knows_the_history_before_the_cut(panel):
    cut = {"start": "2005-02-28", "end": "2005-02-28"}

    every = prometheus_nt.load_panel("sample_ohlcv", **cut).to_frame("returns")
    one = prometheus_nt.load_panel("sample_ohlcv", symbols=["AAPL"], **cut).to_frame("returns")

    assert one.loc["2005-02-28", "AAPL.US"] == pytest.approx(2 * 44.86 / 88.99 - 1)
    assert every.loc["2005-02-28", "AAPL.US"] == one.loc["2005-02-28", "AAPL.US"]


def test_mistakes_are_named(panel):
    with pytest.raises(ConfigError, match="field: unknown 'closing'; known: open, high"):
        prometheus_nt.load_panel("sample_ohlcv").to_frame("closing")
    with pytest.raises(ConfigError, match="start: 'May 2005' is no day"):
        prometheus_nt.load_panel("sample_ohlcv", start="May 2005")
    with pytest.raises(PrometheusError, match="no dataset 'nope'"):
        prometheus_nt.load_panel("nope")
    with pytest.raises(AttributeError, match="no attribute 'load_everything'"):
        prometheus_nt.load_everything  # noqa: B018


def test_a_run_is_a_daily_series_without_a_time_zone(panel):
    run = prometheus_nt.load_run("latest")

    assert run.returns.index.tz is None and run.returns.index.equals(run.equity.index)
    assert (1 + run.returns).prod() * 1_000_000 == pytest.approx(run.equity.iloc[-1])
    assert run.benchmark_returns.index.equals(run.returns.index[1:])
    assert run.weights.abs().sum(axis=1).max() <= 1.0 + 1e-9
    assert len(run.table("fills")) == run.statistics["num_fills"]
    assert "annualised_sharpe" in run._repr_html_()
    assert run.run_id in repr(run)


def test_importing_the_package_loads_neither_pandas_nor_nautilus():
    heavy = "{'pandas', 'numpy', 'nautilus_trader', 'sqlalchemy'} & set(sys.modules)"
    asked = [sys.executable, "-c", f"import sys, prometheus_nt; print({heavy} or 'none')"]

    shown = subprocess.run(asked, capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "none"
