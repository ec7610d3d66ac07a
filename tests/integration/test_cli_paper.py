"""`prometheus paper` at the command line."""

import json

import pytest
from typer.testing import CliRunner

from prometheus_nt.cli import app, main
from prometheus_nt.domain.errors import ConfigError, StoreError

pytestmark = pytest.mark.integration

CONFIG = "configs/us_core_long_eq_ohlcv.yaml"
LIVE = ("--set", "mode=live")
AT_BROKER = ("--set", "venue=ib", "--set", "ib.account=U7654321")


@pytest.fixture(scope="module")
def invoke(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")

    def run(*arguments):
        result = CliRunner().invoke(app, arguments, env={"PROMETHEUS_HOME": str(home)})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    run("data", "ingest", "sample")
    return run


def test_a_rehearsal_tells_each_session_and_lists_as_paper(invoke):
    window = ("--fast", "--from", "2005-02-14", "--until", "2005-02-18")

    told = invoke("paper", CONFIG, *window)
    again = invoke("paper", CONFIG, "--fast", "--until", "2005-02-22", "--json")

    lines = [line for line in told.stderr.splitlines() if " equity " in line]
    assert [line[:10] for line in lines] == [
        *("2005-02-14", "2005-02-15", "2005-02-16", "2005-02-17", "2005-02-18")
    ]
    (run,) = json.loads(again.stdout)
    assert (run["start"], run["last"]) == ("2005-02-14", "2005-02-22")
    assert (run["sessions"], run["new_sessions"]) == (6, 1)
    orders = json.loads(invoke("show", "orders", "--mode", "PAPER", "--json").stdout)
    assert orders
    assert {order["mode"] for order in orders} == {"PAPER"}
    assert json.loads(invoke("show", "orders", "--mode", "BACKTEST", "--json").stdout) == []
    (shown,) = json.loads(invoke("show", "runs", "--mode", "PAPER", "--json").stdout)
    assert (shown["run_id"], shown["status"]) == (run["run_id"], "STOPPED")


def test_a_start_outside_the_data_is_an_error_that_says_so(invoke):
    from prometheus_nt.domain.errors import DataError

    with pytest.raises(DataError, match="--from: 2024-01-02 does not follow on dataset"):
        invoke("paper", CONFIG, "--fast", "--from", "2024-01-02")


def test_a_span_that_ends_before_it_begins_starts_no_run(invoke):
    before = invoke("show", "runs", "--mode", "PAPER", "--json").stdout

    with pytest.raises(ConfigError, match=r"--until: 2005-02-14 lies before --from, 2005-02-15"):
        invoke("paper", CONFIG, "--fast", "--from", "2005-02-15", "--until", "2005-02-14")

    assert invoke("show", "runs", "--mode", "PAPER", "--json").stdout == before


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("engines.fragility.scenario_set=crises", "engines.fragility.scenario_set"),
        ("data.revision=1", "data.revision"),
    ],
)
def test_what_a_paper_run_would_do_without_is_refused(
    tmp_path, monkeypatch, capsys, setting, named
):
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "home"))
    config = "configs/us_core_long_eq_ohlcv.yaml"
    monkeypatch.setattr("sys.argv", ["prometheus", "paper", config, "--fast", "--set", setting])

    with pytest.raises(SystemExit) as end:
        main()

    assert end.value.code == 1
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "settings", "named"),
    [
        ("live", (), "the first key is the line `mode: live`"),
        ("live", LIVE, "set venue to ib"),
        ("paper", ("--fast", "--set", "venue=ib"), "prometheus rehearse"),
        ("live", (*LIVE, *AT_BROKER), "PROMETHEUS_LIVE_KEY: is not set"),
        ("paper", AT_BROKER, "no paper account"),
    ],
)
def test_a_broker_is_not_traded_at_by_accident(invoke, command, settings, named):
    with pytest.raises(ConfigError, match=named) as refused:
        invoke(command, CONFIG, *settings)

    assert "7654321" not in str(refused.value)


def test_a_rehearsal_says_what_differs_and_fails(invoke):
    window = ("--start", "2006-01-03", "--end", "2006-01-05")

    same = invoke("rehearse", CONFIG, *window, "--json")
    other = invoke("rehearse", CONFIG, *window, "--fault", "reject:code=201")
    tolerated = invoke(
        *("rehearse", CONFIG, *window, "--fault", "reject:code=201", "--tolerance-bps", "10000")
    )

    assert same.exit_code == 0
    (report,) = json.loads(same.stdout)["reports"]
    assert report["identical"]
    assert report["orders"]["fills_same"] > 0
    assert other.exit_code == 1
    assert "fault: reject" in other.stderr
    assert "AAPL" in other.stdout
    assert tolerated.exit_code == 0


@pytest.fixture
def traded(invoke):
    window = ("--fast", "--from", "2005-02-14", "--until", "2005-02-22")
    (run,) = json.loads(invoke("paper", CONFIG, *window, "--json").stdout)
    return run


@pytest.mark.usefixtures("traded")
def test_a_misspelt_sleeve_is_not_halted_unless_it_is_meant(invoke):
    with pytest.raises(ConfigError, match=r"did you mean US_CORE_LONG_EQ_H21\?.*--force"):
        invoke("halt", "US_CORE_LONG_EQ_H12", "--reason", "drill")
    with pytest.raises(ConfigError, match="known: US_CORE_LONG_EQ_H21;"):
        invoke("halt", "NOPE", "--reason", "drill")
    before = json.loads(invoke("halt", "--list", "--json").stdout)

    forced = invoke("halt", "SOON_H5", "--reason", "not before Monday", "--force", "--json")

    (after,) = json.loads(forced.stdout)
    assert [each["scope"] for each in before] == ["ALL"]
    assert (after["scope"], after["state"]) == ("SOON_H5", "HALTED")


@pytest.mark.usefixtures("traded")
def test_a_preview_under_a_halt_says_so_once(invoke, caplog):
    invoke("halt", "--all", "--reason", "drill")
    caplog.clear()

    with caplog.at_level("WARNING", "prometheus_nt.jobs.paper_switch"):
        invoke("preview", CONFIG, "--set", "sessions.end=2005-03-04", "--json")

    invoke("arm", "--all", "--reason", "over", "--confirm", "ALL")
    said = [one.message for one in caplog.records if one.name.endswith("paper_switch")]
    assert len(said) == 1
    assert "from here on: ALL" in said[0]


def test_a_changed_node_and_the_way_out_at_the_command_line(invoke, traded):
    wider = ("paper", CONFIG, "--fast", "--set", "engines.portfolio.max_weight=0.4")
    with pytest.raises(ConfigError, match=f"prometheus finish {traded['run_id']}"):
        invoke(*wider)

    ending = ("finish", traded["run_id"], "--reason", "wider names", "--json")
    (ended,) = [json.loads(invoke(*ending).stdout)]
    window = ("--from", "2005-02-14", "--until", "2005-02-15", "--json")
    (changed,) = json.loads(invoke(*wider, *window).stdout)

    assert ended["run_id"] == traded["run_id"] != changed["run_id"]
    assert ended["reason"] == "wider names"
    with pytest.raises(ConfigError, match=r"run: .* was finished after .* already; `prometheus"):
        invoke(*ending)
    with pytest.raises(StoreError, match=r"no run matches 'nope'; `prometheus show runs` lists"):
        invoke("finish", "nope")
    shown = json.loads(invoke("show", "runs", "--mode", "PAPER", "--json").stdout)
    assert {run["run_id"]: run["status"] for run in shown} == {
        traded["run_id"]: "FINISHED",
        changed["run_id"]: "STOPPED",
    }
    report = invoke("report", changed["run_id"], "--json")
    assert json.loads(report.stdout)["report"].endswith("report.html")
