import ast
from pathlib import Path

import numpy as np
import pytest

import prometheus_nt.engines
from prometheus_nt.domain.books import RiskAction, RiskActionType
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.risk import RiskParams, apply_limits

NAN = np.nan
CAPPED, REJECTED = RiskActionType.CAPPED, RiskActionType.REJECTED
LOOSE = RiskParams(max_abs_weight_per_name=1.0)


@pytest.fixture
def panel(panel_of):
    return panel_of(np.full((3, 4), 10.0), sectors=("TECH", "TECH", None, "OIL"))


def _limits_hit(target):
    return [(action.instrument_id, action.limit, action.action_type) for action in target.actions]


def test_a_book_within_its_limits_passes_unchanged(panel, book_of):
    target = apply_limits(panel, book_of(panel, [0.1, 0.1, 0.0, 0.05]), RiskParams())

    assert target.weights.tolist() == [0.1, 0.1, 0.0, 0.05]
    assert target.actions == ()
    assert (target.as_of, target.book_id) == (panel.as_of, "BOOK")


def test_a_weight_above_the_cap_is_capped_and_the_rest_is_cash(panel, book_of):
    target = apply_limits(panel, book_of(panel, [0.3, 0.05, 0.0, 0.0]), RiskParams())

    assert target.weights.tolist() == [0.1, 0.05, 0.0, 0.0]
    assert target.actions == (RiskAction("I000", CAPPED, "max_abs_weight_per_name", 0.1, 0.3, 0.1),)
    assert target.report.cash_weight == pytest.approx(0.85)


def test_a_cap_of_zero_rejects(panel, book_of):
    params = RiskParams(max_abs_weight_per_name=0.0)

    target = apply_limits(panel, book_of(panel, [0.3, 0.0, 0.0, 0.0]), params)

    assert _limits_hit(target) == [("I000", "max_abs_weight_per_name", REJECTED)]
    assert not target.weights.any()


def test_what_is_not_a_number_is_rejected(panel, book_of):
    target = apply_limits(panel, book_of(panel, [NAN, np.inf, -np.inf, 0.1]), RiskParams())

    assert target.weights.tolist() == [0.0, 0.0, 0.0, 0.1]
    assert _limits_hit(target) == [(f"I00{row}", "finite", REJECTED) for row in range(3)]


def test_shorts_are_rejected_unless_allowed(panel, book_of):
    book = book_of(panel, [-0.5, 0.1, 0.0, 0.0])

    assert _limits_hit(apply_limits(panel, book, RiskParams())) == [("I000", "long_only", REJECTED)]
    both = apply_limits(panel, book, RiskParams(long_only=False))
    assert both.weights.tolist() == [-0.1, 0.1, 0.0, 0.0]
    assert (both.report.gross_exposure, both.report.net_exposure) == (0.2, 0.0)


def test_a_sector_above_its_limit_is_scaled_down(panel, book_of):
    params = LOOSE.model_copy(update={"max_sector_weight": 0.2})

    target = apply_limits(panel, book_of(panel, [0.3, 0.1, 0.1, 0.2]), params)

    assert np.allclose(target.weights, [0.15, 0.05, 0.1, 0.2])
    assert _limits_hit(target) == [
        ("I000", "max_sector_weight", CAPPED),
        ("I001", "max_sector_weight", CAPPED),
    ]


def test_instruments_of_unknown_sector_count_as_one(panel_of, book_of):
    panel = panel_of(np.full((3, 2), 10.0))
    params = LOOSE.model_copy(update={"max_sector_weight": 0.2})

    target = apply_limits(panel, book_of(panel, [0.3, 0.1]), params)

    assert np.allclose(target.weights, [0.15, 0.05])


def test_gross_above_its_limit_is_scaled_down(panel, book_of):
    target = apply_limits(panel, book_of(panel, [0.5, 0.5, 0.5, 0.5]), LOOSE)

    assert np.allclose(target.weights, 0.25)
    assert {limit for _, limit, _ in _limits_hit(target)} == {"max_gross"}


def test_rounding_is_not_a_breach(panel, book_of):
    weights = [0.4, 0.3, 0.2, 0.1 + 2e-16]

    assert apply_limits(panel, book_of(panel, weights), LOOSE).actions == ()


def test_exposures_by_sector(panel, panel_of, book_of):
    weights = [0.1, 0.05, 0.02, 0.0]

    exposures = apply_limits(panel, book_of(panel, weights), RiskParams()).report
    assert exposures.exposures_by_sector == pytest.approx({"TECH": 0.15, "UNKNOWN": 0.02})
    unknown = panel_of(np.full((3, 4), 10.0))
    report = apply_limits(unknown, book_of(unknown, weights), RiskParams()).report
    assert report.exposures_by_sector == {}


def test_the_report_follows_its_definitions(panel_of, book_of, random_close):
    panel = panel_of(random_close(7, 200, 6)[:, :5])
    weights = np.array([0.3, 0.0, 0.2, 0.1, 0.0])

    report = apply_limits(
        panel, book_of(panel, weights), LOOSE.model_copy(update={"risk_lookback": 120})
    ).report

    returns = total_returns(panel)[-120:]
    own = np.nan_to_num(returns) @ weights
    covered = np.isfinite(returns) @ weights >= 0.3
    own, market = own[covered], np.nanmean(returns, axis=1)[covered]
    worst = np.sort(own)[: int(np.ceil(0.05 * len(own)))]
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + own)])
    assert report.volatility == pytest.approx(own.std(ddof=1) * np.sqrt(252))
    assert report.var_95 == pytest.approx(worst[-1])
    assert report.expected_shortfall_95 == pytest.approx(worst.mean())
    assert report.beta == pytest.approx(np.cov(own, market)[0, 1] / market.var(ddof=1))
    assert report.max_drawdown == pytest.approx((wealth / np.maximum.accumulate(wealth)).min() - 1)
    assert (report.gross_exposure, report.net_exposure) == pytest.approx((0.6, 0.6))
    assert report.herfindahl == pytest.approx((9 + 4 + 1) / 36)
    assert (report.names, report.largest_weight) == (3, 0.3)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [0.1, 0.0]])
def test_what_cannot_be_known_is_none(panel_of, book_of, weights):
    sessions = 300 if not any(weights) else 60
    panel = panel_of(np.full((sessions, 2), 10.0))

    report = apply_limits(panel, book_of(panel, weights), RiskParams()).report

    assert report.volatility is report.var_95 is report.expected_shortfall_95 is None
    assert report.beta is report.max_drawdown is None
    assert report.herfindahl == (1.0 if any(weights) else 0.0)


def test_a_market_that_does_not_move_has_no_beta(panel_of, book_of):
    panel = panel_of(np.full((64, 2), 10.0))

    report = apply_limits(panel, book_of(panel, [0.1, 0.0]), RiskParams()).report

    assert report.beta is None
    assert (report.volatility, report.max_drawdown) == (0.0, 0.0)


def test_a_late_listing_does_not_pass_for_calm(panel_of, book_of, random_close):
    panel = panel_of(random_close(8, 200, 3))

    late = apply_limits(panel, book_of(panel, [0.0, 0.0, 0.5]), LOOSE).report
    whole = apply_limits(panel.last(99), book_of(panel, [0.0, 0.0, 0.5]), LOOSE).report

    assert late.volatility == whole.volatility


def test_only_the_risk_engine_makes_a_target_portfolio():
    root = Path(prometheus_nt.engines.__file__).parents[2]
    packages = ("prometheus_nt", "strategies", "adapters", "persistence")

    makers = {
        path.relative_to(root).as_posix()
        for package in packages
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("TargetPortfolio")
    }

    assert makers == {"prometheus_nt/engines/risk.py"}
