"""The recorded market of a backtest: panel, benchmark, metadata, and the rows that are traded.

`require_fitting` refuses what a dataset cannot honour, in every mode.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from persistence.panel_cache import load_series, settled_revision
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.market import SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.jobs.metadata import NodeMetadata, read_metadata
from prometheus_nt.jobs.panels import LoadPanel, node_panel
from prometheus_nt.jobs.scenarios import simulated_returns
from prometheus_nt.jobs.stores import Stores
from strategies.catalog import SleeveParams

BENCHMARK_PATIENCE = 5
"""Sessions over which a benchmark's last level may stand in for a missing one."""


@dataclass(frozen=True)
class RecordedMarket:
    """The recorded market of a node, and the rows of it that are traded."""

    panel: MarketPanel
    revision: int
    benchmark: FloatArray | None
    first: int
    last: int
    metadata: NodeMetadata

    def benchmark_levels(self) -> FloatArray | None:
        """Return the benchmark on the traded sessions, (last - first + 1,)."""
        return None if self.benchmark is None else self.benchmark[self.first : self.last + 1]

    @property
    def benchmark_hash(self) -> str:
        """The content hash of the benchmark on the traded sessions, also of there being none."""
        return content_hash([self.benchmark_levels()])

    @property
    def start(self) -> date:
        """The first session that is traded."""
        session: date = self.panel.sessions[self.first].astype(object)
        return session

    @property
    def end(self) -> date:
        """The last session that is traded."""
        session: date = self.panel.sessions[self.last].astype(object)
        return session


def recorded_market(config: NodeConfig, stores: Stores, load: LoadPanel | None) -> RecordedMarket:
    """Return the market of a node at the revision that it names, or the newest; `load` reads it."""
    wanted = config.data.revision
    revision = settled_revision(stores.historical, config.data.dataset, wanted).revision
    panel = node_panel(config, stores, revision, load)
    require_fitting(config, stores.historical.dataset(config.data.dataset), panel)
    metadata = read_metadata(stores, panel)
    benchmark = benchmark_on(config, stores, panel, revision)
    first, last = _traded_rows(config, panel)
    return RecordedMarket(panel, revision, benchmark, first, last, metadata)


def benchmark_on(
    config: NodeConfig, stores: Stores, panel: MarketPanel, revision: int
) -> FloatArray | None:
    """Return the levels of a node's benchmark on a panel's sessions; None if it has none."""
    if config.data.benchmark is None:
        return None
    dataset = config.data.benchmark_dataset or config.data.dataset
    same = dataset == config.data.dataset
    sessions, levels = load_series(
        stores.historical, dataset, config.data.benchmark, revision if same else None
    )
    return _aligned(panel, sessions, levels)


def require_fitting(config: NodeConfig, dataset: dict[str, Any], panel: MarketPanel) -> None:
    """Raise `ConfigError` for settings that this dataset and its panel cannot honour."""
    name = dataset["dataset_id"]
    if dataset["market_id"] != config.market:
        raise ConfigError(
            f"market: dataset {name!r} keeps the sessions of {dataset['market_id']}, "
            f"not of {config.market}"
        )
    for sleeve in config.sleeves:
        engines = config.engines_of(sleeve)
        universe = engines.universe
        if engines.risk.max_sector_weight is not None and not any(panel.sectors):
            raise ConfigError(
                f"engines.risk.max_sector_weight: dataset {name!r} knows no sector, so the cap "
                "would hold for the whole book; set it to null"
            )
        if universe.require_membership and config.data.index is None:
            raise ConfigError(
                "engines.universe.require_membership: of which index? set data.index to one that "
                f"dataset {name!r} keeps"
            )
        unknown = sorted(set(universe.exclude) - set(panel.instruments))
        if unknown:
            raise ConfigError(
                f"engines.universe.exclude: not in dataset {name!r}: {', '.join(unknown)}"
            )
        if universe.min_price is not None and dataset["adjustment"] == "TOTAL_RETURN":
            raise ConfigError(
                f"engines.universe.min_price: dataset {name!r} has adjusted closes only, so the "
                "price of the day is unknown; set it to null"
            )


def _traded_rows(config: NodeConfig, panel: MarketPanel) -> tuple[int, int]:
    calendar = MarketCalendar.of(config.market)
    begins, ends = panel.sessions[0].astype(object), panel.as_of
    start = config.sessions.start
    for field, day in (("start", start), ("end", config.sessions.end or ends)):
        calendar.require_covered(day, f"sessions.{field}")
    if not calendar.is_session(start):
        start = calendar.next_session(start)
    end = calendar.roll_back(config.sessions.end or ends)
    if end < start:
        raise ConfigError(
            f"sessions: {config.market} does not trade from {config.sessions.start} to "
            f"{config.sessions.end}; the next session is {start}"
        )
    if not begins <= start <= end <= ends:
        raise DataError(
            f"sessions: {start} to {end} is not inside dataset {config.data.dataset!r}, which has "
            f"{begins} to {ends}; change sessions.start or sessions.end"
        )
    rows = np.searchsorted(panel.sessions, np.array([start, end], dtype="datetime64[D]"))
    return int(rows[0]), int(rows[1])


def _aligned(panel: MarketPanel, sessions: np.ndarray, levels: FloatArray) -> FloatArray:
    aligned: FloatArray = np.full(len(panel), np.nan)
    rows = np.searchsorted(panel.sessions, sessions)
    inside = rows < len(panel)
    inside[inside] = panel.sessions[rows[inside]] == sessions[inside]
    aligned[rows[inside]] = levels[inside]
    for _ in range(BENCHMARK_PATIENCE):
        gap = np.flatnonzero(np.isnan(aligned[1:])) + 1
        aligned[gap] = aligned[gap - 1]
    return aligned


def visible_scenarios(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, end: date, stores: Stores
) -> tuple[SimulatedReturns, ...]:
    """Return the stored scenario sets that a sleeve's engines may see until `end`."""
    name = config.engines_of(sleeve).fragility.scenario_set
    if name is None:
        return ()
    return simulated_returns(stores, config.data.dataset, name, panel.instruments, end)
