"""What is similar: instruments, sessions, books, runs and paths, by one search over vectors."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from persistence import run_history
from prometheus_nt.domain.errors import ConfigError, DataError, InsufficientHistory, StoreError
from prometheus_nt.domain.market import ScenarioSet
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.encoders.joint import JointVectors
from prometheus_nt.encoders.numeric import WindowParams, WindowVectors, encode_windows
from prometheus_nt.encoders.portfolio_space import PortfolioFacts, portfolio_vectors
from prometheus_nt.encoders.profile_space import profile_vectors
from prometheus_nt.encoders.regime_space import market_outcomes, regime_vectors
from prometheus_nt.encoders.run_space import (
    MODEL_ID,
    RunFacts,
    environment_before,
    repeated_by,
    run_vectors,
)
from prometheus_nt.encoders.scenario_space import FIGURES, scenario_vectors
from prometheus_nt.encoders.similarity import Neighbour, nearest, weighted_outcome
from prometheus_nt.engines.profiles import ProfileParams, build_profiles
from prometheus_nt.engines.regime import RegimeParams
from prometheus_nt.engines.scenarios import require_known
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.scenarios import scenario_store
from prometheus_nt.jobs.stores import Stores, open_stores
from prometheus_nt.settings import Settings

HORIZON = 21
"""Sessions after a similar session over which the market's return is its outcome. It is also the
distance between two results, whose outcomes then do not overlap."""

EXCLUDED_SESSIONS = 63
"""Sessions just before the query that are left out: they share its windows, so they are near."""

OLDEST_BOOK = timedelta(days=100)
"""A book that was decided earlier is none of today's; the slowest sleeves decide quarterly."""

RUN_FIGURES = ("annualised_sharpe", "cagr", "max_drawdown")


@dataclass(frozen=True)
class SimilarReport:
    """What a search found, nearest first.

    Attributes
    ----------
    schema_id, content_id : str
        Names the coordinates of the vectors, and all the vectors that were compared.
    query : mapping
        What was asked for.
    expected : mapping of a figure to its mean over the neighbours, weighted by similarity, the
        standard error of that, and how many neighbours it is known of
    """

    space: str
    schema_id: str
    content_id: str
    query: dict[str, Any]
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    expected: dict[str, dict[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return everything as one nested document."""
        named = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        head = ("space", "schema_id", "content_id", "query", "expected")
        return {name: getattr(self, name) for name in head} | {"neighbours": named}


def similar_profiles(
    settings: Settings, dataset_id: str, instrument: str, as_of: date, top: int
) -> SimilarReport:
    """Return the instruments whose profiles at `as_of` were most like that of `instrument`.

    Raises
    ------
    ConfigError
        If the dataset has no such instrument.
    DataError
        If `as_of` is no session of it, or has too little history before it.
    """
    with open_stores(settings) as stores:
        panel = _panel_until(stores, dataset_id, as_of)
    _require_known("instrument", instrument, panel.instruments, f"dataset {dataset_id!r}")
    profiles = build_profiles(panel, ProfileParams())
    vectors = profile_vectors(profiles, _windows(panel), panel.sectors)
    found = nearest(vectors, vectors.row_of(instrument), top)
    sectors = panel.sectors or (None,) * len(panel.instruments)
    return _report(
        vectors,
        {"instrument": instrument, "dataset": dataset_id, "as_of": as_of},
        found,
        ("instrument_id", "sector"),
        [(item.entity_id, sectors[item.row]) for item in found],
    )


def similar_regimes(
    settings: Settings, dataset_id: str, as_of: date, top: int, excluded: int = EXCLUDED_SESSIONS
) -> SimilarReport:
    """Return the past sessions whose market was most like that of `as_of`, and what followed.

    Standardisation and outcomes use sessions up to `as_of` only.

    Raises
    ------
    DataError
        If `as_of` is no session of the dataset, or its features are not known yet.
    """
    with open_stores(settings) as stores:
        panel = _panel_until(stores, dataset_id, as_of)
    vectors = regime_vectors(panel, RegimeParams())
    query = len(panel) - 1
    if not vectors.known[query].any():
        lookback = RegimeParams().sessions_needed - RegimeParams().min_history
        raise InsufficientHistory(as_of, lookback, len(panel))
    allowed = np.arange(len(panel)) < query - excluded
    found = nearest(vectors, query, top, allowed, spacing=HORIZON)
    outcomes = market_outcomes(panel, HORIZON)
    label = f"market_return_{HORIZON}_sessions"
    return _report(
        vectors,
        {"dataset": dataset_id, "as_of": as_of, "excluded_sessions": excluded},
        found,
        ("session", label),
        [(item.entity_id, _known(outcomes[item.row])) for item in found],
        {label: outcomes},
    )


def similar_runs(
    settings: Settings, run: str, top: int, *, with_outcome: bool = False
) -> SimilarReport:
    """Return the completed runs most like `run` by configuration and the market before it began.

    Vectors are made anew each time: standardised by the runs there are, a stored one would be wrong
    with the next run, and the panels that they are made of are mapped from the cache.

    Of runs that repeat each other the newest stands for all, and `run` for those that repeat it:
    `reruns` counts the others. Their figures are shown and averaged, but only `with_outcome` lets
    them decide who is similar.

    Raises
    ------
    StoreError
        If no one run matches.
    DataError
        If the run did not complete, or all others repeat it.
    """
    with open_stores(settings) as stores:
        run_id = str(stores.runtime.find_run(run)["run_id"])
        stored = run_history.completed_runs(stores.runtime)
        environments = _environments(stores, stored)
    facts = [
        RunFacts(
            run_id=row["run_id"],
            config=row["config_json"],
            environment=environments[row["run_id"]],
            outcome=row["metrics_json"] or {},
            order_list_hash=row["order_list_hash"],
        )
        for row in stored
    ]
    _require_others("run", run_id, [item.run_id for item in facts], "completed result")
    facts, reruns = _without_reruns(
        facts, {row["run_id"]: row["created_at"] for row in stored}, run_id
    )
    _require_others("run", run_id, [item.run_id for item in facts], "result that is no re-run")
    vectors = run_vectors(facts, with_outcome=with_outcome)
    found = nearest(vectors, vectors.row_of(run_id), top)
    figures = {
        name: np.array([_number(item.outcome.get(name)) for item in facts]) for name in RUN_FIGURES
    }
    return _report(
        vectors,
        {
            "run_id": run_id,
            "model_id": MODEL_ID,
            "with_outcome": with_outcome,
            "reruns": reruns[run_id],
        },
        found,
        ("run_id", "reruns", *RUN_FIGURES),
        [
            (
                item.entity_id,
                reruns[str(item.entity_id)],
                *(_known(figures[name][item.row]) for name in RUN_FIGURES),
            )
            for item in found
        ],
        figures,
    )


def _environments(
    stores: Stores, runs: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Return the market before each run, by its id; each panel is read, and cut, once."""
    found: dict[tuple[str, str | None, int | str | None], MarketPanel | None] = {}
    known: dict[tuple[Any, ...], dict[str, float | None]] = {}
    environments = {}
    for run in runs:
        data = run["config_json"].get("data", {})
        source = (run["dataset_id"], data.get("index"), data.get("revision"))
        if source not in found:
            found[source] = _panel_or_none(stores, *source)
        at, panel = (*source, run["start_date"]), found[source]
        if at not in known:
            known[at] = {} if panel is None else environment_before(panel, run["start_date"])
        environments[run["run_id"]] = known[at]
    return environments


def _panel_or_none(
    stores: Stores, dataset_id: str, index: str | None, revision: int | str | None
) -> MarketPanel | None:
    try:
        return panel_of(stores, dataset_id, index, revision)
    except (DataError, StoreError):
        # Data that are kept no more leave the block of a run unknown, and every result says so.
        return None


def _without_reruns(
    facts: list[RunFacts], made: Mapping[str, datetime], run_id: str
) -> tuple[list[RunFacts], Counter[str]]:
    """Return one of all runs that repeat each other, and how many others each stands for."""
    newest = sorted(facts, key=lambda item: made[item.run_id], reverse=True)
    first = repeated_by(sorted(newest, key=lambda item: item.run_id != run_id))
    reruns = Counter(known for name, known in first.items() if known != name)
    return [item for item in facts if first[item.run_id] == item.run_id], reruns


def similar_scenarios(
    settings: Settings, instrument: str, as_of: date, name: str, dataset_id: str | None, top: int
) -> SimilarReport:
    """Return the paths of a scenario set that are most like what `instrument` went through.

    Compared are figures of its newest window, as long as the paths, with the same figures of its
    paths. The set must have been made by `as_of`; of several the newest is taken.

    Raises
    ------
    StoreError
        If there is no such set, or its name is that of sets of several datasets.
    LookAheadError
        If every set of the name was made from later data.
    ConfigError
        If the set has no such instrument.
    DataError
        If `as_of` is no session of its dataset, or too little is known of the window.
    """
    with open_stores(settings) as stores:
        dataset_id, scenarios = _newest_set(stores, name, dataset_id, as_of)
        panel = _panel_until(stores, dataset_id, as_of)
    _require_known("instrument", instrument, scenarios.instruments, f"scenario set {name!r}")
    _require_known("instrument", instrument, panel.instruments, f"dataset {dataset_id!r}")
    vectors, figures = scenario_vectors(panel, scenarios, instrument)
    found = nearest(vectors, 0, top)
    return _report(
        vectors,
        {
            "instrument": instrument,
            "as_of": as_of,
            "scenario_set": name,
            "made_on": scenarios.as_of,
            "sessions": scenarios.returns.shape[1],
            **dict(zip(FIGURES, map(_known, figures[0].tolist()), strict=True)),
        },
        found,
        ("path", *FIGURES),
        [(item.entity_id, *map(_known, figures[item.row].tolist())) for item in found],
    )


def _newest_set(
    stores: Stores, name: str, dataset_id: str | None, as_of: date
) -> tuple[str, ScenarioSet]:
    store = scenario_store(stores)
    newest = store.find(name, dataset_id=dataset_id)
    key = (newest["dataset_id"], name)
    sets = [row for row in store.rows() if (row["dataset_id"], row["name"]) == key]
    known = (row for row in sets if row["as_of_date"] <= as_of)
    scenarios = store.load(next(known, newest))
    require_known(scenarios, as_of)
    return key[0], scenarios


def similar_portfolios(settings: Settings, run: str, as_of: date, top: int) -> SimilarReport:
    """Return the newest target books of other runs at `as_of` that are most like that of `run`.

    Raises
    ------
    StoreError
        If no one run matches.
    DataError
        If the run, or no other run, had a book decided within 100 days before `as_of`.
    """
    with open_stores(settings) as stores:
        run_id = str(stores.runtime.find_run(run)["run_id"])
        stored = run_history.newest_books(stores.runtime, as_of - OLDEST_BOOK, as_of)
    books = [
        PortfolioFacts(
            portfolio_id=row["run_id"],
            as_of=row["as_of_date"],
            weights=row["target_positions"]["weights"],
            sectors=row["exposures_by_sector"] or None,
            risk=row["risk_metrics"]
            | {name: row[name] for name in ("gross_exposure", "net_exposure")},
        )
        for row in stored
    ]
    since = f"book decided from {as_of - OLDEST_BOOK} to --as-of {as_of}"
    _require_others("run", run_id, [book.portfolio_id for book in books], since)
    vectors = portfolio_vectors(books)
    query = vectors.row_of(run_id)
    found = nearest(vectors, query, top)
    return _report(
        vectors,
        {"run_id": run_id, "as_of": as_of, "decided_on": books[query].as_of},
        found,
        ("run_id", "decided_on", "names"),
        [(item.entity_id, books[item.row].as_of, len(books[item.row].weights)) for item in found],
    )


def _panel_until(stores: Stores, dataset_id: str, as_of: date) -> MarketPanel:
    panel = panel_of(stores, dataset_id)
    row = int(np.searchsorted(panel.sessions, np.datetime64(as_of, "D"), side="right")) - 1
    before = None if row < 0 else panel.sessions[row].astype(object)
    if before == as_of:
        return panel.until(as_of)
    first = panel.sessions[0]
    remedy = f"the last one before is {before}" if before else f"the first one is {first}"
    raise DataError(
        f"as_of: {as_of} is not a session of dataset {dataset_id!r} "
        f"({first} to {panel.as_of}); {remedy}"
    )


def _windows(panel: MarketPanel) -> WindowVectors | None:
    try:
        return encode_windows(panel, WindowParams())
    except DataError:
        # Too little history for a model is no reason to refuse what the profiles alone can say:
        # the block is missing, and every result says so.
        return None


def _require_known(what: str, name: str, known: Sequence[str], where: str) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else f"for example {known[0]!r}"
    raise ConfigError(f"{what}: {name!r} is not in {where}; {remedy}")


def _require_others(what: str, name: str, known: Sequence[str], kind: str) -> None:
    if name not in known:
        raise DataError(f"{what}: {name} has no {kind}; `prometheus show runs` lists the runs")
    if len(set(known)) < 2:
        raise DataError(f"{what}: no other run than {name} has a {kind}; make one to compare with")


def _report(
    vectors: JointVectors,
    query: dict[str, Any],
    found: list[Neighbour],
    columns: tuple[str, ...],
    rows: list[tuple[Any, ...]],
    outcomes: dict[str, FloatArray] | None = None,
) -> SimilarReport:
    """Return the report: similarities after the name, then by block, then what else is known."""
    blocks = [f"by_{block.name}" for block in vectors.space.blocks]
    weights = np.array([item.similarity for item in found])
    chosen = [item.row for item in found]
    return SimilarReport(
        space=vectors.space.name,
        schema_id=vectors.space.schema_id,
        content_id=vectors.content_id,
        query=query,
        columns=(columns[0], "similarity", "shared", *blocks, *columns[1:]),
        rows=[
            (row[0], item.similarity, item.shared_weight, *item.by_block.values(), *row[1:])
            for item, row in zip(found, rows, strict=True)
        ],
        expected={
            name: asdict(weighted_outcome(weights, values[chosen]))
            for name, values in (outcomes or {}).items()
        },
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
