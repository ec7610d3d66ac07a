"""The paper node at the simulated broker: what it trades is what the backtest trades."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from prometheus_nt.config import load_config
from prometheus_nt.jobs.rehearse import RehearsalRequest, rehearse
from prometheus_nt.reporting.divergence_records import Cause

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")


def node(*assignments):
    config = load_config([CONFIG], ["mode=paper", *assignments])
    return config.model_copy(
        update={"sleeves": (config.sleeves[0].model_copy(update={"horizon": 5}),)}
    )


def test_sixty_sessions_at_the_simulated_broker_trade_what_the_backtest_trades(stores):
    # What these engines add is compared over as many sessions on the simulated venue.
    shorter = node("without=[regime,fragility]")

    found = rehearse(shorter, stores, RehearsalRequest(date(2006, 1, 3), date(2006, 3, 29)))

    (report,) = found.reports
    assert report.identical
    assert report.found.named == ()
    assert len(report.found.sessions) == 60
    assert report.found.counts.orders_b > 20
    assert report.found.counts.fills_b > 20
    assert report.found.worst_bps < 1e-6
    assert found.struck == ()


WEEK = (date(2006, 1, 3), date(2006, 1, 6))


@pytest.mark.parametrize("fault", ["lose_order:nth=3", "reset", "silent_fill", "missing_ack"])
def test_a_fault_that_can_be_overcome_leaves_no_difference(stores, fault):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=(fault,)))

    assert {hit.fault for hit in found.struck} == {fault.partition(":")[0]}
    assert found.reports[0].found.counts.fills_a > 0
    assert found.is_within(0.0)
    assert found.effects == set()


def test_a_rejected_order_is_a_difference_with_its_cause_and_so_is_what_follows(stores):
    asked = RehearsalRequest(date(2006, 1, 3), date(2006, 1, 20), faults=("reject:code=201,nth=2",))

    found = rehearse(node(), stores, asked)

    (report,) = found.reports
    divergence = report.found
    (hit,) = found.struck
    (event,) = divergence.events
    assert (event.name, event.session) == ("reject", hit.session)
    assert event.instrument_id == f"{hit.symbol}.US"
    assert divergence.named == (Cause.FAULT,)
    assert divergence.event_parts == (pytest.approx(divergence.total, abs=1e-6),)
    np.testing.assert_allclose(divergence.parts.sum(axis=1), divergence.gap, atol=1e-6)
    first = divergence.evidence[0]
    assert (first.event, first.mechanism) == ("reject", Cause.MISSED_FILL)
    assert not found.is_within(0.0)
    assert found.is_within(divergence.worst_bps)


def test_two_faults_of_two_stocks_are_named_apart(stores):
    faults = ("reject:nth=1", "user_cancels:nth=3")

    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=faults))

    divergence = found.reports[0].found
    assert found.effects == {"reject", "user_cancels"}
    assert divergence.named == (Cause.MANUAL, Cause.FAULT)
    assert sum(divergence.event_parts) == pytest.approx(divergence.total, abs=1e-6)
    assert all(abs(part) > 1.0 for part in divergence.event_parts)


def test_an_order_that_was_made_smaller_at_a_terminal_is_a_persons(stores):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=("user_edits",)))

    assert found.effects == {"user_edits"}
    assert found.reports[0].found.named == (Cause.MANUAL,)


def test_an_execution_that_is_taken_back_halts_the_rehearsal(stores):
    found = rehearse(node(), stores, RehearsalRequest(*WEEK, faults=("bust",)))

    assert "REVISED_FILL" in found.halted
    assert {hit.fault for hit in found.struck} == {"bust"}
    assert not found.is_within(1e9)
