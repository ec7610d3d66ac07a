"""Settings by their dotted names, and the moves of a proposal."""

import pytest

from prometheus_nt.domain.errors import ConfigError, ProposalRefused
from prometheus_nt.meta.proposals import (
    Status,
    change_hash,
    flattened,
    require_move,
    require_proposable,
    setting_of,
    settings_hash,
    with_setting,
    without_setting,
)

SETTINGS = {"engines": {"portfolio": {"max_names": 4, "cap": None}}, "gate": {}}


def test_a_setting_that_is_put_in_is_found_and_taken_out_again():
    put = with_setting(SETTINGS, "engines.risk.max", 0.2)

    assert setting_of(put, "engines.risk.max") == {"value": 0.2}
    assert without_setting(put, "engines.risk.max") == SETTINGS
    assert without_setting({"a": {"b": {"c": 1}}}, "a.b.c") == {}
    assert SETTINGS["engines"] == {"portfolio": {"max_names": 4, "cap": None}}


def test_a_setting_of_nothing_is_not_the_setting_none():
    assert setting_of(SETTINGS, "engines.portfolio.cap") == {"value": None}
    assert setting_of(SETTINGS, "engines.portfolio.other") is None
    assert setting_of(SETTINGS, "engines.portfolio.max_names.deeper") is None
    assert flattened(SETTINGS) == {
        "engines.portfolio.max_names": 4,
        "engines.portfolio.cap": None,
        "gate": {},
    }


def test_hashes_do_not_depend_on_the_order_of_a_document():
    assert settings_hash({"a": 1, "b": 2}) == settings_hash({"b": 2, "a": 1})
    assert change_hash("S", "k", 1) != change_hash("S", "k", 2)
    assert change_hash("S", "k", 1) != change_hash("T", "k", 1)


@pytest.mark.parametrize("key", ["seed", "engines", "engines.", "execution.quotes.x", "gates.x"])
def test_only_how_a_strategy_trades_can_be_proposed(key):
    with pytest.raises(ConfigError, match="cannot be proposed"):
        require_proposable(key)


@pytest.mark.parametrize("to", list(Status)[1:])
@pytest.mark.parametrize("at", list(Status))
def test_every_move_is_legal_from_where_it_should_be_and_from_nowhere_else(at, to):
    legal = {
        ("PENDING", "APPROVED"),
        ("PENDING", "REJECTED"),
        ("APPROVED", "REJECTED"),
        ("APPROVED", "APPLIED"),
        ("APPLIED", "REVERTED"),
    }
    if (at, to) in legal:
        require_move("P", at, to)
        return
    with pytest.raises(ProposalRefused, match=f"is {at}"):
        require_move("P", at, to)
