"""A dataset's vectors, stored after a close: known then, the same whatever came later."""

from datetime import date

import numpy as np
import pytest

from persistence.embeddings import EmbeddingStore
from persistence.reference_store import ReferenceStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.encoders.numeric import WindowParams, encode_windows
from prometheus_nt.jobs.embed import embed
from prometheus_nt.jobs.sessions import view_of
from tests.contract.test_reference_store import article

pytestmark = pytest.mark.integration

DATASET, SESSION = "sample_ohlcv", date(2005, 6, 1)
CLOSED = MarketCalendar.of("US_EQ").close_time(SESSION)


class LengthModel:
    """Reads of a text how long it is."""

    version = "length"

    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts]).reshape(-1, 2)


def test_windows_and_profiles_are_those_of_the_encoders_and_are_written_once(stores):
    panel = view_of(stores, DATASET, SESSION)
    expected = encode_windows(panel, WindowParams())

    windows, profiles, news = embed(stores, DATASET, SESSION, LengthModel())

    known = np.isfinite(expected.vectors).all(axis=1)
    assert known.any()
    assert (windows.written, profiles.written) == (known.sum(), len(panel.instruments))
    assert (news.written, news.left_out) == (0, None)
    found = EmbeddingStore(stores.historical.database).window_vectors(SESSION, windows.model_id)
    assert [*found] == [name for name, one in zip(panel.instruments, known, strict=True) if one]
    for name, vector in found.items():
        row = panel.instruments.index(name)
        np.testing.assert_allclose(vector, expected.vectors[row], rtol=1e-6)
    assert [item.written for item in embed(stores, DATASET, SESSION, LengthModel())] == [0, 0, 0]


def test_news_that_are_known_by_the_close_are_read_and_later_ones_wait(stores):
    database = stores.historical.database
    known = {"known_at": CLOSED, "instrument_ids": ("MSFT.US",)}
    later = known | {
        "headline": "later",
        "known_at": MarketCalendar.of("US_EQ").close_time(date(2005, 6, 2)),
    }
    ReferenceStore(database).write_news(DATASET, [article(**known), article(**later)])

    *_, first = embed(stores, DATASET, SESSION, LengthModel())
    *_, second = embed(stores, DATASET, date(2005, 6, 2), LengthModel())

    assert (first.written, second.written) == (1, 1)
    rows = EmbeddingStore(database).listed(DATASET, CLOSED)
    assert {row["known_at"] for row in rows} == {CLOSED}
    assert {row["kind"] for row in rows} == {"NEWS", "INSTRUMENT", "PROFILE"}


def test_too_little_history_is_said_and_the_profiles_do_without_the_window(stores):
    sessions = view_of(stores, DATASET, None).sessions.astype(object)

    windows, profiles, _ = embed(stores, DATASET, sessions[62], LengthModel())
    *_, nothing, _ = embed(stores, DATASET, sessions[30], LengthModel())

    assert windows.written == 0 and "needs 64 sessions" in windows.left_out
    assert profiles.written and profiles.model_id.endswith("-none")
    assert nothing.written == 0 and "needs 63 sessions" in nothing.left_out
