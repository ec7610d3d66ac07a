"""Every way in which a sign can get lost must raise its own code."""

from dataclasses import replace

import numpy as np
import pytest

from prometheus_nt.meta.long_space import LONG, SHORT, Atoms, ReturnsMatrix, synthesised
from prometheus_nt.meta.sign_test import flattening_test, sign_test, weights_test

ATOMS = Atoms(
    ("A_S1_LONG", "B_S1_SHORT", "B_S2_LONG"),
    ("A.US", "B.US", "B.US"),
    np.array([LONG, SHORT, LONG]),
)
SESSIONS = np.busday_offset("2020-01-02", np.arange(40))


def physical():
    values = np.random.default_rng(5).normal(0.0, 0.02, (40, 2))
    values[20, 1] = 1.5
    values[3, 0] = np.nan
    return ReturnsMatrix(SESSIONS, ("A.US", "B.US"), values)


def streams():
    return synthesised(ATOMS, physical())


def codes(synthetic, raw=None, atoms=ATOMS):
    test = sign_test(atoms, synthetic, physical() if raw is None else raw)
    return {(one.code.removeprefix("SIGNTEST_"), one.subject) for one in test.findings}


def altered(column, values):
    found = streams()
    changed = found.values.copy()
    changed[:, column] = values
    return replace(found, values=changed)


def test_what_the_library_makes_passes_with_its_counts():
    test = sign_test(ATOMS, streams(), physical())

    document = test.document("RUN")
    assert test.passed
    assert {name: document[name] for name in ("errors", "warnings", "findings", "version")} == {
        "errors": 0,
        "warnings": 0,
        "findings": [],
        "version": 2,
    }
    assert (document["n_atoms"], document["n_long"], document["n_short"]) == (3, 2, 1)
    assert (document["n_rows"], document["capped_days"], document["atol"]) == (40, 1, 0.0)
    assert sorted(document["input_hashes"]) == ["atoms", "returns_matrix", "synthetic_returns"]


def test_a_short_that_was_not_inverted():
    synthetic = altered(1, np.minimum(physical().values[:, 1], 1.0))

    assert codes(synthetic) == {("SHORT_NOT_INVERTED", "B_S1_SHORT")}


def test_a_short_that_was_inverted_twice():
    once = streams()
    twice = synthesised(ATOMS, ReturnsMatrix(SESSIONS, ("A.US", "B.US"), once.values[:, [0, 1]]))

    found = codes(altered(1, twice.values[:, 1]))

    assert found == {("SHORT_NOT_INVERTED", "B_S1_SHORT")}


def test_a_long_that_was_inverted():
    assert codes(altered(2, -physical().values[:, 1])) == {("LONG_MISMATCH", "B_S2_LONG")}


def test_a_short_that_lost_more_than_all_on_a_day_of_150_percent():
    assert codes(altered(1, -physical().values[:, 1])) == {("SHORT_NOT_CAPPED", "B_S1_SHORT")}


def test_values_that_slipped_by_a_day():
    found = streams()

    shifted = codes(replace(found, values=np.roll(found.values, 1, axis=0)))

    assert shifted == {
        ("NAN_MISMATCH", "A_S1_LONG"),
        ("LONG_MISMATCH", "A_S1_LONG"),
        ("SHORT_NOT_INVERTED", "B_S1_SHORT"),
        ("LONG_MISMATCH", "B_S2_LONG"),
    }


def test_sessions_that_slipped_by_a_day():
    found = replace(streams(), sessions=np.busday_offset(SESSIONS, 1))

    assert codes(found) == {("INDEX_MISMATCH", "")}


def test_a_hole_that_the_instrument_does_not_have():
    values = streams().values[:, 1].copy()
    values[7] = np.nan

    assert codes(altered(1, values)) == {("NAN_MISMATCH", "B_S1_SHORT")}


def test_a_hole_of_the_instrument_that_was_filled():
    assert codes(altered(0, np.nan_to_num(physical().values[:, 0]))) == {
        ("NAN_MISMATCH", "A_S1_LONG")
    }


def test_a_row_that_is_gone():
    found = streams()
    rows = np.delete(np.arange(40), 11)

    shorter = ReturnsMatrix(SESSIONS[rows], found.columns, found.values[rows])

    assert codes(shorter) == {("INDEX_MISMATCH", "")}


def test_a_stream_that_was_renamed():
    found = replace(streams(), columns=("A_S1_LONG", "B_S1_SHORT_1d", "B_S2_LONG"))

    assert codes(found) == {("MISSING_ATOM_COL", "B_S1_SHORT"), ("UNKNOWN_COL", "B_S1_SHORT_1d")}


def test_an_instrument_that_was_renamed():
    found = codes(streams(), replace(physical(), columns=("A.US", "B")))

    assert found == {("MISSING_PHYSICAL_COL", "B.US")}


def test_two_columns_of_one_name():
    found = codes(streams(), replace(physical(), columns=("A.US", "A.US")))

    assert ("DUPLICATE_COL", "") in found


def test_nothing_to_test_is_an_error():
    none = Atoms((), (), np.empty(0, np.int64))
    empty = ReturnsMatrix(SESSIONS[:0], ("A.US", "B.US"), np.empty((0, 2)))

    assert codes(None) == {("MISSING_SYNTHETIC", "")}
    assert {one.code for one in sign_test(ATOMS, streams(), None).findings} == {
        "SIGNTEST_MISSING_RAW"
    }
    assert codes(streams(), empty) == {("EMPTY_RAW", "")}
    assert codes(replace(streams(), columns=(), values=np.empty((40, 0)))) == {
        ("EMPTY_SYNTHETIC", "")
    }
    assert ("NO_ATOMS", "") in codes(streams(), atoms=none)


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_a_weight_that_left_long_space(bad):
    (found,) = weights_test(ATOMS, np.array([0.5, bad, 0.5]))

    assert (found.code, found.subject) == ("SIGNTEST_OPTIMIZER_NOT_NORMALIZED", "B_S1_SHORT")


def test_a_book_keeps_the_sign_and_the_gross_of_its_atoms():
    weights = np.array([0.5, 0.3, 0.1])

    kept = flattening_test(ATOMS, weights, {"A.US": 0.5, "B.US": -0.2}, {"A.US": 0.5, "B.US": 0.4})
    turned = flattening_test(ATOMS, weights, {"A.US": 0.5, "B.US": 0.2}, {"A.US": 0.5, "B.US": 0.4})
    lost = flattening_test(ATOMS, weights, {"A.US": 0.5, "B.US": -0.2}, {"A.US": 0.5, "B.US": 0.2})
    forgotten = flattening_test(ATOMS, weights, {"A.US": 0.5}, {"A.US": 0.5})
    unknown = flattening_test(
        ATOMS, weights, {"A.US": np.nan, "B.US": -0.2}, {"A.US": 0.5, "B.US": 0.4}
    )

    assert kept == ()
    assert [(one.code, one.subject) for one in turned] == [("SIGNTEST_FLATTENED_SIGN", "B.US")]
    assert [(one.code, one.subject) for one in lost] == [("SIGNTEST_GROSS_NOT_CONSERVED", "B.US")]
    assert [one.code for one in forgotten] == [
        "SIGNTEST_FLATTENED_SIGN",
        "SIGNTEST_GROSS_NOT_CONSERVED",
    ]
    assert [(one.code, one.subject) for one in unknown] == [("SIGNTEST_FLATTENED_SIGN", "A.US")]


def test_gross_that_is_rounding_away_is_conserved():
    weights = np.array([0.5, 0.3, 0.1])

    close = flattening_test(
        ATOMS, weights, {"A.US": 0.5, "B.US": -0.2}, {"A.US": 0.5 + 9e-10, "B.US": 0.4}
    )

    assert close == ()
