from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.reporting.series import COST_KINDS, FillTable, simple_returns


def test_the_first_return_is_measured_from_the_starting_capital(make_series):
    series = make_series(3, equity=np.array([1010.0, 1010.0, 505.0]))

    np.testing.assert_allclose(series.returns, [0.01, 0.0, -0.5])


def test_the_benchmark_has_no_return_in_the_first_session(make_series):
    series = make_series(3, benchmark=np.array([50.0, 55.0, 44.0]))

    np.testing.assert_allclose(series.benchmark_returns, [0.1, -0.2])
    assert make_series(3, benchmark=None).benchmark_returns is None


def test_nothing_is_earned_on_a_ruined_book():
    returns = simple_returns(np.array([10.0, 5.0, -1.0, 3.0, 6.0]))

    np.testing.assert_allclose(returns[:2], [-0.5, -1.2])
    assert np.isnan(returns[2:]).all()


@pytest.mark.parametrize(
    "name", ["equity", "cash", "gross", "net", "turnover", "dividends", "benchmark", "weights"]
)
def test_an_array_of_the_wrong_shape_is_named(make_series, name):
    with pytest.raises(DataError, match=name):
        make_series(4, **{name: np.ones(3)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"costs": {"commission": np.zeros(4)}}, "costs: expected commission, spread, impact"),
        ({"costs": {kind: np.zeros(3) for kind in COST_KINDS}}, "costs.commi"),
        ({"other_cash_flows": {"interest": np.zeros(3)}}, "other_cash_flows.interest"),
        ({"sectors": ("Energy",)}, "sectors: expected 3 or none, found 1"),
        ({"starting_capital": 0.0}, "starting capital"),
        ({"equity": np.array([1.0, np.nan, 1.0, 1.0])}, "equity is not a number"),
        ({"dividends": np.array([1.0, np.inf, 1.0, 1.0])}, "dividends is not a number"),
        ({"benchmark": np.array([1.0, 0.0, 1.0, 1.0])}, "SPY.US: a benchmark level"),
        ({"sessions": np.array(["2021-01-04"] * 4, dtype="datetime64[D]")}, "ascend"),
    ],
)
def test_a_series_that_cannot_be_measured_is_refused(make_series, changes, message):
    with pytest.raises(DataError, match=message):
        make_series(4, **changes)


def test_a_report_needs_a_session(make_series):
    with pytest.raises(DataError, match="at least one session"):
        make_series(4, sessions=np.empty(0, dtype="datetime64[D]"))


def test_fills_must_agree_in_length_side_and_kind_of_time(fills):
    with pytest.raises(DataError, match=r"fills.price: expected shape \(2,\), found \(1,\)"):
        replace(fills, price=np.ones(1))
    with pytest.raises(DataError, match="found HOLD"):
        replace(fills, side=np.array(["BUY", "HOLD"], dtype=object))
    with pytest.raises(DataError, match="expected datetimes"):
        replace(fills, timestamps=np.array([1, 2]))


def test_a_run_may_have_no_fills():
    assert len(FillTable.empty()) == 0
