import numpy as np
import pytest

from prometheus_nt.engines.portfolio import PortfolioParams, build_book

NAN = np.nan
FREE = PortfolioParams(max_weight=1.0, cash_buffer=0.0)


@pytest.fixture
def panel(panel_of):
    steps = np.tile([[0.01, 0.02, 0.04], [-0.01, -0.02, -0.04]], (40, 1))
    return panel_of(100.0 * np.exp(np.cumsum(steps, axis=0)))


def _book(panel, universe_of, scores_of, params, score):
    return build_book(panel, universe_of(panel, score), scores_of(panel, score), params)


def test_score_weights_are_by_rank(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [-0.5, 9.0, 0.1])

    assert np.allclose(book.weights, np.array([1.0, 3.0, 2.0]) / 6.0)
    assert book.binding == ()


def test_equal_scores_have_equal_weights(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [0.2, 0.2, 0.2])

    assert np.allclose(book.weights, 1.0 / 3.0)


def test_only_the_best_names_are_held(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"max_names": 2, "weighting": "equal"})

    book = _book(panel, universe_of, scores_of, params, [0.3, 0.1, 0.2])

    assert book.weights.tolist() == [0.5, 0.0, 0.5]
    assert book.binding == ("max_names",)


def test_inverse_volatility_weights(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel, universe_of, scores_of, params, [0.1, 0.2, 0.3])

    assert np.allclose(book.weights, np.array([4.0, 2.0, 1.0]) / 7.0)


def test_a_constant_price_does_not_take_the_whole_book(panel_of, universe_of, scores_of):
    calm = np.full(80, 10.0)
    wild = 10.0 * np.exp(0.002 * (np.arange(80) % 2))
    panel = panel_of(np.column_stack([calm, wild]))
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel, universe_of, scores_of, params, [0.1, 0.2])

    assert np.allclose(book.weights, np.array([2.0, 1.0]) / 3.0, atol=0.01)


def test_a_name_of_unknown_volatility_is_not_held(panel_of, universe_of, scores_of):
    close = np.column_stack([10.0 + np.arange(80) % 2, np.full(80, NAN)])
    params = FREE.model_copy(update={"weighting": "inverse_volatility"})

    book = _book(panel_of(close), universe_of, scores_of, params, [0.1, 0.2])

    assert book.weights.tolist() == [1.0, 0.0]
    assert "unknown_volatility" in book.binding


def test_the_cap_holds_and_the_rest_is_cash(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, PortfolioParams(), [0.1, 0.2, 0.3])

    assert book.weights.tolist() == [0.1, 0.1, 0.1]
    assert book.binding == ("max_weight",)


def test_the_cash_buffer_and_the_gross_limit_both_hold(panel, universe_of, scores_of):
    buffered = FREE.model_copy(update={"cash_buffer": 0.02})
    half = buffered.model_copy(update={"max_gross": 0.5})

    book = _book(panel, universe_of, scores_of, buffered, [0.1, 0.2, 0.3])
    assert book.weights.sum() == pytest.approx(0.98)
    book = _book(panel, universe_of, scores_of, half, [0.1, 0.2, 0.3])
    assert book.weights.sum() == pytest.approx(0.5)


def test_an_empty_universe_is_a_book_of_cash(panel, universe_of, scores_of):
    book = _book(panel, universe_of, scores_of, FREE, [NAN, NAN, NAN])

    assert book.weights.tolist() == [0.0, 0.0, 0.0]
    assert book.binding == ("empty_universe",)
    assert book.expected_return is None


def test_the_expected_return_is_the_weighted_sum(panel, universe_of, scores_of):
    params = FREE.model_copy(update={"weighting": "equal"})
    universe = universe_of(panel, [0.1, 0.2, 0.3])
    scores = scores_of(panel, [0.1, 0.2, 0.3], expected_return=[0.03, NAN, 0.06])

    assert build_book(panel, universe, scores, params).expected_return == pytest.approx(0.03)
