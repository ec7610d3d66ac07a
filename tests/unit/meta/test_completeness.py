from datetime import date

import numpy as np
import pytest

from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.meta.completeness import (
    MadeOf,
    Member,
    MetaPortfolio,
    Sleeve,
    asked_findings,
    book_findings,
    book_presence,
    duplicate_findings,
    matrix_findings,
    member_findings,
    parity_findings,
    settled_as_of,
    sign_findings,
    weight_findings,
)
from prometheus_nt.meta.findings import error, warning
from prometheus_nt.meta.flattening import FlatBook
from prometheus_nt.meta.long_space import ReturnsMatrix
from prometheus_nt.meta.sign_test import SignTest
from prometheus_nt.meta.streams import (
    Stream,
    blended,
    correlation_of,
    dropped_share,
    join_warnings,
    joined,
)

PARAMS = MetaAllocationParams()
DAYS = np.busday_offset("2020-01-01", np.arange(100))


def stream(first=0, last=100, seed=1):
    returns = np.random.default_rng(seed).normal(0.0, 0.01, last - first)
    return Stream(DAYS[first:last], returns)


def codes(findings):
    return [(one.level, one.code) for one in findings]


def test_what_is_common_to_all_is_kept_and_nothing_is_filled_in():
    one, other = stream(0, 90, seed=1), stream(10, 100, seed=2)

    matrix = joined({"A": one, "B": other})

    assert matrix.sessions.tolist() == DAYS[10:90].tolist()
    assert matrix.values[:, 0].tolist() == one.returns[10:].tolist()
    assert matrix.values[:, 1].tolist() == other.returns[:80].tolist()
    assert dropped_share([one, other]) == pytest.approx(0.2)


def test_losing_more_than_a_fifth_of_the_sessions_is_told():
    kept = {"A": stream(0, 100), "B": stream(20, 100)}
    lost = {"A": stream(0, 100), "B": stream(21, 100)}

    assert join_warnings(kept, 0.2) == ()
    assert codes(join_warnings(lost, 0.2)) == [("WARN", "META_DROPPED_SESSIONS")]


def test_a_blend_is_held_at_constant_weights():
    matrix = ReturnsMatrix(DAYS[:2], ("A", "B"), np.array([[0.01, 0.03], [0.02, -0.02]]))

    held = blended(matrix, {"B": 0.25, "A": 0.75})

    assert held.returns == pytest.approx([0.015, 0.01])


def test_the_correlation_of_what_does_not_vary_is_unknown():
    returns = np.column_stack((stream(seed=1).returns, np.zeros(100), stream(seed=2).returns))

    found = correlation_of(returns)

    assert found[0, 2] == pytest.approx(np.corrcoef(returns[:, 0], returns[:, 2])[0, 1])
    assert np.isnan(found[1]).all()
    assert np.isnan(correlation_of(returns[:19])).all()


def test_a_cut_shows_what_was_known_at_the_close():
    day = DAYS[40].astype(object)

    assert stream().until(day).sessions[-1] == DAYS[40]
    assert stream().after(day).sessions[0] == DAYS[41]


def test_weights_are_decided_where_all_records_end_unless_a_day_is_asked_for():
    streams = [stream(0, 90), stream(0, 100)]

    assert settled_as_of(streams, None) == DAYS[89].astype(object)
    assert settled_as_of(streams, date(2020, 1, 5)) == date(2020, 1, 3)  # a Sunday
    assert settled_as_of(streams, date(2019, 1, 5)) is None
    assert settled_as_of([], None) is None


@pytest.mark.parametrize(
    ("names", "params", "expected"),
    [
        ([], PARAMS, ["META_NO_SLEEVES"]),
        (["A"], PARAMS, ["META_SINGLE_SLEEVE"]),
        (["A"], MetaAllocationParams(single=True), []),
        (["A", "B"], PARAMS, []),
        (["A", "B", "C"], MetaAllocationParams(max_weight=0.3), ["META_INFEASIBLE_BOUNDS"]),
    ],
)
def test_a_question_that_cannot_be_answered(names, params, expected):
    assert [one.code for one in asked_findings(names, params)] == expected


def test_a_member_named_twice():
    members = [Member(name, "RUN", "S") for name in ("latest", "RUN")]

    assert codes(duplicate_findings(members)) == [("ERROR", "META_DUPLICATE_SLEEVE")]


def test_each_fault_of_a_record_has_its_code():
    end = DAYS[99].astype(object)
    unknown = Stream(DAYS, np.where(np.arange(100) == 50, np.nan, 0.01))

    def found(record, as_of=end):
        return codes(member_findings(Member("A", "A", "A", record), as_of))

    assert found(stream()) == []
    assert found(stream(0, 0)) == [("ERROR", "META_EMPTY_RETURNS")]
    assert found(stream(0, 0), None) == [("ERROR", "META_EMPTY_RETURNS")]
    assert found(stream(50, 100), DAYS[10].astype(object)) == [("ERROR", "META_EMPTY_RETURNS")]
    assert found(stream(), None) == [("ERROR", "META_EMPTY_RETURNS")]
    assert found(stream(0, 99)) == [("ERROR", "META_STALE_SLEEVE")]
    assert found(unknown) == [("ERROR", "META_UNKNOWN_RETURNS")]
    # What is not known yet at the close asked for fails nobody.
    assert found(unknown, DAYS[49].astype(object)) == []


def sleeve(run_id="A", code="1", book=None, dataset="sample"):
    data = MadeOf("US_EQ", "BACKTEST", dataset, 1, "friction")
    return Sleeve(run_id, run_id, "F", data, code, stream(), book=book)


def test_sleeves_made_of_different_data_are_no_portfolio():
    assert parity_findings([sleeve(), sleeve("B")]) == ()
    assert codes(parity_findings([sleeve(), sleeve("B", dataset="other")])) == [
        ("ERROR", "META_PARITY")
    ]
    assert codes(parity_findings([sleeve(), sleeve("B", code="2")])) == [("WARN", "META_PARITY")]
    assert parity_findings([]) == ()


def test_a_sleeve_that_had_decided_nothing():
    day = date(2020, 1, 3)

    assert codes(book_presence(sleeve(), day)) == [("ERROR", "META_NO_TARGET")]
    assert book_presence(sleeve(book={}), day) == ()


def test_a_matrix_that_cannot_be_correlated():
    def matrix(values):
        return ReturnsMatrix(DAYS[: len(values)], ("A", "B"), values)

    idle = np.column_stack((stream().returns, np.zeros(100)))
    assert codes(matrix_findings(matrix(np.empty((0, 2))), PARAMS)) == [
        ("ERROR", "META_EMPTY_RETURNS")
    ]
    assert codes(matrix_findings(matrix(idle), PARAMS)) == [("ERROR", "META_SINGLE_MATCH")]
    assert matrix_findings(matrix(idle[:, ::-1]), MetaAllocationParams(single=True)) == ()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"A": 0.5, "B": 0.5}, []),
        ({}, ["META_EMPTY_WEIGHTS"]),
        ({"A": 0.5, "C": 0.5}, ["META_WEIGHT_COLUMN_MISMATCH"]),
        ({"A": 1.0, "B": 0.0}, ["META_SINGLE_WEIGHT"]),
        ({"A": 0.5, "B": 0.4}, ["META_BAD_WEIGHT_SUM"]),
        ({"A": 0.5, "B": float("nan")}, ["META_SINGLE_WEIGHT", "META_BAD_WEIGHT_SUM"]),
    ],
)
def test_weights_that_are_none(weights, expected):
    assert [one.code for one in weight_findings(("A", "B"), weights, PARAMS)] == expected


def test_a_book_that_holds_nothing_or_too_much_of_one():
    none = FlatBook((), np.empty(0), np.empty(0), ())
    much = FlatBook(("X",), np.array([-0.3]), np.array([0.3]), ((("A", -0.3),),))

    assert codes(book_findings(none, PARAMS)) == [("ERROR", "META_EMPTY_FLATTENED")]
    assert codes(book_findings(much, PARAMS)) == [("ERROR", "META_CONCENTRATION")]


def test_a_sign_test_must_be_made_and_passed():
    wrong = SignTest((error("SIGNTEST_NO_ATOMS", "", "none"),))

    assert codes(sign_findings(None)) == [("ERROR", "META_SIGN_TEST_MISSING")]
    assert sign_findings(SignTest(())) == ()
    assert [one.code for one in sign_findings(wrong)] == [
        "SIGNTEST_NO_ATOMS",
        "META_SIGN_TEST_FAIL",
    ]


def test_without_an_error_but_with_a_part_missing_it_has_not_passed():
    begun = MetaPortfolio("M", date(2020, 1, 3), PARAMS, (), {}, {}, ())

    assert begun.verdict == "FAIL"
    assert begun.codes == ()
    noted = begun.found(warning("W", "", ""), error("E", "a", ""), error("E", "b", ""))
    assert noted.codes == ("E",)
