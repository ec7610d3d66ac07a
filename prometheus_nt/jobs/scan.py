"""Scanners by file: layers of YAML, asked of a dataset as of one session or of many."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from math import isnan
from pathlib import Path
from typing import Any

from persistence.scan_rows import RecordedScan, reasons_of, record_scans
from prometheus_nt.domain.errors import ConfigError, EmptyScan
from prometheus_nt.domain.record import Params
from prometheus_nt.engines.scanner import (
    FilterParams,
    Scan,
    ScannerParams,
    SortParams,
    scan_panel,
)
from prometheus_nt.jobs.sessions import EVERY, first_of_each, view_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.yaml_models import read_yaml, validated

Progress = Callable[[int, int, str], None]

COLUMNS = ("as_of", "rank", "instrument_id", "score")
REJECTED = (*COLUMNS, "included", "failed")


class ScannerLayer(Params):
    """One file of a scanner: what it adds to, or sets over, the files named in `base`.

    base : files beside this one, the first below the others. Their filters all hold as well.
    """

    base: tuple[str, ...] = ()
    scanner_id: str | None = None
    description: str | None = None
    direction: str | None = None
    logic: str | None = None
    max_gap: int | None = None
    filters: tuple[FilterParams, ...] = ()
    sort: SortParams | None = None
    limit: int | None = None


@dataclass(frozen=True)
class ScanRequest:
    """What to scan: one session (None is the dataset's last), or the first of each period.

    start, end : days between which periods may begin; given together, instead of `as_of`.
    """

    dataset_id: str
    as_of: date | None = None
    start: date | None = None
    end: date | None = None
    every: str = "month"


def load_scanner(path: Path) -> ScannerParams:
    """Return the scanner of a file and of the files below it.

    Filters add up, lowest layer first; whatever else a higher layer sets replaces the lower one.
    A file that two layers share counts once.

    Raises
    ------
    ConfigError
        Naming the file and the field, or the circle in which files include each other.
    """
    merged: dict[str, Any] = {"filters": []}
    for layer in _layers(path, ()).values():
        given = layer.model_dump(exclude_unset=True, exclude={"base", "filters"})
        merged |= given
        filters = [item.model_dump(exclude_unset=True) for item in layer.filters]
        merged["filters"] = [*merged["filters"], *filters]
    return validated(ScannerParams, merged, str(path))


def scan(
    stores: Stores,
    params: ScannerParams,
    request: ScanRequest,
    progress: Progress | None = None,
) -> list[RecordedScan]:
    """Scan a dataset as it was known at each session asked for, and store who was selected.

    Done twice, nothing is written. Either every session is stored or none.

    Raises
    ------
    EmptyScan
        If nobody is selected at one of the sessions; nothing is stored then.
    NonSession, LookAheadError
        If `as_of` is no session of the market, or lies after the dataset's end.
    """
    found = []
    days = _sessions(stores, request)
    panel = view_of(stores, request.dataset_id, days[-1])
    for done, day in enumerate(days, start=1):
        scanned = scan_panel(panel.until(day or panel.as_of), params)
        _require_somebody(scanned)
        found.append(scanned)
        if progress is not None:
            progress(done, len(days), f"{params.scanner_id} {scanned.as_of}")
    return record_scans(stores.runtime.database, found, params, request.dataset_id)


def listing(
    recorded: list[RecordedScan], params: ScannerParams, *, rejected: bool = False
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return a row for each selected instrument, best first; or for all, with what they fail."""
    rows = [row for item in recorded for row in _rows(item.scan, params)]
    if rejected:
        return REJECTED, rows
    return COLUMNS, [row[: len(COLUMNS)] for row in rows if row[-2]]


def _rows(scanned: Scan, params: ScannerParams) -> Iterator[tuple[Any, ...]]:
    """Yield a row of `REJECTED` for each instrument, those that pass first and best first."""
    reasons, ranks = reasons_of(scanned, params), scanned.rank.tolist()
    for column in sorted(range(len(ranks)), key=lambda column: (ranks[column] < 0, ranks[column])):
        score = float(scanned.score[column])
        yield (
            scanned.as_of,
            ranks[column] + 1 if ranks[column] >= 0 else None,
            scanned.instruments[column],
            None if isnan(score) else score,
            bool(scanned.included[column]),
            reasons[column] or None,
        )


def _sessions(stores: Stores, request: ScanRequest) -> list[date | None]:
    if request.start is None and request.end is None:
        return [request.as_of]
    if request.start is None or request.end is None or request.as_of is not None:
        raise ConfigError("scan: give --as-of, or --start and --end together")
    if request.every not in EVERY:
        raise ConfigError(f"--every: expected {', '.join(EVERY)}, found {request.every!r}")
    panel = view_of(stores, request.dataset_id, None)
    return [*first_of_each(panel, request.every, request.start, request.end)]


def _require_somebody(scanned: Scan) -> None:
    if not scanned.included.any():
        raise EmptyScan(
            scanned.as_of, scanned.scanner_id, len(scanned.instruments), scanned.failures()
        )


def _layers(path: Path, above: tuple[Path, ...]) -> dict[Path, ScannerLayer]:
    """Return the layers of a file by their place, the lowest first."""
    place = path.resolve()
    if place in above:
        circle = " -> ".join(file.name for file in (*above[above.index(place) :], place))
        raise ConfigError(f"{path}: scanner files include each other: {circle}")
    layer = validated(ScannerLayer, _with_names(path, read_yaml(path)), str(path))
    layers: dict[Path, ScannerLayer] = {}
    for name in layer.base:
        layers |= _layers(path.parent / name, (*above, place))
    return layers | {place: layer}


def _with_names(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with `file: names.txt` of a filter replaced by the names in that file."""
    filters = content.get("filters")
    if not isinstance(filters, list):
        return dict(content)
    return {**content, "filters": [_named(path, item) for item in filters]}


def _named(path: Path, asked: Any) -> Any:
    if not isinstance(asked, dict) or "file" not in asked:
        return asked
    if "value" in asked:
        raise ConfigError(f"{path}: filters: give a value or a file of names, not both")
    names = path.parent / str(asked["file"])
    try:
        lines = names.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as unreadable:
        raise ConfigError(f"{path}: filters: {names} cannot be read: {unreadable}") from None
    return {key: value for key, value in asked.items() if key != "file"} | {"value": lines}
