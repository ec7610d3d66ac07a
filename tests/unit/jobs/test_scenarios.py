from datetime import date

import numpy as np
import pytest

from persistence.database import upsert
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from persistence.tables import runtime as tables
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, LookAheadError, StoreError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.engines.scenarios import generate_scenarios, portfolio_pnl
from prometheus_nt.jobs import scenarios as job
from prometheus_nt.jobs.scenarios import ScenarioRequest, generate_set, list_sets, show_set
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

SESSIONS = MarketCalendar.of("US_EQ").between(date(2019, 1, 2), date(2020, 12, 31))
SMALL = {"name": "set", "category": "BOOTSTRAP", "horizon": 5, "paths": 50}


@pytest.fixture
def panel():
    shape = (len(SESSIONS), 3)
    moves = np.random.default_rng(6).normal(0.0, 0.01, shape)
    close = 50.0 * np.exp(np.cumsum(moves, axis=0))
    return MarketPanel(
        sessions=SESSIONS,
        instruments=("A.US", "B.US", "C.US"),
        **{name: close.copy() for name in ("open", "high", "low", "close")},
        volume=np.full(shape, 1e6),
        split=np.ones(shape),
        dividend=np.zeros(shape),
        fingerprint="scenarios",
    )


@pytest.fixture
def stores(database, tmp_path, panel, monkeypatch):
    monkeypatch.setattr(job, "panel_of", lambda _stores, _dataset: panel)
    url = "unused"
    settings = Settings(home=tmp_path / "home", historical_url=url, runtime_url=url)
    return Stores(settings, HistoricalStore(database), RuntimeStore(database))


def _request(as_of=None, run=None, **settings):
    return ScenarioRequest("data", job.scenario_params(SMALL | settings), as_of, run)


def _recorded_run(stores: Stores, weights: dict[str, float], as_of: date) -> str:
    identity = RunIdentity("S", "S_H5", Mode.BACKTEST, "c", "h", "d", 0)
    facts = {
        "portfolio_id": "P",
        "market_id": "US_EQ",
        "start_date": as_of,
        "end_date": as_of,
        "universe_id": None,
        "dataset_id": "data",
        "config_json": {},
    }
    stores.runtime.begin_run(identity, facts)
    head = (identity.run_id, "BACKTEST", "S")
    row = (*head, "P", as_of, {"weights": weights}, "m", None, None, None)
    with stores.runtime.database.writer() as connection:
        table = tables.target_portfolios
        upsert(connection, table, table.columns.keys(), [row])
    return identity.run_id


def test_a_stored_set_is_the_generated_one_to_the_last_bit(stores, panel):
    row = generate_set(stores, _request())

    loaded = job.scenario_store(stores).load(row)

    expected = generate_scenarios(panel, job.scenario_params(SMALL))
    assert np.array_equal(loaded.returns, expected.returns)
    assert (loaded.spec_hash, loaded.instruments) == (expected.spec_hash, panel.instruments)
    assert (loaded.as_of, loaded.category) == (panel.as_of, "BOOTSTRAP")
    assert not loaded.returns.flags.writeable


def test_generating_twice_changes_neither_row_nor_file(stores):
    first = generate_set(stores, _request())
    stored = job.scenario_store(stores).find("set")

    again = generate_set(stores, _request())

    assert again == stored
    assert (again["sha256"], again["created_at"]) == (first["sha256"], first["created_at"])
    assert len(list((stores.settings.home / "scenarios").iterdir())) == 1


def test_other_settings_of_the_same_name_take_its_place_and_keep_its_file(stores):
    first = generate_set(stores, _request())
    second = generate_set(stores, _request(seed=1))

    (listed,) = job.scenario_store(stores).rows()

    assert first["spec_hash"] != second["spec_hash"] == listed["spec_hash"]
    assert len(list((stores.settings.home / "scenarios").iterdir())) == 2


def test_a_damaged_file_is_found_and_made_again(stores):
    row = generate_set(stores, _request())
    (path,) = (stores.settings.home / "scenarios").iterdir()
    path.write_bytes(path.read_bytes()[:-7])

    with pytest.raises(StoreError, match="not the file that was recorded"):
        show_set(stores, "set")

    assert generate_set(stores, _request())["sha256"] == row["sha256"]
    assert show_set(stores, "set")["spec_hash"] == row["spec_hash"]


def test_sets_are_listed_newest_first_and_shown_by_name(stores, panel):
    early = panel.sessions[300].astype(object)
    for as_of in (early, None):
        generate_set(stores, _request(as_of=as_of))

    columns, rows = list_sets(stores)

    assert [row[columns.index("as_of_date")] for row in rows] == [panel.as_of, early]
    assert show_set(stores, "set")["as_of_date"] == panel.as_of
    assert show_set(stores, "set", as_of=early)["as_of_date"] == early
    with pytest.raises(StoreError, match="no scenario set 'other'"):
        show_set(stores, "other")


def test_a_name_in_two_datasets_must_be_told_apart(stores):
    for dataset in ("data", "other"):
        generate_set(stores, ScenarioRequest(dataset, job.scenario_params(SMALL)))

    with pytest.raises(StoreError, match="a set of data, other; name one with --dataset"):
        show_set(stores, "set")
    assert show_set(stores, "set", dataset_id="other")["dataset_id"] == "other"


def test_figures_are_of_an_equally_weighted_book_unless_a_run_is_named(stores, panel):
    row = generate_set(stores, _request())
    run_id = _recorded_run(stores, {"A.US": 0.7, "C.US": -0.2}, panel.as_of)
    loaded = job.scenario_store(stores).load(row)

    equal, own = show_set(stores, "set"), show_set(stores, "set", run=run_id)

    even = np.sort(portfolio_pnl(loaded, np.full(3, 1 / 3)))
    assert (equal["worst"], equal["mean"]) == pytest.approx((even[0], even.mean()))
    # 5% of 50 paths are rounded up to 3, 1% to the worst alone.
    assert equal["var_95"] == pytest.approx(even[2])
    assert equal["expected_shortfall_95"] == pytest.approx(even[:3].mean())
    assert equal["var_99"] == pytest.approx(even[0])
    assert own["worst"] == pytest.approx(portfolio_pnl(loaded, np.array([0.7, 0, -0.2])).min())
    assert own["book"] == f"{run_id} at {panel.as_of}"


def test_a_set_made_after_a_runs_target_may_not_judge_it(stores, panel):
    generate_set(stores, _request())
    run_id = _recorded_run(stores, {"A.US": 0.7}, panel.sessions[-2].astype(object))

    with pytest.raises(LookAheadError, match="made from data up to 2020-12-31"):
        show_set(stores, "set", run=run_id)


def test_a_book_with_a_name_without_paths_has_no_figures(stores, panel):
    generate_set(stores, _request())
    run_id = _recorded_run(stores, {"Z.US": 0.7}, panel.as_of)

    with pytest.raises(DataError, match=r"names without paths: Z\.US"):
        show_set(stores, "set", run=run_id)


def test_an_adversary_works_against_the_run_it_is_given(stores, panel):
    run_id = _recorded_run(stores, {"A.US": -1.0}, panel.as_of)
    adversarial = {"category": "ADVERSARIAL", "paths": 1}

    against_run = generate_set(stores, _request(run=run_id, **adversarial))
    against_all = generate_set(stores, _request(name="all", **adversarial))

    weights = np.array([-1.0, 0.0, 0.0])
    expected = generate_scenarios(panel, job.scenario_params(SMALL | adversarial), weights)
    assert against_run["spec_hash"] == expected.spec_hash
    assert against_all["spec_hash"] != against_run["spec_hash"]


def test_a_regime_is_judged_by_labels_that_were_known_then(stores, monkeypatch):
    asked = []

    def classify(view, _params):
        asked.append(view.as_of)
        label = "CRISIS" if view.as_of.month == 3 else "CARRY"
        return type("State", (), {"label": type("Label", (), {"value": label})})

    monkeypatch.setattr(job, "classify_regime", classify)

    row = generate_set(stores, _request(category="REGIME", regime="CRISIS"))

    assert asked == SESSIONS.tolist()
    assert row["regime_filter"] == "CRISIS"


@pytest.mark.parametrize(
    ("as_of", "error", "message"),
    [
        (date(2021, 1, 4), LookAheadError, "ends at 2020-12-31; use a session up to then"),
        (date(1999, 1, 4), DataError, "begins at 2019-01-02; use a later session"),
        (
            date(2020, 7, 4),
            DataError,
            "has no such session; use the one before it, 2020-07-02",
        ),
    ],
)
def test_a_session_that_the_dataset_does_not_have_is_refused_with_one_it_has(
    stores, as_of, error, message
):
    with pytest.raises(error) as refused:
        generate_set(stores, _request(as_of=as_of))

    assert type(refused.value) is error
    assert str(refused.value) == f"--as-of {as_of}: dataset 'data' {message}"


def test_more_paths_than_a_tail_needs_are_refused():
    with pytest.raises(ConfigError) as refused:
        job.scenario_params(SMALL, ["paths=100001"])

    assert str(refused.value) == (
        "paths: Input should be less than or equal to 100000, found 100001"
    )


def test_more_returns_than_a_set_may_hold_are_refused_before_they_are_drawn(stores):
    with pytest.raises(DataError) as refused:
        generate_set(stores, _request(paths=100_000, horizon=1000))

    assert str(refused.value) == (
        "paths: 100000 of 1000 sessions and 3 instruments are 300,000,000 returns; a set holds "
        "268,435,456, so use at most 89,478 paths or a shorter horizon"
    )


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["block_lenght=3"], "block_lenght: Extra inputs are not permitted"),
        (["category=GUESS"], "category: "),
        (["regime=CRISIS"], "regime: REGIME needs the label to draw from"),
        (["horizon"], "expected key=value"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(assignments, message):
    with pytest.raises(ConfigError, match=message):
        job.scenario_params(SMALL, assignments)
