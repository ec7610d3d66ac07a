"""What the store of vectors promises, on either engine."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from persistence.embeddings import Close, EmbeddingStore
from persistence.historical import HistoricalStore
from persistence.reference_store import ReferenceStore
from prometheus_nt.domain.errors import StoreError
from tests.contract.test_reference_store import NOW, article, at

CLOSE = Close("demo", date(2024, 1, 8), datetime(2024, 1, 8, 21, tzinfo=UTC))
BEFORE = CLOSE.closed_at - timedelta(microseconds=1)
SPEC = {"window": 63}


@pytest.fixture
def store(database):
    historical = HistoricalStore(database)
    dataset = {"source": "test", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    said = {"synthetic_bars": False, "description": "d", "survivorship": "s"}
    for name in ("demo", "other"):
        historical.write_dataset({"dataset_id": name, **dataset, **said})
    return EmbeddingStore(database)


def test_a_window_comes_back_as_its_numbers_and_is_never_changed(store):
    first = {"A": np.array([0.6, -0.8]), "B": np.array([np.nan, 1.0])}

    assert store.write_windows(CLOSE, "m", SPEC, first) == 1
    assert store.write_windows(CLOSE, "m", SPEC, {"A": np.array([1.0, 0.0])}) == 0
    assert store.write_windows(CLOSE, "m2", SPEC, first) == 1

    found = store.window_vectors(CLOSE.as_of, "m")
    assert [*found] == ["A"]
    np.testing.assert_array_equal(found["A"], np.float32([0.6, -0.8]).astype(float))


def test_hundreds_of_windows_take_the_way_of_bulk(store):
    vectors = {f"S{number:03d}": np.array([number, 0.1]) for number in range(300)}

    assert store.write_windows(CLOSE, "m", SPEC, vectors) == 300

    found = store.window_vectors(CLOSE.as_of, "m")
    assert {name: float(vector[0]) for name, vector in found.items()} == {
        name: float(vector[0]) for name, vector in vectors.items()
    }


def test_an_article_is_read_once_by_a_model_and_not_before_it_was_known(store):
    news = ReferenceStore(store.database)
    news.write_news("demo", [article(), article(headline="B", body="more", known_at=at(9))], NOW)
    news.write_news("other", [article(headline="C")], NOW)

    (known,) = store.articles_without("demo", "m", CLOSE.closed_at)
    assert (known.text, known.known_at) == ("A grows", at(5))
    assert store.write_articles("m", [known], np.array([[1.0, 0.0]])) == 1

    assert store.articles_without("demo", "m", CLOSE.closed_at) == []
    assert [each.text for each in store.articles_without("demo", "m", NOW)] == ["B\nmore"]
    assert len(store.articles_without("demo", "another", NOW)) == 2


def test_a_changed_text_is_read_again_from_when_it_was_told(store):
    news = ReferenceStore(store.database)
    news.write_news("demo", [article(body="up")], at(5))
    (first,) = store.articles_without("demo", "m", NOW)
    store.write_articles("m", [first], np.array([[1.0, 0.0]]))

    news.write_news("demo", [article(body="down")], NOW)

    assert store.articles_without("demo", "m", CLOSE.closed_at) == []
    (second,) = store.articles_without("demo", "m", NOW)
    assert (second.text, second.known_at) == ("A grows\ndown", NOW)


def test_vectors_are_listed_from_when_they_are_known_and_of_their_dataset_alone(store):
    vectors = {"A": np.array([1.0, 0.0, 0.0]), "B": np.array([0.0, 1.0, 0.0])}
    store.write_windows(CLOSE, "m", SPEC, vectors)
    store.write_joint(CLOSE, "PROFILE", "j", vectors)

    assert store.listed("demo", BEFORE) == []
    assert store.listed("other", NOW) == []
    rows = store.listed("demo", CLOSE.closed_at, "B")
    assert [(row["kind"], row["entity_id"], row["dimensions"]) for row in rows] == [
        ("INSTRUMENT", "B", 3),
        ("PROFILE", "B", 3),
    ]
    assert {row["as_of_date"] for row in rows} == {CLOSE.as_of}
    assert len(store.listed("demo", NOW, limit=3)) == 3
    with pytest.raises(StoreError, match="nowhere"):
        store.listed("nowhere", NOW)
