from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.yaml_models import deep_merge, read_yaml
from strategies.catalog import CATALOG, SleeveParams
from strategies.gate import GateParams

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

MINIMAL = """\
sessions: {start: 2020-01-02}
data: {dataset: sample}
sleeves: [{horizon: 21}]
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load YAML texts as files 0.yaml, 1.yaml, ... with no environment but the one given."""
    monkeypatch.chdir(tmp_path)

    def load(*texts, sets=(), environment=None) -> NodeConfig:
        paths = [Path(f"{number}.yaml") for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, encoding="utf-8")
        return load_config(paths, sets, environment or {})

    return load


@pytest.fixture
def refusal(load):
    def refusal(*texts, **options) -> str:
        with pytest.raises(ConfigError) as refused:
            load(*texts, **options)
        return str(refused.value)

    return refusal


def test_a_minimal_file_is_enough(load):
    config = load(MINIMAL)

    assert config.sessions.start == date(2020, 1, 2)
    assert config.sessions.end is None
    assert config.data.dataset == "sample"
    assert (config.mode, config.region, config.market, config.seed) == (
        "backtest",
        "US",
        "US_EQ",
        0,
    )
    assert config.sleeves == (SleeveParams(horizon=21),)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_configurations_we_ship_are_valid(path):
    config = load_config([path], (), {})

    for sleeve in config.sleeves:
        assert config.engines_of(sleeve).assessment.horizon == sleeve.horizon


def test_there_are_configurations_to_ship():
    assert SHIPPED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "engines: {stability: {lookbak: 5}}",
            "0.yaml: engines.stability.lookbak: unknown field; did you mean 'lookback'?",
        ),
        (
            "engines: {stabilty: {lookback: 5}}",
            "0.yaml: engines.stabilty: unknown field; did you mean 'stability'?",
        ),
        ("sed: 1", "0.yaml: sed: unknown field; did you mean 'seed'?"),
        (
            "engines: {portfolio: {solver: {max_factor_exposure: {momentun: 0.5}}}}",
            "0.yaml: engines.portfolio.solver.max_factor_exposure.momentun: unknown field; did "
            "you mean 'momentum'?",
        ),
        (
            "execution: {fees: {minimum: 1}}",
            "0.yaml: execution.fees.minimum: unknown field; did you mean 'minimum_usd'?",
        ),
        (
            "execution: {router: {xyz: 1}}",
            "0.yaml: execution.router.xyz: unknown field; known: unquoted, max_carry_sessions",
        ),
    ],
)
def test_an_unknown_field_is_named_with_the_likeliest_known_one(refusal, text, message):
    assert refusal(f"{MINIMAL}{text}\n") == message


def test_an_unknown_field_of_a_sleeve_is_named_with_its_place_in_the_list(refusal):
    text = MINIMAL.replace("[{horizon: 21}]", "[{horizon: 5}, {horizn: 21}]")

    assert refusal(text) == "0.yaml: sleeves.1.horizn: unknown field; did you mean 'horizon'?"


def test_a_mistake_in_the_only_sleeve_is_one_line(refusal):
    assert refusal(MINIMAL.replace("horizon", "horizn")) == (
        "0.yaml: sleeves.0.horizn: unknown field; did you mean 'horizon'?"
    )


def test_a_mistake_in_an_engine_is_one_line_however_many_sleeves_it_concerns(refusal):
    text = MINIMAL.replace("{horizon: 21}", "{horizon: 5}, {horizon: 21}, {horizon: 63}")

    assert refusal(f"{text}engines: {{portfolio: {{max_name: 3}}}}\n") == (
        "0.yaml: engines.portfolio.max_name: unknown field; did you mean 'max_names'?"
    )


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            "engines: {portfolio: {max_name: 3}}",
            "sleeves.1.engines.portfolio.max_name: unknown field; did you mean 'max_names'?",
        ),
        (
            "planner: {cash_bufer: 0.1}",
            "sleeves.1.planner.cash_bufer: unknown field; did you mean 'cash_buffer'?",
        ),
        (
            "gate: {max_groos: 1}",
            "sleeves.1.gate.max_groos: unknown field; did you mean 'max_gross'?",
        ),
        (
            "engines: {stability: {lookback: many}}",
            "sleeves.1.engines.stability.lookback: Input should be a valid integer, unable to "
            "parse string as an integer, found 'many'",
        ),
    ],
)
def test_a_mistake_in_the_settings_of_one_sleeve_names_that_sleeve(refusal, own, message):
    text = MINIMAL.replace("[{horizon: 21}]", f"[{{horizon: 5}}, {{horizon: 21, {own}}}]")

    assert refusal(text) == f"0.yaml: {message}"


def test_a_mistake_of_the_node_is_not_blamed_on_a_sleeve_with_settings_of_its_own(refusal):
    sleeve = "{horizon: 21, engines: {portfolio: {max_names: 3}}, gate: {max_gross: 1}}"
    text = MINIMAL.replace("{horizon: 21}", sleeve)

    assert refusal(f"{text}engines: {{portfolio: {{max_wait: 3}}}}\n").startswith(
        "0.yaml: engines.portfolio.max_wait: unknown field"
    )


@pytest.mark.parametrize("variant", ["lower", "'A B'", "''", "X" * 25])
def test_a_variant_that_cannot_be_part_of_an_id_is_refused_in_words(refusal, variant):
    text = MINIMAL.replace("{horizon: 21}", f"{{horizon: 21, variant: {variant}}}")

    message = refusal(text)

    assert message.startswith(
        "0.yaml: sleeves.0.variant: must be 1 to 24 capital letters, digits or underscores, as ids "
        "are, found "
    )


def test_every_mistake_in_the_engines_is_reported(refusal):
    text = "engines: {portfolio: {max_name: 3}, stability: {lookbook: 5, lookback: many}}\n"

    lines = [line.split(": ")[1] for line in refusal(f"{MINIMAL}{text}").splitlines()]

    assert sorted(lines) == [
        "engines.portfolio.max_name",
        "engines.stability.lookback",
        "engines.stability.lookbook",
    ]


@pytest.mark.parametrize(
    ("line", "field"),
    [(0, "sessions"), (1, "data"), (2, "sleeves")],
)
def test_a_missing_setting_is_named(refusal, line, field):
    lines = MINIMAL.splitlines()
    del lines[line]

    assert refusal("\n".join(lines)) == f"0.yaml: {field}: required, but not given"


def test_a_missing_nested_setting_is_named(refusal):
    assert refusal(MINIMAL.replace("start: 2020-01-02", "end: 2020-01-02")) == (
        "0.yaml: sessions.start: required, but not given"
    )


def test_every_mistake_is_reported_not_only_the_first(refusal):
    message = refusal("sleeves: [{horizon: 21}]\nsed: 1\n")

    assert sorted(message.splitlines()) == [
        "0.yaml: data: required, but not given",
        "0.yaml: sed: unknown field; did you mean 'seed'?",
        "0.yaml: sessions: required, but not given",
    ]


@pytest.mark.parametrize(
    ("text", "field", "found"),
    [
        ("engines: {stability: {lookback: many}}", "engines.stability.lookback", "'many'"),
        ("engines: {stability: {lookback: 2}}", "engines.stability.lookback", "2"),
        ("seed: -1", "seed", "-1"),
        ("mode: livetrading", "mode", "'livetrading'"),
        ("gate: {max_gross: 0}", "gate.max_gross", "0"),
        ("execution: {fill_timing: same_close}", "execution.fill_timing", "'same_close'"),
        ("engines:", "engines", "None"),
        ("engines: {stability:}", "engines.stability", "None"),
        ("engines: {stability: 5}", "engines.stability", "5"),
    ],
)
def test_a_wrong_value_names_the_file_the_field_and_what_was_found(refusal, text, field, found):
    message = refusal(f"{MINIMAL}{text}\n")

    assert message.startswith(f"0.yaml: {field}: Input should be")
    assert message.endswith(f", found {found}")


def test_a_key_given_twice_is_an_error_that_names_it(refusal):
    message = refusal(f"{MINIMAL}seed: 1\nseed: 2\n")

    assert message.startswith("0.yaml: not valid YAML")
    assert message.endswith("given twice: seed")


def test_a_nested_key_given_twice_is_an_error(refusal):
    assert "given twice: max_gross" in refusal(f"{MINIMAL}gate: {{max_gross: 1, max_gross: 2}}\n")


def test_a_merge_key_takes_what_another_mapping_says_and_may_override_it(load):
    sleeves = "[&sleeve {horizon: 21, capital_usd: 5}, {<<: *sleeve, horizon: 63}]"

    config = load(MINIMAL.replace("[{horizon: 21}]", sleeves))

    assert config.sleeves == (
        SleeveParams(horizon=21, capital_usd=5),
        SleeveParams(horizon=63, capital_usd=5),
    )


def test_a_key_given_twice_beside_a_merge_key_is_an_error(refusal):
    sleeves = "[&sleeve {horizon: 21}, {<<: *sleeve, horizon: 5, horizon: 63}]"

    assert refusal(MINIMAL.replace("[{horizon: 21}]", sleeves)).endswith("given twice: horizon")


@pytest.mark.parametrize(("text", "found"), [("- a\n- b\n", "list"), ("hello\n", "str")])
def test_a_file_that_is_no_mapping_is_refused(refusal, text, found):
    assert refusal(text) == f"0.yaml: expected a mapping of settings, found {found}"


def test_a_file_that_is_no_yaml_is_refused(refusal):
    assert refusal("a: [\n").startswith("0.yaml: not valid YAML: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read: .*No such file"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match=r"binary.yaml: cannot be read"):
        read_yaml(path)


def test_a_later_file_overrides_an_earlier_one_setting_by_setting(load):
    later = "gate: {max_gross: 0.5}\nsleeves: [{horizon: 5}]\n"

    config = load(f"{MINIMAL}gate: {{max_gross: 0.9, max_position_weight: 0.1}}\n", later)

    assert (config.gate.max_gross, config.gate.max_position_weight) == (0.5, 0.1)
    assert [sleeve.horizon for sleeve in config.sleeves] == [5]


def test_a_mistake_in_several_files_names_them_all(refusal):
    assert refusal(MINIMAL, "sed: 1\n").startswith("0.yaml + 1.yaml: sed: unknown field")


def test_the_environment_overrides_the_files(load):
    environment = {
        "PROMETHEUS__SEED": "7",
        "PROMETHEUS__SESSIONS__END": "2021-01-04",
        "PROMETHEUS__GATE__LONG_ONLY": "false",
        "PROMETHEUS__ENGINES__STABILITY__LOOKBACK": "126",
        "PROMETHEUS_HOME": "/nowhere",
        "SEED": "9",
    }

    config = load(f"{MINIMAL}seed: 1\n", environment=environment)

    assert config.seed == 7
    assert config.sessions.end == date(2021, 1, 4)
    assert config.gate.long_only is False
    assert config.engines == {"stability": {"lookback": 126}}
    assert config.engines_of(config.sleeves[0]).stability.lookback == 126


def test_assignments_override_the_environment(load):
    sets = ["seed=8", "engines.stability.lookback=84", "gate.max_order_notional_usd=null"]

    config = load(MINIMAL, sets=sets, environment={"PROMETHEUS__SEED": "7"})

    assert config.seed == 8
    assert config.engines == {"stability": {"lookback": 84}}
    assert config.engines_of(config.sleeves[0]).stability.lookback == 84
    assert config.gate.max_order_notional_usd is None


def test_the_last_of_two_assignments_wins(load):
    assert load(MINIMAL, sets=["seed=1", "seed=2"]).seed == 2


def test_an_assignment_can_hold_a_list_and_an_equals_sign(load):
    config = load(MINIMAL, sets=["instruments=[AAPL.US, MSFT.US]", "data.dataset=a=b"])

    assert config.instruments == ("AAPL.US", "MSFT.US")
    assert config.data.dataset == "a=b"


def test_an_assignment_without_an_equals_sign_is_refused_with_an_example(refusal):
    assert refusal(MINIMAL, sets=["seed"]) == (
        "--set 'seed': expected key=value, for example seed=7"
    )


def test_an_assignment_to_an_unknown_field_is_refused(refusal):
    assert refusal(MINIMAL, sets=["sed=1"]) == (
        "0.yaml + --set sed=1: sed: unknown field; did you mean 'seed'?"
    )


def test_a_mistake_names_every_file_variable_and_assignment_it_may_come_from(refusal):
    environment = {"PROMETHEUS__SEED": "7", "PROMETHEUS__ENGINES__RISK__X": "1", "HOME": "/nowhere"}

    message = refusal(MINIMAL, "seed: 1\n", sets=["seed=8"], environment=environment)

    assert message.startswith(
        "0.yaml + 1.yaml + PROMETHEUS__ENGINES__RISK__X + PROMETHEUS__SEED + --set seed=8: "
        "engines.risk.x: unknown field; "
    )


def test_an_assignment_that_is_no_yaml_is_refused_by_name(refusal):
    assert refusal(MINIMAL, sets=["seed=1", "instruments=[AAPL.US"]).startswith(
        "--set instruments=[AAPL.US: '[AAPL.US' is not a YAML value: "
    )


def test_a_variable_that_is_no_yaml_is_refused_by_name(refusal):
    environment = {"PROMETHEUS__INSTRUMENTS": "[AAPL.US"}

    assert refusal(MINIMAL, environment=environment).startswith(
        "PROMETHEUS__INSTRUMENTS: '[AAPL.US' is not a YAML value: "
    )


def test_sessions_cannot_end_before_they_start(refusal):
    text = MINIMAL.replace("2020-01-02", "2020-01-02, end: 2019-12-31")

    assert "sessions: end 2019-12-31 lies before start 2020-01-02" in refusal(text)


def test_one_session_is_a_span(load):
    config = load(MINIMAL.replace("2020-01-02", "2020-01-02, end: 2020-01-02"))

    assert config.sessions.end == config.sessions.start


def test_a_region_trades_its_own_market(refusal, load):
    assert "region EU trades EU_EQ, not US_EQ" in refusal(f"{MINIMAL}region: EU\n")
    assert load(f"{MINIMAL}region: EU\nmarket: EU_EQ\n").market == "EU_EQ"


def test_two_sleeves_cannot_have_one_id(refusal):
    text = MINIMAL.replace("[{horizon: 21}]", "[{horizon: 21}, {horizon: 21, capital_usd: 5}]")

    assert "two sleeves have one id: US_CORE_LONG_EQ_H21" in refusal(text)


def test_a_variant_tells_two_sleeves_apart_and_may_have_settings_of_its_own(load):
    text = MINIMAL.replace(
        "[{horizon: 21}]",
        "[{horizon: 21}, {horizon: 21, variant: TWO, engines: {portfolio: {max_names: 2}}}]",
    )

    first, second = (config := load(text)).sleeves

    assert config.engines_of(first).portfolio.max_names is None
    assert config.engines_of(second).portfolio.max_names == 2
    assert config.config_hash(first) != config.config_hash(second)


def test_the_settings_of_a_sleeve_come_last(load):
    text = MINIMAL.replace(
        "[{horizon: 21}]", "[{family: US_LONG_SHORT_EQ, horizon: 21, gate: {max_gross: 3.0}}]"
    )

    config = load(f"{text}gate: {{max_gross: 2.5, max_position_weight: 0.2}}\n")

    gate = config.gate_of(config.sleeves[0])
    assert (gate.long_only, gate.max_gross, gate.max_position_weight) == (False, 3.0, 0.2)


@pytest.mark.parametrize(
    ("sleeve", "message"),
    [
        ("{horizon: 22}", "sleeves.horizon: US_CORE_LONG_EQ has no horizon 22; known: 5, 21, 63"),
        ("{family: NONE}", "sleeves.family: unknown family 'NONE'; known: " + ", ".join(CATALOG)),
    ],
)
def test_a_sleeve_that_no_family_offers_is_refused_at_once(refusal, sleeve, message):
    assert refusal(MINIMAL.replace("{horizon: 21}", sleeve)) == message


def test_a_node_needs_a_sleeve(refusal):
    assert "0.yaml: sleeves: Tuple should have at least 1 item" in refusal(
        MINIMAL.replace("{horizon: 21}", "")
    )


def test_engine_settings_are_the_defaults_then_the_familys_then_the_files(load):
    text = f"{MINIMAL}engines: {{assessment: {{momentum_lookback: 100, horizon: 63}}}}\n"
    config = load(text.replace("{horizon: 21}", "{horizon: 5}"))

    engines = config.engines_of(config.sleeves[0])

    assert engines.assessment.momentum_weight == 0.5  # the default
    assert engines.assessment.momentum_skip == 5  # the family's, for five sessions
    assert engines.assessment.reversal_lookback == 5
    assert engines.assessment.momentum_lookback == 100  # the file's
    assert engines.assessment.horizon == 5  # the sleeve's, whatever the file says
    assert engines.portfolio.book_id == "US_CORE_LONG_EQ_H5_PORTFOLIO"


def test_a_setting_that_only_the_familys_other_settings_allow_is_accepted(load):
    # 15 sessions of momentum are too few for the default skip of 21, but not for this sleeve's 5.
    text = MINIMAL.replace("horizon: 21", "horizon: 5")

    config = load(f"{text}engines: {{assessment: {{momentum_lookback: 15}}}}\n")

    assessment = config.engines_of(config.sleeves[0]).assessment
    assert (assessment.momentum_lookback, assessment.momentum_skip) == (15, 5)


def test_a_setting_that_contradicts_the_familys_is_refused_at_once(refusal):
    # 100 is shorter than the default lookback of 252, but not than this sleeve's 63.
    text = MINIMAL.replace("horizon: 21", "horizon: 5")

    message = refusal(f"{text}engines: {{assessment: {{momentum_skip: 100}}}}\n")

    assert message.startswith(
        "0.yaml: engines.assessment: momentum_skip: must be shorter than momentum_lookback, "
        "found horizon=5, momentum_lookback=63, momentum_skip=100"
    )
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("construction", ["long_short, max_names: 10", "short_hedge"])
def test_a_book_that_sells_short_is_refused_where_risk_would_reject_its_shorts(
    load, refusal, construction
):
    engines = f"engines: {{portfolio: {{construction: {construction}}}, risk: {{long_only: %s}}}}\n"
    text = f"{MINIMAL}gate: {{long_only: false}}\n{engines}"

    message = refusal(text % "true")

    assert "risk.long_only: would reject every short of" in message
    assert load(text % "false")


@pytest.mark.parametrize("name", ["US_LONG_SHORT_EQ", "US_SHORT_HEDGE_EQ"])
def test_a_book_that_sells_short_is_refused_where_the_gate_would_refuse_its_plans(refusal, name):
    sleeve = f"{{family: {name}, horizon: 21%s}}"
    own = MINIMAL.replace("{horizon: 21}", "{horizon: 5}, " + sleeve % ", gate: {long_only: true}")
    node = MINIMAL.replace("{horizon: 21}", sleeve % "") + "gate: {long_only: true}\n"

    messages = refusal(own), refusal(node)

    places = "0.yaml: sleeves.1.gate.long_only: ", "0.yaml: gate.long_only: "
    for message, place in zip(messages, places, strict=True):
        assert message.startswith(f"{place}would refuse every plan of {name}_H21, whose ")
        assert message.endswith("sells short; set it to false")


def test_a_long_short_book_needs_a_gate_that_lets_it_sell_short(load, refusal):
    text = (
        f"{MINIMAL}engines: {{portfolio: {{construction: long_short, max_names: 10}}, "
        "risk: {long_only: false}}\n"
    )

    assert refusal(text).startswith("0.yaml: gate.long_only: would refuse every plan of ")
    assert load(f"{text}gate: {{long_only: false}}\n")


def test_a_setting_must_suit_every_sleeve(load, refusal):
    engines = "engines: {assessment: {momentum_skip: 100}}\n"
    both = MINIMAL.replace("{horizon: 21}", "{horizon: 21}, {horizon: 5}")

    assert load(f"{MINIMAL}{engines}").engines == {"assessment": {"momentum_skip": 100}}
    assert "engines.assessment: momentum_skip" in refusal(f"{both}{engines}")


def test_settings_of_the_file_reach_every_sleeve(load):
    config = load(
        MINIMAL.replace("{horizon: 21}", "{horizon: 5}, {horizon: 63}")
        + "engines: {stability: {lookback: 99}, portfolio: {max_names: 7}}\n"
    )

    engines = [config.engines_of(sleeve) for sleeve in config.sleeves]

    assert [item.stability.lookback for item in engines] == [99, 99]
    assert [item.portfolio.max_names for item in engines] == [7, 7]
    assert [item.assessment.momentum_lookback for item in engines] == [63, 252]


@pytest.fixture
def signed_family(monkeypatch):
    """A family of the catalog whose books are long and short."""
    signed = replace(
        CATALOG["US_CORE_LONG_EQ"],
        planner_overrides={"max_gross": 2.0, "cash_buffer": 0.05},
        gate_overrides={"long_only": False, "max_gross": 2.0, "max_net": 0.1},
    )
    monkeypatch.setitem(CATALOG, "SIGNED", signed)


SIGNED = MINIMAL.replace("{horizon: 21}", "{family: SIGNED}, {horizon: 21}")


def test_planner_and_gate_are_the_defaults_then_the_familys_then_the_files(load, signed_family):
    config = load(
        f"{SIGNED}execution: {{planner: {{cash_buffer: 0.02}}}}\ngate: {{max_net: 0.2}}\n"
    )

    signed, plain = config.sleeves

    planner, gate = config.planner_of(signed), config.gate_of(signed)
    assert planner.no_trade_band == 0.002  # the default
    assert planner.max_gross == 2.0  # the family's
    assert planner.cash_buffer == 0.02  # the file's
    assert (gate.long_only, gate.max_gross, gate.max_net) == (False, 2.0, 0.2)
    assert gate.max_position_weight == 0.25
    assert (config.planner_of(plain).max_gross, config.gate_of(plain).long_only) == (1.0, True)
    assert config.planner_of(plain).cash_buffer == 0.02


def test_a_file_may_say_the_default_against_its_family(load, signed_family):
    config = load(f"{SIGNED}gate: {{long_only: true, max_gross: 1.0}}\n")

    gate = config.gate_of(config.sleeves[0])

    assert (gate.long_only, gate.max_gross, gate.max_net) == (True, 1.0, 0.1)


def test_what_a_family_implies_is_resolved_and_part_of_the_hash(load, signed_family, monkeypatch):
    config = load(SIGNED)
    sleeve = config.sleeves[0]

    resolved, before = config.resolved(sleeve), config.config_hash(sleeve)
    wider = replace(CATALOG["SIGNED"], gate_overrides={"long_only": False, "max_gross": 3.0})
    monkeypatch.setitem(CATALOG, "SIGNED", wider)

    assert resolved["execution"]["planner"]["max_gross"] == 2.0
    assert resolved["gate"] == GateParams(long_only=False, max_gross=2.0, max_net=0.1).model_dump(
        mode="json"
    )
    assert config.config_hash(sleeve) != before


def test_a_file_that_contradicts_its_familys_gate_is_refused_at_once(refusal, signed_family):
    message = refusal(f"{SIGNED}gate: {{min_net: 0.5}}\n")

    assert message.startswith("0.yaml: gate: min_net: must not exceed max_net, found ")
    assert "min_net=0.5" in message
    assert len(message.splitlines()) == 1


def test_a_resolved_configuration_names_the_schedule_it_follows(load):
    config = load(MINIMAL)

    assert config.resolved(config.sleeves[0])["sleeve"]["rebalance"] == "monthly"


@pytest.mark.parametrize(
    "assignment",
    [
        "persistence.engine_rows=all",
        "persistence.engine_rows=none",
        "engines.assessment.momentum_lookback=252",
        "sleeves=[{horizon: 21, rebalance: monthly}]",
        "sleeves=[{horizon: 21}, {horizon: 5}]",
        "seed=0",
        "data.collect=ib",
    ],
)
def test_what_does_not_change_a_run_does_not_change_its_hash(load, assignment):
    plain, changed = load(MINIMAL), load(MINIMAL, sets=[assignment])

    assert changed.config_hash(changed.sleeves[0]) == plain.config_hash(plain.sleeves[0])


@pytest.mark.parametrize(
    "assignment",
    [
        "seed=1",
        "sessions.start=2020-01-03",
        "sessions.end=2020-12-31",
        "instruments=[AAPL.US]",
        "data.dataset=other",
        "engines.stability.lookback=64",
        "engines.assessment.momentum_lookback=251",
        "engines.universe.universe_id=OTHER",
        "engines.portfolio.max_names=9",
        "engines.risk.max_gross=0.9",
        "execution.planner.cash_buffer=0.02",
        "execution.router.unquoted=drop",
        "execution.quotes.half_spread_bps=3",
        "execution.fees.minimum_usd=2",
        "execution.financing.borrow_fee_annual=0.02",
        "execution.financing.day_count=365",
        "execution.planner.max_gross=1.5",
        "gate.max_gross=0.9",
        "gate.max_net=0.9",
        "sleeves=[{horizon: 5}]",
        "sleeves=[{horizon: 21, capital_usd: 5}]",
        "sleeves=[{horizon: 21, rebalance: weekly}]",
    ],
)
def test_what_changes_a_run_changes_its_hash(load, assignment):
    plain, changed = load(MINIMAL), load(MINIMAL, sets=[assignment])

    assert changed.config_hash(changed.sleeves[0]) != plain.config_hash(plain.sleeves[0])


def test_where_a_setting_comes_from_does_not_change_the_hash(load):
    in_file = load(f"{MINIMAL}seed: 7\n")
    in_environment = load(MINIMAL, environment={"PROMETHEUS__SEED": "7"})

    sleeve = in_file.sleeves[0]
    assert in_file.config_hash(sleeve) == in_environment.config_hash(sleeve)


def test_merging_changes_neither_mapping():
    base, over = {"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4}

    assert deep_merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": 4}
    assert (base, over) == ({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4})


def test_an_anchored_mapping_that_merges_another_may_be_merged_again(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text("b0: &b0 {x: 1}\na: {b: &m {<<: *b0, x: 2}}\ntop: {<<: *m}\n")

    assert read_yaml(path)["top"] == {"x": 2}


@pytest.mark.parametrize(
    ("settings", "engine"),
    [
        ("universe: {regime_risk_alpha: 0.5}", "regime"),
        ("universe: {exclude_weak_fragile: true}", "profiles"),
        ("portfolio: {construction: short_hedge}, risk: {long_only: false}", "fragility"),
        ("portfolio: {solver: {max_fragility: 0.4}}", "fragility"),
    ],
)
def test_what_needs_an_engine_does_not_run_without_it(refusal, load, settings, engine):
    text = f"{MINIMAL}gate: {{long_only: false}}\nengines: {{{settings}}}\n"

    assert load(text)
    assert f"needs the {engine} engine" in refusal(f"{text}without: [{engine}]\n")


def test_a_date_that_does_not_exist_is_named(refusal, load):
    assert "not valid YAML" in refusal(MINIMAL.replace("2020-01-02", "2020-13-02"))
    with pytest.raises(ConfigError, match="2020-13-02"):
        load(MINIMAL, sets=["sessions.start=2020-13-02"])


def test_an_empty_file_says_so(tmp_path):
    empty = tmp_path / "empty.yaml"
    empty.write_text("")

    with pytest.raises(ConfigError, match=r"empty\.yaml: is empty"):
        read_yaml(empty)


@pytest.mark.parametrize("revision", ["3", "'0123456789abcdef'", "1e45678901234567"])
def test_a_node_may_name_the_revision_it_reads_without_becoming_another_run(load, revision):
    newest, pinned = load(MINIMAL), load(MINIMAL, sets=[f"data.revision={revision}"])

    assert pinned.data.revision in (3, "0123456789abcdef", "1e45678901234567")
    (sleeve,) = newest.sleeves
    assert pinned.config_hash(sleeve) == newest.config_hash(sleeve)
    assert pinned.resolved(sleeve)["data"]["revision"] == pinned.data.revision


@pytest.mark.parametrize("revision", ["0", "-1", "true", "newest", "1.5", "ABCDEF0123456789"])
def test_a_revision_is_a_number_or_a_fingerprint(refusal, revision):
    assert "data.revision" in refusal(MINIMAL, sets=[f"data.revision={revision}"])


def applied_to(**settings):
    return lambda strategy_id: settings.get(strategy_id, {})


FEWER = {"engines": {"portfolio": {"max_names": 4}}}


def test_applied_settings_win_over_files_and_lose_to_the_environment_and_assignments(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(MINIMAL + "engines: {portfolio: {max_names: 9, max_weight: 0.3}}")
    key = "PROMETHEUS__ENGINES__PORTFOLIO__MAX_NAMES"
    applied = applied_to(US_CORE_LONG_EQ=FEWER)

    def names(*sets, **environment):
        node = load_config([path], sets, environment, applied=applied)
        portfolio = node.engines_of(node.sleeves[0]).portfolio
        return portfolio.max_names, portfolio.max_weight

    assert load_config([path], (), {}).engines["portfolio"]["max_names"] == 9
    assert names() == (4, 0.3)
    assert names(**{key: "5"}) == (5, 0.3)
    assert names("engines.portfolio.max_names=6", **{key: "5"}) == (6, 0.3)


def test_applied_settings_are_part_of_what_a_run_is(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(MINIMAL)
    plain = load_config([path], (), {})
    same = load_config([path], (), {}, applied=applied_to())
    other = load_config([path], (), {}, applied=applied_to(US_CORE_LONG_EQ=FEWER))

    assert plain == same
    assert plain.config_hash(plain.sleeves[0]) != other.config_hash(other.sleeves[0])


def test_applied_settings_that_the_node_cannot_hold_are_named_as_applied(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text(MINIMAL)
    gone = applied_to(US_CORE_LONG_EQ={"engines": {"portfolio": {"max_nmes": 4}}})

    with pytest.raises(ConfigError, match=r"applied settings: .*max_nmes"):
        load_config([path], (), {}, applied=gone)


def test_a_node_of_several_strategies_is_refused_what_was_applied_to_one(tmp_path):
    path = tmp_path / "node.yaml"
    other = next(name for name, one in CATALOG.items() if one.strategy_id != "US_CORE_LONG_EQ")
    horizon = next(iter(CATALOG[other].schedules))
    sleeves = f"[{{horizon: 21}}, {{family: {other}, horizon: {horizon}}}]"
    path.write_text(
        MINIMAL.replace("[{horizon: 21}]", sleeves)
        + "engines: {risk: {long_only: false}, portfolio: {construction: long_only}}\n"
    )

    with pytest.raises(ConfigError, match="a node of its own, or run it with --no-applied"):
        load_config([path], (), {}, applied=applied_to(US_CORE_LONG_EQ=FEWER))


def test_a_backtest_is_the_same_wherever_its_node_trades(load):
    plain, at_broker = (
        load(MINIMAL, sets=[f"venue={venue}", "ib.client_id=7"]) for venue in ("sandbox", "ib")
    )

    sleeve = plain.sleeves[0]
    assert at_broker.config_hash(sleeve) == plain.config_hash(sleeve)


def test_a_paper_run_at_the_broker_is_another_run_whatever_its_connection(load):
    sandbox, first, second = (
        load(MINIMAL, sets=["mode=paper", f"venue={venue}", f"ib.client_id={number}"])
        for venue, number in (("sandbox", 1), ("ib", 1), ("ib", 2))
    )

    sleeve = sandbox.sleeves[0]
    assert first.trading_hash(sleeve) != sandbox.trading_hash(sleeve)
    assert first.trading_hash(sleeve) == second.trading_hash(sleeve)


def test_bars_are_collected_from_the_broker_or_from_nobody(refusal):
    message = refusal(MINIMAL, sets=["data.collect=eodhd"])

    assert "data.collect: Input should be 'ib', found 'eodhd'" in message


def test_a_connection_waits_as_long_as_it_does_by_itself_unless_the_node_says_otherwise(load):
    usual, hurried = (
        load(MINIMAL, sets=["ib.port=4002", *more]) for more in ([], ["ib.start_timeout_seconds=5"])
    )

    assert usual.ib.link == {"port": 4002}
    assert hurried.ib.link == {"port": 4002, "start_timeout_seconds": 5.0}


def test_live_trades_nowhere_but_at_a_broker(refusal):
    assert "set venue to ib" in refusal(MINIMAL, sets=["mode=live"])
