import numpy as np
import pytest

from prometheus_nt.reporting.metrics import compute_metrics, regime_figures
from prometheus_nt.reporting.performance import annualised_sharpe, max_drawdown
from prometheus_nt.reporting.series import FillTable

KEYS = {
    "cumulative_return",
    "max_drawdown",
    "annualised_vol",
    "annualised_sharpe",
    "sharpe_ratio",
    "cagr",
    "sortino",
    "calmar",
    "turnover_annual",
    "cost_commission_usd",
    "cost_spread_usd",
    "cost_impact_usd",
    "cost_borrow_usd",
    "cost_interest_usd",
    "cost_total_usd",
    "cost_drag_annual",
    "dividends_usd",
    "interest_received_usd",
    "exposure_long_mean",
    "exposure_short_mean",
    "exposure_gross_mean",
    "exposure_net_mean",
    "cash_weight_mean",
    "tail_ratio",
    "skew",
    "kurtosis",
    "hit_rate",
    "best_session",
    "worst_session",
    "worst_month",
    "longest_drawdown_sessions",
    "var_95",
    "expected_shortfall_95",
    "beta",
    "alpha_annual",
    "correlation",
    "information_ratio",
    "tracking_error",
    "benchmark_cumulative_return",
    "benchmark_annualised_sharpe",
    "benchmark_max_drawdown",
    "num_fills",
    "num_sessions",
    "probabilistic_sharpe_ratio",
    "sharpe_standard_error",
}
RELATIVE = {
    "beta",
    "alpha_annual",
    "correlation",
    "information_ratio",
    "tracking_error",
    "benchmark_cumulative_return",
    "benchmark_annualised_sharpe",
    "benchmark_max_drawdown",
}


def test_the_keys_are_those_the_stores_and_pages_know(make_series):
    metrics = compute_metrics(make_series())

    assert set(metrics) == KEYS
    assert all(type(value) in (float, int) for value in metrics.values())
    assert metrics["sharpe_ratio"] == metrics["annualised_sharpe"]


def test_a_run_of_four_sessions_by_hand(make_series):
    series = make_series(4, equity=np.array([1100.0, 990.0, 990.0, 1188.0]))

    metrics = compute_metrics(series)

    assert metrics["cumulative_return"] == pytest.approx(0.188)
    assert metrics["max_drawdown"] == pytest.approx(-0.1)
    assert metrics["best_session"] == pytest.approx(0.2)
    assert metrics["worst_session"] == pytest.approx(-0.1)
    assert metrics["worst_month"] == pytest.approx(0.188)
    assert metrics["longest_drawdown_sessions"] == 2
    assert metrics["hit_rate"] == pytest.approx(2 / 3)
    assert metrics["num_sessions"] == 4
    assert metrics["num_fills"] == 2
    assert metrics["cagr"] is None
    assert metrics["turnover_annual"] is None


def test_costs_income_and_exposures_by_hand(make_series):
    metrics = compute_metrics(make_series(100))

    assert metrics["cost_commission_usd"] == 2.0
    assert metrics["cost_spread_usd"] == 3.0
    assert metrics["cost_impact_usd"] == 5.0
    assert metrics["cost_total_usd"] == 10.0
    # 10 USD on a capital of 1,000, once in 100 sessions.
    assert metrics["cost_drag_annual"] == pytest.approx(0.01 / 100 * 252)
    assert metrics["turnover_annual"] == pytest.approx(0.8 / 100 * 252)
    assert metrics["dividends_usd"] == 7.0
    assert metrics["exposure_gross_mean"] == pytest.approx(0.8)
    assert metrics["exposure_net_mean"] == pytest.approx(0.8)
    assert metrics["cash_weight_mean"] == pytest.approx(0.2)


def test_what_holding_costs_is_listed_by_kind_and_part_of_all_costs(make_series):
    series, nights = make_series(100), np.full(100, 0.5)
    costs = {**series.costs, "borrow_fees": nights, "interest_paid": 2.0 * nights}
    flows = {"interest_received": 0.1 * nights, "delistings": nights}

    metrics = compute_metrics(make_series(100, costs=costs, other_cash_flows=flows))

    assert (metrics["cost_borrow_usd"], metrics["cost_interest_usd"]) == (50.0, 100.0)
    assert metrics["interest_received_usd"] == pytest.approx(5.0)
    assert metrics["cost_total_usd"] == 10.0 + 50.0 + 100.0
    before = np.concatenate(([1000.0], series.equity[:-1]))
    drag = (10.0 / 1000.0 + (1.5 / before).sum()) / 100 * 252
    assert metrics["cost_drag_annual"] == pytest.approx(drag)


def test_a_book_without_net_exposure_has_every_figure(make_series):
    fifty = np.full(300, 0.5)
    series = make_series(gross=2.0 * fifty, net=0.0 * fifty, cash=2.0 * fifty)

    metrics = compute_metrics(series)

    assert all(value is not None for value in metrics.values())
    assert (metrics["exposure_long_mean"], metrics["exposure_short_mean"]) == (0.5, -0.5)
    assert (metrics["exposure_gross_mean"], metrics["exposure_net_mean"]) == (1.0, 0.0)


def test_the_comparison_begins_with_the_second_session(make_series):
    series = make_series(200)

    metrics = compute_metrics(series)

    own = series.equity[1:] / series.equity[:-1] - 1.0
    other = series.benchmark[1:] / series.benchmark[:-1] - 1.0
    gap = own - other
    assert metrics["beta"] == pytest.approx(np.cov(own, other)[0, 1] / np.var(other, ddof=1))
    assert metrics["correlation"] == pytest.approx(np.corrcoef(own, other)[0, 1])
    assert metrics["tracking_error"] == pytest.approx(gap.std(ddof=1) * 252**0.5)
    assert metrics["information_ratio"] == pytest.approx(gap.mean() / gap.std(ddof=1) * 252**0.5)
    assert metrics["benchmark_cumulative_return"] == pytest.approx(
        series.benchmark[-1] / series.benchmark[0] - 1.0
    )
    assert metrics["benchmark_annualised_sharpe"] == annualised_sharpe(other)
    assert metrics["benchmark_max_drawdown"] == max_drawdown(series.benchmark)


def test_a_run_that_is_its_own_benchmark_has_no_information_ratio(make_series):
    series = make_series(200)

    metrics = compute_metrics(make_series(200, benchmark=series.equity / 7.0))

    assert metrics["beta"] == pytest.approx(1.0)
    assert metrics["tracking_error"] == 0.0
    assert metrics["information_ratio"] is None


def test_without_a_benchmark_every_comparison_is_none_and_nothing_else(make_series):
    metrics = compute_metrics(make_series(benchmark=None, benchmark_id=None))

    assert {key for key, value in metrics.items() if value is None} == RELATIVE


def test_metrics_do_not_depend_on_the_capital(make_series):
    series = make_series()

    scaled = make_series(equity=series.equity * 1e4, starting_capital=1e7)

    ours, theirs = compute_metrics(series), compute_metrics(scaled)
    for key in KEYS - {"cost_drag_annual"}:
        assert theirs[key] == pytest.approx(ours[key]), key


def test_a_single_session_has_facts_but_no_statistics(make_series):
    metrics = compute_metrics(make_series(1, fills=FillTable.empty()))

    assert metrics["num_fills"] == 0
    assert metrics["cumulative_return"] is not None
    for key in ("annualised_vol", "annualised_sharpe", "skew", "var_95", "beta", "cagr"):
        assert metrics[key] is None
    assert metrics["benchmark_cumulative_return"] is None


def test_an_idle_run_has_zero_volatility_and_no_ratio(make_series):
    metrics = compute_metrics(make_series(equity=np.full(300, 1000.0)))

    assert metrics["annualised_vol"] == 0.0
    assert metrics["max_drawdown"] == 0.0
    assert metrics["cagr"] == 0.0
    for key in ("annualised_sharpe", "sortino", "calmar", "hit_rate", "tail_ratio", "kurtosis"):
        assert metrics[key] is None


def test_a_ruined_run_keeps_its_loss_and_loses_its_statistics(make_series):
    equity = np.linspace(1000.0, -200.0, 300)

    metrics = compute_metrics(make_series(equity=equity))

    assert metrics["cumulative_return"] == pytest.approx(-1.2)
    for key in ("cagr", "annualised_vol", "annualised_sharpe", "worst_month", "cost_drag_annual"):
        assert metrics[key] is None


def test_each_regime_has_the_figures_of_the_sessions_that_began_in_it(make_series):
    labels = np.array([None] + ["CARRY"] * 199 + ["CRISIS"] * 100, dtype=object)
    series = make_series(300, regimes=labels)

    carry, crisis = regime_figures(series)

    assert (carry.label, carry.sessions) == ("CARRY", 199)
    assert (crisis.label, crisis.sessions, crisis.share) == ("CRISIS", 100, 100 / 300)
    returns = series.returns[200:]
    assert crisis.mean_return == pytest.approx(returns.mean() * 252)
    assert crisis.volatility == pytest.approx(returns.std(ddof=1) * np.sqrt(252))
    assert crisis.worst_session == returns.min()
    paid = sum(series.costs[kind][200:].sum() for kind in series.costs)
    assert crisis.costs_usd == pytest.approx(paid)


def test_a_run_without_regimes_has_no_breakdown(make_series):
    assert regime_figures(make_series(100, regimes=None)) == []
