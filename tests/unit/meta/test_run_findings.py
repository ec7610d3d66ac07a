"""What stands against a run: each finding on evidence that has it, and none on evidence without."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prometheus_nt.meta import run_findings as module
from prometheus_nt.meta.findings import Severity, run_finding
from prometheus_nt.meta.run_findings import (
    Evidence,
    FindingRules,
    Neighbour,
    neighbour_findings,
    run_findings,
    vetoes_of,
)

SESSIONS = np.arange("2010-01-01", "2012-01-01", dtype="datetime64[D]")
T, FILLS = len(SESSIONS), 240
NAMES = ("A", "B", "C", "D")
# Gains and losses that no single session and no regime explains; a ratio of about 1.6 a year.
RETURNS = np.where(np.arange(T) % 2 == 0, 0.0062, -0.005)


def evidence(**others):
    """Return what a run without reproach leaves behind."""
    days = np.arange(FILLS) * 3
    clean = Evidence(
        sessions=SESSIONS,
        returns=RETURNS,
        profit=100_000.0,
        costs={"commission": 5_000.0, "spread": 5_000.0},
        profits=dict.fromkeys(NAMES, 25_000.0),
        filled_on=SESSIONS[days],
        decided_on=SESSIONS[days] - 1,
        fill_names=np.array([NAMES[at % 4] for at in range(FILLS)], dtype=object),
        participation=np.full(FILLS, 0.01),
        impact_charged=True,
        instruments=NAMES,
        held=np.ones((T, 4), dtype=bool),
        barless=np.zeros((T, 4), dtype=bool),
        regimes=np.array(["CALM", "CALM", "CRISIS", "CRISIS"] * (T // 4 + 1), dtype=object)[:T],
        survivorship="Delisted names included",
        listed=500,
        ended=60,
    )
    return replace(clean, **others)


def found(code, rules=None, **others):
    (one,) = [one for one in run_findings(evidence(**others), rules) if one.code == code]
    assert one.message
    assert run_finding(one.document()) == one
    return one


def test_nothing_stands_against_a_run_without_reproach():
    assert run_findings(evidence()) == ()


def test_a_fill_by_the_close_of_its_decision_is_a_veto_that_names_it():
    decided = evidence().decided_on.copy()
    decided[7] = SESSIONS[21]

    one = found("LOOK_AHEAD", decided_on=decided)

    assert one.severity is Severity.VETO
    row = {"instrument_id": "D", "decided_on": "2010-01-22", "filled_on": "2010-01-22"}
    assert one.evidence == (row,)
    assert "check lookahead" in one.remedy


def test_a_ratio_that_is_too_good_is_a_warning():
    steady = np.where(np.arange(T) % 2 == 0, 0.002, -0.0005)

    assert found("IMPLAUSIBLE", returns=steady).severity is Severity.WARN


@pytest.mark.parametrize(
    ("share", "severity"), [(0.06, Severity.WARN), (0.2, Severity.VETO), (0.04, None)]
)
def test_fills_too_large_for_the_market_are_found_by_the_largest_twentieth(share, severity):
    participation = np.full(FILLS, 0.001)
    participation[:24] = share
    codes = {one.code: one for one in run_findings(evidence(participation=participation))}

    if severity is None:
        assert "CAPACITY" not in codes
        return
    one = codes["CAPACITY"]
    assert one.severity is severity
    assert one.evidence[0]["share_of_volume"] == share
    assert f"trade about {0.05 / share:.0%} of this capital" in one.remedy


def test_a_capacity_that_cannot_be_known_is_said_and_not_passed():
    one = found("CAPACITY", participation=np.full(FILLS, np.nan))

    assert (one.severity, one.evidence) == (Severity.INFO, ())
    assert one.message == "not computed, because the volume of no fill's session is known"


@pytest.mark.parametrize(
    ("profit", "costs", "code", "severity"),
    [
        (60_000.0, 40_000.0, "COST_SHARE", Severity.WARN),
        (50_000.0, 50_000.0, "COST_SHARE", Severity.VETO),
        (-60_000.0, 50_000.0, "NO_GROSS_PROFIT", Severity.WARN),
    ],
)
def test_costs_that_eat_the_profit_are_found(profit, costs, code, severity):
    one = found(code, profit=profit, costs={"spread": costs, "commission": 0.0})

    assert one.severity is severity
    assert one.evidence[0] == {"kind": "spread", "usd": costs}


@pytest.mark.parametrize(
    ("profits", "severity"),
    [
        ({"A": 60.0, "B": 20.0, "C": 20.0}, Severity.WARN),
        ({"A": 120.0, "B": -40.0, "C": 20.0}, Severity.VETO),
    ],
)
def test_a_profit_of_one_instrument_is_found(profits, severity):
    one = found("PNL_CONCENTRATION", profits=profits)

    assert one.severity is severity
    assert one.evidence[0] == {"instrument_id": "A", "usd": profits["A"]}


def test_a_book_of_two_names_is_concentrated_by_design():
    assert run_findings(evidence(profits={"A": 99.0, "B": 1.0})) == ()


def test_a_profit_of_a_few_sessions_is_found_and_of_one_is_a_veto():
    flat = np.where(np.arange(T) % 2 == 0, 0.001, -0.001)
    five, one_day = flat.copy(), flat.copy()
    five[::150], one_day[100] = 0.02, 0.2

    assert found("BEST_SESSIONS", returns=five).severity is Severity.WARN
    one = found("BEST_SESSIONS", returns=one_day)
    assert one.severity is Severity.VETO
    assert one.evidence[0] == {"session": str(SESSIONS[100]), "return": 0.2}


@pytest.mark.parametrize(("fills", "severity"), [(20, Severity.VETO), (60, Severity.WARN)])
def test_few_trades_are_found(fills, severity):
    clean = evidence()
    cut = {
        name: getattr(clean, name)[:fills]
        for name in ("filled_on", "decided_on", "fill_names", "participation")
    }

    assert found("FEW_TRADES", **cut).severity is severity


@pytest.mark.parametrize(("every", "severity"), [(3, Severity.WARN), (10, Severity.VETO)])
def test_a_profit_of_one_regime_is_found_and_of_a_rare_one_is_a_veto(every, severity):
    rare = np.arange(T) % every == 0
    regimes = np.where(rare, "CRISIS", "CALM").astype(object)
    returns = np.where(rare, 0.012, -0.001) + RETURNS * 0.1

    one = found("REGIME_DEPENDENCE", returns=returns, regimes=regimes)

    assert one.severity is severity
    assert "outside CRISIS" in one.message
    assert [row["regime"] for row in one.evidence] == ["CALM", "CRISIS"]


def test_a_run_without_regimes_says_that_it_cannot_tell():
    assert found("REGIME_DEPENDENCE", regimes=None).severity is Severity.INFO


def test_positions_at_old_closes_are_found_by_share_and_by_length():
    long_gap, many = np.zeros((T, 4), dtype=bool), np.zeros((T, 4), dtype=bool)
    long_gap[100:112, 2] = True
    many[::3] = True

    gap = found("STALE_DATA", barless=long_gap)
    often = found("STALE_DATA", barless=many)

    assert gap.severity is Severity.WARN
    row = {"instrument_id": "C", "old_marks": 12, "longest": 12, "first": str(SESSIONS[100])}
    assert gap.evidence == (row,)
    assert often.severity is Severity.VETO
    assert run_findings(evidence(barless=long_gap, held=~long_gap)) == ()


@pytest.mark.parametrize(
    "others",
    [
        {"survivorship": "Survivorship-biased: twenty companies that survived"},
        {"listed": 500, "ended": 1},
    ],
)
def test_a_universe_without_its_dead_is_found_declared_or_not(others):
    assert found("SURVIVORSHIP", **others).severity is Severity.WARN


def test_a_warning_can_be_made_a_veto_and_vetoes_come_first():
    rules = FindingRules(veto=("SURVIVORSHIP",))
    seen = run_findings(
        evidence(
            survivorship="Survivorship-biased",
            regimes=None,
            profit=60_000.0,
            costs={"spread": 40_000.0},
        ),
        rules,
    )

    assert [(one.code, one.severity.value) for one in seen] == [
        ("SURVIVORSHIP", "VETO"),
        ("COST_SHARE", "WARN"),
        ("REGIME_DEPENDENCE", "INFO"),
    ]
    assert [one.code for one in vetoes_of(seen)] == ["SURVIVORSHIP"]


def neighbours(**ratios):
    return [
        Neighbour(name, {"names": int(name[1:]), "band": 0.1}, ratio)
        for name, ratio in ratios.items()
    ]


def test_the_best_value_on_the_edge_of_what_was_tried_is_found():
    own, *others = neighbours(n4=1.2, n2=0.8, n3=1.0)

    (one,) = neighbour_findings(own, others)

    assert one.code == "EDGE_PARAMETER"
    row = {"key": "names", "values": [2, 3, 4], "sharpes": [0.8, 1.0, 1.2], "best": 4}
    assert one.evidence == (row,)


def test_the_best_value_that_stands_alone_is_a_peak():
    own, *others = neighbours(n3=1.2, n2=0.1, n4=0.5)

    (one,) = neighbour_findings(own, others)

    assert one.code == "PARAMETER_PEAK"


def test_neighbours_say_nothing_of_a_plateau_of_two_values_or_of_a_run_that_is_not_best():
    plateau = neighbours(n3=1.2, n2=1.1, n4=1.0)
    two = neighbours(n3=1.2, n2=1.1)
    worse = neighbours(n4=0.5, n2=0.8, n3=1.0)
    elsewhere = [Neighbour("x", {"names": 5, "band": 0.2}, 0.1)]

    assert [neighbour_findings(own, others) for own, *others in (plateau, two, worse)] == [()] * 3
    assert neighbour_findings(two[0], [two[1], *elsewhere]) == ()


def test_every_code_that_a_finding_can_have_is_listed():
    source = Path(module.__file__).read_text(encoding="utf-8")

    made = re.findall(r'(?:RunFinding|_unanswered)\(\s*"([A-Z_]+)"', source)

    assert set(made) == set(module.CODES)
