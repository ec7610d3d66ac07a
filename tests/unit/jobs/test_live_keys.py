from pathlib import Path

import pytest

from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.live_keys import key_of, live_key, require_two_keys
from prometheus_nt.settings import Settings

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")


def settings_with(**variables):
    return Settings.from_environment({"PROMETHEUS_IB_ACCOUNT": "U1", **variables})


def test_the_key_is_of_one_account_and_one_set_of_sleeves_in_any_order():
    key = live_key("U1", ["B", "A"])

    assert key == live_key("U1", ["A", "B"])
    assert (
        len({key, live_key("U2", ["A", "B"]), live_key("U1", ["A"]), live_key("U1", ["AB"])}) == 4
    )


def test_both_keys_open():
    node = load_config([CONFIG], ["venue=ib"], environment={}, mode="live")
    key = key_of(node, settings_with())

    require_two_keys(node, settings_with(PROMETHEUS_LIVE_KEY=key))


@pytest.mark.parametrize(
    ("mode", "variables", "said"),
    [
        ("paper", {}, "mode: paper is not live"),
        ("live", {}, "is not set"),
        ("live", {"PROMETHEUS_LIVE_KEY": "0" * 16}, "is not the key of"),
        ("live", {"PROMETHEUS_IB_ACCOUNT": ""}, "PROMETHEUS_IB_ACCOUNT: not set"),
    ],
)
def test_one_key_alone_opens_nothing(mode, variables, said):
    node = load_config([CONFIG], ["venue=ib"], environment={}, mode=mode)

    with pytest.raises(ConfigError, match=said):
        require_two_keys(node, settings_with(**variables))


def test_the_key_appears_in_no_printout_of_the_settings():
    assert "secret-key" not in repr(settings_with(PROMETHEUS_LIVE_KEY="secret-key"))
