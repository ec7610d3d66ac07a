import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prometheus_nt.domain.errors import DataError
from prometheus_nt.meta.long_space import (
    LONG,
    SHORT,
    Atoms,
    ReturnsMatrix,
    atoms_of,
    from_long_space,
    synthesised,
    to_long_space,
)


def test_a_short_is_turned_around_and_loses_no_more_than_was_put_in():
    returns = np.array([[0.02, 0.02], [-0.5, -0.5], [1.5, 1.5], [np.nan, np.nan]])

    streams = to_long_space(returns, np.array([LONG, SHORT]))

    assert streams[:, 0].tolist()[:3] == [0.02, -0.5, 1.5]
    assert streams[:, 1].tolist()[:3] == [-0.02, 0.5, -1.0]
    assert np.isnan(streams[3]).all()


@given(seed=st.integers(0, 2**32 - 1), cap=st.floats(0.01, 3.0))
def test_it_is_bit_for_bit_what_clipping_the_mirrored_returns_gives(seed, cap):
    returns = np.random.default_rng(seed).standard_t(2, (50, 4)) * 0.5

    streams = to_long_space(returns, np.full(4, SHORT), cap)

    assert np.array_equal(streams, np.clip(-returns, -cap, None))


@given(seed=st.integers(0, 2**32 - 1))
def test_books_come_back_from_long_space_as_they_were(seed):
    rng = np.random.default_rng(seed)
    books = {
        sleeve: {f"N{at}": float(weight) for at, weight in enumerate(rng.normal(size=5))}
        for sleeve in ("S1", "S2")
    }

    atoms, weights = atoms_of(books)
    signed = from_long_space(weights, atoms.direction)

    expected = [weight for sleeve in ("S1", "S2") for weight in books[sleeve].values()]
    assert signed.tolist() == expected
    assert (weights >= 0.0).all()


def test_a_negative_weight_cannot_come_back():
    with pytest.raises(DataError, match="negative or unknown"):
        from_long_space(np.array([0.2, -0.1]), np.array([LONG, SHORT]))
    with pytest.raises(DataError, match="negative or unknown"):
        from_long_space(np.array([np.nan]), np.array([LONG]))


def test_directions_are_read_from_the_table_and_not_from_names():
    # A name that says SHORT, of a long; and tickers with an underscore, twice.
    atoms = Atoms(("BRK_A.US_X_SHORT", "BRK_A.US_SHORT_LONG"), ("BRK_A.US",) * 2, np.array([1, -1]))
    raw = ReturnsMatrix(
        np.array(["2020-01-02"], "datetime64[D]"), ("BRK_A.US",), np.array([[0.25]])
    )

    streams = synthesised(atoms, raw)

    assert streams.columns == atoms.atom_id
    assert streams.values.tolist() == [[0.25, -0.25]]


def test_an_atom_without_its_instrument_has_no_stream():
    atoms = Atoms(("A", "B"), ("A.US", "B.US"), np.array([1, 1]))
    raw = ReturnsMatrix(np.array(["2020-01-02"], "datetime64[D]"), ("B.US",), np.array([[0.25]]))

    assert synthesised(atoms, raw).columns == ("B",)


@pytest.mark.parametrize(
    ("atoms", "said"),
    [
        ((("A", "A"), ("A.US", "B.US"), np.array([1, 1])), "stands for two"),
        ((("A", "B"), ("A.US", "B.US"), np.array([1, 0])), "neither 1"),
        ((("A", "B"), ("A.US",), np.array([1, 1])), "expected one length"),
    ],
)
def test_a_table_of_atoms_that_makes_no_sense_is_refused(atoms, said):
    with pytest.raises(DataError, match=said):
        Atoms(*atoms)
