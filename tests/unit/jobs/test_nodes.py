from dataclasses import replace

import pytest

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.nodes import node_file
from prometheus_nt.settings import Settings

NODE = """
sessions: {start: 2004-01-02}
data: {dataset: d}
sleeves: [{family: FAMILY, horizon: 21}]
"""


@pytest.fixture
def settings(tmp_path):
    for name, family in (("one", "US_LONG_SHORT_EQ"), ("layer", None), ("core", "US_CORE_LONG_EQ")):
        text = "seed: 3" if family is None else NODE.replace("FAMILY", family)
        (tmp_path / f"{name}.yaml").write_text(text)
    return replace(Settings.from_environment({}), config_dir=tmp_path)


def test_the_one_file_that_trades_a_strategy_is_its_node(settings):
    assert node_file(settings, "US_LONG_SHORT_EQ") == "one"
    assert node_file(settings, "US_CORE_LONG_EQ", ["US_EQ"]) == "core"


def test_of_several_the_one_with_the_strategys_name_is_its_node(settings):
    core = NODE.replace("FAMILY", "US_CORE_LONG_EQ")
    (settings.config_dir / "other.yaml").write_text(core)

    with pytest.raises(ConfigError, match=r"several files trade US_CORE_LONG_EQ.*core, other"):
        node_file(settings, "US_CORE_LONG_EQ")

    (settings.config_dir / "us_core_long_eq.yaml").write_text(core)
    assert node_file(settings, "US_CORE_LONG_EQ") == "us_core_long_eq"


@pytest.mark.parametrize(("strategy_id", "markets"), [("X", []), ("US_CORE_LONG_EQ", ["XX_EQ"])])
def test_a_strategy_without_a_file_is_refused(settings, strategy_id, markets):
    with pytest.raises(ConfigError, match=f"no file of the configuration folder.*{strategy_id}"):
        node_file(settings, strategy_id, markets)
