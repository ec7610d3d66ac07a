"""A strategy in plain Python, and the proof that it does not read the future.

Run with: python examples/user_strategy.py
On any dataset: prometheus check lookahead --strategy examples/user_strategy.py:momentum --dataset D
"""

from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from adapters.sample import sample_sp500
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.check.strategies import check_strategy
from prometheus_nt.jobs.check.user_strategy import UserStrategy
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings


def momentum(panel: MarketPanel) -> np.ndarray:
    """Return weights, (sessions, instruments): each row is decided after that session's close."""
    close = pd.DataFrame(panel.close, index=panel.sessions, columns=panel.instruments)
    year = close.shift(21) / close.shift(252) - 1.0  # positive shifts look back
    ranks = year.rank(axis=1, pct=True)
    chosen = (ranks > 0.7).astype(float)
    return chosen.div(chosen.sum(axis=1), axis=0).to_numpy()


def momentum_with_returns(panel: MarketPanel) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and what they earned: each session on the weights of the one before."""
    weights = momentum(panel)
    held = pd.DataFrame(weights).shift(1).fillna(0.0)  # bought after the close, earning the next
    returns = pd.DataFrame(panel.close).pct_change(fill_method=None).fillna(0.0)
    return weights, (held * returns).sum(axis=1).to_numpy()


def main() -> None:
    """Check both on the bundled sample and say what was compared."""
    with TemporaryDirectory() as home:
        settings = Settings.from_environment({"PROMETHEUS_HOME": home})
        with open_stores(settings, upgrade=True) as stores:
            ingest(sample_sp500(), stores.historical)
            panel = panel_of(stores, "sample_sp500")
            for function in (momentum, momentum_with_returns):
                report = check_strategy(UserStrategy(function.__name__, function), panel, cuts=6)
                for change in report.changes.values():
                    print(f"{report.name:<22} {change.change:<24} {change.verdict}")


if __name__ == "__main__":
    main()
