"""`prometheus paper` at the command line."""

import json

import pytest
from typer.testing import CliRunner

from prometheus_nt.cli import app, main
from prometheus_nt.domain.errors import ConfigError

pytestmark = pytest.mark.integration

CONFIG = "configs/us_core_long_eq_ohlcv.yaml"
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
        ("live", (), "set venue to ib"),
        ("paper", ("--fast", "--set", "venue=ib"), "prometheus rehearse"),
        ("live", (*AT_BROKER, "--set", "ib.port=4001"), "LIVE_ACCOUNT"),
        ("live", AT_BROKER, "port of the other kind of account"),
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
    (comparison,) = json.loads(same.stdout)["comparisons"]
    assert (comparison["sessions"], comparison["differences"]) == (3, [])
    assert comparison["fills"] > 0
    assert other.exit_code == 1
    assert "REJECTED" in other.stdout
    assert "fault: reject AAPL" in other.stderr
    assert tolerated.exit_code == 0
