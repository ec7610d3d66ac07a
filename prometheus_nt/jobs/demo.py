"""The main job on bundled real data: databases, ingestion, a backtest, a report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.sample import SAMPLES
from prometheus_nt.jobs.applied import load_node
from prometheus_nt.jobs.backtest import Progress, RunSummary, run_backtest
from prometheus_nt.jobs.ingest import IngestReport, ingest
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

CONFIG = Path("configs/us_core_long_eq.yaml")


@dataclass(frozen=True)
class DemoResult:
    """What the demo ingested and ran."""

    ingests: list[IngestReport]
    runs: list[RunSummary]


def run_demo(
    settings: Settings,
    config_path: Path = CONFIG,
    *,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> DemoResult:
    """Run the demo; a second time it finds everything done and changes nothing."""
    config = load_node(settings, [config_path])
    with open_stores(settings, upgrade=True) as stores:
        ingests = []
        for dataset_id, load in SAMPLES.items():
            say(f"Ingesting {dataset_id}")
            ingests.append(ingest(load(), stores.historical, progress=progress))
        say(f"Backtesting {', '.join(sleeve.sleeve_id for sleeve in config.sleeves)}")
        return DemoResult(ingests, run_backtest(config, stores, progress=progress))
