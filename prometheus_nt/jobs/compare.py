"""Several finished runs on one page, made from their files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.run_history import runs_of_same_sessions
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.jobs.alpha import STORED, followed_scores
from prometheus_nt.jobs.applied import stored_node
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.comparison import FamilyQuality, render_comparison
from prometheus_nt.reporting.isolation import Isolation, isolate
from prometheus_nt.reporting.overlap import require_same_sessions
from prometheus_nt.reporting.series import RunSeries

COMPARISONS = "comparisons"
YAML = (".yaml", ".yml")


def compare_runs(stores: Stores, names: Sequence[str], to: Path | None = None) -> Path:
    """Write the page and return where it is.

    Parameters
    ----------
    names : sequence of str
        Run ids, their beginnings, or YAML files: the newest finished run of each of their sleeves.

    Raises
    ------
    ConfigError
        If there are fewer than two runs to compare.
    StoreError
        If a run is not known, did not finish, or its files are gone.
    DataError
        If the runs do not cover the same sessions.
    """
    given = runs_to_compare(stores, names)
    notes = [_folder(stores, row).read_json("manifest.json")["notes"] for row in given.rows]
    title = ", ".join(dict.fromkeys(run.strategy_id for run in given.series))
    alpha = [line for row in given.rows for line in _alpha(stores, row)]
    page = render_comparison(
        given.series,
        alpha,
        title,
        list(dict.fromkeys(note for each in notes for note in each)),
        given.tried,
        [_parts(stores, row, run) for row, run in zip(given.rows, given.series, strict=True)],
    )
    if to is not None:
        return _written(to, page)
    folder = RunFolder(
        stores.settings.home / COMPARISONS, "-".join(run.run_id[-6:] for run in given.series)
    )
    return Path(folder.write_text("comparison.html", page, "html").path)


@dataclass(frozen=True)
class Compared:
    """Finished runs to stand beside each other.

    tried : how many trials the families of these runs made on their sessions, these among them
    """

    rows: list[dict[str, Any]]
    series: list[RunSeries]
    tried: int


def runs_to_compare(stores: Stores, names: Sequence[str]) -> Compared:
    """Return the runs that `names` name, read from their files; raises as `compare_runs` does."""
    unique = chosen_runs(stores, names)
    series = [load_run_series(_folder(stores, row)) for row in unique]
    require_same_sessions(series)
    return Compared(unique, series, tried_by(stores, unique))


def chosen_runs(stores: Stores, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the finished runs that `names` name; raises as `compare_runs` does."""
    rows = [row for name in names for row in _runs(stores, name)]
    unique = list({row["run_id"]: row for row in rows}.values())
    if len(unique) < 2:
        raise ConfigError(
            f"compare: {len(unique)} run given; name at least two different ones, or a node's "
            f"file; given: {', '.join(names)}; {_beside(stores, unique)}"
        )
    unfinished = [row["run_id"] for row in unique if row["status"] != "COMPLETED"]
    if unfinished:
        raise StoreError(f"not completed, so nothing to compare: {', '.join(unfinished)}")
    return unique


def _folder(stores: Stores, run: dict[str, Any]) -> RunFolder:
    return RunFolder(stores.settings.runs_dir, run["run_id"])


def _parts(stores: Stores, row: dict[str, Any], run: RunSeries) -> Isolation:
    """Return what a run's choice and weights added to the pool of its own data."""
    manifest = _folder(stores, row).read_json("manifest.json")
    panel = panel_of(stores, manifest["dataset"], None, manifest["data_revision"])
    wanted = manifest["config"]["instruments"]
    panel = panel if wanted == "all" else panel.select(tuple(wanted))
    rows = np.searchsorted(panel.sessions, run.sessions)
    weights: FloatArray = np.zeros((len(run), len(panel.instruments)))
    columns = {name: column for column, name in enumerate(panel.instruments)}
    weights[:, [columns[name] for name in run.instruments]] = run.weights
    return isolate(weights, panel.derived(total_returns)[rows])


def tried_by(stores: Stores, runs: Sequence[dict[str, Any]]) -> int:
    """Return how many trials the families of these runs made on their sessions."""
    start = min(run["start_date"] for run in runs)
    end = max(run["end_date"] for run in runs)
    families = {run["strategy_id"] for run in runs}
    return sum(stores.trials.attempts(family, start, end) for family in families)


def _beside(stores: Stores, given: Sequence[dict[str, Any]]) -> str:
    """Return which finished runs could stand beside the one that was given."""
    others = [other for run in given for other in runs_of_same_sessions(stores.runtime, run)]
    if not others:
        return "no other run over the same sessions has finished; `prometheus backtest` makes runs"
    return f"over the same sessions finished: {', '.join(others)}"


def _alpha(stores: Stores, run: dict[str, Any]) -> Iterator[FamilyQuality]:
    for row in followed_scores(stores, run):
        found = dict(zip(STORED, row, strict=True))
        yield FamilyQuality(
            sleeve_id=found["sleeve"],
            **{field.name: found[field.name] for field in fields(FamilyQuality)[1:]},
        )


def _runs(stores: Stores, name: str) -> Iterator[dict[str, Any]]:
    if not name.endswith(YAML):
        yield stores.runtime.find_run(name)
        return
    config = stored_node(stores, [Path(name)])
    for sleeve in config.sleeves:
        yield stores.runtime.newest_run(sleeve.sleeve_id, config.config_hash(sleeve))


def _written(to: Path, page: str) -> Path:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(page, encoding="utf-8")
    except OSError as refused:
        raise StoreError(f"{to}: cannot be written: {refused}") from refused
    return to
