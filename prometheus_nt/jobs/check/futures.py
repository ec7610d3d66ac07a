"""Other futures of one history: equal to it up to a cut, different after it.

1. `cut_rows` chooses the cuts: spread over the history, and on the sessions where calendar
   mistakes show (the last of a week, month and year, and those just before);
2. `cuts_of` makes the histories of each cut with the functions of `FUTURES`.

What no future can show: facts that carry no date. The list of instruments, sectors without a
history and constants in the code are the same in every history, however they were chosen.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.panel import BAR_FIELDS, PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, SessionArray, content_hash
from prometheus_nt.domain.sectors import SectorHistory

REACH = 260
"""Rows kept after a cut: a year shows every leak, and the rest would only cost time."""

MIN_SESSIONS = 40
"""Below this there is no past to compare and no future to change."""

WALK, NOISE, MISSING, SHUFFLED, DROPPED = (
    "a random walk",
    "noise",
    "missing bars",
    "shuffled rows",
    "no rows",
)
"""What takes the place of the rows after a cut."""

Future = Callable[[MarketPanel, int, np.random.Generator], MarketPanel]


@dataclass(frozen=True, eq=False)
class Cut:
    """One history and its other futures: all agree on the rows up to and including `row`."""

    row: int
    honest: MarketPanel
    changed: Mapping[str, MarketPanel]

    @cached_property
    def as_of(self) -> date:
        session: date = self.honest.sessions[self.row].astype(object)
        return session


def cuts_of(
    panel: MarketPanel, rows: Sequence[int], kinds: Sequence[Sequence[str]], seed: int
) -> Iterator[Cut]:
    """Yield a cut for each of `rows`, its futures taken from `kinds` in turn."""
    for number, row in enumerate(rows):
        changed = {
            kind: FUTURES[kind](panel, row, np.random.default_rng([seed, row, position]))
            for position, kind in enumerate(kinds[number % len(kinds)])
        }
        yield Cut(row, panel, changed)


def cut_rows(sessions: SessionArray, count: int, first: int, last: int) -> list[int]:
    """Return up to `count` rows in [first, last], ascending and distinct.

    They are spread evenly, then moved on to the next session of a kind, each to another kind: a
    monthly figure that is known a session early shows on the session before a month's last, and
    nowhere else.

    Raises
    ------
    DataError
        If there are too few sessions to have a past and a future.
    """
    last = min(last, len(sessions) - 2)
    if len(sessions) < MIN_SESSIONS or last <= first:
        raise DataError(
            f"{len(sessions)} sessions, {max(0, last - first)} of them to choose cuts from, are "
            f"too few to change a future and compare a past; at least {MIN_SESSIONS} are needed"
        )
    kinds = _calendar_kinds(sessions)
    rows = []
    for number, row in enumerate(np.linspace(first, last, count).astype(int).tolist()):
        kind = kinds[number % len(kinds)]
        later = kind[(kind >= row) & (kind <= last)]
        rows.append(int(later[0]) if len(later) else row)
    return sorted(set(rows))


def random_walk(panel: MarketPanel, row: int, rng: np.random.Generator) -> MarketPanel:
    """Replace every field after `row` by plausible values, but for splits.

    The venue's share unit counts later splits (see `domain.units`), and an instrument that never
    trades again is delisted by the venue on a session of the past; both stay as they are, so that
    even orders must be the same to the share.
    """
    arrays = _later_copies(panel, row)
    later = slice(row + 1, len(arrays["close"]))
    shape = arrays["close"][later].shape
    gone = np.isnan(panel.close[row + 1 :]).all(axis=0)
    close = _last_closes(panel, row) * np.exp(
        np.cumsum(rng.standard_normal(shape) * 0.03 + rng.normal(0.0, 0.003, shape[1]), axis=0)
    )
    opens = close * np.exp(rng.standard_normal(shape) * 0.01)
    halted = (rng.random(shape) < 0.03) | gone
    # Whoever trades on must do so to the end, or the venue takes it for delisted.
    halted[-1] = gone
    drawn = {
        "open": opens,
        "high": np.maximum(opens, close) * 1.01,
        "low": np.minimum(opens, close) * 0.99,
        "close": close,
        "volume": rng.lognormal(13.0, 1.0, shape),
    }
    for name, values in drawn.items():
        arrays[name][later] = np.where(halted, np.nan, values)
    arrays["dividend"][later] = np.where(rng.random(shape) < 0.01, 0.5, 0.0)
    arrays["split"][-1] *= panel.split[len(arrays["split"]) :].prod(axis=0)
    return _history(panel, row, arrays, rng)


def noise(panel: MarketPanel, row: int, rng: np.random.Generator) -> MarketPanel:
    """Replace every field after `row` by values that no market has, some missing."""
    arrays = _later_copies(panel, row)
    shape = arrays["close"][row + 1 :].shape
    for name in BAR_FIELDS:
        values = rng.uniform(0.5, 500.0, shape)
        values[rng.random(shape) < 0.05] = np.nan
        arrays[name][row + 1 :] = values
    arrays["split"][row + 1 :] = rng.choice([1.0, 2.0, 0.1], shape)
    arrays["dividend"][row + 1 :] = rng.uniform(0.0, 5.0, shape)
    return _history(panel, row, arrays, rng)


def missing(panel: MarketPanel, row: int, rng: np.random.Generator) -> MarketPanel:
    """Let nothing trade after `row`: nobody survives."""
    arrays = _later_copies(panel, row)
    for name in BAR_FIELDS:
        arrays[name][row + 1 :] = np.nan
    arrays["split"][row + 1 :], arrays["dividend"][row + 1 :] = 1.0, 0.0
    return _history(panel, row, arrays, rng)


def shuffled(panel: MarketPanel, row: int, rng: np.random.Generator) -> MarketPanel:
    """Put the later rows in another order: each is plausible, the distribution is the same."""
    order = np.concatenate([np.arange(row + 1), row + 1 + rng.permutation(len(panel) - row - 1)])
    arrays = {name: getattr(panel, name)[order[: row + 1 + REACH]] for name in PANEL_FIELDS}
    return _history(panel, row, arrays, rng)


def dropped(panel: MarketPanel, row: int, rng: np.random.Generator) -> MarketPanel:
    """Return the history as it stood at the close of `row`."""
    arrays = {name: getattr(panel, name)[: row + 1].copy() for name in PANEL_FIELDS}
    return _history(panel, row, arrays, rng)


FUTURES: dict[str, Future] = {
    WALK: random_walk,
    NOISE: noise,
    MISSING: missing,
    SHUFFLED: shuffled,
    DROPPED: dropped,
}


def _calendar_kinds(sessions: SessionArray) -> list[IntArray]:
    """Return the rows of each kind of session; the first kind is any session."""
    days = sessions.astype("datetime64[D]").astype(np.int64)
    weeks = (days + 3) // 7  # day 0 of the epoch was a Thursday; weeks begin on Monday
    months = sessions.astype("datetime64[M]").astype(np.int64)
    week_ends = np.flatnonzero(np.diff(weeks))
    month_ends = np.flatnonzero(np.diff(months))
    year_ends = np.flatnonzero(np.diff(months // 12))
    anywhere = np.arange(len(sessions))
    return [anywhere, month_ends - 1, week_ends - 1, month_ends, week_ends, year_ends]


def _later_copies(panel: MarketPanel, row: int) -> dict[str, FloatArray]:
    stop = min(len(panel), row + 1 + REACH)
    return {name: getattr(panel, name)[:stop].copy() for name in PANEL_FIELDS}


def _last_closes(panel: MarketPanel, row: int) -> FloatArray:
    """Return the last known close of each instrument, (N,); 50 where there is none."""
    known = ~np.isnan(panel.close[: row + 1])
    newest = row - np.argmax(known[::-1], axis=0)
    last = panel.close[newest, np.arange(known.shape[1])]
    return np.where(known.any(axis=0), last, 50.0)


def _history(
    panel: MarketPanel, row: int, arrays: dict[str, Any], rng: np.random.Generator
) -> MarketPanel:
    rows = len(arrays["close"])
    return MarketPanel(
        sessions=panel.sessions[:rows].copy(),
        instruments=panel.instruments,
        # Other data, another fingerprint: whatever is seeded by it depends on later rows too.
        fingerprint=content_hash([panel.fingerprint, row, rng.random()]),
        sectors=panel.sectors,
        sector_history=_other_sectors(panel, row, rows, rng),
        membership=_other_membership(panel, row, rows, rng),
        facts=_other_facts(panel, row, rows, rng),
        **arrays,
    )


def _other_sectors(
    panel: MarketPanel, row: int, rows: int, rng: np.random.Generator
) -> SectorHistory | None:
    """Return the sectors known by `row`, and others for everybody from the next row on."""
    if panel.sector_history is None:
        return None
    known = panel.sector_history.until(panel.sessions[row])
    if rows == row + 1:
        return known
    return SectorHistory(
        np.append(known.since, panel.sessions[row + 1]),
        np.vstack([known.codes, rng.permutation(known.codes[-1])]),
        known.names,
    )


def _other_membership(
    panel: MarketPanel, row: int, rows: int, rng: np.random.Generator
) -> BoolArray | None:
    if panel.membership is None:
        return None
    membership = panel.membership[:rows].copy()
    membership[row + 1 :] = rng.random(membership[row + 1 :].shape) < 0.5
    return membership


def _other_facts(panel: MarketPanel, row: int, rows: int, rng: np.random.Generator) -> Facts | None:
    """Return the facts known by `row`, and later ones with other values if any rows are later."""
    if panel.facts is None:
        return None
    if rows == row + 1:
        return replace(panel.facts.until(panel.sessions[row].astype(object)), _cut=False)
    later = panel.facts.known_at > panel.sessions[row]
    values = np.where(later, rng.uniform(-1e9, 1e9, len(later)), panel.facts.value)
    return replace(panel.facts, value=values)
