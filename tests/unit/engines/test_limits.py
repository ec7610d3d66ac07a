"""Every limit just under and just over, and the ones that could get into each other's way."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.books import RiskActionType
from prometheus_nt.domain.errors import LimitBreach
from prometheus_nt.domain.ledger import Ledger
from prometheus_nt.engines import risk
from prometheus_nt.engines.limits import Limit
from prometheus_nt.engines.risk import RiskParams, apply_limits

NAN = np.nan
OPEN = {"max_abs_weight_per_name": 1.0, "max_gross": 3.0, "long_only": False}


@pytest.fixture
def panel(panel_of):
    return panel_of(np.full((40, 4), 10.0), sectors=("TECH", "TECH", "OIL", "OIL"))


@pytest.fixture
def books_of():
    def build(panel, equity=1e6, drawdown=0.0):
        state = Ledger(panel.instruments, equity).state(panel.as_of, "BOOK")
        return replace(state, drawdown=drawdown)

    return build


def _target(panel, book, books=None, previous=None, **limits):
    params = RiskParams(**{**OPEN, **limits})
    return apply_limits(panel, book, params, books=books, previous=previous)


def _limits_of(target):
    return {action.limit for action in target.actions}


def test_weights_whose_sum_no_number_holds_are_capped_like_any_other(panel, book_of):
    target = _target(panel, book_of(panel, [1.5e308, 1.5e308, 0.0, NAN]))

    assert target.weights.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert _limits_of(target) == {"finite", "max_abs_weight_per_name"}


@pytest.mark.parametrize(
    ("weights", "limits", "name", "expected"),
    [
        ([0.3, 0.2, 0.1, 0.0], {"max_net": 0.6}, None, [0.3, 0.2, 0.1, 0.0]),
        ([0.3, 0.3, 0.0, 0.0], {"max_net": 0.5}, "max_net", [0.25, 0.25, 0.0, 0.0]),
        ([0.8, 0.4, -0.3, -0.3], {"max_net": 0.3}, "max_net", [0.6, 0.3, -0.3, -0.3]),
        ([0.3, 0.3, -0.8, -0.4], {"min_net": -0.3}, "min_net", [0.3, 0.3, -0.6, -0.3]),
        ([0.3, -0.3, 0.5, -0.5], {"max_net": 0.0, "min_net": 0.0}, None, [0.3, -0.3, 0.5, -0.5]),
        ([1.0, -1.0, 0.5, -0.5], {"max_gross": 3.0}, None, [1.0, -1.0, 0.5, -0.5]),
        ([1.0, -1.0, 0.5, -0.5], {"max_gross": 1.5}, "max_gross", [0.5, -0.5, 0.25, -0.25]),
        ([0.2, -0.2, 0.1, 0.0], {"max_sector_weight": 0.4}, None, [0.2, -0.2, 0.1, 0.0]),
        ([0.4, -0.4, 0.1, 0], {"max_sector_weight": 0.4}, "max_sector_weight", [0.2, -0.2, 0.1, 0]),
    ],
)
def test_a_limit_cuts_what_is_above_it_and_nothing_else(
    panel, book_of, weights, limits, name, expected
):
    target = _target(panel, book_of(panel, weights), **limits)

    assert np.allclose(target.weights, expected)
    assert _limits_of(target) == ({name} if name else set())


def test_a_net_limit_comes_before_gross_so_that_less_is_sold(panel, book_of):
    target = _target(panel, book_of(panel, [0.8, 0.4, -0.3, -0.3]), max_net=0.3, max_gross=1.5)

    assert np.allclose(target.weights, [0.6, 0.3, -0.3, -0.3])
    assert _limits_of(target) == {"max_net"}


def test_a_weight_that_cannot_be_sold_in_time_is_cut_to_what_can(panel, book_of, books_of):
    # A session trades 10 x 1e6 USD; a tenth of that, for two sessions, is 2e6 of 1e7 equity.
    days = {"max_liquidation_days": 2.0}

    target = _target(panel, book_of(panel, [0.5, -0.3, 0.2, 0.0]), books_of(panel, 1e7), **days)

    assert np.allclose(target.weights, [0.2, -0.2, 0.2, 0.0])
    assert _limits_of(target) == {"max_liquidation_days"}
    assert target.actions[0].limit_value == 2.0


def test_unknown_volume_or_equity_is_rejected_by_name(panel_of, book_of, books_of):
    volume = np.full((40, 2), 1e6)
    volume[:, 1] = NAN
    panel = panel_of(np.full((40, 2), 10.0), volume=volume)
    book = book_of(panel, [0.1, 0.1])

    partly = _target(panel, book, books_of(panel), max_liquidation_days=5.0)
    blind = _target(panel, book, None, max_liquidation_days=5.0)

    assert partly.weights.tolist() == [0.1, 0.0]
    assert [(action.instrument_id, action.limit) for action in partly.actions] == [
        ("I001", "known_liquidity")
    ]
    assert not blind.weights.any()
    assert _limits_of(blind) == {"known_liquidity"}
    assert all(action.action_type is RiskActionType.REJECTED for action in blind.actions)


def test_a_stress_loss_above_its_limit_scales_the_whole_book(panel_of, book_of, random_close):
    panel = panel_of(random_close(3, 200, 5)[:, :4])
    book = book_of(panel, [0.5, 0.5, 0.3, -0.2])
    free = _target(panel, book)
    worst = min(row.pnl for row in free.report.stress)

    bound = _target(panel, book, max_stress_loss=-worst / 2.0)
    loose = _target(panel, book, max_stress_loss=-worst * 1.000001)

    assert np.allclose(bound.weights, free.weights / 2.0)
    assert min(row.pnl for row in bound.report.stress) == pytest.approx(worst / 2.0)
    assert _limits_of(bound) == {"max_stress_loss"}
    assert loose.actions == ()


def test_the_breaker_trips_stays_and_releases_with_hysteresis(panel, book_of, books_of):
    limits = {"drawdown_breaker": -0.2, "breaker_release": -0.1, "breaker_gross": 0.4}
    book, target, held = book_of(panel, [0.5, 0.5, 0.0, 0.0]), None, []

    for drawdown in (0.0, -0.2, -0.201, -0.15, -0.1, -0.099, -0.15, -0.3):
        target = _target(panel, book, books_of(panel, drawdown=drawdown), target, **limits)
        held.append((target.breaker_tripped, round(target.report.gross_exposure, 12)))

    down, up = (True, 0.4), (False, 1.0)
    assert held == [up, up, down, down, down, up, up, down]


def test_without_the_books_the_breaker_stays_as_it_was(panel, book_of, books_of):
    limits = {"drawdown_breaker": -0.2}
    book = book_of(panel, [0.5, 0.5, 0.0, 0.0])

    unknown = _target(panel, book, None, None, **limits)
    tripped = _target(panel, book, books_of(panel, drawdown=NAN), unknown, **limits)
    still = _target(panel, book, None, tripped, **limits)

    assert (unknown.breaker_tripped, tripped.breaker_tripped, still.breaker_tripped) == (
        False,
        True,
        True,
    )


def test_turnover_above_its_limit_goes_part_of_the_way(panel, book_of):
    first = _target(panel, book_of(panel, [0.5, 0.5, 0.0, 0.0]), max_turnover=0.25)
    second = _target(panel, book_of(panel, [0.0, 0.5, 0.5, 0.0]), previous=first, max_turnover=0.25)
    third = _target(panel, book_of(panel, [0.0, 0.5, 0.5, 0.0]), previous=second, max_turnover=0.25)

    assert first.actions == ()
    assert np.allclose(second.weights, [0.25, 0.5, 0.25, 0.0])
    assert [(a.instrument_id, a.weight_before, a.weight_after) for a in second.actions] == [
        ("I000", 0.0, 0.25),
        ("I002", 0.5, 0.25),
    ]
    assert np.allclose(third.weights, [0.0, 0.5, 0.5, 0.0])


def test_turnover_never_keeps_what_a_hard_limit_forbids(panel, book_of):
    before = _target(panel, book_of(panel, [0.9, 0.1, 0.0, 0.0]))
    limits = {"max_turnover": 0.1, "max_abs_weight_per_name": 0.5}

    after = _target(panel, book_of(panel, [0.0, 0.0, 0.5, 0.5]), previous=before, **limits)

    # The cap alone forces 0.4 to be sold: nothing is left for what was wished for.
    assert np.allclose(after.weights, [0.5, 0.1, 0.0, 0.0])


def test_a_tripped_breaker_sells_whatever_the_limit_on_turnover_says(panel, book_of, books_of):
    limits = {"max_turnover": 0.01, "drawdown_breaker": -0.1, "breaker_gross": 0.2}
    book = book_of(panel, [0.5, 0.5, 0.0, 0.0])
    before = _target(panel, book, books_of(panel), **limits)

    after = _target(panel, book, books_of(panel, drawdown=-0.5), before, **limits)

    assert np.allclose(after.weights, [0.1, 0.1, 0.0, 0.0])


def test_the_previous_target_is_matched_by_name(panel_of, book_of):
    old, new = panel_of(np.full((40, 3), 10.0)), panel_of(np.full((40, 2), 10.0))
    before = _target(old, book_of(old, [0.0, 0.4, 0.4]))

    after = _target(new, book_of(new, [0.4, 0.0]), previous=before, max_turnover=0.2)

    assert np.allclose(after.weights, [0.2, 0.2])


def test_a_limit_that_does_not_hold_in_the_end_is_our_bug(panel, book_of, monkeypatch):
    def broken(_inputs, _params):
        return (Limit("leaky", 0.1, lambda weights: weights, lambda weights: weights.sum() - 0.1),)

    monkeypatch.setattr(risk, "limit_table", broken)

    with pytest.raises(LimitBreach, match=r"leaky of 0.1 is exceeded by 0.4"):
        _target(panel, book_of(panel, [0.5, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    "settings",
    [
        {"breaker_release": -0.1},
        {"drawdown_breaker": -0.1, "breaker_release": -0.2},
        {"drawdown_breaker": 0.1},
        {"min_net": 0.1},
        {"max_gross": 30.0},
        {"max_turnovr": 0.1},
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings):
    with pytest.raises(ValidationError):
        RiskParams(**settings)


def test_a_breaker_without_a_release_lets_go_at_half():
    assert RiskParams(drawdown_breaker=-0.3).release_above == -0.15
    assert RiskParams().release_above is None


@pytest.fixture
def drifting(panel_of, books_of):
    """A market with a history, and the books of a sleeve long I000 and short I002."""
    steps = np.random.default_rng(8).normal(0.0, 0.01, (90, 4))
    panel = panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)))
    shares = np.array([3000, 0, -1000, 0])
    marks = panel.close[-1]
    cash = 1e6 - float(shares @ marks)
    books = replace(books_of(panel), cash=cash, equity=1e6, shares=shares, marks=marks)
    return panel, books


def test_a_book_that_is_held_is_reported_at_its_marks_and_not_at_its_target(drifting, book_of):
    panel, books = drifting
    target, held = book_of(panel, [0.5, 0.5, 0.0, 0.0]), book_of(panel, books.weights)

    between = _target(panel, target, replace(books, follows_target=False))
    decided = _target(panel, target, replace(books, follows_target=True))

    expected = _target(panel, held, books).report
    figures = ("net_exposure", "gross_exposure", "beta", "var_95", "volatility", "max_drawdown")
    assert (between.report.basis, decided.report.basis) == ("held", "target")
    assert between.report.names == 2
    assert between.report.net_exposure == pytest.approx(
        (3000, -1000) @ panel.close[-1, [0, 2]] / 1e6
    )
    for figure in figures:
        assert getattr(between.report, figure) == pytest.approx(getattr(expected, figure))
    assert decided.report.gross_exposure == pytest.approx(1.0)
    assert (between.weights == decided.weights).all()


def test_a_breaker_that_trips_decides_at_once_and_so_reports_the_target(drifting, book_of):
    panel, books = drifting
    book = book_of(panel, [0.5, 0.5, 0.0, 0.0])
    calm, deep = replace(books, follows_target=False), replace(books, drawdown=-0.3)
    before = _target(panel, book, calm, drawdown_breaker=-0.2)

    tripped = _target(
        panel, book, replace(deep, follows_target=False), before, drawdown_breaker=-0.2
    )

    assert (before.report.basis, tripped.report.basis) == ("held", "target")
    assert tripped.report.gross_exposure == pytest.approx(0.5)


def test_a_book_without_equity_has_no_weights_to_report(drifting, book_of):
    panel, books = drifting
    ruined = replace(books, equity=0.0, follows_target=False)

    assert ruined.weights is None
    assert _target(panel, book_of(panel, [0.5, 0, 0, 0]), ruined).report.basis == "target"
