"""Stored vectors in three dimensions."""

import numpy as np
import pytest

from persistence.tables import runtime as tables
from prometheus_nt.jobs.projection import project
from tests.integration.monitoring.world import SESSIONS, World, fill, put

pytestmark = pytest.mark.integration

WORLD = World()


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def profile(database, **features):
    """Store the profiles of a session: instrument -> features."""
    own = {"run_id": WORLD.run_id("FAST"), "as_of_date": SESSIONS[-1], "mode": "BACKTEST"}
    own |= {"strategy_id": WORLD.strategy}
    rows = [own | {"instrument_id": f"{n}.US", "structured": of} for n, of in features.items()]
    put(database, tables.profiles, rows)


def test_axes_are_those_of_the_largest_variance():
    rng = np.random.default_rng(7)
    common = rng.normal(size=(200, 1))
    vectors = np.hstack(
        [common, common + 0.1 * rng.normal(size=(200, 1)), rng.normal(size=(200, 2))]
    )

    found = project(vectors, ["a", "b", "c", "d"])

    # A second way: the eigenvalues of the correlation matrix.
    values = np.linalg.eigvalsh(np.corrcoef(vectors.T))[::-1]
    assert [axis.explained for axis in found.axes] == pytest.approx(list(values[:3] / 4), rel=0.02)
    assert set(found.axes[0].label.split()) == {"+a", "+b"}
    assert sum(found.axes[0].loadings.values()) == pytest.approx(1.0)
    assert np.allclose(np.corrcoef(found.points.T), np.eye(3), atol=1e-6)


def test_what_is_unknown_or_the_same_for_all_is_no_direction():
    nan = np.nan
    vectors = np.array([[1.0, 5.0, nan], [2.0, 5.0, nan], [nan, 5.0, 3.0], [4.0, 5.0, nan]])

    found = project(vectors, ["a", "same", "rare"])

    assert found.columns == ("a",) and found.points.shape == (4, 1)
    assert found.points[2, 0] == 0.0 and found.points[3, 0] > 0.0 > found.points[0, 0]
    assert project(vectors[:, 1:2], ["same"]) is None


def test_there_is_nothing_to_see(client):
    for space in ("profiles", "stability", "fragility"):
        found = read(client, f"/api/embedding_space/{space}")
        assert found["vectors"] == [] and found["axes"] == [] and found["columns"] == []
        assert set(found["unknown"]) == {"as_of_date", "run_id", "explained", "vectors.cluster"}
    assert client.get("/api/embedding_space/attic").status_code == 422


def test_profiles_stand_by_their_features(client, database):
    fill(database, WORLD)
    profile(
        database,
        A={"vol": 0.1, "trend": 1.0, "debt": None},
        B={"vol": 0.2, "trend": 2.0, "debt": None},
        C={"vol": 0.3, "trend": 3.0, "debt": 7.0},
    )

    found = read(client, "/api/embedding_space/profiles")

    # The two columns say the same, so that one axis explains all of it.
    assert found["columns"] == ["trend", "vol"] and len(found["axes"]) == 1
    assert found["explained"] == pytest.approx(1.0)
    a, b, c = found["vectors"]
    assert a["vector"] == pytest.approx([-(3**0.5)], abs=1e-5)
    assert (b["vector"], c["vector"]) == ([0.0], pytest.approx([3**0.5], abs=1e-5))
    assert (a["cluster"], c["cluster"]) == ("ONE", None) and a["color"] != c["color"]
    assert (a["known"], c["known"]) == (pytest.approx(2 / 3), 1.0)
    assert (found["as_of_date"], found["run_id"]) == ("2024-02-02", WORLD.run_id("FAST"))
    assert read(client, "/api/embedding_space/profiles", as_of="2024-02-01")["vectors"] == []
    assert len(read(client, "/api/embedding_space/profiles", limit=2)["vectors"]) == 2


def test_vectors_that_do_not_differ_have_no_place(client, database):
    fill(database, WORLD)

    found = read(client, "/api/embedding_space/stability")

    assert found["vectors"] == [] and "explained" in found["unknown"]
    assert found["as_of_date"] == "2024-02-02"
