"""A run's scores are followed by what came after them: exactly, once, and never early."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from scipy.stats import spearmanr

from adapters.sample import sample_sp500
from persistence.evaluation import score_days, sleeve_decisions, target_weights, universe_scores
from persistence.historical import HistoricalStore
from persistence.runtime import Filters, RuntimeStore
from persistence.tables import runtime as tables
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import DataError
from prometheus_nt.jobs.alpha import STORED, stored_alpha
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.check.futures import dropped
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.outcomes import record_outcomes
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq.yaml")
SETTINGS = [
    "sessions.start=2019-01-02",
    "sessions.end=2019-12-31",
    "sleeves=[{horizon: 5}]",
    "data.benchmark=null",
    "without=[regime, fragility]",
]
SYMBOLS = ["AAPL", "MSFT", "KO", "PG", "JNJ", "XOM", "JPM", "WMT"]


@pytest.fixture
def stores(sqlite_database, tmp_path):
    settings = Settings(tmp_path, "unused", "unused")
    stores = Stores(settings, HistoricalStore(sqlite_database), RuntimeStore(sqlite_database))
    ingest(sample_sp500(), stores.historical, symbols=SYMBOLS)
    return stores


def _run(stores, *more):
    (summary,) = run_backtest(load_config([CONFIG], [*SETTINGS, *more]), stores)
    return summary.run_id


def _outcomes(stores):
    table = tables.decision_outcomes
    query = sa.select(table).order_by(table.c.decision_id, table.c.horizon_days)
    with stores.runtime.database.reader() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_an_outcome_follows_the_stored_scores_and_target_of_its_day(stores):
    run_id = _run(stores)
    panel, database = panel_of(stores, "sample_sp500"), stores.runtime.database
    sessions = panel.sessions.astype(object).tolist()
    scores = dict(score_days(database, run_id))
    targets = target_weights(database, run_id)
    candidates = universe_scores(database, run_id)
    found = {(row["decision_id"], row["horizon_days"]): row for row in _outcomes(stores)}

    as_of, decision_id = list(sleeve_decisions(database, run_id).items())[20]

    names = [row[0] for row in scores[as_of]]
    columns = [panel.instruments.index(name) for name in names]
    for horizon in (5, 21, 63):
        outcome = found[decision_id, horizon]
        row = sessions.index(as_of) + 1
        returns = panel.close[row + horizon] / panel.close[row] - 1.0
        assert outcome["known_at"] == sessions[row + horizon]
        evaluated = outcome["metadata"]
        momentum = [row[2]["momentum"] for row in scores[as_of]]
        assert evaluated["ic"]["momentum"] == pytest.approx(
            spearmanr(momentum, returns[columns]).statistic
        )
        combined = [row[1] for row in scores[as_of]]
        assert evaluated["ic"]["combined"] == pytest.approx(
            spearmanr(combined, returns[columns]).statistic
        )
        traded = [candidates[as_of][name] for name in names]
        assert evaluated["ic"]["traded"] == pytest.approx(
            spearmanr(traded, returns[columns]).statistic
        )
        held = targets[as_of].items()
        earned = sum(weight * returns[panel.instruments.index(name)] for name, weight in held)
        assert evaluated["target_return"] == pytest.approx(earned)
        assert evaluated["names"] == len(SYMBOLS)
        assert outcome["realized_return"] is not None, "what the book earned stays beside it"


def test_recording_again_changes_nothing(stores):
    run_id = _run(stores)
    before = _outcomes(stores)

    again = record_outcomes(stores, run_id)

    assert again == sum(row["metadata"] is not None for row in before) > 100
    assert _outcomes(stores) == before


def test_no_outcome_is_recorded_before_its_last_session(stores, monkeypatch):
    whole = panel_of(stores, "sample_sp500")
    last = int(np.searchsorted(whole.sessions, np.datetime64("2019-06-14")))
    ends_early = dropped(whole, last, np.random.default_rng(0))
    monkeypatch.setattr("prometheus_nt.jobs.backtest_market.node_panel", lambda *_: ends_early)
    run_id = _run(stores, "sessions.end=2019-06-14")
    end = date(2019, 6, 14)

    early = _outcomes(stores)
    record_outcomes(stores, run_id, whole)
    later = _outcomes(stores)

    assert {row["known_at"] <= end for row in early} == {True}
    assert len(early) < len(later) == 3 * len(sleeve_decisions(stores.runtime.database, run_id))
    known = {(row["decision_id"], row["horizon_days"]): row for row in later}
    for row in early:
        if row["metadata"] is not None:
            assert known[row["decision_id"], row["horizon_days"]] == row


def test_the_stored_quality_is_summarised_by_family_and_horizon(stores):
    run_id = _run(stores)

    rows = [dict(zip(STORED, row, strict=True)) for row in stored_alpha(stores, Filters())]

    by_key = {(row["family"], row["horizon"]): row for row in rows}
    families = {"momentum", "reversal", "low_volatility", "fragility", "traded", "combined"}
    assert families <= {family for family, _ in by_key}
    assert {horizon for _, horizon in by_key} == {5, 21, 63}
    weekly = by_key["combined", 5]
    assert weekly["run_id"] == run_id and weekly["decisions"] > 40
    coefficients = [
        row["metadata"]["ic"]["combined"] for row in _outcomes(stores) if row["horizon_days"] == 5
    ]
    assert weekly["mean"] == pytest.approx(np.mean(coefficients))
    assert weekly["low"] < weekly["mean"] < weekly["high"]
    # Every week asks for 63 sessions: some 13 outcomes overlap, and 3 x 12 decisions must exist.
    assert by_key["combined", 63]["mean"] is not None
    assert by_key["momentum", 5]["turnover"] < by_key["reversal", 5]["turnover"]
    assert stored_alpha(stores, Filters(portfolio_id="US_CORE_LONG_EQ_H5")) == stored_alpha(
        stores, Filters(run_id=run_id)
    )


def test_a_run_without_stored_scores_says_what_to_do(stores):
    _run(stores, "persistence.engine_rows=none", "sessions.end=2019-02-28")

    with pytest.raises(DataError, match=r"--set persistence\.engine_rows=rebalance"):
        stored_alpha(stores, Filters())


def test_a_run_that_is_not_completed_has_no_outcomes(stores):
    run_id = _run(stores, "sessions.end=2019-02-28")
    stores.runtime.end_run(run_id, "FAILED")

    with pytest.raises(DataError, match="only a completed run"):
        record_outcomes(stores, run_id)


def test_what_was_traded_is_followed_and_not_the_score_before_fragility_was_taken_off(stores):
    settings = ["engines.assessment.fragility_penalty_weight=0"]
    harsh = _run(stores, *settings, "engines.universe.stability_weight=3.0")
    harsh_rows = [row for row in _outcomes(stores) if row["run_id"] == harsh and row["metadata"]]
    plain = _run(stores, *settings, "engines.universe.stability_weight=0")
    plain_rows = [row for row in _outcomes(stores) if row["run_id"] == plain and row["metadata"]]

    def of(rows, name):
        return np.array([row["metadata"]["ic"][name] for row in rows], dtype=float)

    assert of(harsh_rows, "combined") == pytest.approx(of(plain_rows, "combined"))
    apart = [np.abs(of(rows, "traded") - of(rows, "combined")) for rows in (plain_rows, harsh_rows)]
    assert apart[0].mean() < 0.3 * apart[1].mean()
