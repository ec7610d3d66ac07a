import json
from dataclasses import replace
from datetime import date

import numpy as np

from persistence.rows import RunContext, universe_rows
from persistence.tables.runtime import universe_members
from prometheus_nt.domain.books import Exclusion, Tier, Universe

CONTEXT = RunContext("run", "backtest", "US_CORE", "US_CORE_H21", "book", "US_EQ", "US")


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

    rows = list(universe_rows(CONTEXT, record, "model"))

    assert [json.loads(row[-2]) for row in rows] == [{}, {"exclusion": "SECTOR_CAP"}]


def test_rows_of_natural_selection_say_cluster_and_stage():
    record = replace(_universe(), relaxation_stage=3, clusters=np.array([4, -1]))

    rows = list(universe_rows(CONTEXT, record, "model"))

    assert [json.loads(row[-2]) for row in rows] == [
        {"cluster": 4, "relaxation_stage": 3},
        {"exclusion": "SECTOR_CAP", "relaxation_stage": 3},
    ]
    assert [len(row) for row in rows] == [len(universe_members.columns)] * 2
