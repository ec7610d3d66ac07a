"""Specs of jobs: strict, without a path, and settled on what files say when they are submitted."""

from pathlib import Path

import pytest
import yaml

from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.kind_work import WORK
from prometheus_nt.jobs.kinds import KINDS, node_of
from prometheus_nt.jobs.queue import list_kinds, priority_of, read_spec, with_files
from prometheus_nt.settings import Settings

NODE = Path("configs/us_core_long_eq_ohlcv.yaml")


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data" / "prices").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "out").symlink_to(tmp_path / "elsewhere")
    return Settings.from_environment({"PROMETHEUS_DATA_FOLDERS": f"vendor={tmp_path}/data"})


def settled(kind, settings, **spec):
    return read_spec(kind, spec).settled(settings)


def test_a_named_file_becomes_the_node_that_it_says_and_settles_no_further(settings):
    spec = settled(
        "backtest",
        settings,
        config=["us_core_long_eq_ohlcv"],
        overrides={"seed": 7, "engines.universe.min_price": 6.5},
        start="2004-01-02",
    )

    again = read_spec("backtest", spec.model_dump(mode="json")).settled(settings)

    direct = load_config(
        [NODE], ["seed=7", "engines.universe.min_price=6.5", "sessions.start=2004-01-02"]
    )
    sleeve = direct.sleeves[0]
    assert spec.config == () and spec.overrides == {}
    assert node_of(spec.given()).config_hash(sleeve) == direct.config_hash(sleeve)
    assert again == spec


def test_a_whole_node_needs_no_file(settings):
    node = yaml.safe_load(NODE.read_text())

    spec = settled("day", settings, node=node, as_of="2013-02-28")

    sleeve = load_config([NODE]).sleeves[0]
    assert node_of(spec.given()).config_hash(sleeve) == load_config([NODE]).config_hash(sleeve)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a/./b", ".hidden", ""])
def test_no_name_of_a_file_leads_out_of_its_folder(settings, name):
    for kind, spec in (
        ("backtest", {"config": [name]}),
        ("campaign", {"file": name}),
        ("campaign", {"campaign": {"base": name}}),
        ("ingest", {"source": "csv", "folder": "vendor", "file": name, "dataset": "mine"}),
    ):
        with pytest.raises(ConfigError):
            settled(kind, settings, **spec)


def test_a_link_that_leads_out_of_a_data_folder_is_refused(settings):
    inside = settled(
        "ingest", settings, source="csv", folder="vendor", file="prices", dataset="mine"
    )

    assert inside.source_spec(settings).path == settings.data_folders["vendor"] / "prices"
    with pytest.raises(ConfigError, match="file: 'out' leads out of its folder"):
        settled("ingest", settings, source="csv", folder="vendor", file="out", dataset="mine")


REFUSED = [
    ("backtest", {"confg": ["x"]}, "confg: unknown field; did you mean 'config'"),
    ("backtest", {}, "backtest: config: name a file"),
    ("backtest", {"config": ["nothing"]}, "config: no file 'nothing.yaml'; known: .*us_core"),
    ("backtest", {"config": ["us_core_long_eq"], "overrides": {"sed": 1}}, "sed: unknown field"),
    ("backtest", {"node": {"sleeves": []}}, "node: sleeves: "),
    ("day", {"config": ["us_core_long_eq"]}, "day: as_of: required, but not given"),
    ("campaign", {}, "give exactly one of file, campaign, plan, resume; given: none"),
    ("campaign", {"resume": "latest", "file": "x"}, "given: file, resume"),
    ("campaign", {"plan": {"config": {}}}, "plan: base, source: required"),
    ("campaign", {"resume": "latest", "workers": -1}, "workers: .*found -1"),
    ("ingest", {"source": "ftp"}, "source: .*found 'ftp'"),
    ("ingest", {"source": "csv", "dataset": "d"}, "folder: csv needs one; known: vendor"),
    ("ingest", {"source": "csv", "folder": "other"}, "unknown 'other'; known: vendor"),
    ("ingest", {"source": "eodhd", "folder": "vendor"}, "eodhd reads no folder; leave it out"),
    ("ingest", {"source": "csv", "symbols": ["../x"]}, "symbols.0: expected a symbol, such as"),
    ("scenario_set", {"dataset": "d", "params": {"name": "../x", "category": "NAMED"}}, "name:"),
    ("meta_rank", {}, "give either campaign, or strategy_id and as_of"),
    ("meta_rank", {"strategy_id": "S"}, "as_of: belongs to strategy_id"),
    ("compare", {"runs": ["a"]}, "runs: .*at least 2"),
    ("compare", {"runs": ["a", "configs.yaml"]}, "name runs, not files: configs.yaml"),
    ("report", {"run": "../../x"}, "run: expected a name"),
    ("derive", {"dataset": "d", "lookback": 1}, "lookback: .*found 1"),
    ("bactest", {}, "unknown kind of job 'bactest'; did you mean 'backtest'"),
    ("xyz", {}, "unknown kind of job 'xyz'; known: backtest, campaign"),
]


@pytest.mark.parametrize(("kind", "spec", "told"), REFUSED)
def test_a_mistake_in_a_spec_is_refused_by_field_and_remedy(settings, kind, spec, told):
    with pytest.raises(ConfigError, match=told):
        settled(kind, settings, **spec)


def test_files_of_this_machine_become_part_of_the_spec():
    node = with_files("backtest", {"force": True}, [NODE])
    plan = with_files("campaign", {}, [Path("configs/campaigns/us_core_grid.yaml")])

    assert node["force"] and node["node"]["data"]["dataset"] == "sample_ohlcv"
    assert plan["plan"]["config"]["campaign"] == "us_core_grid"
    assert with_files("report", {"run": "R"}, []) == {"run": "R"}
    with pytest.raises(ConfigError, match="kind 'report' takes no files; found 1"):
        with_files("report", {}, [NODE])


def test_every_kind_says_what_it_does():
    _, rows = list_kinds()

    assert [row[0] for row in rows] == list(KINDS)
    assert all(row[1].endswith((".", "`")) for row in rows)


def test_a_priority_has_a_name():
    assert [priority_of(name) for name in ("critical", "STANDARD")] == [1, 2]
    with pytest.raises(ConfigError, match="unknown priority 'high'; known: CRITICAL"):
        priority_of("high")


def test_data_folders_are_named_in_the_environment():
    found = Settings.from_environment({"PROMETHEUS_DATA_FOLDERS": "a=/x, b=/y/z"}).data_folders

    assert found == {"a": Path("/x"), "b": Path("/y/z")}
    with pytest.raises(ConfigError, match=r"expected name=/path.*'/x'"):
        Settings.from_environment({"PROMETHEUS_DATA_FOLDERS": "/x"})


def test_every_kind_has_its_work_and_all_work_is_of_a_kind():
    specs = [kind.spec for kind in KINDS.values()]

    assert len(set(specs)) == len(specs)
    assert set(specs) == set(WORK)
