"""Several real runs on one page."""

from pathlib import Path

import pytest

from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError, StoreError
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.compare import compare_runs

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2004-01-02, end: 2005-12-30}
data: {dataset: sample_ohlcv}
sleeves: [{horizon: 5}, {horizon: 63}]
engines:
  universe: {min_dollar_volume: 1000000}
  portfolio: {max_names: 2, max_weight: 0.5}
  risk: {max_abs_weight_per_name: 0.5}
gate: {max_position_weight: 0.6}
"""


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    return path


def test_a_node_file_stands_for_the_newest_runs_of_its_sleeves(stores, node):
    runs = run_backtest(load_config([node]), stores)

    page = compare_runs(stores, [str(node)]).read_text(encoding="utf-8")

    assert all(run.sleeve_id in page for run in runs)
    assert "Books in common" in page
    parts = page.rpartition("Choice, weights and costs")[2].partition("By regime")[0]
    assert parts.count("US_CORE_LONG_EQ_H") == 2 and "n/a" not in parts
    by_id = compare_runs(stores, [run.run_id for run in runs], node.with_suffix(".html"))
    assert by_id.read_text(encoding="utf-8") == page


def test_a_node_that_was_not_run_says_what_to_do(stores, node):
    with pytest.raises(StoreError, match="US_CORE_LONG_EQ_H5: no finished run with"):
        compare_runs(stores, [str(node)])


def test_one_run_is_nothing_to_compare_but_says_what_could_stand_beside_it(stores, node):
    first, second = run_backtest(load_config([Path(node)]), stores)

    with pytest.raises(ConfigError, match="1 run given; name at least two") as refused:
        compare_runs(stores, [first.run_id, first.run_id])

    assert str(refused.value).endswith(f"; over the same sessions finished: {second.run_id}")


def test_a_run_that_nothing_can_stand_beside_says_so(stores, node):
    alone = load_config([Path(node)], ["sleeves=[{horizon: 5}]"])
    other = load_config([Path(node)], ["sleeves=[{horizon: 5}]", "sessions.end=2005-12-29"])
    run_backtest(other, stores)
    run_backtest(alone, stores)

    with pytest.raises(ConfigError) as refused:
        compare_runs(stores, ["latest"])

    assert str(refused.value) == (
        "compare: 1 run given; name at least two different ones, or a node's file; given: latest; "
        "no other run over the same sessions has finished; `prometheus backtest` makes runs"
    )
