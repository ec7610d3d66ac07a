"""The report of a run that trades: a backtest's folder and page, made while the run is open.

It is made anew when a node stops and, at the pace of the market, after each session; it says what a
reader of an open run must know first (`_caveats`). Nothing of trading waits for it or fails by it.
"""

import logging
from collections.abc import Mapping
from dataclasses import fields
from datetime import date
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from persistence.artifacts import Artifact, RunFolder
from persistence.live_mirror import LiveMirror
from persistence.panel_cache import settled_revision
from persistence.run_rows import artifact_rows, instant
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import PrometheusError
from prometheus_nt.jobs.backtest_market import RecordedMarket, benchmark_on
from prometheus_nt.jobs.backtest_record import order_list_hash, run_manifest
from prometheus_nt.jobs.findings import record_findings
from prometheus_nt.jobs.index import INDEX, run_index
from prometheus_nt.jobs.metadata import read_metadata
from prometheus_nt.jobs.paper_data import missing_bars
from prometheus_nt.jobs.paper_identity import run_facts
from prometheus_nt.jobs.paper_trader import PaperTrader
from prometheus_nt.jobs.report import REPORT, load_run_series, rewrite_report, write_report
from prometheus_nt.jobs.run_tables import write_run_tables
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.reporting.metrics import compute_metrics

SECONDS_APART = 300.0
"""Least time between two reports of a node that waits: a fast clock makes one, a day makes one."""

FEW_SESSIONS = 63

OPEN = "Open:"
"""What the first note of a run that trades begins with."""

log = logging.getLogger(__name__)


class ReportDesk:
    """Makes the reports of a node's runs when they are owed."""

    def __init__(self, config: NodeConfig, stores: Stores, traders: list[PaperTrader]) -> None:
        self._config, self._stores, self._traders = config, stores, traders
        self._made: dict[str, date] = {}
        self._made_at = monotonic()

    def when_due(self) -> None:
        """Make what is owed, unless the last time was a moment ago."""
        if monotonic() - self._made_at >= SECONDS_APART:
            self.make()

    def make(self) -> None:
        """Make the report of every run that has closed a session since its last one."""
        self._made_at = monotonic()
        for trader in self._traders:
            holdings = trader.node.mirror.holdings
            run_id = trader.identity.run_id
            if not holdings or self._made.get(run_id) == holdings[-1].as_of:
                continue
            try:
                write_paper_report(self._config, self._stores, trader)
            except PrometheusError as failure:
                # What trades is worth more than the page about it: the next one may succeed.
                log.warning("run=%s report not made: %s", run_id, failure)
            else:
                self._made[run_id] = holdings[-1].as_of


def write_paper_report(config: NodeConfig, stores: Stores, trader: PaperTrader) -> Path | None:
    """Write the folder of a run that trades, up to its last close; return where its page is.

    None before the first close, and while a session is open: its fills have no close yet.

    Raises
    ------
    PrometheusError
        If something that it needs cannot be read or written.
    """
    mirror, identity = trader.node.mirror, trader.identity
    if not _is_between_sessions(mirror):
        return None
    market, last = _market_seen(config, stores, trader), mirror.holdings[-1].as_of
    folder = RunFolder(stores.settings.runs_dir, identity.run_id)
    units, sectors = trader.node.feed.units, market.panel.sectors
    write_run_tables(folder, mirror, units, market.benchmark_levels(), sectors)
    facts = run_facts(config, trader.sleeve, identity, last)
    orders = order_list_hash(mirror)
    manifest = run_manifest(identity, facts, market, stores, orders, [])
    manifest["notes"] = [*_caveats(config, trader, market), *manifest["notes"]]
    folder.write_yaml("config.resolved.yaml", manifest["config"])
    folder.write_json("manifest.json", manifest)
    series = load_run_series(folder)
    metrics = compute_metrics(series)
    folder.write_json("statistics.json", metrics)
    findings = record_findings(stores, folder, series, market.panel)
    write_report(folder, series, metrics, findings)
    folder.write_text(INDEX, run_index(manifest, metrics, folder), "markdown")
    stores.runtime.write([artifact_rows(mirror.run.head, folder.written.values())])
    stores.runtime.set_metrics(identity.run_id, metrics)
    return folder.path / REPORT


def close_report(stores: Stores, run: Mapping[str, Any], how: str) -> Path | None:
    """Make the page of a run that has ended say so, from its files; None if it never had one.

    Parameters
    ----------
    run : mapping of the columns of its row
    how : str
        Who ended it and what was left, after the last close.

    Raises
    ------
    StoreError
        If a file of it is missing or cannot be written.
    """
    folder = RunFolder(stores.settings.runs_dir, run["run_id"])
    if folder.hash_of(REPORT) is None:
        return None
    manifest = folder.read_json("manifest.json")
    ended = f"Finished: this {run['mode'].lower()} run ended after the close of "
    ended += f"{manifest['end']}, {how}"
    notes = [note for note in manifest["notes"] if not note.startswith(OPEN)]
    folder.write_json("manifest.json", manifest | {"notes": [ended, *notes]})
    page = rewrite_report(folder)
    stored = {row["name"]: _artifact(row) for row in stores.runtime.artifacts(run["run_id"])}
    folder.written = stored | folder.written
    folder.write_text(INDEX, run_index(manifest, run["metrics_json"] or {}, folder), "markdown")
    head = (run["run_id"], run["mode"], run["strategy_id"])
    stores.runtime.write([artifact_rows(head, folder.written.values())])
    return page


def _artifact(row: Mapping[str, Any]) -> Artifact:
    return Artifact(**{one.name: row[one.name] for one in fields(Artifact)})


def _is_between_sessions(mirror: LiveMirror) -> bool:
    if not mirror.holdings:
        return False
    closed = mirror.holdings[-1].as_of
    return not mirror.fills or instant(mirror.fills[-1].ts_ns).date() <= closed


def _market_seen(config: NodeConfig, stores: Stores, trader: PaperTrader) -> RecordedMarket:
    """Return the market as the run saw it, which later corrections do not change."""
    seen, closed = trader.tape.panel(), trader.node.mirror.holdings[-1].as_of
    panel, first = seen.until(closed), trader.tape.first_row
    revision = settled_revision(stores.historical, config.data.dataset, None).revision
    benchmark = benchmark_on(config, stores, panel, revision)
    metadata = read_metadata(stores, panel)
    return RecordedMarket(panel, revision, benchmark, first, len(panel) - 1, metadata)


def _caveats(config: NodeConfig, trader: PaperTrader, market: RecordedMarket) -> list[str]:
    """Return what a reader must know of a run that is open, and traded what it could see."""
    mode, sessions = config.mode, len(trader.node.mirror.holdings)
    waiting = len(trader.node.mirror.open_orders())
    told = [
        f"{OPEN} this {mode} run trades on; these are its figures until the close of {market.end}, "
        f"no result. {waiting} orders wait.",
        f"Data: as they were when each session was traded; on {_incomplete(trader, market)}.",
    ]
    if config.venue != "sandbox":
        told.append(
            "Venue: the broker's own fills and commissions. The costs named below are those that a "
            "backtest of the same settings charges."
        )
    halted = len({session for session, _ in trader.switch.stopped})
    if halted:
        told.append(f"Halted: on {halted} of {sessions} sessions the kill switch held orders back.")
    if sessions < FEW_SESSIONS:
        told.append(
            f"Short: {sessions} sessions; what is said of a year rests on less than a quarter."
        )
    return told


def _incomplete(trader: PaperTrader, market: RecordedMarket) -> str:
    missing = missing_bars(market.panel, trader.tape.delisted()[0])[market.first :]
    short = np.flatnonzero(missing)
    if not short.size:
        return f"all {len(missing)} sessions every expected bar was there"
    worst = int(missing.argmax())
    return (
        f"{short.size} of {len(missing)} sessions an expected bar was missing, at worst "
        f"{missing[worst]} on {market.panel.sessions[market.first + worst]}"
    )
