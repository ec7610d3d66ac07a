"""Findings: what the gates of a meta-portfolio say, and what stands against believing a run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Level = Literal["ERROR", "WARN"]


@dataclass(frozen=True)
class Finding:
    """One thing that a gate found.

    Attributes
    ----------
    level : str
        One ERROR fails the whole.
    code : str
        What programs go by.
    subject : str
        The sleeve, run, atom or instrument it is about; "" if it is about the whole.
    message : str
        What was found, what was expected, and what to do.
    """

    level: Level
    code: str
    subject: str
    message: str


def error(code: str, subject: str, message: str) -> Finding:
    """Return a finding that fails the meta-portfolio."""
    return Finding("ERROR", code, subject, message)


def warning(code: str, subject: str, message: str) -> Finding:
    """Return a finding that a human should read."""
    return Finding("WARN", code, subject, message)


def screen_gap(sleeve_id: str, gap_bps: float | None, most_bps: float) -> Finding | None:
    """Return what to say of how far a run was from its screen; None if it was near.

    Parameters
    ----------
    gap_bps : float or None
        Basis points a year; None where there is no screen to compare with.
    """
    if gap_bps is None:
        found = "its screen failed where the run did not"
    elif gap_bps > most_bps:
        found = (
            f"its run is {gap_bps:,.2f} bps a year from its screen, at most {most_bps:g} expected"
        )
    else:
        return None
    advice = "the screens that chose what was run may have chosen others; widen screen.keep"
    return warning("SCREEN_GAP", sleeve_id, f"{found}: {advice}")


def errors_of(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that fail."""
    return tuple(one for one in findings if one.level == "ERROR")


class Severity(StrEnum):
    """How much a finding weighs; a veto keeps a run from being selected."""

    INFO = "INFO"
    WARN = "WARN"
    VETO = "VETO"

    @property
    def rank(self) -> int:
        """Larger is graver."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class RunFinding:
    """What stands against believing one run.

    Attributes
    ----------
    code : str
        What programs go by; a run has at most one of each.
    evidence : tuple of mappings
        Numbers, dates and names; plain values.
    remedy : str
        What to do about it; "" for what could not be answered.
    """

    code: str
    severity: Severity
    message: str
    evidence: tuple[Mapping[str, Any], ...]
    remedy: str

    def document(self) -> dict[str, Any]:
        """Return the finding as plain values; `run_finding` reads it back."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "evidence": [dict(row) for row in self.evidence],
            "remedy": self.remedy,
        }


def run_finding(told: Mapping[str, Any]) -> RunFinding:
    """Return the finding that `RunFinding.document` described."""
    return RunFinding(
        code=told["code"],
        severity=Severity(told["severity"]),
        message=told["message"],
        evidence=tuple(told["evidence"]),
        remedy=told["remedy"],
    )
