"""Check the engines and the sleeves of a configured node on its own data and settings."""

import numpy as np

from prometheus_nt.actors.pipeline import PIPELINE
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.check.engines import (
    ALL_SLEEVES,
    CUTS,
    KINDS,
    compare_derived,
    compare_engines,
)
from prometheus_nt.jobs.check.futures import cut_rows, cuts_of
from prometheus_nt.jobs.check.report import LookaheadReport, Progress
from prometheus_nt.jobs.check.sleeves import SLEEVE_SESSIONS, compare_sleeve
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.stores import Stores


def check_lookahead(
    config: NodeConfig,
    stores: Stores,
    *,
    cuts: int = CUTS,
    sleeve_sessions: int = SLEEVE_SESSIONS,
    progress: Progress | None = None,
) -> dict[str, LookaheadReport]:
    """Return the report of each sleeve of a node; see `check_node`."""
    panel = node_panel(config, stores)
    return check_node(config, panel, cuts=cuts, sleeve_sessions=sleeve_sessions, progress=progress)


def check_node(
    config: NodeConfig,
    panel: MarketPanel,
    *,
    cuts: int = CUTS,
    sleeve_sessions: int = SLEEVE_SESSIONS,
    progress: Progress | None = None,
) -> dict[str, LookaheadReport]:
    """Compare engines and sleeves at several cuts within the sessions that the node trades.

    Parameters
    ----------
    sleeve_sessions : int
        Sessions that each sleeve trades before each cut; 0 leaves the sleeves out.

    Raises
    ------
    DataError
        If the dataset has too few of those sessions.
    """
    engines = {sleeve.sleeve_id: config.engines_of(sleeve) for sleeve in config.sleeves}
    reports: dict[str, LookaheadReport] = {}
    rows = cut_rows(panel.sessions, cuts, *_traded_rows(config, panel))
    for done, cut in enumerate(cuts_of(panel, rows, KINDS, config.seed), start=1):
        compare_engines(cut, engines, PIPELINE, reports)
        if sleeve_sessions:
            for sleeve in config.sleeves:
                report = reports[sleeve.sleeve_id]
                compare_sleeve(cut, config, sleeve, sleeve_sessions, report)
        compare_derived(cut, reports.setdefault(ALL_SLEEVES, LookaheadReport()))
        if progress is not None:
            progress(done, len(rows), f"cut at {cut.as_of}")
    return reports


def _traded_rows(config: NodeConfig, panel: MarketPanel) -> tuple[int, int]:
    """Return the first row to cut at, an eighth into the traded sessions, and the last."""
    bounds = [config.sessions.start, config.sessions.end or panel.as_of]
    first, after = np.searchsorted(panel.sessions, np.array(bounds, dtype="datetime64[D]"))
    last = min(int(after), len(panel) - 1)
    return int(first) + (last - int(first)) // 8, last
