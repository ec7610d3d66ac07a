"""Compare the finished runs of a strategy pair by pair: what one setting changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from persistence.campaigns import CampaignStore
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.diagnostics import Arm, Diagnosis, DiagnosisRules, Tested, diagnose
from prometheus_nt.meta.proposals import flattened
from prometheus_nt.reporting.series import simple_returns

MOST_RUNS = 300
"""Newest runs that are compared: pairs grow with their square."""

COLUMNS = (
    *("key", "old", "new", "regime", "sessions", "mean_annual", "low", "high"),
    *("improvement", "p_value", "corrected", "survives", "base", "changed", "why"),
)

SAME = ("market_id", "start_date", "end_date", "dataset_id", "data_fingerprint", "code_hash")
"""What must be the same for two runs to be a pair."""

NOT_SETTINGS = ("sessions",)
"""Of a resolved configuration: what `SAME` says already."""


@dataclass(frozen=True)
class Diagnosed:
    """The diagnosis of a strategy.

    Attributes
    ----------
    runs : how many were compared
    skipped : runs without a folder, and why
    """

    strategy_id: str
    runs: int
    skipped: tuple[tuple[str, str], ...]
    diagnosis: Diagnosis

    def rows(self) -> list[tuple[Any, ...]]:
        """Return `COLUMNS` of every test, the surest first, of whole records before regimes."""
        found = self.diagnosis
        return [
            self._row(one)
            for tests in (found.pairs, found.by_regime)
            for one in sorted(tests, key=_surest)
        ]

    def document(self) -> dict[str, Any]:
        """Return the diagnosis as plain values."""
        return {
            "strategy_id": self.strategy_id,
            "runs": self.runs,
            "rules": self.diagnosis.rules.model_dump(mode="json"),
            "tests": self.diagnosis.tests,
            "pairs": [dict(zip(COLUMNS, row, strict=True)) for row in self.rows()],
            "skipped": [{"run_id": run_id, "why": why} for run_id, why in self.skipped],
        }

    def _row(self, one: Tested) -> tuple[Any, ...]:
        told = asdict(one) | {
            "low": None if one.interval is None else one.interval.low,
            "high": None if one.interval is None else one.interval.high,
            "improvement": one.improvement,
            "survives": self.diagnosis.survives(one),
        }
        return tuple(told[name] for name in COLUMNS)


def diagnose_strategy(
    stores: Stores, strategy_id: str, rules: DiagnosisRules | None = None
) -> Diagnosed:
    """Return every matched pair among the newest finished backtests of a strategy.

    Raises
    ------
    StoreError
        If no run of the strategy is recorded.
    """
    if not stores.runtime.is_known(strategy_id):
        raise StoreError(
            f"{strategy_id}: no run of it is recorded; `prometheus show runs` lists them"
        )
    runs = CampaignStore(stores.runtime.database).finished_runs(strategy_id, date.max)[:MOST_RUNS]
    newest = {(run["config_hash"], *_scope(run)): run for run in reversed(runs)}
    arms, skipped = [], []
    for run in newest.values():
        try:
            arms.append(arm_of(stores, run))
        except StoreError as missing:
            skipped.append((run["run_id"], str(missing)))
    found = diagnose(arms, rules or DiagnosisRules())
    return Diagnosed(strategy_id, len(arms), tuple(skipped), found)


def arm_of(stores: Stores, run: Mapping[str, Any]) -> Arm:
    """Return a finished run as one side of a comparison.

    Raises
    ------
    StoreError
        If its folder is gone.
    """
    folder = RunFolder(stores.settings.runs_dir, run["run_id"])
    table, manifest = folder.read_table("equity.parquet"), folder.read_json("manifest.json")
    levels = np.concatenate(([float(manifest["starting_capital"])], table["equity"]))
    return Arm(
        run_id=run["run_id"],
        scope=_scope(run),
        settings=settings_of(run),
        returns=simple_returns(levels),
        regimes=table["regime"] if any(table["regime"]) else None,
    )


def settings_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved settings of a run by their dotted names."""
    config = run["config_json"]
    return flattened({key: config[key] for key in config if key not in NOT_SETTINGS})


def _scope(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(run[name] for name in SAME)


def _surest(one: Tested) -> tuple[float, str, str]:
    return (2.0 if one.corrected is None else one.corrected, one.key, one.regime)
