"""Look-ahead in what a sleeve orders, and what the check commands print and return."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from prometheus_nt import cli
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs import wiring
from prometheus_nt.jobs.check.node import check_node

pytestmark = pytest.mark.integration

ZOO = Path(__file__).parent.parent / "zoo"
CAPPED = {"planner": {"max_participation": 0.002}}


def test_every_order_and_fill_of_a_sleeve_is_honest(market, configured):
    config = configured(sleeves=[{"horizon": 5}, {"horizon": 21}], execution=CAPPED)

    reports = check_node(config, market, cuts=3, sleeve_sessions=63)

    assert not any(report.leaks for report in reports.values())
    for sleeve in config.sleeves:
        compared = reports[sleeve.sleeve_id].compared
        assert compared["books"] == 40 + 63 + 63  # the first cut has no more sessions before it
        assert compared["orders"] >= compared["fills"] > 20


def test_a_sleeve_that_sizes_orders_by_later_volume_is_caught(market, configured, monkeypatch):
    def all_volume(panel: MarketPanel) -> np.ndarray:
        return np.broadcast_to(np.nanmean(panel.volume * panel.close, axis=0), panel.close.shape)

    monkeypatch.setattr(wiring, "_usual_value", lambda panel: panel.derived(all_volume)[-1])

    reports = check_node(configured(execution=CAPPED), market, cuts=2, sleeve_sessions=63)

    leaks = reports["US_CORE_LONG_EQ_H5"].leaks
    assert set(leaks) == {"orders", "fills", "books"}
    assert leaks["orders"].field.endswith(".quantity")
    assert leaks["orders"].as_of < leaks["fills"].as_of
    assert any(part.startswith("derived: ") for part in reports["all sleeves"].leaks)


@pytest.fixture
def prometheus(market, monkeypatch, tmp_path, capsys):
    """Return a function that runs a command on the small market: (exit code, output, errors)."""
    from prometheus_nt.jobs import panels

    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path))
    monkeypatch.setattr(panels, "panel_of", lambda *_: market)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["prometheus", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_leaking_strategy_ends_with_exit_code_1_and_its_first_date(prometheus):
    leak = f"{ZOO / 'leaky.py'}:shifted_the_wrong_way"

    code, output, _ = prometheus(
        "check", "lookahead", "--strategy", leak, "--dataset", "any", "--cuts", 3, "--json"
    )

    rows = json.loads(output)
    assert code == 1
    assert {row["verdict"] for row in rows} == {"LEAK"}
    assert all(row["as_of"] == row["changed_after"] for row in rows)
    assert {row["reads_ahead"] for row in rows} == {1}


def test_a_clean_strategy_ends_with_exit_code_0(prometheus):
    clean = f"{ZOO / 'clean.py'}:trailing_momentum"

    code, output, errors = prometheus(
        "check", "lookahead", "--strategy", clean, "--dataset", "any", "--cuts", 3
    )

    assert code == 0
    assert output.count(" ok ") == 5
    assert "proves nothing" not in errors


def test_a_constant_strategy_is_told_that_the_check_proves_nothing(prometheus, tmp_path):
    constant = tmp_path / "constant.py"
    constant.write_text("import numpy\ndef hold(panel): return numpy.ones(panel.close.shape)\n")

    code, _, errors = prometheus(
        "check", "lookahead", "--strategy", f"{constant}:hold", "--dataset", "any"
    )

    assert code == 0
    assert "this proves nothing" in errors


def test_the_warm_up_of_a_strategy_is_told(prometheus):
    clean = f"{ZOO / 'clean.py'}:trailing_window"

    code, output, _ = prometheus(
        "check", "warmup", "--strategy", clean, "--dataset", "any", "--json"
    )

    (row,) = json.loads(output)
    assert code == 0
    assert (row["first_known_at"], row["close_from"]) == (126, 126)


@pytest.mark.parametrize("command", ["lookahead", "warmup"])
def test_a_check_explains_itself_with_an_example(command):
    shown = CliRunner().invoke(cli.app, ["check", command, "--help"])

    assert shown.exit_code == 0
    assert f"prometheus check {command} configs/us_core_long_eq.yaml" in shown.output


@pytest.mark.parametrize("command", ["lookahead", "warmup"])
def test_a_check_of_nothing_says_what_to_give(prometheus, command):
    code, _, errors = prometheus("check", command)

    assert code == 1
    assert "give a configuration file, or --strategy FILE.py:FUNCTION --dataset NAME" in errors


def test_a_strategy_without_a_dataset_says_what_to_give(prometheus):
    code, _, errors = prometheus("check", "lookahead", "--strategy", "mine.py:decide")

    assert code == 1
    assert "--strategy needs --dataset NAME" in errors
