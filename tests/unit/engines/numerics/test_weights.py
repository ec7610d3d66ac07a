import numpy as np

from prometheus_nt.engines.numerics.weights import waterfill

NAN = np.nan


def test_what_no_name_can_take_stays_cash():
    assert waterfill(np.ones(5), cap=0.05).tolist() == [0.05] * 5


def test_what_the_cap_takes_goes_to_the_names_below_it():
    assert np.allclose(waterfill(np.array([6.0, 3.0, 1.0]), cap=0.5), [0.5, 0.375, 0.125])
    assert np.allclose(waterfill(np.array([1.0, 8.0, 1.0]), 0.4, total=0.6), [0.1, 0.4, 0.1])


def test_weights_below_the_cap_are_proportional():
    assert np.allclose(waterfill(np.array([2.0, 1.0, 1.0]), cap=0.6), [0.5, 0.25, 0.25])


def test_what_is_not_a_positive_number_gets_no_weight():
    raw = np.array([NAN, -1.0, np.inf, 0.0, 2.0])

    assert waterfill(raw, cap=1.0).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert waterfill(raw[:4], cap=1.0).tolist() == [0.0] * 4
