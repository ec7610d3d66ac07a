"""Risk figures against numbers worked out by hand, and against a second, naive route."""

from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.engines.numerics.market_relations import rolling_beta
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.risk import RiskParams, apply_limits
from prometheus_nt.engines.risk_report import report_risk

NAN = np.nan
FREE = {"max_abs_weight_per_name": 1.0, "max_gross": 3.0, "long_only": False}


def _report(panel, book, equity=None, **settings):
    books = None
    if equity is not None:
        books = Ledger(panel.instruments, equity).state(panel.as_of, "BOOK")
    return apply_limits(panel, book, RiskParams(**{**FREE, **settings}), books=books).report


def _tail(report, method, sessions, level):
    (found,) = (
        tail
        for tail in report.tails
        if (tail.method, tail.sessions, tail.level) == (method, sessions, level)
    )
    return found.value_at_risk, found.expected_shortfall


@pytest.fixture
def ladder(panel_of, book_of):
    """One name that lost 1, 2, ... 100 basis points in a shuffled order, held with weight 1."""
    losses = -np.random.default_rng(4).permutation(np.arange(1, 101)) / 1e4
    panel = panel_of(100.0 * np.cumprod(np.concatenate(([1.0], 1.0 + losses))))
    return panel, book_of(panel, [1.0]), losses


def test_historical_tails_by_hand(ladder):
    panel, book, _ = ladder

    report = _report(panel, book)

    # Of 100 returns the fifth lowest is -96 bps, and the lowest five average -98.
    assert _tail(report, "historical", 1, 0.95) == pytest.approx((-0.0096, -0.0098))
    assert _tail(report, "historical", 1, 0.99) == pytest.approx((-0.0100, -0.0100))
    assert (report.var_95, report.expected_shortfall_95) == pytest.approx((-0.0096, -0.0098))


def test_parametric_tails_by_hand(ladder):
    panel, book, losses = ladder
    mean, sigma = losses.mean(), losses.std(ddof=1)

    report = _report(panel, book)

    for sessions in (1, 10):
        centre, spread = sessions * mean, np.sqrt(sessions) * sigma
        assert _tail(report, "parametric", sessions, 0.95) == pytest.approx(
            (centre - 1.6448536 * spread, centre - 2.0627128 * spread)
        )
        assert _tail(report, "parametric", sessions, 0.99) == pytest.approx(
            (centre - 2.3263479 * spread, centre - 2.6652142 * spread)
        )


def test_ten_session_tails_are_of_compounded_windows(ladder):
    panel, book, losses = ladder
    windows = [np.prod(1.0 + losses[at : at + 10]) - 1.0 for at in range(91)]

    found = _tail(_report(panel, book), "historical", 10, 0.95)

    # Of 91 windows the fifth is the first that 5% do not exceed.
    assert found == pytest.approx((np.sort(windows)[4], np.sort(windows)[:5].mean()))


def test_the_bootstrap_visits_the_books_own_history_the_same_way_every_time(ladder):
    panel, book, losses = ladder

    one, again = _report(panel, book), _report(panel, book)
    reseeded = _report(panel, book, bootstrap_seed=1)

    assert one.tails == again.tails
    assert one.tails != reseeded.tails
    assert np.isclose(losses, _tail(one, "bootstrap", 1, 0.99)[0]).any()
    # Ten draws that average -50.5 bps lose about 5%.
    assert _tail(one, "bootstrap", 10, 0.95)[0] == pytest.approx(-0.065, abs=0.01)


def test_component_risk_by_hand(panel_of, book_of):
    # Two names that move by 1% and 2%, in all four combinations of sign: uncorrelated.
    first = np.tile([0.01, 0.01, -0.01, -0.01], 20)
    second = np.tile([0.02, -0.02, 0.02, -0.02], 20)
    growth = np.cumprod(1.0 + np.column_stack((first, second)), axis=0)
    panel = panel_of(100.0 * np.vstack((np.ones(2), growth)))

    report = _report(panel, book_of(panel, [0.8, -0.3]))

    variance = np.array([0.008**2, 0.006**2]) * 80 / 79 * 252
    total = np.sqrt(variance.sum())
    assert report.volatility == pytest.approx(total)
    assert report.contributions.instruments == ("I000", "I001")
    assert report.contributions.component == pytest.approx(variance / total)
    assert report.contributions.marginal == pytest.approx(variance / total / [0.8, -0.3])


def test_a_long_short_book_is_measured_with_its_signs(panel_of, book_of):
    panel = panel_of(np.full((3, 4), 10.0), sectors=("TECH", "TECH", "OIL", None))

    report = _report(panel, book_of(panel, [0.6, -0.4, -0.2, 0.0]))

    assert report.gross_exposure == pytest.approx(1.2)
    assert report.net_exposure == pytest.approx(0.0)
    assert report.cash_weight == pytest.approx(1.0)
    assert report.exposures_by_sector == pytest.approx({"OIL": -0.2, "TECH": 0.2})
    assert report.gross_by_sector == pytest.approx({"OIL": 0.2, "TECH": 1.0})
    assert report.herfindahl == pytest.approx((36 + 16 + 4) / 144)
    assert report.largest_weight == pytest.approx(0.6)


def test_the_ten_largest_names_share_of_gross(panel_of, book_of):
    panel = panel_of(np.full((3, 12), 10.0))

    report = _report(panel, book_of(panel, [0.1, -0.1] * 6))

    assert report.top_ten_share == pytest.approx(10 / 12)


def test_the_sessions_until_95_percent_are_sold(panel_of, book_of):
    # A tenth of volume sells 1e5 and 1e4 USD a session; the book holds 5e5 of each.
    panel = panel_of(np.full((40, 2), 10.0), volume=np.tile([1e5, 1e4], (40, 1)))
    book = book_of(panel, [0.5, 0.5])

    # 950,000 are sold when the first is gone, and 450,000 of the second: after 45 sessions.
    assert _report(panel, book, equity=1e6).sessions_to_liquidate == pytest.approx(45.0)
    # Together they sell 110,000 a session, and both last longer than 95% of the sum.
    even = book_of(panel, [1.0, 0.1])
    assert _report(panel, even, equity=1e6).sessions_to_liquidate == pytest.approx(9.5)
    assert _report(panel, book).sessions_to_liquidate is None


def test_without_a_volume_nobody_knows_how_long_selling_takes(panel_of, book_of):
    panel = panel_of(np.full((40, 2), 10.0), volume=np.tile([1e5, NAN], (40, 1)))

    assert _report(panel, book_of(panel, [0.5, 0.5]), equity=1e6).sessions_to_liquidate is None
    known = _report(panel, book_of(panel, [0.5, 0.0]), equity=1e6)
    assert known.sessions_to_liquidate == pytest.approx(4.75)


def test_factor_exposures_follow_their_definitions(panel_of, book_of):
    rng = np.random.default_rng(8)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (300, 12)), axis=0))
    panel = panel_of(close, volume=rng.uniform(1e5, 1e6, (300, 12)))
    weights = np.where(np.arange(12) < 5, [0.3, -0.2] * 6, 0.0)

    found = _report(panel, book_of(panel, weights)).exposures_by_factor

    log_returns = np.diff(np.log(close), axis=0)
    raw = {
        "momentum": np.log(close[-22] / close[-253]),
        "volatility": np.log(log_returns[-63:].std(axis=0, ddof=1)),
        "dollar_volume": np.log((close * panel.volume)[-21:].mean(axis=0)),
    }
    for name, values in raw.items():
        assert found[name] == pytest.approx(weights @ ((values - values.mean()) / values.std()))
    beta = rolling_beta(panel, 252, 60)[-1]
    assert found["market"] == pytest.approx(weights @ beta)
    assert list(found) == ["market", "momentum", "volatility", "dollar_volume"]


def test_a_levered_book_that_lost_everything_does_not_earn_it_back(panel_of, book_of):
    rng = np.random.default_rng(3)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.001, (120, 2)), axis=0))
    # Five times 30 % is more than there is; two such losses must not multiply to a gain.
    close[100:] *= 0.7
    close[104:] *= 0.7
    panel = panel_of(close)

    report = report_risk(panel, np.arange(2), np.array([2.5, 2.5]), RiskParams(), None)

    assert report.max_drawdown == -1.0
    tails = {(tail.method, tail.sessions, tail.level): tail for tail in report.tails}
    assert tails["historical", 1, 0.99].value_at_risk < -1.0
    for method in ("historical", "bootstrap"):
        assert tails[method, 10, 0.95].value_at_risk == -1.0


def test_names_that_stopped_trading_do_not_narrow_the_momentum_factor(panel_of, book_of):
    rng = np.random.default_rng(8)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (700, 24)), axis=0))
    close[300:, 12:] = NAN
    weights = np.where(np.arange(24) < 5, [0.3, -0.2] * 12, 0.0)

    found = _report(panel_of(close), book_of(panel_of(close), weights)).exposures_by_factor

    values = np.log(close[-22, :12] / close[-253, :12])
    z = (values - values.mean()) / values.std()
    assert found["momentum"] == pytest.approx(weights[:12] @ z)


def test_rolling_beta_is_the_slope_on_the_known_sessions(panel_of, random_close):
    panel = panel_of(random_close(5, 200, 6))
    returns = total_returns(panel)
    market = np.nanmean(returns[1:], axis=1)

    found = rolling_beta(panel, 60, 30)

    for row, column in ((150, 0), (199, 3), (199, 5)):
        own, common = returns[row - 59 : row + 1, column], market[row - 60 : row]
        known = np.isfinite(own)
        slope = np.cov(own[known], common[known])[0, 1] / common[known].var(ddof=1)
        assert found[row, column] == pytest.approx(slope)
    assert np.isnan(found[:30]).all()
    assert np.isnan(found[120, 5])


def test_a_market_that_came_to_a_halt_has_no_beta(panel_of):
    moving = 50.0 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.05, (100, 2)), axis=0))
    panel = panel_of(np.vstack((moving, np.repeat(moving[-1:], 80, axis=0))))

    assert np.isnan(rolling_beta(panel, 60, 30)[-1]).all()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [NAN, NAN]])
def test_an_empty_book_has_no_risk_and_unknown_figures(panel_of, book_of, weights):
    panel = panel_of(np.full((100, 2), 10.0))

    report = _report(panel, book_of(panel, weights), equity=1e6)

    assert (report.names, report.gross_exposure, report.cash_weight) == (0, 0.0, 1.0)
    assert report.volatility is report.contributions is report.sessions_to_liquidate is None
    assert report.tails == report.stress == ()
    assert report.exposures_by_factor == {}


def test_a_panel_of_one_name_and_two_sessions_has_a_report(panel_of, book_of):
    panel = panel_of([10.0, 11.0])

    report = _report(panel, book_of(panel, [0.5]), equity=1e6)

    assert report.volatility is None
    assert report.tails == ()
    assert report.exposures_by_factor == {}
    # Nothing is known of its beta, so it moves like the market; that is not covered.
    assert [(row.name, row.pnl, row.covered) for row in report.stress] == [
        ("market_down_10", -0.05, 0.0),
        ("market_down_20", -0.1, 0.0),
    ]


def _stress(report):
    return {row.name: (row.pnl, row.covered) for row in report.stress}


def _crisis_panel(panel_of, close, first="2019-12-02"):
    panel = panel_of(close)
    days = np.busday_offset(first, np.arange(len(panel)), roll="forward")
    return replace(panel, sessions=days.astype("datetime64[D]"), _wall=None)


def test_a_crisis_counts_from_the_close_before_it_to_its_last(panel_of, book_of):
    close = np.full((120, 2), 100.0)
    days = np.busday_offset("2019-12-02", np.arange(120), roll="forward")
    within = days >= np.datetime64("2020-02-19")
    close[within] = [70.0, 120.0]
    close[days > np.datetime64("2020-03-23")] = [200.0, 10.0]
    panel = _crisis_panel(panel_of, close)
    book = book_of(panel, [0.5, -0.5])

    found = _stress(_report(panel, book))

    assert found["covid"] == pytest.approx((0.5 * -0.3 - 0.5 * 0.2, 1.0))
    before_its_end = panel.until(np.busday_offset("2020-03-20", 0).astype(object))
    assert "covid" not in _stress(_report(before_its_end, book_of(panel, [0.5, -0.5])))
    assert "covid" not in _stress(_report(panel.last(50), book))


def test_a_name_without_data_falls_with_the_market_and_is_not_covered(panel_of, book_of):
    close = np.full((120, 3), 100.0)
    days = np.busday_offset("2019-12-02", np.arange(120), roll="forward")
    close[days >= np.datetime64("2020-02-19"), :2] = [70.0, 90.0]
    close[days <= np.datetime64("2020-03-23"), 2] = NAN
    panel = _crisis_panel(panel_of, close)

    found = _stress(_report(panel, book_of(panel, [0.2, 0.0, 0.6])))

    assert found["covid"] == pytest.approx((0.2 * -0.3 + 0.6 * -0.2, 0.25))


def test_the_worst_windows_are_sums_of_the_books_returns(panel_of, book_of, random_close):
    panel = panel_of(random_close(6, 200, 4)[:, :3])
    weights = np.array([0.5, -0.4, 0.3])

    found = _stress(_report(panel, book_of(panel, weights), risk_lookback=120))

    own = np.nan_to_num(total_returns(panel))[-120:] @ weights
    for sessions in (5, 21):
        sums = [own[at : at + sessions].sum() for at in range(121 - sessions)]
        assert found[f"worst_{sessions}_sessions"][0] == pytest.approx(min(sums))


def test_shocks_reach_each_name_through_its_beta(panel_of, book_of, random_close):
    panel = panel_of(random_close(9, 200, 4)[:, :3])
    weights = np.array([0.5, -0.2, 0.3])

    found = _stress(_report(panel, book_of(panel, weights)))

    exposure = weights @ rolling_beta(panel, 252, 60)[-1]
    assert found["market_down_10"] == pytest.approx((-0.1 * exposure, 1.0))
    assert found["market_down_20"] == pytest.approx((-0.2 * exposure, 1.0))
