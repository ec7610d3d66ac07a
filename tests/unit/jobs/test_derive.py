"""Deriving a dataset: what is asked for, done once, extended by session, correlations stored."""

from datetime import date

import numpy as np
import pytest

from persistence.derived_store import DerivedFilters
from prometheus_nt.domain.errors import (
    ConfigError,
    InsufficientHistory,
    LookAheadError,
    NonSession,
    StoreError,
)
from prometheus_nt.engines.features import correlation_panel, derive_table
from prometheus_nt.jobs import derive as job
from prometheus_nt.jobs.derive import KNOWN, DeriveRequest, derive, derived_store


def written(saved):
    return {item.name: item.rows_written for item in saved}


def test_everything_is_derived_once(market_stores):
    first, second = (derive(market_stores, DeriveRequest("data")) for _ in range(2))

    assert written(first) == {
        "returns": 5,
        "volatility": 5,
        "factors": 3,
        "exposures": 9,
        "features": 25,
        "correlations": 1,
    }
    assert written(second) == dict.fromkeys(KNOWN, 0)


def test_the_second_time_nothing_is_computed(market_stores, monkeypatch):
    derive(market_stores, DeriveRequest("data"))

    def never(panel, name):
        raise AssertionError(f"{name} was computed again")

    monkeypatch.setattr(job, "derive_table", never)

    derive(market_stores, DeriveRequest("data"))


def test_other_code_computes_again_and_writes_what_differs(market_stores, monkeypatch):
    derive(market_stores, DeriveRequest("data", ("returns",), rows="all"))
    monkeypatch.setattr(job, "code_hash", lambda: "another version")

    (saved,) = derive(market_stores, DeriveRequest("data", ("returns",)))

    assert saved.rows_written == 0


def test_new_prices_add_the_rows_of_their_sessions(market_stores, serve, small_market):
    serve(small_market(until=date(2020, 6, 30)))
    derive(market_stores, DeriveRequest("data", ("returns",)))

    serve(small_market(until=date(2020, 7, 2)))
    (saved,) = derive(market_stores, DeriveRequest("data", ("returns",)))

    assert (saved.rows_written, saved.sessions) == (10, 2)
    assert saved.rows_since == date(2020, 6, 30)


def test_a_session_to_end_with_equals_data_that_end_there(market_stores, small_market):
    derive(market_stores, DeriveRequest("data", ("features",), until=date(2020, 6, 30)))

    stored = derived_store(market_stores).load("data", "features")

    fresh = derive_table(small_market(until=date(2020, 6, 30)), "features")
    np.testing.assert_array_equal(stored.columns["value"], fresh.columns["value"])


def test_only_what_is_asked_for_is_derived(market_stores):
    saved = derive(market_stores, DeriveRequest("data", ("factors",), rows="none"))

    assert written(saved) == {"factors": 0}
    with pytest.raises(StoreError, match="volatility are not derived"):
        derived_store(market_stores).load("data", "volatility")


def test_correlations_of_each_quarter_skip_those_too_early(market_stores, small_market):
    request = DeriveRequest("data", ("correlations",), correlations="quarter")

    (saved,) = derive(market_stores, request)
    (again,) = derive(market_stores, request)

    store = derived_store(market_stores)
    ends = [row[2] for row in store.listing("correlations", DerivedFilters("data"))[1]]
    assert saved.rows_written == len(ends) == 6
    assert again.rows_written == 0
    assert min(ends) == date(2019, 7, 1), "April 2019 has only 61 returns behind it"
    names, matrix = store.load_correlations("CORR63-data-2020-04-01")
    fresh = correlation_panel(small_market().until(date(2020, 4, 1)), 63)
    assert names == fresh.instruments
    np.testing.assert_array_equal(matrix, fresh.matrix)


def test_only_the_matrices_that_a_revision_touches_are_stored_again(
    market_stores, serve, small_market
):
    request = DeriveRequest("data", ("correlations",), correlations="quarter")
    derive(market_stores, request)

    serve(small_market(revised=1.2))
    (saved,) = derive(market_stores, request)

    assert saved.rows_written == 1, "session 100 is in one window of 63 sessions"


def test_requests_that_make_no_sense_are_refused(market_stores):
    for settings, problem in (
        ({"features": ("vola",)}, "--features: unknown vola; known: returns"),
        ({"rows": "some"}, "--rows: expected last, all, none or a date"),
        ({"correlations": "year"}, "--correlations: expected one of last, none, session"),
    ):
        with pytest.raises(ConfigError, match=problem):
            derive(market_stores, DeriveRequest("data", **settings))
    with pytest.raises(NonSession):
        derive(market_stores, DeriveRequest("data", until=date(2020, 6, 28)))
    with pytest.raises(LookAheadError):
        derive(market_stores, DeriveRequest("data", until=date(2021, 1, 4)))
    with pytest.raises(InsufficientHistory):
        early = {"until": date(2019, 1, 31), "features": ("correlations",)}
        derive(market_stores, DeriveRequest("data", **early))
