"""Every fault that the simulator knows, in a rehearsal of its own process: how the node ends.

It ends by itself, and equal to its backtest; or what differs is attributed to the fault; or it
halts, or does not begin, with a message that says what to look at.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adapters.ib_gateway.fault_table import FAULTS

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
ASKED = (
    *("rehearse", "configs/us_core_long_eq_ohlcv.yaml", "--json"),
    *("--start", "2006-01-03", "--end", "2006-01-11"),
    *("--set", "sleeves=[{family: US_CORE_LONG_EQ, horizon: 5}]"),
    *("--set", "ib.answer_minutes=0.25"),
    # They take much of the time, and change no order of this week.
    *("--set", "without=[regime,fragility]"),
)
SECONDS = 420
"""After which a process is taken to hang."""

SHORTER = {
    "deaf": "deaf:seconds=2",
    "refuse": "refuse:seconds=2",
    "restart": "restart:seconds=2",
    "token": "token:seconds=3",
    "stale_positions": "stale_positions:seconds=0.5",
}
"""Faults that would wait for longer than they have to."""

DIFFERS = {
    "reject": "FAULT",
    "partial_then_stop": "FAULT",
    "user_cancels": "MANUAL",
    "user_edits": "MANUAL",
}
"""What is not traded because of them is attributed to them: the cause."""

HALTS = {
    "bust": "REVISED_FILL",
    "foreign_order": "UNKNOWN_ORDER",
    "margin_call": "CASH_BREAK",
    "twin_order": "DUPLICATE_ORDER",
}
"""What needs somebody to look: the reason that pulled the kill switch."""

STOPS = {
    "commission_never": "has not said what became of it",
    "link_lost": "cannot be asked",
    "no_currency": "does not say its TotalCashValue",
}
"""What a later start may overcome by itself."""

REFUSES = {"wrong_accounts": "does not manage"}
"""What keeps a node from beginning."""

UNREACHED = {
    # Nobody cancels in a week without a halt.
    *("cancel_races_fill", "cancel_pending", "fill_after_cancel"),
    # A node asks for no history, no quotes and no subscription to its account.
    *("volume_unknown", "missing_day", "duplicate_bar", "zero_price", "tick_flood"),
    *("no_download_end", "open_bar"),
    # They hold from the start, and strike nothing in particular.
    *("wrong_accounts", "crossed_quotes", "delayed_only", "line_limit", "silent_pacing"),
}

QUICK = ("lose_order", "reject", "user_cancels", "margin_call", "wrong_accounts")
"""Without `slow`: one of each kind."""


@pytest.fixture(scope="module")
def historical(sample_history):
    """Return the address of one historical database that all nodes read."""
    return f"sqlite:///{sample_history}"


@pytest.fixture
def rehearsed(historical, tmp_path):
    """Return how a rehearsal with a fault ended: its exit code, what it printed, what it said."""

    def run(rule):
        environment = os.environ | {
            "PROMETHEUS_HOME": str(tmp_path / "home"),
            "PROMETHEUS_HISTORICAL_URL": historical,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "prometheus_nt.cli", *ASKED, "--fault", rule]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, json.loads(done.stdout or "null"), done.stderr

    return run


def test_the_lists_name_faults_that_exist_and_each_once():
    listed = [*DIFFERS, *HALTS, *STOPS, *REFUSES]

    assert len(listed) == len(set(listed))
    assert {*listed, *SHORTER, *UNREACHED, *QUICK} <= set(FAULTS)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS],
)
def test_a_rehearsal_with_a_fault_ends_as_it_should(rehearsed, name):
    code, found, said = rehearsed(SHORTER.get(name, name))

    if name in REFUSES:
        assert code != 0
        assert REFUSES[name] in said
        return
    assert {hit["fault"] for hit in found["struck"]} == (set() if name in UNREACHED else {name})
    assert all(whole(report) for report in found["reports"])
    if name in DIFFERS:
        assert (code, found["halted"], found["effects"]) == (1, None, [name])
        assert [causes(report) for report in found["reports"]] == [{DIFFERS[name]}]
    elif name in HALTS | STOPS:
        assert code == 1
        assert (HALTS | STOPS)[name] in found["halted"]
        pulled = list((Path(found["folder"]) / "safety").glob("*.halt"))
        assert bool(pulled) == (name in HALTS)
        assert [causes(report) for report in found["reports"]] in ([], [set()])
    else:
        assert (code, found["halted"], found["effects"]) == (0, None, [])
        (report,) = found["reports"]
        assert report["sessions"] == 7
        assert causes(report) == set()
        assert report["orders"]["orders_same"] == report["orders"]["orders_b"] > 4


def causes(report):
    return {row["cause"] for row in report["causes"] if row["evidence"] or abs(row["bps"]) > 1e-3}


def whole(report):
    """Return whether the parts of a gap add up to it, with nothing left over."""
    parts = sum(row["usd"] for row in report["causes"])
    return np.isclose(parts, report["gap_usd"], atol=1e-6) and report["residual_bps"] < 1e-6
