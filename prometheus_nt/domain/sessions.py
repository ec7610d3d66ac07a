"""The two moments of a trading day that everything else reacts to."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class SessionOpen:
    """The market has opened; `as_of` is still the session whose close is the newest one known."""

    as_of: date
    session: date


@dataclass(frozen=True)
class SessionClose:
    """The market has closed: `as_of` is the session that just ended."""

    as_of: date
