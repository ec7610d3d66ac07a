"""A user's strategy: what is loaded, what is refused, and what a session-by-session one reveals."""

import numpy as np
import pytest

from prometheus_nt.domain.errors import ConfigError, DataError, StrategyError
from prometheus_nt.jobs.check.strategies import check_strategy
from prometheus_nt.jobs.check.user_strategy import UserStrategy, load_strategy


def _check(function, panel, cuts=4):
    return check_strategy(UserStrategy("mine", function), panel, cuts=cuts)


@pytest.mark.parametrize(
    ("source", "reference", "error", "message"),
    [
        ("", "mine.py", ConfigError, "expected FILE.py:FUNCTION, for example"),
        ("", "other.py:decide", ConfigError, "there is no file 'other.py'"),
        ("def momentum(panel): ...", "mine.py:decide", ConfigError, "it has: momentum"),
        ("limit = 3", "mine.py:limit", ConfigError, "has no function 'limit'; it has: none"),
        ("\n1 / 0", "mine.py:decide", StrategyError, "ZeroDivisionError: .* (mine.py, line 2)"),
        ("raise SystemExit(3)", "mine.py:decide", StrategyError, "cannot be run: SystemExit"),
    ],
)
def test_a_strategy_that_cannot_be_loaded_is_refused(
    tmp_path, monkeypatch, source, reference, error, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(source)

    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        load_strategy(reference)


def test_a_loaded_file_may_use_dataclasses_and_the_files_beside_it(tmp_path, panel):
    (tmp_path / "beside_it.py").write_text("HALF = 0.5\n")
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from beside_it import HALF\n"
        "@dataclass\n"
        "class Rule:\n"
        "    scale: float = HALF\n"
        "    def __call__(self, panel):\n"
        "        return self.scale * panel.close\n"
        "decide = Rule()\n"
    )

    decisions = load_strategy(f"{tmp_path / 'mine.py'}:decide").decide(panel)

    assert np.array_equal(decisions.weights, 0.5 * panel.close)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda panel: panel.close[:-1], "weights have shape .*, expected .*keep every row"),
        (lambda panel: panel.close.T, "weights have shape"),
        (lambda panel: "buy", "weights cannot be read as an array of numbers"),
        (lambda panel: None, "weights have shape"),
        (lambda panel: (panel.close, panel.close), "profit and loss has shape"),
        (lambda panel: panel.close.__setitem__(0, 1.0), "raised on .*read-only"),
        (lambda panel: np.random.default_rng().random(panel.close.shape), "not deterministic"),
        (lambda panel: np.full(panel.close.shape, np.nan), "nothing could be compared"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_refused(panel, function, message):
    with pytest.raises(StrategyError, match=message):
        _check(function, panel)


def test_too_little_history_is_refused(panel):
    with pytest.raises(DataError, match="20 sessions, 13 of them to choose cuts from, are too few"):
        _check(lambda history: history.close, panel.last(20))


def test_a_failure_on_one_future_is_noted_and_the_others_still_count(panel):
    def dislikes_gaps(history):
        if np.isnan(history.close).any():
            raise ValueError("gaps")
        return history.close

    report = _check(dislikes_gaps, panel)

    assert report.first is None
    assert report.changes["missing bars"].verdict == "nothing to compare"
    assert "ValueError: gaps" in report.changes["missing bars"].note
    assert report.changes["no rows"].verdict == "ok"


def test_rounding_of_another_order_of_additions_is_no_leak(panel):
    def summed(history):
        return history.close * (1.0 + 1e-15 * np.nansum(history.close))

    assert _check(summed, panel).first is None


def test_a_strategy_that_never_reacts_proves_nothing(panel):
    constant = _check(lambda history: np.ones(history.close.shape), panel)
    follower = _check(lambda history: history.close, panel)

    assert not constant.reacts
    assert follower.reacts


def test_a_strategy_called_session_by_session_is_told_by_its_answer(panel):
    def last_month(history):
        return history.close[-1] / history.close[-21:].mean(axis=0)

    report = _check(last_month, panel)

    assert report.first is None
    assert report.changes["noise"].compared == 4 * 22 * len(panel.instruments)


def test_a_derived_array_that_looks_ahead_is_found_in_a_session_by_session_strategy(panel):
    def tomorrow(history):
        return np.vstack([history.close[1:], history.close[-1:]])

    found = _check(lambda history: history.derived(tomorrow)[-1], panel).first

    assert found.as_of == found.cut
    assert found.reads_ahead == 1
    assert found.instrument == "N0.US"
