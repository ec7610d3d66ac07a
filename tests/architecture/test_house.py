"""The house's rules that no linter knows."""

import ast
from collections.abc import Iterator
from pathlib import Path

from persistence.mirror import MIRRORED
from prometheus_nt.actors.pipeline import PIPELINE
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.domain.panel import MarketPanel

PACKAGES = ("prometheus_nt", "strategies", "adapters", "persistence")


def _sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted(Path(package).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def _callers(name: str) -> set[str]:
    found = set()
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = node.func
                label = called.attr if isinstance(called, ast.Attribute) else None
                label = called.id if isinstance(called, ast.Name) else label
                if label == name:
                    found.add(path.as_posix())
    return found


def test_every_output_is_made_once_mirrored_and_has_settings():
    outputs = [stage.output for stage in PIPELINE]

    assert len(set(outputs)) == len(outputs)
    assert set(outputs) <= set(MIRRORED)
    assert {stage.name for stage in PIPELINE} == set(EnginesConfig.model_fields)


def test_every_input_is_the_panel_or_made_by_an_earlier_row():
    known = {MarketPanel}
    for stage in PIPELINE:
        assert set(stage.inputs) <= known, stage.name
        known.add(stage.output)

    assert PIPELINE[-1].output is TargetPortfolio


def test_only_the_risk_engine_makes_a_target_portfolio():
    assert _callers("TargetPortfolio") == {"prometheus_nt/engines/risk.py"}


def test_only_the_gate_approves_and_only_sleeve_and_router_submit():
    assert _callers("Approved") == {"strategies/gate.py"}
    assert _callers("submit_order") == {"strategies/sleeve.py", "prometheus_nt/venue/router.py"}


SEEDED = Path("prometheus_nt/engines/scenarios.py")
"""The one engine that draws random numbers, from a generator seeded by its own inputs."""


def test_engines_read_no_clock_and_draw_no_unseeded_random_numbers():
    clock, chance = {"now", "today", "time", "perf_counter"}, {"random", "default_rng"}
    for path, tree in _sources():
        if path.parts[:2] not in (("prometheus_nt", "engines"), ("prometheus_nt", "domain")):
            continue
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & (clock if path == SEEDED else clock | chance), path


def test_only_config_and_settings_read_the_environment():
    readers = set()
    for path, tree in _sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                readers.add(path.as_posix())

    assert readers == {"prometheus_nt/config.py", "prometheus_nt/settings.py"}
