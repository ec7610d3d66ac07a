"""Campaigns, the ledger of trials, decisions and engines' settings over HTTP."""

from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa

from persistence.campaigns import CampaignRow, CampaignStore, TrialRow
from persistence.tables import governance
from persistence.tables import runtime as tables
from persistence.trials import TrialLedger
from prometheus_nt.domain.runs import Mode, RunIdentity

pytestmark = pytest.mark.integration

FIRST, LAST = date(2010, 1, 4), date(2010, 12, 31)
STATES = ("OK", "OK", "FAILED", "RUNNING", "PENDING")


@pytest.fixture
def campaigns(database):
    store = CampaignStore(database)
    row = CampaignRow(
        "grid-1", "grid", "RUNNING", "c", FIRST, LAST, {"config": {"top": 1}}, None, None
    )
    store.plan(row, [_variant(place) for place in range(len(STATES))])
    for place, status in enumerate(STATES):
        if status != "PENDING":
            store.begin("grid-1", f"S{place}", "w")
    for place in (0, 1):
        store.end("grid-1", f"S{place}", "OK", run_id=f"S{place}-run", seconds=10.0 + 20 * place)
    store.end("grid-1", "S2", "FAILED", error="DataError", message="no prices")
    return store


def _variant(place):
    settings = {"engines.portfolio.max_names": place + 1}
    return TrialRow("grid-1", f"S{place}", place, "FAMILY", "US_EQ", settings, {"big": "node"})


def _decision(name, scope, tried, as_of=LAST, strategy_id="FAMILY"):
    figures = {"sharpe": 1.5, "deflated": 0.9}
    candidate = {
        "run_id": "S0-run",
        "sleeve_id": "S0",
        "rank": 1,
        "verdict": "CANDIDATE",
        "selected": True,
        "idea": 0,
        "figures": figures,
        "not_computed": {"interval": "too short"},
        "reasons": ["beats luck"],
    }
    return {
        "decision_id": name,
        "engine_name": "META_ORCHESTRATOR",
        "run_id": scope,
        "mode": "BACKTEST",
        "strategy_id": strategy_id,
        "market_id": "US_EQ",
        "as_of_date": as_of,
        "config_id": scope,
        "input_refs": {
            "candidates": [candidate],
            "failed": [{"sleeve_id": "S2", "why": "no prices"}],
        },
        "output_refs": {"verdict": "1 selected of 1", "selected_sleeves": [{"run_id": "S0-run"}]},
        "metadata": {
            "pool": {"trials": tried, "trials_ever": tried, "overfitting": 0.25},
            "not_computed": {},
        },
    }


def test_nothing_was_tried(client):
    assert client.get("/api/campaigns").json()["rows"] == []
    assert client.get("/api/campaigns/x").status_code == 404
    ranking = client.get("/api/meta/ranking").json()
    assert (ranking["verdict"], ranking["rows"]) == (None, [])
    assert "meta_rank" in ranking["unknown"]["verdict"]
    ledger = client.get("/api/meta/ledger").json()
    assert (ledger["families"], ledger["entries"], ledger["head"]) == ([], 0, "0" * 64)
    assert client.get("/api/meta/configs").json()["configs"] == []
    performance = client.get("/api/meta/performance?engine_name=SLEEVE").json()
    assert (performance["run_id"], performance["metrics"]) == (None, [])
    assert "SLEEVE" in performance["unknown"]["run_id"]
    assert client.get("/api/meta/performance").status_code == 422
    for period in ("0d", "x", "99999d"):
        path = f"/api/meta/performance?engine_name=SLEEVE&period={period}"
        assert client.get(path).status_code == 422


def test_a_campaign_tells_how_far_it_is(campaigns, client):
    (row,) = client.get("/api/campaigns").json()["rows"]

    assert (row["trials"], row["done"], row["failed"], row["progress"]) == (5, 3, 1, 0.6)
    found = client.get("/api/campaigns/grid-1").json()
    assert found["campaign"] == row
    assert found["counts"] == {"OK": 2, "FAILED": 1, "RUNNING": 1, "PENDING": 1}
    assert found["plan"] == {"config": {"top": 1}}
    # Two runs took 10 and 30 seconds; two variants are left, one at a time.
    assert (found["seconds_mean"], found["eta_seconds"]) == (20.0, 40.0)
    assert [one["status"] for one in found["variants"]] == list(STATES)
    assert found["variants"][2]["message"] == "no prices"
    assert "node" not in found["variants"][0]
    assert found["ranking"]["verdict"] is None
    page = client.get("/api/campaigns/grid-1?limit=2&offset=2").json()
    assert ([one["sleeve_id"] for one in page["variants"]], page["next_offset"]) == (
        ["S2", "S3"],
        4,
    )

    campaigns.end("grid-1", "S3", "OK", run_id="S3-run", seconds=50.0)

    found = client.get("/api/campaigns/grid-1").json()
    assert (found["campaign"]["done"], found["seconds_mean"], found["eta_seconds"]) == (4, 30, 30)


def test_a_decision_is_told_with_its_reasons_and_the_newest_counts_most_trials(campaigns, client):
    campaigns.decide(_decision("META-1", "grid-1", 5))
    campaigns.decide(_decision("META-2", "grid-1", 7))
    campaigns.decide(_decision("META-3", "other", 9, date(2011, 1, 3), "ELSE"))

    ranking = client.get("/api/campaigns/grid-1").json()["ranking"]

    assert (ranking["decision_id"], ranking["scope"]) == ("META-2", "grid-1")
    assert (ranking["verdict"], ranking["selected"]) == ("1 selected of 1", ["S0-run"])
    assert ranking["failed"] == [{"sleeve_id": "S2", "why": "no prices"}]
    (row,) = ranking["rows"]
    assert (row["dsr"], row["pbo"], row["sharpe"]) == (0.9, 0.25, 1.5)
    assert (row["verdict"], row["why"]) == ("CANDIDATE", ["beats luck"])
    assert row["not_computed"] == {"interval": "too short"}
    newest = client.get("/api/meta/ranking").json()
    assert newest["decision_id"] == "META-3"
    assert client.get("/api/meta/ranking?strategy_id=FAMILY").json() == ranking
    assert client.get("/api/meta/ranking?as_of=2010-12-31").json() == ranking
    before = client.get("/api/meta/ranking?as_of=2010-12-30").json()
    assert before["decision_id"] is None


def test_the_ledger_tells_every_trial(database, client):
    ledger = TrialLedger(database)
    facts = {"market_id": "US_EQ", "start_date": FIRST, "end_date": LAST}
    for family, seed in (("A", 1), ("A", 2), ("B", 3)):
        identity = RunIdentity(family, f"{family}_H5", Mode.BACKTEST, "c", "h", "d", seed)
        ledger.begin(identity, facts)
    ledger.fail(identity, "broke")

    found = client.get("/api/meta/ledger").json()

    assert found["families"] == [
        {"family": "A", "trials": 2, "by_status": {"STARTED": 2}},
        {"family": "B", "trials": 1, "by_status": {"FAILED": 1}},
    ]
    assert (found["entries"], len(found["head"])) == (4, 64)
    assert (found["rows"][0]["family"], found["rows"][0]["reason"]) == ("B", "broke")
    of_a = client.get("/api/meta/ledger?strategy_id=A&limit=1").json()
    assert ([row["family"] for row in of_a["rows"]], of_a["next_offset"]) == (["A"], 1)
    assert [one["family"] for one in of_a["families"]] == ["A"]


def test_of_each_engine_the_newest_settings_are_told(database, client):
    with database.writer() as connection:
        for config_id, engine, day in (("1", "risk", 1), ("2", "risk", 3), ("3", "regime", 2)):
            row = {
                "config_id": config_id,
                "engine_name": engine,
                "version": "0.1.0",
                "config_body": {"number": day},
                "created_at": datetime(2024, 5, day, 12, tzinfo=UTC),
                "created_by": "run",
            }
            connection.execute(sa.insert(governance.engine_configs).values(row))

    found = client.get("/api/meta/configs").json()["configs"]
    earlier = client.get("/api/meta/configs?as_of_date=2024-05-02").json()["configs"]

    assert [(one["engine_name"], one["parameters"]["number"]) for one in found] == [
        ("regime", 2),
        ("risk", 3),
    ]
    assert [one["config_id"] for one in earlier] == ["3", "1"]


def test_what_became_of_an_engines_decisions_is_told_by_regime(database, client):
    days = [date(2010, 1, 4), date(2010, 1, 5), date(2010, 1, 6), date(2010, 1, 7)]
    returns, labels = (0.03, 0.01, -0.02, 0.5), ("CARRY", "CARRY", "CRISIS", "CARRY")
    with database.writer() as connection:
        for number, day in enumerate(days):
            _decided(connection, day, labels[number])
            # The outcome of the last is known only later than its own session.
            known = day if number < 3 else date(2010, 2, 1)
            _came(connection, day, known, returns[number])

    found = client.get("/api/meta/performance?engine_name=SLEEVE&period=3d").json()

    assert (found["run_id"], found["start_date"], found["end_date"]) == (
        "r1",
        "2010-01-05",
        "2010-01-07",
    )
    (metrics,) = found["metrics"]
    assert (metrics["horizon_days"], metrics["decisions"]) == (5, 2)
    assert metrics["realized_return"] == pytest.approx((0.01 - 0.02) / 2)
    by_regime = {one["regime"]: one["realized_return"] for one in found["by_regime"]}
    assert by_regime == pytest.approx({"CARRY": 0.01, "CRISIS": -0.02})
    as_of = "/api/meta/performance?engine_name=SLEEVE&as_of=2010-01-05"
    (early,) = client.get(as_of).json()["metrics"]
    assert (early["decisions"], early["realized_return"]) == (2, pytest.approx(0.02))
    assert client.get(f"{as_of}&run_id=r2").json()["run_id"] is None


def _decided(connection, day, label):
    decision = {
        "decision_id": f"r1:{day}",
        "engine_name": "SLEEVE",
        "run_id": "r1",
        "mode": "BACKTEST",
        "strategy_id": "FAMILY",
        "market_id": "US_EQ",
        "as_of_date": day,
    }
    connection.execute(sa.insert(tables.engine_decisions).values(decision))
    regime = {
        **{name: decision[name] for name in ("run_id", "mode", "strategy_id", "as_of_date")},
        "region": "US",
        "regime_label": label,
        "confidence": 0.8,
        "probabilities": {},
        "change_risk": {},
        "features": {},
        "model_id": "m",
    }
    connection.execute(sa.insert(tables.regimes).values(regime))


def _came(connection, day, known, earned):
    outcome = {
        "decision_id": f"r1:{day}",
        "horizon_days": 5,
        "run_id": "r1",
        "realized_return": earned,
        "known_at": known,
    }
    connection.execute(sa.insert(tables.decision_outcomes).values(outcome))
