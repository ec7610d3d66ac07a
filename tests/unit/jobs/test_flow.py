"""How a flow goes on, fails closed and is sealed; its steps here are functions that are told what
to do."""

import json

import pytest
import sqlalchemy as sa

from persistence.flows import FlowLedger, alone
from persistence.tables.operations import events
from prometheus_nt.domain.errors import ConfigError, DataError, StoreError
from prometheus_nt.jobs.check.audit import audit_file
from prometheus_nt.jobs.flow import FlowRequest, GateFailure, Step, flow_statuses, run_flow
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings


@pytest.fixture
def stores(tmp_path):
    settings = Settings(
        tmp_path / "home", f"sqlite:///{tmp_path}/historical.db", f"sqlite:///{tmp_path}/runtime.db"
    )
    with open_stores(settings, upgrade=True) as opened:
        yield opened


class Killed(BaseException):
    """Stands for a process that is gone: nothing of ours catches it."""


class Steps:
    """Steps that note when they are done, and fail when they are told to."""

    def __init__(self):
        self.done, self.failing, self.heard = [], {}, {}

    def step(self, name, part="needed"):
        def run(stores, results):
            self.done.append(name)
            self.heard[name] = {key: dict(told) for key, told in results.items()}
            if name in self.failing:
                raise self.failing[name]
            return {"number": len(self.done), "report": f"{name}.html"}

        return Step(name, run, part)

    def request(self, **options):
        steps = (
            self.step("first"),
            self.step("told", "analysis"),
            self.step("proof", "validation"),
            self.step("last"),
        )
        return FlowRequest("data", {"dataset": "d"}, steps, **options)


@pytest.fixture
def steps():
    return Steps()


def states(summary):
    return {name: state for _, name, state, _, _ in summary.steps}


def test_every_step_is_done_in_order_and_hears_what_was_found(stores, steps):
    found = run_flow(stores, steps.request())

    assert (found.verdict, found.code) == ("PASS", None)
    assert steps.done == ["first", "told", "proof", "last"]
    assert set(states(found).values()) == {"PASS"}
    assert steps.heard["last"]["first"] == {"number": 1, "report": "first.html"}


def test_each_step_is_sealed_before_and_after_it_is_done(stores, steps):
    found = run_flow(stores, steps.request())

    entries = FlowLedger(stores.runtime.database).entries(found.flow_id)
    kinds = [(entry.kind, entry.payload.get("step")) for entry in entries]
    assert kinds[0] == ("BEGUN", None)
    assert kinds[1:3] == [("INTENT", "first"), ("OUTCOME", "first")]
    assert kinds[-1] == ("ENDED", None)
    assert len(kinds) == 10


def test_a_gate_ends_the_flow_with_its_code_and_the_next_run_goes_on_there(stores, steps):
    steps.failing["proof"] = GateFailure("LOOK_AHEAD", "sleeve", "it moved")
    failed = run_flow(stores, steps.request())
    assert (failed.verdict, failed.code) == ("FAIL", "LOOK_AHEAD")
    assert states(failed)["last"] == "PENDING"
    steps.failing.clear()

    found = run_flow(stores, steps.request())

    assert (found.flow_id, found.verdict) == (failed.flow_id, "PASS")
    assert steps.done == ["first", "told", "proof", "proof", "last"]


def test_what_is_no_gate_fails_with_a_code_as_well(stores, steps):
    steps.failing["first"] = DataError("nothing there")

    found = run_flow(stores, steps.request())

    assert (found.verdict, found.code) == ("FAIL", "FLOW_STEP_FAILED")
    assert found.steps[0][4] == "DataError: nothing there"


def test_a_step_that_was_cut_off_is_sealed_as_interrupted_and_done_again(stores, steps):
    steps.failing["proof"] = Killed()
    with pytest.raises(Killed):
        run_flow(stores, steps.request())
    (before,) = flow_statuses(stores)
    assert (before.verdict, states(before)["proof"]) == ("UNFINISHED", "RUNNING")
    rows, whole = audit_file(before.folder / "audit.jsonl")
    assert (rows[0][1:], whole) == (("OPEN", "step proof was begun and did not end"), False)
    steps.failing.clear()

    found = run_flow(stores, steps.request())

    assert (found.flow_id, found.verdict) == (before.flow_id, "PASS")
    assert steps.done == ["first", "told", "proof", "proof", "last"]
    assert audit_file(found.folder / "audit.jsonl")[1]
    entries = FlowLedger(stores.runtime.database).entries(found.flow_id)
    assert "INTERRUPTED" in [entry.payload.get("status") for entry in entries]


def test_analysis_and_validation_may_be_left_out(stores, steps):
    found = run_flow(stores, steps.request(skip_analysis=True, skip_validation=True))

    assert steps.done == ["first", "last"]
    assert states(found) == {"first": "PASS", "told": "SKIPPED", "proof": "SKIPPED", "last": "PASS"}


def test_a_flow_that_passed_is_begun_anew(stores, steps):
    first, second = (run_flow(stores, steps.request()) for _ in range(2))

    assert first.flow_id.rpartition("-")[2] == "1"
    assert second.flow_id.rpartition("-")[2] == "2"
    assert len(steps.done) == 8


def test_another_request_is_another_flow(stores, steps):
    first = run_flow(stores, steps.request())
    other = FlowRequest("data", {"dataset": "e"}, steps.request().steps)

    assert run_flow(stores, other).flow_id.rpartition("-")[0] != first.flow_id.rpartition("-")[0]


def test_a_start_step_takes_what_was_found_before_and_does_the_rest_again(stores, steps):
    run_flow(stores, steps.request())
    steps.done.clear()

    found = run_flow(stores, steps.request(start_step=4))

    assert steps.done == ["last"]
    assert states(found)["first"] == "SKIPPED"
    assert steps.heard["last"]["first"]["report"] == "first.html"


def test_a_start_step_repeats_what_passed_in_a_flow_that_failed(stores, steps):
    steps.failing["last"] = GateFailure("NO", "", "not yet")
    run_flow(stores, steps.request())
    steps.failing.clear()
    steps.done.clear()

    run_flow(stores, steps.request(start_step=2))

    assert steps.done == ["told", "proof", "last"]


def test_a_start_step_that_does_not_exist_is_refused(stores, steps):
    with pytest.raises(ConfigError, match="--start-step 5: expected one of 1 first, 2 told"):
        run_flow(stores, steps.request(start_step=5))


def test_two_equal_flows_have_one_chain(stores, tmp_path, steps):
    settings = Settings(
        tmp_path / "other", f"sqlite:///{tmp_path}/h2.db", f"sqlite:///{tmp_path}/r2.db"
    )
    with open_stores(settings, upgrade=True) as others:
        theirs = run_flow(others, Steps().request())
    ours = run_flow(stores, steps.request())

    logs = [(one.folder / "audit.jsonl").read_text() for one in (ours, theirs)]
    assert logs[0] == logs[1]


def test_nothing_goes_on_from_a_ledger_that_was_altered(stores, steps):
    steps.failing["last"] = GateFailure("NO", "", "not yet")
    run_flow(stores, steps.request())
    changed = (
        sa.update(events).where(events.c.kind == "OUTCOME").values(payload='{"status":"PASS"}')
    )
    with stores.runtime.database.writer() as connection:
        connection.execute(changed)

    with pytest.raises(StoreError, match="a ledger that was altered"):
        run_flow(stores, steps.request())


def test_one_process_at_a_time_works_on_a_flow(stores, steps):
    found = run_flow(stores, steps.request())
    base = found.flow_id.rpartition("-")[0]

    with alone(found.folder.parent / f".{base}.lock"), pytest.raises(StoreError, match="another"):
        run_flow(stores, steps.request())


@pytest.fixture
def ledger(stores, steps):
    return run_flow(stores, steps.request()).folder / "audit.jsonl"


def test_an_exported_ledger_proves_itself(ledger):
    rows, whole = audit_file(ledger)

    assert whole
    assert rows[0][:2] == (10, "ok")


def with_a_line_removed(lines):
    del lines[3]


def with_the_last_line_first(lines):
    lines.insert(0, lines.pop())


def with_a_changed_word(lines):
    lines[2] = lines[2].replace('"PASS"', '"FAIL"')


def with_the_first_line_removed(lines):
    del lines[0]


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        (with_a_line_removed, 4),
        (with_the_last_line_first, 1),
        (with_a_changed_word, 3),
        (with_the_first_line_removed, 1),
    ],
)
def test_a_ledger_that_was_altered_is_broken_there(ledger, change, entry):
    lines = ledger.read_text().splitlines()
    change(lines)
    ledger.write_text("\n".join(lines) + "\n")

    rows, whole = audit_file(ledger)

    assert not whole
    assert rows[0][:2] == (entry, "BROKEN")


def test_a_ledger_that_ends_within_a_step_is_open(ledger):
    ledger.write_text("\n".join(ledger.read_text().splitlines()[:4]) + "\n")

    assert audit_file(ledger) == ([(4, "OPEN", "step told was begun and did not end")], False)


def test_what_is_no_ledger_is_refused(ledger):
    ledger.write_text("")
    assert audit_file(ledger)[1] is False
    for text in ("no json\n", json.dumps({"kind": "BEGUN"}) + "\n"):
        ledger.write_text(text)
        with pytest.raises(StoreError, match="line 1: no"):
            audit_file(ledger)


def test_the_index_leads_to_what_was_made(stores, steps):
    found = run_flow(stores, steps.request())

    text = (found.folder / "INDEX.md").read_text()
    assert "**PASS**: phase data" in text
    assert "- [first](first.html)" in text
    home = (stores.settings.home / "INDEX.md").read_text()
    assert f"[{found.flow_id}](flows/{found.flow_id}/INDEX.md)" in home
