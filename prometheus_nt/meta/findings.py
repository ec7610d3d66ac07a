"""What the gates of a meta-portfolio find: a level, a code and what it is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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


def errors_of(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that fail."""
    return tuple(one for one in findings if one.level == "ERROR")
