"""How the faults that struck become events of a divergence, and what a rehearsal tolerates."""

from datetime import date
from pathlib import Path
from types import SimpleNamespace

from adapters.ib_gateway.fault import Struck
from prometheus_nt.jobs.rehearse import Rehearsal, events_of
from prometheus_nt.reporting.divergence_records import Cause

FIRST, SECOND = date(2006, 1, 4), date(2006, 1, 5)


def told(*struck):
    return [
        (event.session, event.name, event.cause, event.instrument_id)
        for event in events_of(struck, lambda symbol: f"{symbol}.US")
    ]


def test_faults_that_struck_one_thing_together_are_one_event_with_both_names():
    found = told(
        Struck(FIRST, "reject", "AAPL"),
        Struck(FIRST, "close", ""),
        Struck(FIRST, "duplicate_status", "AAPL"),
        Struck(FIRST, "reject", "AAPL"),
        Struck(SECOND, "reject", "AAPL"),
    )

    assert found == [
        (FIRST, "duplicate_status and reject", Cause.FAULT, "AAPL.US"),
        (FIRST, "close", Cause.FAULT, None),
        (SECOND, "reject", Cause.FAULT, "AAPL.US"),
    ]


def test_what_somebody_does_at_a_terminal_is_manual():
    found = told(Struck(FIRST, "user_cancels", "AAPL"), Struck(FIRST, "close", "AAPL"))

    assert [(name, cause) for _, name, cause, _ in found] == [
        ("user_cancels", Cause.MANUAL),
        ("close", Cause.FAULT),
    ]


def report(worst_bps=0.0, residual_bps=0.0, named=(), events=()):
    evidence = [SimpleNamespace(event=name) for name in events]
    found = SimpleNamespace(
        worst_bps=worst_bps, residual_bps=residual_bps, named=named, evidence=evidence
    )
    return SimpleNamespace(found=found)


def rehearsal(*reports, halted=None):
    return Rehearsal(Path("somewhere"), reports, (), halted)


def test_rounding_is_tolerated_and_nothing_else_without_a_tolerance():
    assert rehearsal(report(worst_bps=1e-9)).is_within(0.0)
    assert not rehearsal(report(), report(residual_bps=0.1, named=(Cause.RESIDUAL,))).is_within(0.0)
    assert not rehearsal(report(worst_bps=0.1, named=(Cause.COST,))).is_within(0.0)


def test_a_gap_is_tolerated_up_to_the_tolerance_and_a_contradiction_too():
    differs = report(worst_bps=3.0, named=(Cause.FAULT,))
    contradicts = report(residual_bps=3.0, named=(Cause.RESIDUAL,))

    assert [rehearsal(differs).is_within(bps) for bps in (2.9, 3.0)] == [False, True]
    assert [rehearsal(contradicts).is_within(bps) for bps in (2.9, 3.0)] == [False, True]


def test_a_halt_is_never_tolerated():
    assert not rehearsal(report(), halted="REVISED_FILL").is_within(1e9)


def test_the_faults_that_changed_something_are_told_one_by_one():
    found = rehearsal(report(events=("", "reject and close", "user_edits")))

    assert found.effects == {"reject", "close", "user_edits"}
