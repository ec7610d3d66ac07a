"""Read again what is broken in a dataset, from the source it was made from, and nothing else.

1. Audit the dataset: whoever is not OK, or has quarantined rows, is broken.
2. Rebuild the source from the dataset's origin; what it no longer offers cannot be repaired.
3. Ingest the broken instruments alone and whole, or a hole in the middle would stay; gates,
   revisions and findings work as in any ingest.
4. Audit again, so that what is healed is resolved, and say what changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from adapters.gates.health import Health, HealthParams, Verdict
from adapters.source import MarketDataSource
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.jobs.data import VENDOR_KINDS, SourceSpec, read_source, sources_of, spec_of
from prometheus_nt.jobs.health import Audit, audit, record
from prometheus_nt.jobs.ingest import Progress
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

REPAIR_COLUMNS = (
    *("instrument_id", "before", "after", "last_before", "last_after"),
    *("quarantined_before", "quarantined_after", "reason"),
)


@dataclass(frozen=True)
class Repaired:
    """One broken instrument; `after` is None in a dry run, and `reason` says what became of it."""

    before: Verdict
    after: Verdict | None
    reason: str

    def row(self) -> tuple[object, ...]:
        """Return the columns of `REPAIR_COLUMNS`."""
        after = self.after
        return (
            self.before.instrument_id,
            str(self.before.health),
            None if after is None else str(after.health),
            self.before.last,
            None if after is None else after.last,
            self.before.quarantined,
            None if after is None else after.quarantined,
            self.reason,
        )


@dataclass(frozen=True)
class RepairReport:
    """What a repair found and did.

    Attributes
    ----------
    repaired : tuple of Repaired
        Every broken instrument, by id.
    rows_written : int
        Bars and actions that were new or different.
    still_broken : int
        Instruments that are broken after it; of a dry run, those that it would read again.
    """

    dataset_id: str
    as_of: date | None
    dry_run: bool
    repaired: tuple[Repaired, ...]
    rows_written: int
    still_broken: int

    def summary(self) -> str:
        """Return what happened in a line."""
        if not self.repaired:
            return "nothing is broken"
        if self.dry_run:
            return f"{len(self.repaired)} instruments are broken; without --dry-run they are read"
        return (
            f"{len(self.repaired)} were broken, {self.still_broken} still are;"
            f" {self.rows_written:,} rows written"
        )


def repair(
    settings: Settings,
    dataset_id: str,
    params: HealthParams | None = None,
    *,
    as_of: date | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepairReport:
    """Read the broken instruments of a dataset again; a dry run only names them.

    Parameters
    ----------
    as_of : date, optional
        Session that the data should reach; the newest stored by default.

    Raises
    ------
    StoreError
        If there is no such dataset, or it does not remember its source.
    ConfigError
        If its source is gone.
    """
    params = params or HealthParams()
    with open_stores(settings) as stores:
        before = audit(stores.historical, dataset_id, params, as_of=as_of)
        broken = [verdict for verdict in before.verdicts if is_broken(verdict)]
        spec = spec_of(stores.historical.dataset(dataset_id))
        if dry_run or not broken:
            listed = tuple(Repaired(each, None, each.reason) for each in broken)
            return RepairReport(dataset_id, before.as_of, dry_run, listed, 0, len(broken))
        names = tuple(each.instrument_id for each in broken)
        with sources_of(settings, narrowed(spec, names), forgiving=True) as sources:
            source = source_of(sources, spec, dataset_id)
            offered = {each.instrument_id for each in source.instruments()}
            wanted = [name for name in names if name in offered]
            written, failure = _read_again(stores, source, spec, wanted, progress)
        after = audit(stores.historical, dataset_id, params, as_of=as_of or before.as_of)
        record(stores.historical, after, params)
    return _report(before, after, set(wanted), written, failure)


def is_broken(verdict: Verdict) -> bool:
    """Return whether an instrument is worth reading again."""
    return verdict.health is not Health.OK or verdict.quarantined > 0


def narrowed(spec: SourceSpec, names: tuple[str, ...]) -> SourceSpec:
    """Return the spec to look for these instruments in.

    A list of the vendor is asked for again, and all of it: what the dataset says of itself and of
    its instruments came with it, perhaps in parts.
    """
    if spec.kind not in VENDOR_KINDS:
        return spec
    if spec.index or spec.exchange:
        return replace(spec, limit=None, offset=0)
    return replace(spec, symbols=names)


def source_of(
    sources: Sequence[MarketDataSource], spec: SourceSpec, dataset_id: str
) -> MarketDataSource:
    """Return the source of a spec that makes this dataset; raise `ConfigError` if none does."""
    for source in sources:
        if source.info.dataset_id == dataset_id:
            return source
    raise ConfigError(f"{dataset_id}: its origin, {spec.kind}, makes no dataset of this name")


def _read_again(
    stores: Stores,
    source: MarketDataSource,
    spec: SourceSpec,
    wanted: list[str],
    progress: Progress | None,
) -> tuple[int, str]:
    """Return the rows written, and why nothing good came out if so."""
    if not wanted:
        return 0, ""
    try:
        chosen = replace(spec, symbols=tuple(wanted), whole=True)
        return read_source(stores, source, chosen, progress).rows_written, ""
    except DataError as nothing_good:
        # A source that is as broken as before is an answer; the audit that follows shows it.
        return 0, str(nothing_good)


def _report(
    before: Audit, after: Audit, wanted: set[str], written: int, failure: str
) -> RepairReport:
    now = {verdict.instrument_id: verdict for verdict in after.verdicts}
    repaired = []
    for each in filter(is_broken, before.verdicts):
        current = now.get(each.instrument_id)
        if each.instrument_id not in wanted:
            repaired.append(Repaired(each, current, "the source does not offer it any more"))
        elif current is None or is_broken(current):
            reason = failure or (current.reason if current is not None else "")
            repaired.append(Repaired(each, current, reason))
        else:
            repaired.append(Repaired(each, current, "repaired"))
    still = sum(is_broken(verdict) for verdict in after.verdicts)
    return RepairReport(before.dataset_id, after.as_of, False, tuple(repaired), written, still)
