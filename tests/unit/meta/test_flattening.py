from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.meta.flattening import concentration, flatten, leaf_weights, require_conserved

BOOKS = {
    "S1": {"A.US": 0.6, "B.US": 0.4},
    "S2": {"B.US": -0.5, "C.US": 0.5},
}


def test_a_long_and_a_short_of_one_instrument_net_out_and_say_who_held_them():
    flat = flatten("M", {"M": {"S1": 0.5, "S2": 0.5}}, BOOKS)

    assert flat.instruments == ("A.US", "B.US", "C.US")
    assert flat.net == pytest.approx([0.30, -0.05, 0.25], abs=1e-15)
    assert flat.gross == pytest.approx([0.30, 0.45, 0.25], abs=1e-15)
    assert flat.contributors[1] == (("S2", -0.25), ("S1", 0.2))


def test_targets_are_rows_with_contributors_the_largest_first():
    first, second, third = flatten("M", {"M": {"S1": 0.5, "S2": 0.5}}, BOOKS).targets(
        {"S1": "SLEEVE_1", "S2": "SLEEVE_2"}
    )

    assert first == {
        "instrument_id": "A.US",
        "net": 0.3,
        "gross": 0.3,
        "direction": "LONG",
        "contributors": [{"sleeve_id": "SLEEVE_1", "run_id": "S1", "weight": 0.3}],
    }
    assert (second["instrument_id"], third["direction"]) == ("C.US", "SHORT")


def test_exact_opposites_are_flat_and_keep_their_gross():
    flat = flatten("M", {"M": {"X": 0.5, "Y": 0.5}}, {"X": {"A": 0.3}, "Y": {"A": -0.3}})

    (row,) = flat.targets({"X": "X", "Y": "Y"})
    assert (row["net"], row["gross"], row["direction"]) == (0.0, 0.3, "FLAT")


def test_a_nested_meta_portfolio_is_the_product_of_the_weights():
    metas = {"M": {"INNER": 0.4, "S1": 0.6}, "INNER": {"S1": 0.5, "S2": 0.5}}

    flat = flatten("M", metas, BOOKS)

    # S1: 0.6 + 0.4 * 0.5, S2: 0.4 * 0.5.
    assert leaf_weights("M", metas, frozenset(BOOKS)) == pytest.approx({"S1": 0.8, "S2": 0.2})
    assert flat.net == pytest.approx([0.48, 0.8 * 0.4 - 0.2 * 0.5, 0.1])
    assert flat.contributors[0] == (("S1", pytest.approx(0.48)),)


@given(seed=st.integers(0, 2**32 - 1), sleeves=st.integers(1, 6), names=st.integers(1, 12))
def test_gross_and_net_of_any_tree_are_those_of_a_naive_walk(seed, sleeves, names):
    rng = np.random.default_rng(seed)
    books = {
        f"S{at}": {f"N{name}": float(rng.normal()) for name in range(names)}
        for at in range(sleeves)
    }
    inner = {name: float(rng.uniform()) for name in books}
    metas = {"M": {"I": 0.7, **{name: float(rng.uniform()) for name in books}}, "I": inner}

    flat = flatten("M", metas, books)

    held = {
        name: [
            (metas["M"][sleeve] + 0.7 * inner[sleeve]) * book[name]
            for sleeve, book in books.items()
        ]
        for name in flat.instruments
    }
    assert flat.net == pytest.approx([sum(parts) for parts in held.values()], abs=1e-12)
    assert flat.gross == pytest.approx([sum(map(abs, p)) for p in held.values()], abs=1e-12)


@pytest.mark.parametrize(
    ("metas", "code"),
    [
        ({"M": {"I": 1.0}, "I": {"M": 1.0}}, "META_CYCLE"),
        ({"M": {"M": 1.0}}, "META_CYCLE"),
        ({"M": {"X": 1.0}, "X": {"Y": 1.0}, "Y": {"Z": 1.0}, "Z": {"S1": 1.0}}, "META_TOO_DEEP"),
        ({"M": {"NOBODY": 1.0}}, "META_UNKNOWN_MEMBER"),
        ({"M": {"S1": -0.1, "S2": 1.1}}, "META_UNKNOWN_WEIGHT"),
        ({"M": {"S1": np.nan}}, "META_UNKNOWN_WEIGHT"),
    ],
)
def test_a_tree_that_makes_no_book_is_refused(metas, code):
    with pytest.raises(MetaFailure) as refused:
        flatten("M", metas, BOOKS)

    assert refused.value.code == code


def test_three_levels_are_as_deep_as_it_goes():
    metas = {"M": {"X": 1.0}, "X": {"Y": 1.0}, "Y": {"S1": 1.0}}

    assert flatten("M", metas, BOOKS).net == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize("field", ["net", "gross"])
def test_what_is_lost_on_the_way_is_an_error(field):
    metas = {"M": {"S1": 0.5, "S2": 0.5}}
    flat = flatten("M", metas, BOOKS)
    lost = getattr(flat, field) + np.array([0.0, 2e-9, 0.0])

    with pytest.raises(MetaFailure, match=f"META_NOT_CONSERVED: M: {field} weights sum"):
        require_conserved(replace(flat, **{field: lost}), "M", metas, BOOKS)


def test_an_unknown_weight_of_a_sleeve_is_not_conserved():
    with pytest.raises(MetaFailure, match="META_NOT_CONSERVED"):
        flatten("M", {"M": {"S1": 1.0}}, {"S1": {"A": np.nan}})


def test_too_much_of_one_instrument_warns_and_then_fails():
    flat = flatten("M", {"M": {"X": 1.0}}, {"X": {"A": 0.15, "B": -0.20, "C": 0.26}})

    found = concentration(flat, 0.15, 0.25)

    assert [(one.level, one.subject) for one in found] == [("WARN", "B"), ("ERROR", "C")]


def test_a_limit_below_the_warning_still_fails():
    flat = flatten("M", {"M": {"X": 1.0}}, {"X": {"A": 0.05, "B": 0.12}})

    found = concentration(flat, 0.15, 0.10)

    assert [(one.level, one.subject) for one in found] == [("ERROR", "B")]
