"""A run whose engines read what was made before is the run that made it."""

from dataclasses import replace

import numpy as np
import pytest

from persistence.engine_outputs import OutputStore
from persistence.run_rows import run_rows
from prometheus_nt.actors.pipeline import PIPELINE
from prometheus_nt.domain.books import TargetPortfolio
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.market import SimulatedReturns
from prometheus_nt.domain.record import record_hash
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.wiring import Recorded, wire_backtest

pytestmark = pytest.mark.integration

EVERYTHING = {
    "without": ["profiles"],
    "persistence": {"engine_rows": "all"},
    "engines": {
        "regime": {
            "min_history": 60,
            "drawdown_lookback": 40,
            "breadth_lookback": 40,
            "correlation_lookback": 40,
            "trend_lookback": 40,
        },
        "fragility": {"tail_lookback": 45, "trend_lookback": 40},
        "stability": {"lookback": 21, "min_observations": 10},
        "assessment": {"momentum_lookback": 42, "momentum_skip": 5},
        "universe": {"min_history_sessions": 30, "hysteresis_buffer": 1},
        "portfolio": {"max_names": 5, "max_weight": 0.25},
        "risk": {"max_abs_weight_per_name": 0.25},
    },
}


def shared(config, panel, folder, scenarios=()):
    sessions = SharedSessions(panel, 0, len(panel) - 1, panel.fingerprint, scenarios)
    return SharedDay.of(OutputStore(folder), sessions, config, config.sleeves[0])


def run_with(config, panel, table, scenarios=()):
    identity = RunIdentity("S", config.sleeves[0].sleeve_id, Mode.BACKTEST, "c", "h", "d", 0)
    node = wire_backtest(
        config, config.sleeves[0], panel, identity, table, Recorded(scenarios=scenarios)
    )
    node.mirror.attach(node.engine.kernel.msgbus)
    node.feed.run(0, len(panel) - 1)
    return node


def rows_of(node):
    """Return every row of a run, without what Nautilus draws at random."""
    tables = [(table.name, repr(rows)) for table, rows in run_rows(node.mirror)]
    return tables, [(held.as_of, held.cash, held.equity) for held in node.mirror.holdings]


def hashes(node):
    """Return the hash of every record of every session, and of what it was made from."""
    return {
        (as_of, made.__name__): (record_hash(item.record), item.lineage())
        for as_of, stages in node.mirror.stages.items()
        for made, item in stages.items()
    }


def test_records_lineage_orders_and_fills_are_bit_identical(market, configured, fills, tmp_path):
    config = configured(**EVERYTHING)

    live = run_with(config, market, None)
    first = run_with(config, market, shared(config, market, tmp_path).table())
    again = run_with(config, market, shared(config, market, tmp_path).table())

    assert len(fills(live)) > 100
    assert fills(live) == fills(first) == fills(again)
    assert len(hashes(live)) > 1000
    assert hashes(live) == hashes(first) == hashes(again)


LEAN = {"engine_rows": "none"}

BREAKER = {"drawdown_breaker": -0.03, "breaker_gross": 0.2, "breaker_release": -0.01}


@pytest.mark.parametrize("limits", [{}, {"max_turnover": 0.3}, BREAKER])
def test_a_run_that_writes_no_records_trades_and_ends_as_one_that_does(
    market, configured, fills, tmp_path, limits
):
    engines = EVERYTHING["engines"] | {"risk": {"max_abs_weight_per_name": 0.25, **limits}}
    config = configured(**EVERYTHING | {"engines": engines, "persistence": LEAN})

    live = run_with(config, market, None)
    short = run_with(config, market, shared(config, market, tmp_path).table())

    assert len(fills(live)) > 100
    assert fills(live) == fills(short)
    assert rows_of(live) == rows_of(short)
    newest, newest_short = (node.mirror.latest(TargetPortfolio) for node in (live, short))
    assert newest.record.as_of == market.as_of
    assert record_hash(newest.record) == record_hash(newest_short.record)


def test_a_run_that_writes_no_records_judges_risk_only_when_it_follows_a_target(
    market, configured, tmp_path
):
    config = configured(
        **EVERYTHING | {"persistence": LEAN}, sleeves=[{"horizon": 21, "capital_usd": 5e6}]
    )
    stages = {stage.name: stage for stage in shared(config, market, tmp_path).table()}
    assert set(stages) == {"regime", "risk"}
    judged = []
    risk = stages["risk"]
    counting = replace(risk, compute=lambda *a, **k: judged.append(a) or risk.compute(*a, **k))

    node = run_with(config, market, (stages["regime"], counting))

    months = {record.record.as_of.strftime("%Y-%m") for record in node.mirror.decisions}
    assert len(months) > 8
    assert len(judged) < 60 < len(market) // 4


def test_scenarios_are_heard_as_in_a_live_run(market, configured, fills, tmp_path):
    rng = np.random.default_rng(1)
    sets = tuple(
        SimulatedReturns(
            "bad", market.sessions[row].astype(object), f"s{row}", rng.normal(-0.05, 0.1, (50, 12))
        )
        for row in (100, 200)
    )
    config = configured(
        without=["profiles", "regime"],
        engines=EVERYTHING["engines"]
        | {"fragility": {"tail_lookback": 45, "trend_lookback": 40, "scenario_set": "bad"}},
    )

    live = run_with(config, market, None, sets)
    stored = run_with(config, market, shared(config, market, tmp_path, sets).table(), sets)

    assert hashes(live) == hashes(stored)
    assert fills(live) == fills(stored)


def test_a_second_variant_computes_only_what_differs(market, configured, tmp_path):
    one = configured(**EVERYTHING)
    other = configured(
        **EVERYTHING | {"engines": EVERYTHING["engines"] | {"portfolio": {"max_names": 3}}}
    )
    cheaper = configured(**EVERYTHING, execution={"quotes": {"half_spread_bps": 0.0}})
    renamed = configured(
        **EVERYTHING, sleeves=[{"horizon": 5, "variant": "OTHER", "capital_usd": 5000}]
    )
    tapes = []
    for config in (one, other, cheaper, renamed):
        shared(config, market, tmp_path).table()
        tapes.append(len(list(tmp_path.glob("*.tape"))))

    # Regime, stability, fragility, assessment, universe, portfolio; then one portfolio more.
    assert tapes == [6, 7, 7, 7]


def test_a_renamed_sleeves_targets_carry_its_own_name(market, configured, tmp_path):
    shared(configured(**EVERYTHING), market, tmp_path).table()
    config = configured(**EVERYTHING, sleeves=[{"horizon": 5, "variant": "OTHER"}])

    node = run_with(config, market, shared(config, market, tmp_path).table())

    assert {
        item.record.book_id
        for stages in node.mirror.stages.values()
        for made, item in stages.items()
        if made.__name__ in ("BookTarget", "TargetPortfolio")
    } == {"US_CORE_LONG_EQ_H5_OTHER_PORTFOLIO"}


def test_every_cause_of_a_record_is_part_of_its_key(market, configured, tmp_path):
    config = configured(**EVERYTHING)
    stages = {stage.name: stage for stage in PIPELINE}
    universe = stages["universe"]
    key = shared(config, market, tmp_path).key(universe)

    def other(first=0, last=100, fingerprint=market.fingerprint, **sections):
        changed = configured(**EVERYTHING | sections)
        sessions = SharedSessions(market, first, last, fingerprint)
        return SharedDay.of(OutputStore(tmp_path), sessions, changed, changed.sleeves[0]).key(
            universe
        )

    keys = {
        key,
        other(),
        other(first=1),
        other(last=101),
        other(fingerprint="corrected"),
        other(without=["profiles", "regime"]),
        other(
            engines=EVERYTHING["engines"] | {"stability": {"lookback": 42, "min_observations": 10}}
        ),
        other(engines=EVERYTHING["engines"] | {"universe": {"max_size": 3}}),
    }
    assert len(keys) == 8
    assert other(engines=EVERYTHING["engines"] | {"portfolio": {"max_names": 3}}) == other()


def test_a_row_without_a_book_is_refused_by_name(market, configured, tmp_path):
    targets = shared(configured(**EVERYTHING), market, tmp_path).targets()

    assert not targets.has(0)
    with pytest.raises(DataError, match="panel row 0: no book was asked for"):
        targets.at(0)
