"""A phase of the production workflow as a flow: steps in order, each a gate that fails closed.

1. `run_flow` finds what the same request has begun and not passed, or begins anew (`_place`);
2. each step is sealed before it is done (INTENT) and after (OUTCOME), with what it found;
3. a step that does not pass ends the flow with its code; run it again to go on from there;
4. whatever came of it, the flow's folder tells: `audit.jsonl`, `flow.json` and `INDEX.md`.

What a killed process had begun and not ended is sealed as interrupted, and done again: every step
is a job that may be done twice.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from persistence.artifacts import RunFolder
from persistence.flows import Entry, FlowLedger, alone
from prometheus_nt.domain.errors import ConfigError, MetaFailure, PrometheusError
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.check.audit import INTENT, OUTCOME
from prometheus_nt.jobs.identity import code_hash, git_commit, package_versions
from prometheus_nt.jobs.index import write_home_index
from prometheus_nt.jobs.stores import Stores

BEGUN, ENDED = "BEGUN", "ENDED"
PASS, FAIL, SKIPPED, INTERRUPTED = "PASS", "FAIL", "SKIPPED", "INTERRUPTED"

STEP_FAILED = "FLOW_STEP_FAILED"
"""Code of what stops a step and is no gate of its own."""

log = logging.getLogger(__name__)

Results = Mapping[str, Mapping[str, Any]]
"""What each step that passed has found, by its name."""


class GateFailure(MetaFailure):
    """A gate of a flow does not pass."""


@dataclass(frozen=True)
class Step:
    """One step of a phase.

    Attributes
    ----------
    run : function of the stores and of what earlier steps found
        Returns plain values; whatever it raises fails the flow.
    part : str
        `analysis` and `validation` may be left out; what is `needed` may not.
    """

    name: str
    run: Callable[[Stores, Results], Mapping[str, Any]]
    part: str = "needed"


@dataclass(frozen=True)
class FlowRequest:
    """What is asked for.

    Attributes
    ----------
    phase : data, production or meta
    asked : mapping
        Plain values that the steps follow from; they are what makes two requests the same.
    start_step : int or None
        Do this step, counted from 1, and those after it, also where they have passed; those before
        it are not done, and what they found earlier is taken. None goes on where it stopped.
    """

    phase: str
    asked: Mapping[str, Any]
    steps: tuple[Step, ...]
    skip_analysis: bool = False
    skip_validation: bool = False
    start_step: int | None = None

    def skips(self, number: int) -> str | None:
        """Return why a step is left out; None if it is to be done."""
        part = self.steps[number - 1].part
        if part == "analysis" and self.skip_analysis:
            return "--skip-analysis"
        if part == "validation" and self.skip_validation:
            return "--skip-validation"
        before = self.start_step is not None and number < self.start_step
        return f"--start-step {self.start_step}" if before else None

    def again(self, number: int) -> bool:
        """Return whether a step is to be done again although it has passed."""
        return self.start_step is not None and number >= self.start_step


@dataclass(frozen=True)
class FlowSummary:
    """How far a flow is.

    Attributes
    ----------
    steps : tuple of (number, name, state, code, detail)
    """

    flow_id: str
    phase: str
    verdict: str
    code: str | None
    steps: tuple[tuple[int, str, str, str | None, str], ...]
    folder: Path


@dataclass
class _Place:
    """Where a flow is: what its ledger says, and what may be taken from flows before it."""

    flow_id: str
    entries: list[Entry] = field(default_factory=list)
    earlier: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def results(self) -> dict[str, Mapping[str, Any]]:
        return self.earlier | _results(self.entries)


def run_flow(
    stores: Stores, request: FlowRequest, tell: Callable[[str], None] | None = None
) -> FlowSummary:
    """Do the steps of a phase that have not passed; return how far it came.

    Raises
    ------
    ConfigError
        If there is no such step to start with.
    StoreError
        If another process works on it, or its ledger was altered.
    """
    if request.start_step is not None and not 1 <= request.start_step <= len(request.steps):
        names = ", ".join(f"{at} {one.name}" for at, one in enumerate(request.steps, start=1))
        raise ConfigError(f"--start-step {request.start_step}: expected one of {names}")
    base = f"{request.phase}-{content_hash([request.phase, dict(request.asked), code_hash()])[:12]}"
    with alone(flows_dir(stores) / f".{base}.lock"):
        ledger = FlowLedger(stores.runtime.database)
        place = _place(ledger, base)
        if not place.entries:
            _write(ledger, place, BEGUN, _genesis(request))
        _close_interrupted(ledger, place)
        try:
            _do(stores, ledger, place, request, tell)
        finally:
            _tell(stores, ledger, place)
    return summary_of(stores, place.flow_id, place.entries)


def flow_statuses(stores: Stores) -> list[FlowSummary]:
    """Return how far every flow is, the newest of each request last."""
    ledger = FlowLedger(stores.runtime.database)
    return [summary_of(stores, name, ledger.entries(name)) for name in ledger.known()]


def flows_dir(stores: Stores) -> Path:
    """Return where the folders of flows are."""
    return stores.settings.home / "flows"


def summary_of(stores: Stores, flow_id: str, entries: Sequence[Entry]) -> FlowSummary:
    """Return how far a flow is, by its ledger."""
    names = entries[0].payload["steps"]
    states: dict[str, tuple[str, str | None, str]] = {}
    for entry in entries:
        told = entry.payload
        if entry.kind == INTENT:
            states[told["step"]] = ("RUNNING", None, "")
        elif entry.kind == OUTCOME:
            detail = told.get("message") or _brief(told.get("found", {}))
            states[told["step"]] = (told["status"], told.get("code"), detail)
    last = entries[-1]
    return FlowSummary(
        flow_id=flow_id,
        phase=entries[0].payload["phase"],
        verdict=last.payload["verdict"] if last.kind == ENDED else "UNFINISHED",
        code=last.payload.get("code") if last.kind == ENDED else None,
        steps=tuple(
            (number, name, *states.get(name, ("PENDING", None, "")))
            for number, name in enumerate(names, start=1)
        ),
        folder=flows_dir(stores) / flow_id,
    )


def _place(ledger: FlowLedger, base: str) -> _Place:
    """Return the newest flow of a request unless it passed; else the next one, still empty."""
    known = [name for name in ledger.known() if name.rpartition("-")[0] == base]
    known.sort(key=lambda name: int(name.rpartition("-")[2]))
    earlier: dict[str, Mapping[str, Any]] = {}
    for name in known:
        entries = ledger.entries(name)
        if entries[-1].kind != ENDED or entries[-1].payload["verdict"] != PASS:
            return _Place(name, entries, earlier)
        earlier |= _results(entries)
    return _Place(f"{base}-{len(known) + 1}", [], earlier)


def _results(entries: Sequence[Entry]) -> dict[str, Mapping[str, Any]]:
    return {
        entry.payload["step"]: entry.payload["found"]
        for entry in entries
        if entry.kind == OUTCOME and entry.payload["status"] == PASS
    }


def _genesis(request: FlowRequest) -> dict[str, Any]:
    return {
        "phase": request.phase,
        "asked": dict(request.asked),
        "steps": [step.name for step in request.steps],
        "code_hash": code_hash(),
        "git_commit": git_commit(),
        "packages": package_versions(),
    }


def _close_interrupted(ledger: FlowLedger, place: _Place) -> None:
    last = place.entries[-1]
    if last.kind == INTENT:
        told = {"step": last.payload["step"], "status": INTERRUPTED}
        _write(ledger, place, OUTCOME, told)


def _do(
    stores: Stores,
    ledger: FlowLedger,
    place: _Place,
    request: FlowRequest,
    tell: Callable[[str], None] | None,
) -> None:
    """Do what is left of the steps, up to the first that does not pass, and end the flow."""
    passed = set(_results(place.entries))
    for number, step in enumerate(request.steps, start=1):
        if step.name in passed and not request.again(number):
            continue
        why = request.skips(number)
        if why is not None:
            _write(ledger, place, OUTCOME, {"step": step.name, "status": SKIPPED, "message": why})
            continue
        if tell is not None:
            tell(f"{number}/{len(request.steps)} {step.name}")
        outcome = _done(stores, ledger, place, step)
        if outcome["status"] != PASS:
            _write(ledger, place, ENDED, {"verdict": FAIL, "code": outcome["code"]})
            return
    _write(ledger, place, ENDED, {"verdict": PASS})


def _done(stores: Stores, ledger: FlowLedger, place: _Place, step: Step) -> Mapping[str, Any]:
    """Do a step between its two entries; return the second."""
    results = place.results()
    _write(ledger, place, INTENT, {"step": step.name, "inputs": content_hash([results])})
    try:
        told = {"step": step.name, "status": PASS, "found": _plain(step.run(stores, results))}
    except MetaFailure as failure:
        told = {"step": step.name, "status": FAIL, "code": failure.code, "message": str(failure)}
    except PrometheusError as failure:
        said = f"{type(failure).__name__}: {failure}"
        told = {"step": step.name, "status": FAIL, "code": STEP_FAILED, "message": said}
    _write(ledger, place, OUTCOME, told)
    log.info("flow=%s step=%s status=%s", place.flow_id, step.name, told["status"])
    return told


def _write(ledger: FlowLedger, place: _Place, kind: str, payload: Mapping[str, Any]) -> None:
    ledger.append(place.flow_id, kind, payload)
    place.entries.append(Entry(len(place.entries) + 1, kind, payload))


def _tell(stores: Stores, ledger: FlowLedger, place: _Place) -> None:
    """Write the flow's folder: its ledger, and how far it came."""
    folder = RunFolder(flows_dir(stores), place.flow_id)
    folder.write_text("audit.jsonl", "\n".join(ledger.lines(place.flow_id)) + "\n", "ledger")
    summary = summary_of(stores, place.flow_id, place.entries)
    folder.write_json("flow.json", {**place.entries[0].payload, **_document(summary)})
    folder.write_text("INDEX.md", _index(summary, place.results()), "markdown")
    write_home_index(stores)


def _document(summary: FlowSummary) -> dict[str, Any]:
    return {
        "flow_id": summary.flow_id,
        "verdict": summary.verdict,
        "code": summary.code,
        "states": [list(row) for row in summary.steps],
    }


def _index(summary: FlowSummary, results: Results) -> str:
    code = f" {summary.code}" if summary.code else ""
    lines = [
        f"# {summary.flow_id}",
        "",
        f"**{summary.verdict}**{code}: phase {summary.phase}",
        "",
        "| Step | Name | State | Code | What was found |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {number} | {name} | {state} | {code or ''} | {detail.replace('|', '/')} |"
        for number, name, state, code, detail in summary.steps
    ]
    links = [
        f"- [{name}]({told['report']})" for name, told in results.items() if told.get("report")
    ]
    files = ["- [audit.jsonl](audit.jsonl): the sealed ledger; `prometheus check audit` proves it"]
    return "\n".join([*lines, "", *files, *links, ""])


def _brief(found: Mapping[str, Any]) -> str:
    """Return the plain figures of an outcome in a line."""
    shown = (str, int, float)
    parts = [f"{name} {value}" for name, value in sorted(found.items()) if isinstance(value, shown)]
    return ", ".join(parts)[:200].replace("\n", " ")


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step found as it will be read again."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(found), default=str, allow_nan=False))
    return plain
