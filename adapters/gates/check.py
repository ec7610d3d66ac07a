"""Quality gates on the daily bars of one instrument: which rows are kept, and what was found.

The gates run in this order, each on the rows the ones before it kept. That a table has the columns
of daily bars at all, and that its cells are dates and numbers, its source has checked before.

1. `numbers`: a missing, infinite, zero or negative price; a negative volume.
2. `dates`: days that are no session of the market, and sessions that have not closed yet.
3. `bars`: high below low; an open or close outside the day's range (kept, with a warning).
4. `duplicates`: one session twice. Equal bars: the first is kept. Different bars: none is, for
   nobody can tell which is true.
5. `order`: dates that do not ascend (kept, with a warning; the caller sorts).
6. `impossible_returns`: adjusted prices that jump by more than a factor of six, or lose 99 %,
   against the last kept row.
7. `large_returns`: a change beyond 40 % that no action explains (kept, with a warning).
8. `stalls`: the same close for more than two weeks (kept with a warning, unless told otherwise).
9. `volume_spikes`: a volume ten standard deviations above its month (kept, with a warning).

A row with an ERROR is quarantined: left out and recorded. Nothing is dropped in silence. Staleness,
gaps, coverage and the disagreement of two sources need what is stored: `adapters.gates.health`.
"""

from collections.abc import Callable, Iterator

import numpy as np

from adapters.gates import moves, rows
from adapters.gates.case import Case, Finding, issues_of
from adapters.source import Issue, Severity
from prometheus_nt.domain.record import BoolArray

Gate = Callable[[Case, BoolArray], Iterator[Finding]]

GATES: tuple[Gate, ...] = (
    rows.numbers,
    rows.dates,
    rows.bars,
    rows.duplicates,
    rows.order,
    moves.impossible_returns,
    moves.large_returns,
    moves.stalls,
    moves.volume_spikes,
)


def check_prices(case: Case) -> tuple[BoolArray, list[Issue]]:
    """Return which rows of the table are kept, and everything that was found."""
    kept = np.ones(len(case.table), dtype=bool)
    issues: list[Issue] = []
    for gate in GATES:
        for finding in gate(case, kept.copy()):
            issues.extend(issues_of(case, finding))
            if finding.dropped:
                kept[finding.rows] = False
    if not kept.any():
        issues.append(_nothing_left(case))
    return kept, issues


def _nothing_left(case: Case) -> Issue:
    table = case.table
    return Issue(
        case.dataset_id,
        table.instrument_id,
        None,
        "no_good_row",
        Severity.ERROR,
        f"{len(table)} rows",
        f"{table.source_file}: no row of {len(table)} is usable; see the findings of its rows",
        table.source_file,
    )
