"""Derived data of a dataset: computed from its panel, stored as files and as rows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from persistence.derived_store import CORRELATIONS, DerivedStore, Saved, Source
from prometheus_nt.domain.errors import ConfigError, InsufficientHistory
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.engines.features import TABLES, correlation_panel, derive_table
from prometheus_nt.engines.numerics.returns import log_total_returns
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.sessions import EVERY, first_of_each, view_of
from prometheus_nt.jobs.stores import Stores

Progress = Callable[[int, int, str], None]

LAST, ALL, NONE = "last", "all", "none"
KNOWN = (*TABLES, CORRELATIONS)


@dataclass(frozen=True)
class DeriveRequest:
    """What to derive.

    Attributes
    ----------
    features : tuple of names in `KNOWN`
    until : date or None
        Last session to use; None is the dataset's last.
    rows : `last`, `all`, `none` or a session in ISO format
        First session to have rows in SQL. Files hold every session in any case. What had rows
        before keeps them.
    correlations : `last`, `none`, or a key of `EVERY`
        After which sessions correlations are measured: the last one, or the first of each period.
    lookback : int
        Sessions of a correlation.
    """

    dataset_id: str
    features: tuple[str, ...] = KNOWN
    until: date | None = None
    rows: str = LAST
    correlations: str = LAST
    lookback: int = 63


def derive(stores: Stores, request: DeriveRequest, progress: Progress | None = None) -> list[Saved]:
    """Bring the derived data of a dataset up to date; done twice, nothing is written.

    What was made from the same data by the same code is not computed again.

    Raises
    ------
    ConfigError
        If a name or a choice is unknown, or the data end before what is stored.
    """
    _require_known(request)
    panel = view_of(stores, request.dataset_id, request.until)
    since = _since(request.rows, panel)
    store = derived_store(stores)
    saved = []
    tables = [name for name in TABLES if name in request.features]
    for done, name in enumerate(tables, start=1):
        source = _source(panel, request.dataset_id, name)
        found = store.unchanged(source, name, since)
        saved.append(found or store.save(derive_table(panel, name), source, since, progress))
        if progress is not None:
            progress(done, len(tables), name)
    if CORRELATIONS in request.features and request.correlations != NONE:
        saved.append(_correlations(store, panel, request, progress))
    return saved


def derived_store(stores: Stores) -> DerivedStore:
    """Return the derived data kept beside the other files of the home folder."""
    return DerivedStore(stores.historical.database, stores.settings.home)


def _correlations(
    store: DerivedStore, panel: MarketPanel, request: DeriveRequest, progress: Progress | None
) -> Saved:
    """Store the panels of the sessions asked for; those too early to have one are left out."""
    ends, written, begins = _ends(panel, request.correlations), 0, None
    for done, end in enumerate(ends, start=1):
        view = panel.until(end)
        try:
            measured = correlation_panel(view, request.lookback)
        except InsufficientHistory:
            if len(ends) == 1:
                raise
            continue
        window = view.derived(log_total_returns)[-request.lookback :]
        inputs = content_hash([code_hash(), view.instruments, window])
        written += store.save_correlations(request.dataset_id, measured, inputs)
        begins = begins or end
        if progress is not None:
            progress(done, len(ends), CORRELATIONS)
    return Saved(CORRELATIONS, written, 0, begins, written, str(store.matrices))


def _ends(panel: MarketPanel, choice: str) -> list[date]:
    if choice == LAST:
        return [panel.as_of]
    first: date = panel.sessions[0].astype(object)
    return first_of_each(panel, choice, first, panel.as_of)


def _source(panel: MarketPanel, dataset_id: str, name: str) -> Source:
    key = content_hash([code_hash(), name, panel.fingerprint, panel.as_of])
    return Source(dataset_id, panel.fingerprint, key)


def _since(rows: str, panel: MarketPanel) -> date | None:
    match rows:
        case "last":
            return panel.as_of
        case "all":
            first: date = panel.sessions[0].astype(object)
            return first
        case "none":
            return None
    try:
        return date.fromisoformat(rows)
    except ValueError:
        raise ConfigError(
            f"--rows: expected {LAST}, {ALL}, {NONE} or a date like 2020-01-31, found {rows!r}"
        ) from None


def _require_known(request: DeriveRequest) -> None:
    unknown = [name for name in request.features if name not in KNOWN]
    if unknown:
        raise ConfigError(f"--features: unknown {', '.join(unknown)}; known: {', '.join(KNOWN)}")
    choices = (LAST, NONE, *EVERY)
    if request.correlations not in choices:
        raise ConfigError(
            f"--correlations: expected one of {', '.join(choices)}, found {request.correlations!r}"
        )
