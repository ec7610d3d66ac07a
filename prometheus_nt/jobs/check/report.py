"""What a look-ahead check found about the engines and the sleeves of a node."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

Progress = Callable[[int, int, str], None]

COLUMNS = ("sleeve", "part", "compared", "verdict", "field", "as_of", "changed_after", "future")


@dataclass(frozen=True)
class Leak:
    """The first difference that another future made to what one part of a node said.

    part : a stage, a derived array, or a sleeve's orders, fills or books.
    as_of : session whose record moved, although only sessions after `cut` had changed.
    future : what took the place of those sessions.
    """

    part: str
    field: str
    as_of: date
    cut: date
    future: str


@dataclass(frozen=True)
class LookaheadReport:
    """How much of each part was compared, and the first leak of each part that leaks."""

    compared: dict[str, int] = field(default_factory=dict)
    leaks: dict[str, Leak] = field(default_factory=dict)

    def count(self, part: str, compared: int) -> None:
        """Add to what was compared of a part."""
        self.compared[part] = self.compared.get(part, 0) + compared

    def add(self, leak: Leak) -> None:
        """Keep the leak with the earliest session of its part."""
        known = self.leaks.get(leak.part)
        if known is None or leak.as_of < known.as_of:
            self.leaks[leak.part] = leak

    def verdict(self, part: str) -> str:
        """Return LEAK, ok, or that there was nothing to compare."""
        if part in self.leaks:
            return "LEAK"
        return "ok" if self.compared.get(part) else "nothing to compare"


def listing(reports: Mapping[str, LookaheadReport]) -> Iterator[tuple[Any, ...]]:
    """Yield one row of `COLUMNS` per sleeve and part."""
    for sleeve_id, report in reports.items():
        for part, compared in report.compared.items():
            leak = report.leaks.get(part)
            where = (leak.field, leak.as_of, leak.cut, leak.future) if leak else (None,) * 4
            yield (sleeve_id, part, compared, report.verdict(part), *where)
