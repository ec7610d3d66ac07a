"""The page of a divergence: every part of it, and nothing that a name could break."""

from dataclasses import replace
from datetime import date

import numpy as np

from prometheus_nt.reporting.divergence import attribute
from prometheus_nt.reporting.divergence_page import render_divergence
from prometheus_nt.reporting.divergence_records import (
    Cause,
    DecisionRecord,
    FillRecord,
    OrderRecord,
    RunEvent,
    TradedRun,
)

DAYS = [date(2024, 1, 2), date(2024, 1, 3)]
SESSIONS = np.array(DAYS, dtype="datetime64[D]")
ORDER = OrderRecord("one", DAYS[0], True, "A.US", 1, 100.0)
FILL = FillRecord("one", DAYS[1], "A.US", 1, 100.0, 10.0, 1.0)
MARKS = np.array([[10.0], [11.0]])

FILLED = TradedRun(
    run_id="RUN",
    capital=5_000.0,
    orders=[ORDER],
    fills=[FILL],
    flows=[],
    decisions={DAYS[0]: DecisionRecord({"A.US": 0.2})},
    equity=np.array([5_000.0, 5_099.0]),
    cash=np.array([5_000.0, 3_999.0]),
    marks=MARKS,
)
MISSED = replace(FILLED, fills=[], equity=np.full(2, 5_000.0), cash=np.full(2, 5_000.0))


def page_of(run_a, run_b, *events, notes=("A note & more.",)):
    return render_divergence(attribute(run_a, run_b, SESSIONS, ("A.US",), events), 1.0, notes)


def test_a_page_says_what_the_gap_is_and_that_it_is_too_large():
    page = page_of(MISSED, FILLED)

    assert "\u2212$99.00" in page
    assert "MISSED_FILL" in page
    assert "Outside" in page
    assert "194.16 bps" in page
    assert "A note &amp; more." in page
    assert 'id="chart-gap"' in page


def test_runs_that_are_the_same_have_a_page_that_says_so():
    page = page_of(FILLED, FILLED)

    assert "Within" in page
    assert "the runs are the same, order for order and fill for fill" in page
    assert "no session has a gap" in page
    assert 'id="chart-gap"' not in page


def test_what_came_from_outside_is_escaped():
    event = RunEvent(DAYS[1], "<b>lost</b>", Cause.FAULT, detail="<script>alert(1)</script>")

    page = page_of(MISSED, FILLED, event)

    assert "FAULT: &lt;b&gt;lost&lt;/b&gt; (MISSED_FILL)" in page
    assert "<script>alert" not in page
