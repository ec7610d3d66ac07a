"""The search for what is similar, from the command line and on the bundled real data."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml

from persistence.tables.runtime import backtest_runs
from prometheus_nt.cli import main
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

DATASET = "sample_ohlcv"
WINDOW = ["--start", "2004-01-02", "--end", "2005-06-30"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Return configurations that differ in how many names they hold: 3, 4 and 6."""
    folder = tmp_path_factory.mktemp("nodes")
    base = yaml.safe_load(Path("configs/us_core_long_eq_ohlcv.yaml").read_text())
    paths = []
    for names in (3, 4, 6):
        engines = base["engines"] | {
            "portfolio": base["engines"].get("portfolio", {}) | {"max_names": names}
        }
        path = folder / f"names_{names}.yaml"
        path.write_text(yaml.safe_dump(base | {"engines": engines}))
        paths.append(path)
    return paths


@pytest.fixture
def prometheus(home, monkeypatch, capsys):
    """Return a function that runs a command as `main` does: (exit code, output, errors)."""
    monkeypatch.setenv("PROMETHEUS_HOME", str(home))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["prometheus", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run("data", "ingest", "sample")
    return run


def outcomes_turned(home):
    """Turn the figures of every run round; return how many runs there are."""
    settings = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
    table = backtest_runs.c
    with open_stores(settings) as stores, stores.runtime.database.writer() as connection:
        runs = connection.execute(sa.select(backtest_runs)).mappings().all()
        for number, run in enumerate(runs):
            figures = run["metrics_json"] | {"annualised_sharpe": 9.0 - number, "cagr": -0.5}
            changed = sa.update(backtest_runs).where(table.run_id == run["run_id"])
            connection.execute(changed.values(metrics_json=figures))
    return len(runs)


def test_profiles_and_regimes_answer_from_the_data_alone(prometheus):
    code, shown, _ = prometheus(
        *("similar", "profiles", "AAPL.US", "--dataset", DATASET),
        *("--as-of", "2005-06-30", "--top", 2, "--json"),
    )
    profiles = json.loads(shown)
    _, shown, _ = prometheus(
        "similar", "regimes", "--dataset", DATASET, "--as-of", "2005-06-30", "--json"
    )
    regimes = json.loads(shown)

    assert code == 0
    assert len(profiles["neighbours"]) == 2
    assert "AAPL.US" not in {item["instrument_id"] for item in profiles["neighbours"]}
    assert profiles["schema_id"].startswith("PROFILE_CORE_V0-")
    assert all(item["session"] < "2005-04-01" for item in regimes["neighbours"])
    assert regimes["expected"]["market_return_21_sessions"]["count"] == 10


def test_a_wrong_question_names_field_value_and_remedy(prometheus):
    _, _, instrument = prometheus(
        "similar", "profiles", "AAPL", "--dataset", DATASET, "--as-of", "2005-06-30"
    )
    _, _, session = prometheus("similar", "regimes", "--dataset", DATASET, "--as-of", "2005-07-04")
    _, _, dataset = prometheus(
        "similar", "regimes", "--dataset", "nowhere", "--as-of", "2005-07-01"
    )
    _, _, run = prometheus("similar", "runs", "NO_SUCH_RUN")

    assert "instrument: 'AAPL' is not in dataset" in instrument
    assert "did you mean 'AAPL.US'?" in instrument
    assert "as_of: 2005-07-04 is not a session" in session
    assert "the last one before is 2005-07-01" in session
    assert "known datasets: sample_ohlcv" in dataset
    assert "prometheus show runs" in run


def test_runs_and_books_are_compared_with_those_of_other_runs(prometheus, variants, home):
    _, shown, _ = prometheus("backtest", variants[0], *WINDOW, "--json")
    (first,) = json.loads(shown)
    alone, _, why = prometheus("similar", "runs", first["run_id"])
    prometheus("backtest", variants[0], "--start", "2004-01-02", "--end", "2004-06-30")
    again, _, only_reruns = prometheus("similar", "runs", first["run_id"])
    prometheus("backtest", variants[1], "--start", "2005-01-03", "--end", "2005-03-31")
    for path in variants[1:]:
        prometheus("backtest", path, *WINDOW)

    _, shown, _ = prometheus("similar", "runs", first["run_id"], "--json")
    runs = json.loads(shown)
    _, shown, _ = prometheus(
        "similar", "portfolios", first["run_id"], "--as-of", "2005-06-30", "--json"
    )
    books = json.loads(shown)
    _, shown, _ = prometheus(
        *("meta", "similar", "--run-id", first["run_id"], "--top-k", 2, "--json"),
        *("--model-id", "joint-meta-config-env-v1"),
    )
    asked = json.loads(shown)
    turned = outcomes_turned(home)
    _, shown, _ = prometheus("similar", "runs", first["run_id"], "--json")
    blind = json.loads(shown)
    wrong, _, _ = prometheus("meta", "similar", "--run-id", "latest", "--model-id", "another")
    early, _, too_early = prometheus(
        "similar", "portfolios", first["run_id"], "--as-of", "2001-06-29"
    )

    assert (alone, early, again) == (1, 1, 1)
    assert "result that is no re-run" in only_reruns
    assert runs["query"]["reruns"] == 1
    assert sorted(item["reruns"] for item in runs["neighbours"]) == [0, 1]
    assert asked["neighbours"] == runs["neighbours"][:2]
    assert asked["query"]["model_id"] == "joint-meta-config-env-v1"
    assert asked["schema_id"].startswith("META_CONFIG_ENV_V0-")
    assert asked["expected"]["annualised_sharpe"]["count"] == 2
    assert blind["expected"]["annualised_sharpe"]["standard_error"] > 0.0
    assert turned > 2
    assert blind["content_id"] == runs["content_id"]
    assert [one["run_id"] for one in blind["neighbours"]] == [
        one["run_id"] for one in runs["neighbours"]
    ]
    assert blind["expected"] != runs["expected"]
    assert wrong != 0
    assert "no other run" in why
    assert "has no book decided" in too_early
    assert len(runs["neighbours"]) == 2
    assert "by_outcome" not in runs["neighbours"][0]
    assert runs["neighbours"][0]["by_config"] > runs["neighbours"][1]["by_config"]
    assert runs["neighbours"][0]["by_environment"] == pytest.approx(1.0, abs=0.01)
    assert runs["expected"]["annualised_sharpe"]["count"] >= 1
    similar = [item["run_id"] for item in books["neighbours"]]
    assert len(similar) == 2 and first["run_id"] not in similar
    assert all(0.0 < item["by_weights"] <= 1.0 for item in books["neighbours"])
    assert books["query"]["decided_on"] <= "2005-06-30"


def test_paths_are_compared_with_what_an_instrument_goes_through(prometheus):
    generate = ("scenarios", "generate", "echo", "--dataset", DATASET, "--category", "HISTORICAL")
    prometheus(*generate, "--as-of", "2005-06-30", "--horizon", 21, "--paths", 400)
    prometheus(*generate, "--as-of", "2006-06-30", "--horizon", 21, "--paths", 400)
    ask = ("similar", "scenarios", "--instrument", "AAPL.US", "--scenario-set", "echo")

    code, shown, _ = prometheus(*ask, "--as-of", "2005-07-29", "--top", 3, "--json")
    early, _, too_early = prometheus(*ask, "--as-of", "2004-06-30")
    _, _, wrong = prometheus(*ask[:3], "AAPLE.US", *ask[4:], "--as-of", "2005-07-29")

    found = json.loads(shown)
    assert (code, early) == (0, 1)
    assert found["query"]["made_on"] == "2005-06-30"
    assert "made from data up to 2006-06-30" in too_early
    assert "did you mean 'AAPL.US'?" in wrong
    assert len(found["neighbours"]) == 3
    for item in found["neighbours"]:
        assert item["similarity"] > 0.9
        assert item["total_return"] == pytest.approx(found["query"]["total_return"], abs=0.1)
