"""Rows as columns say what the same rows say as tuples, to the byte."""

import json
from math import inf, nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from persistence.blocks import Block, Documents, JsonText, JsonTexts, documents, numbers

ANY = st.lists(st.floats(width=64), min_size=1, max_size=20)
AWKWARD = (
    0.0,
    -0.0,
    1.0,
    1e-4,
    9.9e-5,
    1e-5,
    1e-7,
    1e10 - 0.5,
    1e10 + 0.5,
    1e15,
    1e16,
    1e22,
    5e-324,
    1.7976931348623157e308,
)


def _said(document):
    """Return what the encoder of single documents would write."""
    known = {name: value if np.isfinite(value) else None for name, value in document.items()}
    return json.dumps(known, sort_keys=True, allow_nan=False)


@given(ANY)
def test_a_document_is_the_text_that_the_json_encoder_writes(values):
    column = np.array(values)

    written = documents({"b": column, "a": -column}, len(column))

    assert [*written] == [_said({"b": value, "a": -value}) for value in values]


def test_numbers_that_the_two_ways_of_writing_them_would_write_differently_agree():
    values = np.array([*AWKWARD, *(-value for value in AWKWARD), np.nan, np.inf])

    assert [*documents({"x": values}, len(values))] == [_said({"x": value}) for value in values]


def test_documents_without_members_are_empty_objects():
    assert documents({}, 2) == ["{}", "{}"]


def _block():
    numbers_ = np.array([1.5, np.nan, np.inf])
    return Block.of(3, "run", ("A", "B", "C"), numbers_, JsonTexts(["{}", "[1]", "null"]), None)


def test_a_block_iterates_as_rows_whose_unknown_numbers_are_none():
    first, second, third = _block()

    assert first == ("run", "A", 1.5, "{}", None)
    assert second == ("run", "B", None, "[1]", None)
    assert third == ("run", "C", None, "null", None)
    assert isinstance(first[3], JsonText)


def test_a_part_of_a_block_is_a_block_and_one_of_it_is_a_row():
    block = _block()
    first, *others = block

    assert [*block[1:]] == others
    assert isinstance(block[1:].columns[3], JsonTexts)
    assert (block[0], block[-1]) == (first, others[-1])
    assert len(block) == 3


def test_joined_blocks_are_the_rows_of_each_one_after_the_other():
    block = _block()

    joined = Block.joined([block, block[:1]])

    assert [*joined] == [*block, *block[:1]]
    assert isinstance(joined.columns[2], np.ndarray)
    assert isinstance(joined.columns[3], JsonTexts)
    assert Block.joined([]) == ()


def test_numbers_that_are_not_finite_are_unknown():
    assert numbers(np.array([1.0, np.nan, -np.inf])) == [1.0, None, None]


def test_documents_of_many_sessions_are_those_of_each_alone():
    first = Block.of(2, "a", Documents({"x": np.array([1.0, nan]), "y": np.array([1e-9, 2.5])}, 2))
    second = Block.of(1, "b", Documents({"x": np.array([3.0]), "y": np.array([inf])}, 1))
    other = Block.of(1, "c", Documents({"z": np.array([0.5])}, 1))
    alone = [row for block in (first, second, other) for row in block]

    assert [*Block.joined([first, second, other])] == alone
    assert [*Block.joined([first, second])] == alone[:3]
    assert alone[:2] == [("a", '{"x": 1.0, "y": 1e-09}'), ("a", '{"x": null, "y": 2.5}')]
