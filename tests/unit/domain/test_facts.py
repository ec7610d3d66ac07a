from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel

SESSIONS = np.array(["2024-01-08", "2024-01-09", "2024-01-10"], dtype="datetime64[D]")


def days(*values):
    return np.array(values, dtype="datetime64[D]")


@pytest.fixture
def facts():
    """A quarter's revenue of B, restated a day later, and a fact of A."""
    return Facts(
        items=("revenue",),
        column=np.array([1, 0, 1]),
        item=np.array([0, 0, 0]),
        period_end=days("2023-12-31", "2023-12-31", "2023-12-31"),
        known_at=days("2024-01-08", "2024-01-09", "2024-01-10"),
        value=np.array([100.0, 50.0, 90.0]),
    )


@pytest.fixture
def panel(facts):
    arrays = {name: np.ones((3, 2)) for name in PANEL_FIELDS}
    member = np.array([[True, False], [True, True], [False, True]])
    return MarketPanel(
        sessions=SESSIONS,
        instruments=("A", "B"),
        fingerprint="f",
        membership=member,
        facts=facts,
        **arrays,
    )


def test_a_restatement_is_not_known_before_its_day(panel):
    assert panel.until(date(2024, 1, 9)).facts.value.tolist() == [100.0, 50.0]
    assert panel.facts.value.tolist() == [100.0, 50.0, 90.0]


def test_a_view_ends_its_membership_where_its_prices_end(panel):
    view = panel.until(date(2024, 1, 9)).last(1)

    assert view.membership.tolist() == [[True, True]]
    assert len(view.facts) == 2


def test_selected_instruments_keep_their_own_facts(panel):
    chosen = panel.select(("B",))

    assert chosen.facts.column.tolist() == [0, 0]
    assert chosen.facts.value.tolist() == [100.0, 90.0]
    assert chosen.membership.tolist() == [[False], [True], [True]]


def test_facts_out_of_order_are_refused(facts):
    with pytest.raises(DataError, match="known_at: must ascend"):
        replace(facts, known_at=facts.known_at[::-1])


def test_a_fact_without_a_value_is_refused(facts):
    with pytest.raises(DataError, match="value: 2 rows"):
        replace(facts, value=facts.value[:2].copy())
