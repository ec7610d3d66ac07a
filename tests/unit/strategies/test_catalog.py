from typing import get_args

import pytest
from pydantic import ValidationError

from prometheus_nt.domain.calendar import MARKETS
from prometheus_nt.domain.errors import ConfigError
from strategies.catalog import CATALOG, SleeveParams, family
from strategies.gate import GateParams
from strategies.planner import PlannerParams
from strategies.schedule import Rebalance


def test_a_sleeve_is_named_after_its_family_and_horizon():
    sleeve = SleeveParams(family="US_CORE_LONG_EQ", horizon=63)

    assert sleeve.sleeve_id == "US_CORE_LONG_EQ_H63"
    assert sleeve.portfolio_id == "US_CORE_LONG_EQ_H63_PORTFOLIO"


def test_a_variant_is_part_of_the_name():
    assert SleeveParams(variant="EQUAL").sleeve_id == "US_CORE_LONG_EQ_H21_EQUAL"


def test_a_family_is_found_by_its_name():
    assert family(SleeveParams(horizon=5)) is CATALOG["US_CORE_LONG_EQ"]


def test_an_unknown_family_is_refused_and_the_known_ones_named():
    with pytest.raises(ConfigError) as refused:
        family(SleeveParams(family="US_CORE"))

    known = ", ".join(CATALOG)
    assert str(refused.value) == f"sleeves.family: unknown family 'US_CORE'; known: {known}"


def test_an_unknown_horizon_is_refused_and_the_known_ones_named():
    with pytest.raises(ConfigError) as refused:
        family(SleeveParams(horizon=10))

    assert str(refused.value) == (
        "sleeves.horizon: US_CORE_LONG_EQ has no horizon 10; known: 5, 21, 63"
    )


@pytest.mark.parametrize("bad", [{"capital_usd": 0}, {"capital_usd": -1}, {"rebalance": "yearly"}])
def test_impossible_sleeves_are_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        SleeveParams(**bad)


@pytest.mark.parametrize("name", CATALOG)
def test_every_family_is_complete(name):
    found = CATALOG[name]

    assert found.strategy_id == name
    assert found.market_id in MARKETS
    assert set(found.schedules) == set(found.engine_overrides)
    assert set(found.schedules.values()) <= set(get_args(Rebalance))
    for horizon, engines in found.engine_overrides.items():
        assert engines["assessment"]["horizon"] == horizon
    planner, gate = PlannerParams(**found.planner_overrides), GateParams(**found.gate_overrides)
    assert planner.max_gross <= gate.max_gross, "the gate would refuse a plan that is full"


@pytest.mark.parametrize("name", CATALOG)
def test_the_horizons_of_a_family_differ_in_what_they_see(name):
    implied = [
        {stage: {**settings, "horizon": None} for stage, settings in engines.items()}
        for engines in CATALOG[name].engine_overrides.values()
    ]

    assert all(one not in implied[:index] for index, one in enumerate(implied))


def test_a_meta_book_says_what_it_follows_and_nobody_else_does():
    sleeve = SleeveParams(family="META_BOOK", horizon=1, metas=("META-0123456789abcdef",))

    assert (sleeve.sleeve_id, sleeve.follows_members) == ("META_BOOK_H1", True)
    with pytest.raises(ValidationError, match="at least one finished meta-portfolio"):
        SleeveParams(family="META_BOOK", horizon=1)
    with pytest.raises(ValidationError, match="only META_BOOK follows"):
        SleeveParams(metas=("META-0123456789abcdef",))
