"""Stored scenarios reach the fragility of a run, each from the session it was made on."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from persistence.tables import runtime as tables
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.engines.scenarios import path_losses
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.scenarios import (
    ScenarioRequest,
    generate_set,
    scenario_params,
    scenario_store,
)

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2005-01-03, end: 2005-06-30}
data: {dataset: sample_ohlcv}
sleeves: [{horizon: 5}]
persistence: {engine_rows: all}
engines:
  fragility: {scenario_set: fear}
  universe: {min_dollar_volume: 1000000}
  portfolio: {max_names: 2, max_weight: 0.5}
  risk: {max_abs_weight_per_name: 0.5}
gate: {max_position_weight: 0.6}
"""
FIRST, SECOND = date(2005, 2, 1), date(2005, 5, 2)


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    return load_config([Path(path)])


def _generate(stores, as_of, seed=0):
    settings = {"name": "fear", "category": "STRESSED", "horizon": 21, "paths": 60, "seed": seed}
    request = ScenarioRequest("sample_ohlcv", scenario_params(settings), as_of)
    return scenario_store(stores).load(generate_set(stores, request))


def _losses(stores, run_id):
    """Return the loss of each instrument by session; None where no set was seen."""
    table = tables.fragility_measures
    query = sa.select(table.c.as_of_date, table.c.entity_id, table.c.scenario_losses)
    found = {}
    with stores.runtime.database.reader() as connection:
        for as_of, name, losses in connection.execute(query.where(table.c.run_id == run_id)):
            found.setdefault(as_of, {})[name] = losses.get("fear")
    return found


def _worst(scenarios):
    worst = np.sort(path_losses(scenarios), axis=0)[:3].mean(axis=0)
    return dict(zip(scenarios.instruments, np.maximum(-worst, 0.0), strict=True))


def test_a_session_sees_the_newest_set_that_was_made_by_its_close_and_no_later_one(stores, node):
    first, second = _generate(stores, FIRST), _generate(stores, SECOND)
    _generate(stores, date(2006, 1, 3))

    (run,) = run_backtest(node, stores)

    losses = _losses(stores, run.run_id)
    assert min(losses) < FIRST < SECOND < max(losses)
    for as_of, of_names in losses.items():
        if as_of < FIRST:
            assert set(of_names.values()) == {None}, as_of
            continue
        expected = _worst(first if as_of < SECOND else second)
        assert of_names == pytest.approx({name: expected[name] for name in of_names})


def test_another_set_of_the_same_name_is_another_run(stores, node):
    _generate(stores, FIRST)
    (before,) = run_backtest(node, stores)
    _generate(stores, date(2006, 1, 3))
    (unseen,) = run_backtest(node, stores)
    _generate(stores, FIRST, seed=1)

    (after,) = run_backtest(node, stores)

    assert (unseen.run_id, unseen.cached) == (before.run_id, True)
    assert after.run_id != before.run_id


@pytest.mark.parametrize(
    ("made", "found"), [(None, "made: never"), (date(2006, 1, 3), "made: 2006-01-03")]
)
def test_a_set_that_no_session_could_see_is_refused(stores, node, made, found):
    if made is not None:
        _generate(stores, made)

    with pytest.raises(ConfigError) as refused:
        run_backtest(node, stores)

    message = str(refused.value)
    assert message.startswith("engines.fragility.scenario_set: no set 'fear' of dataset")
    assert found in message and "prometheus scenarios generate fear" in message
