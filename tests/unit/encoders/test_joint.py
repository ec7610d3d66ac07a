from math import sqrt

import numpy as np
import pytest

from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.encoders.joint import Block, JointSpace, join
from prometheus_nt.encoders.similarity import nearest, similarities, weighted_outcome

NAN = np.nan
SPACE = JointSpace("TEST", (Block("numeric", ("a", "b"), 3.0), Block("text", ("c", "d"), 1.0)))
IDS = ("query", "same_numbers", "same_text", "no_text")


@pytest.fixture
def vectors():
    numeric = np.array([[2.0, 0.0], [500.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    text = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 9.0], [NAN, 1.0]])
    return join(SPACE, IDS, {"numeric": numeric, "text": text})


def test_every_block_has_length_one_or_is_missing(vectors):
    blocks = [vectors.vectors[:, columns] for columns in SPACE.slices]

    lengths = np.stack([np.linalg.norm(block, axis=1) for block in blocks], axis=1)

    assert np.allclose(lengths, vectors.known)
    assert vectors.known.tolist() == [[True, True]] * 3 + [[True, False]]


def test_blocks_count_by_weight_whatever_their_scale(vectors):
    joint, by_block = similarities(vectors, 0)

    assert joint.tolist() == pytest.approx([1.0, 0.75, 0.25, sqrt(0.5)])
    assert by_block[1].tolist() == pytest.approx([1.0, 0.0])
    assert np.isnan(by_block[3, 1])


def test_a_missing_block_leaves_the_others_to_decide(vectors):
    found = nearest(vectors, 0, 3)

    assert [item.entity_id for item in found] == ["same_numbers", "no_text", "same_text"]
    assert [item.shared_weight for item in found] == [1.0, 0.75, 1.0]
    assert found[1].by_block == {"numeric": pytest.approx(sqrt(0.5)), "text": None}


def test_a_block_nobody_has_changes_nothing(vectors):
    numbers_only = join(SPACE, IDS, {"numeric": vectors.vectors[:, :2], "text": None})
    alone = join(JointSpace("A", SPACE.blocks[:1]), IDS, {"numeric": vectors.vectors[:, :2]})

    assert similarities(numbers_only, 0)[0].tolist() == similarities(alone, 0)[0].tolist()


def test_without_a_shared_block_nothing_is_similar():
    parts = {"numeric": np.array([[1.0, 0.0], [NAN, NAN]]), "text": np.array([[0, 0], [1.0, 0]])}
    vectors = join(SPACE, ("a", "b"), parts)

    assert nearest(vectors, 0, 5) == []


def test_a_query_without_a_block_is_an_error():
    vectors = join(SPACE, ("a", "b"), {"numeric": np.array([[NAN, 0.0], [1.0, 0.0]])})

    with pytest.raises(DataError, match="a has no known block"):
        nearest(vectors, 0, 1)


def test_the_query_is_never_its_own_neighbour_and_ties_come_by_id():
    space = JointSpace("TIES", (Block("numeric", ("a", "b")),))
    same = np.ones((4, 2))

    found = nearest(join(space, ("m", "z", "a", "k"), {"numeric": same}), 0, 9)

    assert [item.entity_id for item in found] == ["a", "k", "z"]


def test_the_order_of_the_vectors_does_not_matter():
    rng = np.random.default_rng(5)
    ids = tuple(f"id_{number:02d}" for number in range(40))
    part = {"numeric": rng.standard_normal((40, 2)), "text": rng.standard_normal((40, 2))}
    order = rng.permutation(40)
    moved = {name: values[order] for name, values in part.items()}

    expected = nearest(join(SPACE, ids, part), 7, 10)
    vectors = join(SPACE, tuple(ids[row] for row in order), moved)
    found = nearest(vectors, vectors.row_of("id_07"), 10)

    names = ("entity_id", "similarity", "by_block")
    for one, other in zip(expected, found, strict=True):
        assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]


def test_results_may_be_restricted_and_kept_apart():
    space = JointSpace("TIME", (Block("numeric", ("a", "b")),))
    angles = np.array([0.30, 0.11, 0.10, 0.12, 0.50, 0.01, 0.0])
    part = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors = join(space, tuple("abcdefg"), {"numeric": part})

    found = nearest(vectors, 6, 3, np.arange(7) < 5, spacing=2)

    assert [item.entity_id for item in found] == ["c", "a", "e"]


def test_the_schema_names_blocks_features_and_weights():
    other_weight = JointSpace("TEST", (Block("numeric", ("a", "b"), 2.0), SPACE.blocks[1]))
    other_name = JointSpace("TEST", (Block("numeric", ("a", "x"), 3.0), SPACE.blocks[1]))

    assert len({space.schema_id for space in (SPACE, other_weight, other_name)}) == 3
    assert SPACE.schema_id == JointSpace("TEST", SPACE.blocks).schema_id


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"TEST.text: expected shape \(1, 2\), found \(1, 3\)"):
        join(SPACE, ("a",), {"text": np.zeros((1, 3))})
    with pytest.raises(DataError, match="no such block: txt"):
        join(SPACE, ("a",), {"txt": np.zeros((1, 2))})
    with pytest.raises(ConfigError, match="two blocks have one name"):
        JointSpace("TWICE", (Block("a", ("x",)), Block("a", ("y",))))
    with pytest.raises(ConfigError, match="a weight above 0"):
        JointSpace("NONE", (Block("a", ("x",), 0.0),))
    with pytest.raises(DataError, match="no vector of 'z'"):
        join(SPACE, ("a",), {}).row_of("z")


def test_equal_similarities_give_the_plain_mean_and_its_error():
    outcome = np.array([1.0, 2.0, 6.0])

    found = weighted_outcome(np.full(3, 0.7), outcome)

    assert found.mean == pytest.approx(3.0)
    assert found.standard_error == pytest.approx(outcome.std(ddof=1) / sqrt(3))
    assert found.count == 3


def test_similarity_weighs_outcomes_and_the_unlike_and_unknown_do_not_count():
    found = weighted_outcome(np.array([0.9, 0.3, -0.5, 0.8]), np.array([1.0, 5.0, 99.0, NAN]))

    assert found.mean == pytest.approx(0.75 * 1.0 + 0.25 * 5.0)
    assert found.standard_error == pytest.approx(sqrt(2.0 * (0.75**2 * 1.0**2 + 0.25**2 * 3.0**2)))
    assert found.count == 2


def test_too_few_outcomes_leave_the_error_or_everything_unknown():
    one = weighted_outcome(np.array([0.5]), np.array([2.0]))
    none = weighted_outcome(np.array([-0.5]), np.array([2.0]))

    assert (one.mean, one.standard_error, one.count) == (2.0, None, 1)
    assert (none.mean, none.standard_error, none.count) == (None, None, 0)
