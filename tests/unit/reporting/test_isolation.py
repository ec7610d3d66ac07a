import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.reporting.isolation import decay, isolate

NAN = np.nan


def repeated(row, times=21):
    return np.tile(np.array(row, dtype=np.float64), (times, 1))


def test_the_parts_are_the_pool_the_choice_and_the_weights():
    found = isolate(repeated([0.6, 0.2, 0.0]), repeated([0.02, 0.00, 0.01]))

    # The pool earns 1 %, the two names 1 % as well, the weights 0.75 x 2 % = 1.5 %.
    assert found.pool == pytest.approx(0.01 * 252)
    assert found.selection_alpha == pytest.approx(0.0, abs=1e-12)
    assert found.optimisation_alpha == pytest.approx(0.005 * 252)


def test_a_short_earns_what_its_name_loses():
    found = isolate(repeated([0.5, -0.5]), repeated([0.02, -0.02]))

    assert found.pool == pytest.approx(0.0, abs=1e-12)
    assert found.selection_alpha == pytest.approx(0.02 * 252)
    assert found.optimisation_alpha == pytest.approx(0.0, abs=1e-12)


def test_a_book_earns_the_session_after_it():
    weights, returns = repeated([0.0, 1.0], 42), repeated([0.0, 0.0], 42)
    returns[0] = [0.0, 9.0]

    assert isolate(weights, returns).optimisation_alpha == pytest.approx(0.0, abs=1e-12)
    assert isolate(weights, returns).pool == pytest.approx(0.0, abs=1e-12)


def test_sessions_without_a_book_and_unknown_returns_do_not_count():
    weights, returns = repeated([1.0, 0.0, 0.0], 42), repeated([0.01, 0.03, NAN], 42)
    weights[21:] = 0.0

    found = isolate(weights, returns)

    assert found.pool == pytest.approx(0.02 * 252)
    assert found.selection_alpha == pytest.approx(-0.01 * 252)
    assert isolate(weights[:20], returns[:20]).pool is None


def test_shapes_must_agree():
    with pytest.raises(DataError, match="isolate: weights are"):
        isolate(np.zeros((3, 2)), np.zeros((3, 3)))


def test_what_was_paid_is_what_the_record_lost():
    equity = 100.0 * np.cumprod(np.tile([1.02, 0.99], 15))
    before = np.concatenate(([100.0], equity[:-1]))

    found = decay(equity, 100.0, 0.001 * before)

    returns = equity / before - 1.0
    assert found.return_after == pytest.approx(returns.mean() * 252)
    assert found.return_before == pytest.approx((returns.mean() + 0.001) * 252)
    sharpe = returns.mean() / returns.std(ddof=1) * np.sqrt(252)
    assert found.sharpe_after == pytest.approx(sharpe)
    assert found.sharpe_before > found.sharpe_after


def test_a_record_that_is_too_short_or_does_not_vary_has_no_ratio():
    assert decay(np.full(5, 100.0), 100.0, np.zeros(5)).return_after is None
    flat = decay(np.full(30, 100.0), 100.0, np.zeros(30))
    assert (flat.return_after, flat.sharpe_after) == (0.0, None)
