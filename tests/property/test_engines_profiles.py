"""Profiles: no later price or fact reaches an earlier one, and columns may change places."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import PANEL_FIELDS
from prometheus_nt.domain.profiles import FLOWS, NEWS_ITEM, QUARTERLY, STOCKS
from prometheus_nt.domain.record import record_hash
from prometheus_nt.engines.profiles import ProfileParams, build_profiles

SEEDS = st.integers(0, 2**32 - 1)
ITEMS = (*(flow + QUARTERLY for flow in FLOWS), *STOCKS, NEWS_ITEM, "unread")
PARAMS = ProfileParams(min_observations=20)


def _facts(seed, sessions, names, rows=4000):
    """Reports of random quarters with holes and restatements, from before the panel begins on."""
    rng = np.random.default_rng(seed)
    end = np.datetime64("2017-12-31") + 91 * rng.integers(0, 8, rows)
    known_at = np.sort(np.maximum(end, sessions[0] - 30 + rng.integers(0, 200, rows)))
    return Facts(
        items=ITEMS,
        column=rng.integers(0, names, rows),
        item=rng.integers(0, len(ITEMS), rows),
        period_end=end,
        known_at=known_at,
        value=rng.choice([NAN, 0.0, 1.0, 2.5, -3.0], rows),
    )


NAN = float("nan")


def _market(synthetic_panel, seed):
    panel = synthetic_panel(seed)
    return replace(panel, facts=_facts(seed, panel.sessions, len(panel.instruments)), _wall=None)


def _with_junk(panel, row, junk):
    rng = np.random.default_rng(junk)
    arrays = {name: getattr(panel, name).copy() for name in PANEL_FIELDS}
    for array in arrays.values():
        array[row + 1 :] = rng.uniform(0.1, 5.0, array[row + 1 :].shape)
    known = panel.facts.until(panel.sessions[row].astype(object))
    after = panel.sessions[row] + 1
    rows = 3000
    later = Facts(
        items=ITEMS,
        column=rng.integers(0, len(panel.instruments), rows),
        item=rng.integers(0, len(ITEMS), rows),
        period_end=np.datetime64("1950-01-01") + rng.integers(0, 40_000, rows),
        known_at=np.sort(after + rng.integers(0, 100, rows)),
        value=rng.standard_normal(rows),
    )
    joined = {
        name: np.concatenate([getattr(known, name), getattr(later, name)])
        for name in ("column", "item", "period_end", "known_at", "value")
    }
    return replace(panel, facts=Facts(items=ITEMS, **joined), _wall=None, **arrays)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, row=st.integers(70, 148), junk=SEEDS)
def test_no_later_session_or_fact_reaches_a_profile(synthetic_panel, seed, row, junk):
    panel = _market(synthetic_panel, seed)
    as_of = panel.sessions[row].astype(object)

    expected = build_profiles(panel.until(as_of), PARAMS)
    found = build_profiles(_with_junk(panel, row, junk).until(as_of), PARAMS)

    assert record_hash(found) == record_hash(expected)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, order_seed=SEEDS)
def test_the_order_of_the_instruments_only_moves_the_profiles(synthetic_panel, seed, order_seed):
    panel = _market(synthetic_panel, seed)
    order = np.random.default_rng(order_seed).permutation(len(panel.instruments))

    moved = build_profiles(panel.select(tuple(panel.instruments[c] for c in order)), PARAMS)
    profiles = build_profiles(panel, PARAMS)

    for name, values in (profiles.features | profiles.risk_flags).items():
        found = (moved.features | moved.risk_flags)[name]
        assert np.array_equal(found, values[order], equal_nan=True), name
    assert np.array_equal(moved.weak_profile, profiles.weak_profile[order])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, row=st.integers(70, 148))
def test_trailing_twelve_months_agree_with_a_naive_look_at_the_facts(synthetic_panel, seed, row):
    panel = _market(synthetic_panel, seed)
    view = panel.until(panel.sessions[row].astype(object))

    found = build_profiles(view, PARAMS).features["revenue_ttm"]

    for column in range(len(panel.instruments)):
        assert found[column] == pytest.approx(_naive_ttm(view, column), nan_ok=True)


def _naive_ttm(view, column):
    figures = {}
    facts = view.facts
    for place, item, end, known, value in zip(
        facts.column, facts.item, facts.period_end, facts.known_at, facts.value, strict=True
    ):
        if (place, ITEMS[item]) == (column, "revenue_quarterly") and end <= known:
            figures[end] = value
    if not figures:
        return NAN
    newest = max(figures)
    if (view.sessions[-1] - newest).astype(int) > PARAMS.max_report_age:
        return NAN
    return sum(figures.get(newest - 91 * back, NAN) for back in range(4))
