"""Audit what is stored of a dataset: who is missing, stale, degraded or dropped, and why."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from adapters.gates.health import (
    Disagreement,
    Health,
    HealthParams,
    Holding,
    Verdict,
    coverage,
    disagreements,
    judge,
)
from adapters.source import Issue, Severity
from persistence.health import HealthStore
from persistence.historical import AUDIT, INGEST, HistoricalStore
from persistence.instruments import InstrumentStore
from persistence.panel_cache import load_panel
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

VERDICT_COLUMNS = (
    *("instrument_id", "status", "last", "age", "bars", "gaps", "quarantined", "warnings"),
    "reason",
)
FINDING_COLUMNS = (
    *("severity", "rule", "instrument_id", "trade_date", "value", "message"),
    *("found_by", "source_file", "source_row", "source_column"),
)
ALWAYS_FAIL = (Health.MISSING, Health.DROPPED)
STRICT_FAIL = (*ALWAYS_FAIL, Health.STALE, Health.DEGRADED)
MOST_FINDINGS = 100_000


@dataclass(frozen=True)
class Audit:
    """The health of a dataset at a session.

    Attributes
    ----------
    verdicts : tuple of Verdict
        One per instrument that was listed by then, by instrument id.
    received, expected : int
        Instruments with the bar of `as_of`, and those that should have it.
    refused : int
        Errors about no instrument: files that were refused for example.
    warnings : mapping
        Instrument id -> open warnings about it.
    compared : int or None
        Returns that were compared with another dataset; None if none was named.
    differing : int
        Those of them that differ.
    """

    dataset_id: str
    as_of: date | None
    verdicts: tuple[Verdict, ...]
    received: int
    expected: int
    refused: int
    warnings: Mapping[str, int]
    compared: int | None = None
    differing: int = 0

    def summary(self) -> dict[str, int]:
        """Return the number of instruments of each health."""
        counted = Counter(verdict.health for verdict in self.verdicts)
        return {str(health): counted[health] for health in Health}

    def failures(self, *, strict: bool = False) -> list[str]:
        """Return why the audit failed, in words; nothing if it passed."""
        if not self.verdicts:
            return [f"{self.dataset_id} has no instrument"]
        grave = STRICT_FAIL if strict else ALWAYS_FAIL
        counted = self.summary().items()
        found = [f"{count} {name}" for name, count in counted if name in grave and count]
        quarantined = sum(verdict.quarantined for verdict in self.verdicts) + self.refused
        if quarantined:
            found.append(f"{quarantined} findings of severity ERROR")
        if strict and self.differing:
            found.append(f"{self.differing} returns differ between the sources")
        return found

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what `rows` yields."""
        return VERDICT_COLUMNS

    def document(self) -> dict[str, Any]:
        """Return everything but the findings, for a program that reads."""
        names = ("dataset_id", "as_of", "received", "expected", "refused", "compared", "differing")
        instruments = [dict(zip(VERDICT_COLUMNS, row, strict=True)) for row in self.rows()]
        for listed, verdict in zip(instruments, self.verdicts, strict=True):
            listed["gaps"] = [asdict(gap) for gap in verdict.gaps]
        facts = {name: getattr(self, name) for name in names}
        return facts | {"summary": self.summary(), "instruments": instruments}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield one row of `VERDICT_COLUMNS` per instrument."""
        for each in self.verdicts:
            missing = sum(gap.sessions for gap in each.gaps)
            warned = self.warnings.get(each.instrument_id, 0)
            facts = (each.last, each.age, each.bars, missing, each.quarantined, warned)
            yield (each.instrument_id, str(each.health), *facts, each.reason)


def audit(
    store: HistoricalStore,
    dataset_id: str,
    params: HealthParams | None = None,
    *,
    as_of: date | None = None,
    now: datetime | None = None,
) -> Audit:
    """Return the health of a dataset at `as_of`, its newest stored session by default.

    Raises
    ------
    StoreError
        If there is no such dataset.
    DataError
        If the session of `as_of` has not closed.
    """
    params = params or HealthParams()
    calendar = MarketCalendar.of(store.dataset(dataset_id)["market_id"])
    session = audited_session(store, dataset_id, as_of, now or datetime.now(UTC))
    health = HealthStore(store.database)
    errors, warnings = _open_findings(health, dataset_id)
    refused = errors.get(None, 0)
    if session is None:
        members = health.holdings(dataset_id)
        holdings = [_holding(row, errors) for row in members]
        verdicts = tuple(judge(each, calendar, date.min, params) for each in holdings)
        return Audit(dataset_id, None, verdicts, 0, len(holdings), refused, warnings)
    holdings = held(health, dataset_id, calendar, session, errors)
    verdicts = tuple(judge(each, calendar, session, params) for each in holdings)
    received, expected = coverage(holdings, session, calendar)
    return Audit(dataset_id, session, verdicts, received, expected, refused, warnings)


def audited_session(
    store: HistoricalStore, dataset_id: str, as_of: date | None, now: datetime
) -> date | None:
    """Return the session of an audit: `as_of` or the one before it; by default the newest stored.

    None if nothing is stored and no day was named.
    """
    calendar = MarketCalendar.of(store.dataset(dataset_id)["market_id"])
    if as_of is None:
        lasts = [row["last_date"] for row in store.coverage(dataset_id)]
        return max((last for last in lasts if last is not None), default=None)
    session = calendar.roll_back(as_of)
    if calendar.close_time(session) > now:
        closed = calendar.sessions[calendar.closes_ns <= now.timestamp() * 1e9][-1]
        raise DataError(
            f"{session}: the session has not closed, so no bar of it can be there;"
            f" the newest that has is {closed}"
        )
    return session


def held(
    health: HealthStore,
    dataset_id: str,
    calendar: MarketCalendar,
    session: date,
    errors: Mapping[str | None, int] | None = None,
) -> list[Holding]:
    """Return what is stored up to `session` of every instrument that was listed by then.

    Those whose recorded listing had ended by then are delisted: no bar is expected of them.
    """
    known = InstrumentStore(health.database).read()
    found = []
    for row in health.holdings(dataset_id, session):
        if row["listed_on"] is not None and row["listed_on"] > session:
            continue
        ended = known.delisted_by(row["instrument_id"], session)
        holding = replace(_holding(row, errors or {}), delisted=ended)
        if holding.first is not None and holding.last is not None:
            # Reading the days costs a query: only where the count says that some are missing.
            expected = len(calendar.between(holding.first, holding.last))
            if expected != holding.bars:
                days = health.sessions(dataset_id, holding.instrument_id, session)
                holding = replace(holding, sessions=days)
        found.append(holding)
    return found


def check_dataset(
    settings: Settings,
    dataset_id: str,
    params: HealthParams,
    *,
    as_of: date | None = None,
    against: str | None = None,
    rule: str | None = None,
) -> tuple[Audit, list[dict[str, Any]]]:
    """Audit a dataset, record what was found, and return it with every open finding.

    Parameters
    ----------
    against : dataset id, optional
        Another dataset of the same instruments whose total returns should agree.
    rule : str, optional
        Return the findings of this rule only.
    """
    with open_stores(settings) as stores:
        store = stores.historical
        result = audit(store, dataset_id, params, as_of=as_of)
        differing: Sequence[Disagreement] = ()
        if against is not None:
            result, differing = _compared(store, settings.cache_dir, result, against, params)
        record(store, result, params, differing, against)
        findings = store.quality_events(dataset_id, MOST_FINDINGS, rule=rule)
    return result, [{name: event[name] for name in FINDING_COLUMNS} for event in findings]


def record(
    store: HistoricalStore,
    result: Audit,
    params: HealthParams,
    differing: Sequence[Disagreement] = (),
    against: str | None = None,
) -> None:
    """Make the audit's findings the open ones of a dataset; those no longer met are resolved.

    What a comparison has found is resolved by comparing the same two datasets again only.
    """
    issues = [issue for each in result.verdicts for issue in _issues(result, each, params)]
    _make_open(store, result.dataset_id, issues, AUDIT)
    if against is not None:
        issues = [_differs(result, each, against) for each in differing]
        _make_open(store, result.dataset_id, issues, _comparison_with(against))


def _make_open(
    store: HistoricalStore, dataset_id: str, issues: Sequence[Issue], finder: str
) -> None:
    found: dict[str | None, list[Issue]] = defaultdict(list)
    for issue in issues:
        found[issue.instrument_id].append(issue)
    known = HealthStore(store.database).open_findings(dataset_id)
    audited = {row["instrument_id"] for row in known if row["found_by"] == finder}
    for instrument_id in sorted(audited | set(found), key=str):
        facts = [
            asdict(issue) | {"severity": str(issue.severity)}
            for issue in found.get(instrument_id, [])
        ]
        store.write_quality_events(dataset_id, instrument_id, facts, found_by=finder)


def _comparison_with(dataset_id: str) -> str:
    """Return the name of a finder, in the 32 characters that the store has for it."""
    named = f"against {dataset_id}"
    return named if len(named) <= 32 else f"against {content_hash([dataset_id])}"


def _compared(
    store: HistoricalStore, cache_dir: Path, result: Audit, against: str, params: HealthParams
) -> tuple[Audit, list[Disagreement]]:
    if result.as_of is None or against == result.dataset_id:
        raise ConfigError(f"--against {against}: name another dataset, and ingest both first")
    ours, theirs = (load_panel(store, name, cache_dir) for name in (result.dataset_id, against))
    differing, compared = disagreements(ours, theirs, result.as_of, params.disagreement)
    if not compared:
        raise DataError(
            f"{result.dataset_id} and {against} have no session of an equity in common;"
            " compare datasets of the same instruments"
        )
    return replace(result, compared=compared, differing=len(differing)), differing


def _issues(result: Audit, verdict: Verdict, params: HealthParams) -> Iterator[Issue]:
    where = f"{result.dataset_id}, {verdict.instrument_id}, as of {result.as_of}"
    remedy = f"run `prometheus data repair {result.dataset_id}`"
    about = (result.dataset_id, verdict.instrument_id)
    if verdict.health in ALWAYS_FAIL:
        rule = f"{verdict.health.lower()}_instrument"
        message = f"{where}: {verdict.reason}; {remedy}"
        yield Issue(*about, result.as_of, rule, Severity.WARNING, "0 bars", message)
    if verdict.health is Health.STALE:
        message = f"{where}: {verdict.reason}; {remedy}"
        value = f"{verdict.age} sessions"
        yield Issue(*about, verdict.last, "stale", Severity.WARNING, value, message)
    for gap in verdict.gaps:
        if gap.sessions > params.tolerated_gap:
            value = f"{gap.sessions} sessions"
            message = f"{where}: no bar from {gap.first} to {gap.last} ({value}); {remedy}"
            yield Issue(*about, gap.first, "session_gap", Severity.WARNING, value, message)


def _differs(result: Audit, each: Disagreement, against: str) -> Issue:
    return Issue(
        result.dataset_id,
        each.instrument_id,
        each.session,
        "source_disagreement",
        Severity.WARNING,
        f"{each.ours:+.2%} against {each.theirs:+.2%}",
        f"{result.dataset_id}, {each.instrument_id}, {each.session}: returns {each.ours:+.2%},"
        f" {against} says {each.theirs:+.2%}; find out which of them lacks an action",
    )


def _open_findings(
    health: HealthStore, dataset_id: str
) -> tuple[dict[str | None, int], dict[str, int]]:
    """Return open errors and warnings of the ingest, by instrument."""
    errors: dict[str | None, int] = defaultdict(int)
    warnings: dict[str, int] = defaultdict(int)
    for row in health.open_findings(dataset_id):
        if row["found_by"] != INGEST:
            continue
        if row["severity"] == Severity.ERROR:
            errors[row["instrument_id"]] += row["findings"]
        elif row["instrument_id"] is not None:
            warnings[row["instrument_id"]] += row["findings"]
    return dict(errors), dict(warnings)


def _holding(row: Mapping[str, Any], errors: Mapping[str | None, int]) -> Holding:
    return Holding(
        row["instrument_id"],
        row["first_date"],
        row["last_date"],
        row["row_count"],
        quarantined=errors.get(row["instrument_id"], 0),
    )
