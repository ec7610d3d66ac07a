"""The risk stage hears the sleeve's own books and its own last target in a running node."""

from itertools import pairwise

import numpy as np
import pytest

from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.engines.turnover import one_way_turnover

pytestmark = pytest.mark.integration

ENGINES = {
    "stability": {"lookback": 21, "min_observations": 10},
    "assessment": {"momentum_lookback": 42, "momentum_skip": 5},
    "universe": {"min_history_sessions": 30},
    "portfolio": {"max_names": 5, "max_weight": 0.25},
}
BREAKER = {"drawdown_breaker": -0.03, "breaker_release": -0.01, "breaker_gross": 0.2}


def _targets(node):
    return [
        stages[TargetPortfolio].record
        for stages in node.mirror.stages.values()
        if TargetPortfolio in stages
    ]


@pytest.fixture
def run_with(configured, run, market):
    def run_with(**limits):
        risk = {"max_abs_weight_per_name": 0.25, **limits}
        config = configured(engines={**ENGINES, "risk": risk}, persistence={"engine_rows": "all"})
        node = run(config, market)
        return _targets(node), {held.as_of: held.equity for held in node.mirror.holdings}

    return run_with


def test_the_report_knows_the_books_equity(run_with):
    targets, equity = run_with()

    assert targets[-1].report.sessions_to_liquidate > 0.0
    assert {target.as_of for target in targets} <= set(equity)


def test_between_rebalances_the_report_is_of_what_is_held_and_says_so(configured, run, market):
    config = configured(
        engines={**ENGINES, "risk": {"max_abs_weight_per_name": 0.25}},
        sleeves=[{"horizon": 5, "capital_usd": 1_000_000, "rebalance": "monthly"}],
        persistence={"engine_rows": "all"},
    )

    node = run(config, market)

    targets = _targets(node)
    # A decision that only finishes what a session before left open is not of a new target.
    decided = {targets[0].as_of} | {
        new.as_of for old, new in pairwise(targets) if new.as_of.month != old.as_of.month
    }
    books = {held.as_of: held for held in node.mirror.holdings}
    drifted = []
    for target in targets:
        report, book = target.report, books[target.as_of]
        assert report.basis == ("target" if target.as_of in decided else "held")
        if report.basis == "target":
            assert report.gross_exposure == pytest.approx(np.abs(target.weights).sum())
            continue
        held = book.values / book.equity
        assert report.gross_exposure == pytest.approx(np.abs(held).sum())
        assert report.largest_weight == pytest.approx(np.abs(held).max())
        drifted.append(abs(report.gross_exposure - np.abs(target.weights).sum()))
    assert len(decided) < len(drifted)
    assert max(drifted) > 1e-3


def test_no_target_moves_further_than_the_limit_from_the_one_before(run_with):
    free, _ = run_with()
    bound, _ = run_with(max_turnover=0.1)

    def furthest(targets):
        return max(one_way_turnover(new.weights - old.weights) for old, new in pairwise(targets))

    assert furthest(bound) <= 0.1 + 1e-9 < furthest(free)


def test_the_breaker_follows_the_sleeves_own_drawdown(run_with):
    targets, equity = run_with(**BREAKER)
    levels = np.array(list(equity.values()))
    peak = np.maximum.accumulate(np.maximum(levels, 1e6))
    drawdown = dict(zip(equity, levels / peak - 1.0, strict=True))

    expected, tripped = [], False
    for target in targets:
        tripped = drawdown[target.as_of] <= (-0.01 if tripped else -0.03)
        expected.append(tripped)

    assert [target.breaker_tripped for target in targets] == expected
    assert {True, False} == set(expected)
    assert all(
        np.abs(target.weights).sum() <= 0.2 + 1e-9 for target in targets if target.breaker_tripped
    )


def test_a_breaker_does_not_wait_for_the_schedule(configured, run, market):
    config = configured(
        engines={**ENGINES, "risk": {"max_abs_weight_per_name": 0.25, **BREAKER}},
        sleeves=[{"horizon": 5, "capital_usd": 1_000_000, "rebalance": "quarterly"}],
        persistence={"engine_rows": "all"},
    )

    node = run(config, market)

    targets = _targets(node)
    turns = [
        new.as_of for old, new in pairwise(targets) if new.breaker_tripped ^ old.breaker_tripped
    ]
    decided = {item.record.as_of for item in node.mirror.decisions}
    held = {
        held.as_of: np.nansum(np.abs(held.shares) * held.marks) / held.equity
        for held in node.mirror.holdings
    }
    sessions = [target.as_of for target in targets]
    assert turns
    assert set(turns) <= decided
    filled = sessions[sessions.index(turns[0]) + 1]
    assert held[filled] < 0.25 < 0.5 < held[turns[0]]
