"""`prometheus divergence` at the command line."""

import json

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from persistence.database import Database
from persistence.tables.runtime import fills
from prometheus_nt.cli import app
from prometheus_nt.cli.arguments import read_settings

pytestmark = pytest.mark.integration

CONFIG = "configs/us_core_long_eq_ohlcv.yaml"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def invoke(home):
    def run(*arguments):
        result = CliRunner().invoke(app, arguments, env={"PROMETHEUS_HOME": str(home)})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    run("data", "ingest", "sample")
    return run


def test_the_exit_code_says_whether_the_run_is_within_tolerance(invoke, home, monkeypatch):
    window = ("--fast", "--from", "2005-02-14", "--until", "2005-03-18")
    (run,) = json.loads(invoke("paper", CONFIG, *window, "--json").stdout)

    same = invoke("divergence", "latest", "--json")

    assert same.exit_code == 0
    assert run["run_id"] in same.stdout
    found = json.loads(same.stdout)
    assert (found["within"], found["identical"], found["made_backtest"]) == (True, True, True)
    assert found["orders"]["fills_same"] > 0

    # The backtest that was made for it is younger, and no run that traded.
    assert invoke("divergence", "latest", "--no-html").exit_code == 0
    monkeypatch.setenv("PROMETHEUS_HOME", str(home))
    database = Database.open(read_settings().runtime_url)
    with database.writer() as connection:
        dearer = sa.update(fills).where(fills.c.run_id == run["run_id"])
        connection.execute(dearer.values(commission=fills.c.commission + 1000.0))
    database.close()

    torn = invoke("divergence", run["run_id"], "--tolerance-bps", "5", "--no-html")

    # Neither cash nor equity was changed with the fills: the rows contradict each other.
    assert torn.exit_code == 1
    assert "COST" in torn.stdout
    assert "RESIDUAL" in torn.stdout
    assert "OUTSIDE 5 bps" in torn.stderr
