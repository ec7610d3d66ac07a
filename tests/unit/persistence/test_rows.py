"""What records become in the database: unknown is NULL, and every component is named."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from persistence.rows import (
    RunContext,
    construction,
    profile_rows,
    soft_target_rows,
    stability_rows,
    universe_rows,
)
from persistence.tables.runtime import profiles, universe_members
from prometheus_nt.domain.books import (
    BookEvidence,
    BookTarget,
    Exclusion,
    Fallback,
    Tier,
    Universe,
)
from prometheus_nt.domain.market import RegimeLabel, StabilityVectors
from prometheus_nt.domain.profiles import Profiles

RUN = RunContext("run", "BACKTEST", "S", "S_H21", "P", "US_EQ", "US")


@pytest.fixture
def vectors():
    one = np.array([1.0, np.nan])
    named = {
        "vol_score": 40.0,
        "dd_score": 30.0,
        "complacent_pricing": 20.0,
        "liquidity_score": 10.0,
        "overall_score": 35.0,
    }
    others = (
        "trend_score downside_beta_score tail_score contagion_score sigma max_drawdown trend"
        " downside_beta expected_shortfall market_correlation illiquidity"
    )
    return StabilityVectors(
        as_of=date(2020, 1, 2),
        instruments=("A", "B"),
        soft_target_class=np.array([1, -1]),
        transition_matrix=np.eye(5),
        change_risk={"p_to_breaker": 0.25 * one},
        **{name: value * one for name, value in named.items()},
        **{name: one for name in others.split()},
    )


@pytest.fixture
def weak_and_unknown():
    return Profiles(
        as_of=date(2020, 1, 2),
        instruments=("A", "B"),
        schema_id="PROFILE_V1",
        features={"vol_63d": np.array([0.03, np.nan]), "leverage": np.full(2, np.nan)},
        risk_flags={"vol_flag": np.array([1.0, np.nan])},
        weak_profile=np.array([1, -1]),
    )


def test_a_soft_target_has_the_scores_that_define_it(vectors):
    known, unknown = soft_target_rows(RUN, vectors, "model")

    assert known[5:] == ("A", "WATCH", 35.0, None, 40.0, 30.0, 20.0, "model")
    assert unknown[5:] == ("B", None, None, None, None, None, None, "model")


def test_whether_a_profile_is_weak_comes_from_the_profiles_of_the_day(vectors, weak_and_unknown):
    first, second = soft_target_rows(RUN, vectors, "model", weak_and_unknown)

    assert (first[8], second[8]) == (True, None)


def test_a_profile_keeps_what_is_known_of_anybody(weak_and_unknown):
    first, second = profile_rows(RUN, weak_and_unknown, "model")

    assert json.loads(first[5]) == {"vol_63d": 0.03}
    assert json.loads(second[5]) == {"vol_63d": None}
    assert [len(row) for row in (first, second)] == [len(profiles.columns)] * 2


def test_the_stability_document_names_components_measures_and_outlook(vectors):
    known, unknown = (json.loads(row[6]) for row in stability_rows(RUN, vectors, "model"))

    assert known["vol_score"] == 40.0
    assert known["liquidity_score"] == 10.0
    assert known["p_to_breaker"] == 0.25
    assert {"downside_beta", "expected_shortfall", "market_correlation"} <= set(known)
    assert set(unknown) == set(known)
    assert set(unknown.values()) == {None}


def _universe():
    return Universe(
        as_of=date(2024, 1, 8),
        universe_id="CORE_EQ_US",
        instruments=("A.US", "B.US"),
        score=np.array([60.0, 40.0]),
        included=np.array([True, False]),
        tier=np.array([int(Tier.CORE), int(Tier.EXCLUDED)]),
        exclusion=np.array([int(Exclusion.NONE), int(Exclusion.SECTOR_CAP)]),
    )


def test_universe_rows_say_why_a_name_is_out():
    record = _universe()

    rows = list(universe_rows(RUN, record, "model"))

    assert [json.loads(row[-2]) for row in rows] == [{}, {"exclusion": "SECTOR_CAP"}]


def test_rows_of_natural_selection_say_cluster_and_stage():
    record = replace(_universe(), relaxation_stage=3, clusters=np.array([4, -1]))

    rows = list(universe_rows(RUN, record, "model"))

    assert [json.loads(row[-2]) for row in rows] == [
        {"cluster": 4, "relaxation_stage": 3},
        {"exclusion": "SECTOR_CAP", "relaxation_stage": 3},
    ]
    assert [len(row) for row in rows] == [len(universe_members.columns)] * 2


def test_the_construction_of_a_book_names_method_fallbacks_and_what_was_relaxed():
    book = BookTarget(
        as_of=date(2024, 1, 8),
        book_id="BOOK",
        instruments=("A.US",),
        weights=np.array([0.5]),
        expected_return=None,
        binding=("max_weight",),
        evidence=BookEvidence(
            method="min_variance",
            as_of_solved=date(2024, 1, 5),
            regime=RegimeLabel.CRISIS,
            fallbacks=(Fallback("max_ratio", "no book earns more than cash"),),
            relaxed=("max_turnover",),
        ),
    )

    document = json.loads(json.dumps(construction(book)))

    assert document["method"] == "min_variance"
    assert document["as_of_solved"] == "2024-01-05"
    assert document["regime"] == "CRISIS"
    assert document["fallbacks"] == [["max_ratio", "no book earns more than cash"]]
    assert (document["binding"], document["relaxed"]) == (["max_weight"], ["max_turnover"])
    assert document["turnover"] is document["expected_return"] is None
