from pathlib import Path

import pytest
import yaml

from prometheus_nt.campaign_config import load_campaign, plan_campaign, plan_of
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.campaign import horizon_campaign

BASE = Path("configs/us_core_long_eq.yaml").resolve()
MINIMAL = {
    "campaign": "test",
    "base": str(BASE),
    "sessions": {"start": "2005-01-03", "end": "2006-12-29"},
}
GRID = {
    "sleeve.horizon": [21, 63],
    "engines.portfolio.max_names": [5, 10],
    "engines.assessment.volatility_lookback": [21, 126],
}


@pytest.fixture
def planned(tmp_path):
    def plan(**content):
        path = tmp_path / "campaign.yaml"
        path.write_text(yaml.safe_dump(MINIMAL | content))
        return load_campaign(path)

    return plan


def ids(plan):
    return [variant.sleeve.sleeve_id for variant in plan.variants()]


def test_every_combination_is_a_node_with_one_sleeve_of_its_own(planned):
    variants = planned(grid=GRID).variants()

    assert len(variants) == 8
    assert len({variant.sleeve.sleeve_id for variant in variants}) == 8
    for variant in variants:
        engines = variant.node.engines_of(variant.sleeve)
        assert engines.portfolio.max_names == variant.settings["engines.portfolio.max_names"]
        assert variant.sleeve.horizon == variant.settings["sleeve.horizon"]
        assert str(variant.node.sessions.end) == "2006-12-29"
        # What the base's file sets and the grid does not is kept.
        assert engines.portfolio.max_weight == 0.15


def test_what_is_excluded_or_does_not_compare_is_left_out(planned):
    plan = planned(
        grid=GRID,
        exclude=[{"sleeve.horizon": 63, "engines.portfolio.max_names": [5, 10]}],
        require=["engines.assessment.volatility_lookback < 100"],
    )

    assert [variant.settings["engines.portfolio.max_names"] for variant in plan.variants()] == [
        5,
        10,
    ]


def test_an_id_is_that_of_the_content_whatever_the_dates_and_the_way_to_say_it(planned):
    implied = planned(grid={"sleeve.horizon": [21]})
    said = planned(
        grid={"sleeve.horizon": [21], "engines.assessment.momentum_skip": [21]},
        sessions={"start": "2010-01-04", "end": "2011-12-30"},
    )
    other = planned(grid={"sleeve.horizon": [21], "engines.assessment.momentum_skip": [10]})

    assert ids(implied) == ids(said)
    assert ids(implied) != ids(other)


def test_two_ways_to_say_the_same_are_one_variant(planned):
    plan = planned(grid={"seed": [0], "engines.portfolio.max_names": [10, 10]})

    assert len(plan.variants()) == 1


def test_a_variant_read_back_from_its_row_is_the_same_to_the_hash(planned):
    settings = {"execution.planner.no_trade_band": [0.02], "gate.long_only": [False]}
    plan = planned(families=["US_LONG_SHORT_EQ"], grid=settings)
    (variant,) = plan.variants()

    stored = variant.node.model_dump(mode="json", exclude_unset=True)
    again = NodeConfig.model_validate(stored)

    assert again.config_hash(again.sleeves[0]) == variant.node.config_hash(variant.sleeve)
    # The family's own limits hold: a stored default would have overridden them.
    assert again.planner_of(again.sleeves[0]).max_gross == 2.0


def test_a_plan_read_back_from_its_row_has_the_same_variants(planned):
    plan = planned(grid=GRID, disable_risk=True)

    assert ids(plan_of(plan.document())) == ids(plan)


def test_disabling_risk_is_recorded_in_the_node_and_leaves_the_gate_alone(planned):
    (on,) = planned().variants()
    (off,) = planned(disable_risk=True).variants()

    risk = off.node.engines_of(off.sleeve).risk
    assert (risk.max_abs_weight_per_name, risk.max_sector_weight) == (1.0, None)
    assert off.node.resolved(off.sleeve)["engines"]["risk"]["max_gross"] == 5.0
    assert off.node.gate_of(off.sleeve) == on.node.gate_of(on.sleeve)
    assert off.sleeve.sleeve_id != on.sleeve.sleeve_id


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"sesions": {}}, r"sesions: unknown field; did you mean 'sessions'\?"),
        ({"holdout": {"start": "2006-01-03", "end": "2007-12-28"}}, "is no hold-out"),
        ({"markets": {"MARS_EQ": {}}}, "markets: unknown MARS_EQ"),
        ({"grid": {"seed": []}}, "grid: no value for seed"),
        ({"exclude": [{"seed": 3}]}, "exclude: not in the grid: seed"),
        ({"require": ["seed is small"]}, "is no comparison"),
        ({"require": ["seed < 3"]}, "seed is not in the grid"),
        ({"grid": {"engines.portfolio.max_nams": [3]}}, "did you mean 'max_names'"),
        ({"grid": {"sleeve.horizon": [7]}}, "has no horizon 7; known: 5, 21, 63"),
        ({"families": ["US_CORE_LONG"]}, "unknown family 'US_CORE_LONG'"),
        ({"markets": {"EU_EQ": {}}}, "the family trades on US_EQ, not on EU_EQ"),
        ({"grid": {"seed": [1]}, "require": ["seed > 3"]}, "leave no variant"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(planned, content, reason):
    with pytest.raises(ConfigError, match=reason):
        planned(**content).variants()


def test_the_bundled_campaign_has_sixty_variants_and_a_sealed_end():
    plan = load_campaign(Path("configs/campaigns/us_core_grid.yaml"))

    assert len(plan.variants()) == 60
    assert plan.config.holdout.start > plan.config.sessions.end


def test_the_campaign_of_a_strategy_has_one_sleeve_a_horizon():
    from datetime import date

    window = (date(2005, 1, 3), date(2006, 12, 29))
    plan = plan_campaign(horizon_campaign("US_CORE_LONG_EQ", "US_EQ", window), [BASE])

    assert [variant.sleeve.horizon for variant in plan.variants()] == [5, 21, 63]
    with pytest.raises(ConfigError, match="unknown strategy 'NONE'"):
        horizon_campaign("NONE", "US_EQ", window)


@pytest.mark.parametrize(("keep", "kept"), [(3, 3), (1, 2), (0.25, 3), (0.9, 9), (50, 10)], ids=str)
def test_a_screen_keeps_a_number_or_a_part_and_never_fewer_than_can_be_selected(
    planned, keep, kept
):
    config = planned(screen={"keep": keep}).config

    assert config.screens
    assert config.screen.kept(10, 2) == kept
    assert plan_of(planned(screen={"keep": keep}).document()).config == config


def test_a_part_of_a_variant_is_refused_and_a_screen_can_be_switched_off(planned):
    with pytest.raises(ConfigError, match=r"screen.*keep: a number of variants or a fraction"):
        planned(screen={"keep": 2.5})

    assert not planned(screen={"enabled": False}).config.screens
    assert not planned().config.screens
