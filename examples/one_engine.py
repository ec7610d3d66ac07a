"""One engine on real prices, without a venue: who was fragile before Lehman fell.

Run with: python examples/one_engine.py
"""

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.sample import sample_sp500
from prometheus_nt.domain.market import SoftTargetClass
from prometheus_nt.engines.stability import StabilityParams, measure_stability
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings


def main() -> None:
    """Ingest the sample, cut the panel at a date, and ask the stability engine."""
    with TemporaryDirectory() as home:
        settings = Settings.from_environment({"PROMETHEUS_HOME": str(Path(home))})
        with open_stores(settings, upgrade=True) as stores:
            ingest(sample_sp500(), stores.historical)
            panel = panel_of(stores, "sample_sp500").until(date(2008, 9, 12))

    state = measure_stability(panel, StabilityParams())

    print(f"as of {state.as_of}, most fragile first")
    for row in state.overall_score.argsort()[::-1]:
        label = SoftTargetClass(state.soft_target_class[row]).name
        print(f"{state.instruments[row]:<9}{state.overall_score[row]:6.1f}  {label}")


if __name__ == "__main__":
    main()
