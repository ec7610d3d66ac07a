"""A planted leak is found and named; an honest table is not accused."""

from dataclasses import dataclass, replace
from datetime import date
from itertools import chain

import numpy as np
import pytest

from prometheus_nt.actors.pipeline import PIPELINE, Stage
from prometheus_nt.config import EnginesConfig
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.sectors import SectorHistory
from prometheus_nt.engines.numerics.cross_section import sector_codes
from prometheus_nt.engines.numerics.returns import sector_returns, total_returns
from prometheus_nt.jobs.check.differences import first_difference
from prometheus_nt.jobs.check.engines import ALL_SLEEVES, compare_derived, look_ahead
from prometheus_nt.jobs.check.futures import DROPPED, NOISE, cuts_of
from prometheus_nt.jobs.check.report import LookaheadReport

QUICK = {
    "stability": {"lookback": 21, "min_observations": 10},
    "assessment": {"momentum_lookback": 42, "momentum_skip": 5},
    "universe": {"min_history_sessions": 30},
}
ENGINES = {"sleeve": EnginesConfig.model_validate(QUICK)}


@dataclass(frozen=True, eq=False)
class Signal:
    """What a planted engine publishes."""

    as_of: date
    values: np.ndarray


def _rows(leak):
    """Return an engine that publishes the newest row of a derived array."""

    def compute(panel, _params):
        return Signal(panel.as_of, panel.derived(leak)[-1])

    return compute


def shifted(panel):
    ahead = np.full_like(panel.close, np.nan)
    ahead[:-1] = panel.close[1:] / panel.close[:-1] - 1.0
    return ahead


def full_sample_zscore(panel):
    return (panel.close - panel.close.mean(axis=0)) / panel.close.std(axis=0)


def centred_window(panel):
    smooth = panel.close.copy()
    smooth[2:-2] = sum(panel.close[k : len(panel) - 4 + k] for k in range(5)) / 5.0
    return smooth


def backfilled(panel):
    holed = panel.close.copy()
    holed[::3] = np.nan
    filled = holed[::-1].copy()
    for row in range(1, len(filled)):
        missing = np.isnan(filled[row])
        filled[row, missing] = filled[row - 1, missing]
    return filled[::-1].copy()


def future_universe(panel):
    member = panel.volume.mean(axis=0) > np.median(panel.volume.mean(axis=0))
    return np.where(member, panel.close, 0.0)


def survivors_only(panel):
    return np.where(~np.isnan(panel.close[-1]), panel.close, 0.0) * panel.close[-1].sum()


def full_sample_transitions(panel):
    up = np.diff(panel.close, axis=0, prepend=panel.close[:1]) > 0
    stay = (up[1:] == up[:-1]).mean(axis=0)
    return np.where(up, stay, 1.0 - stay)


def target_in_fit(panel):
    past, future = panel.close[:-5], panel.close[5:]
    slope = (past * future).sum(axis=0) / (past * past).sum(axis=0)
    return panel.close * slope


def weekly_bar_labelled_left(panel):
    week = np.arange(len(panel)) // 5
    last = np.minimum((week + 1) * 5 - 1, len(panel) - 1)
    return panel.close[last]


def stamped_at_the_open(panel):
    early = panel.high.copy()
    early[:-1] = panel.high[1:]
    return early


LEAKS = (
    shifted,
    full_sample_zscore,
    centred_window,
    backfilled,
    future_universe,
    survivors_only,
    full_sample_transitions,
    target_in_fit,
    weekly_bar_labelled_left,
    stamped_at_the_open,
)


def momentum(panel):
    past = np.full_like(panel.close, np.nan)
    past[21:] = panel.close[21:] / panel.close[:-21] - 1.0
    return past


def expanding_zscore(panel):
    count = np.arange(1, len(panel) + 1)[:, None]
    mean = np.cumsum(panel.close, axis=0) / count
    variance = np.cumsum(panel.close**2, axis=0) / count - mean**2
    return (panel.close - mean) / np.sqrt(np.maximum(variance, 1e-12))


def ranked(panel):
    return panel.close.argsort(axis=1).argsort(axis=1).astype(float)


CLEAN = (momentum, expanding_zscore, ranked)


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_planted_leak_is_found_and_named(panel, leak):
    table = (Stage("planted", _rows(leak), (MarketPanel,), Signal),)

    report = look_ahead(panel, ENGINES, stages=table)["sleeve"]

    leak = report.leaks["planted"]
    assert (leak.part, leak.field) == ("planted", "values")
    assert leak.as_of <= leak.cut


@pytest.mark.parametrize("engine", CLEAN, ids=lambda engine: engine.__name__)
def test_an_honest_engine_is_not_accused(panel, engine):
    table = (Stage("honest", _rows(engine), (MarketPanel,), Signal),)

    report = look_ahead(panel, ENGINES, stages=table)["sleeve"]

    assert report.leaks == {}
    assert report.compared["honest"] > 0


def test_an_array_that_leaks_on_one_session_of_the_year_is_found(panel):
    def once_a_year(history):
        values = history.close.copy()
        values[30] = history.close[-1]
        return values

    table = (Stage("planted", _rows(once_a_year), (MarketPanel,), Signal),)

    reports = look_ahead(panel, ENGINES, stages=table)

    (leak,) = reports[ALL_SLEEVES].leaks.values()
    assert reports["sleeve"].leaks == {}
    assert leak.field.endswith("once_a_year")
    assert leak.as_of == panel.sessions[30].astype(object)


def test_an_engine_seeded_by_the_fingerprint_of_all_data_is_caught(panel):
    def seeded(history, _params):
        seed = list(history.fingerprint.encode())
        return Signal(history.as_of, np.random.default_rng(seed).random(3))

    table = (Stage("seeded", seeded, (MarketPanel,), Signal),)

    report = look_ahead(panel, ENGINES, stages=table)["sleeve"]

    assert report.leaks["seeded"].field == "values"


def test_every_row_of_the_day_is_honest(panel):
    reports = look_ahead(panel, ENGINES)

    report = reports["sleeve"]
    assert report.leaks == reports[ALL_SLEEVES].leaks == {}
    assert len(reports[ALL_SLEEVES].compared) > 3
    needed = {stage.name for stage in PIPELINE if not stage.skippable}
    assert needed <= {name for name, count in report.compared.items() if count > 0}


def test_a_leak_downstream_of_a_leak_is_found_in_both(panel):
    def passed_on(signal, _params):
        return Passed(signal.as_of, float(signal.values.sum()))

    @dataclass(frozen=True)
    class Passed:
        as_of: date
        total: float

    table = (
        Stage("planted", _rows(shifted), (MarketPanel,), Signal),
        Stage("downstream", passed_on, (Signal,), Passed),
    )

    report = look_ahead(panel, ENGINES, stages=table)["sleeve"]

    assert {stage: leak.field for stage, leak in report.leaks.items()} == {
        "planted": "values",
        "downstream": "total",
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "field"),
    [
        (Signal(date(2020, 1, 2), np.array([1.0, np.nan])), None, "record"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "b"),
        ((1, 2), (1, 2, 3), "length"),
        ({"a": (1.0, float("nan"))}, {"a": (1.0, float("nan"))}, None),
        (np.array([0.0]), np.array([-0.0]), None),
        (np.array([1.0]), np.array([np.nextafter(1.0, 2.0)]), "record"),
    ],
)
def test_differences_are_found_to_the_last_bit(ours, theirs, field):
    assert first_difference(ours, theirs) == field


def test_the_zoo_has_no_doubles():
    names = [item.__name__ for item in chain(LEAKS, CLEAN)]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("known_from", "honest"), [(330, True), (250, False)])
def test_a_sector_first_seen_after_a_cut_is_no_leak_and_one_used_before_it_is(
    panel, known_from, honest
):
    first, later = panel.sessions[[0, 330]].astype(object)
    before, after = ("A", "B") * 4, ("A", "C") * 4
    history = SectorHistory.of({first: before, later: after})
    dated = replace(panel, sector_history=history, _wall=None)

    def hindsight(whole):
        """Sector returns of the newest members from `known_from` on: honest from row 330 only."""
        returns = sector_returns(whole)
        if len(whole) > 330:
            last = sector_codes(whole)
            for code in np.unique(last):
                members = total_returns(whole)[known_from:, last == code]
                returns[known_from:, code] = members.mean(axis=1)
        return returns

    (cut,) = cuts_of(dated, [300], [(NOISE, DROPPED)], seed=1)
    for history in (cut.honest, *cut.changed.values()):
        history.derived(hindsight)
    report = LookaheadReport()
    compare_derived(cut, report)

    assert (not report.leaks) == honest
