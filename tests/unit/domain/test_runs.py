from dataclasses import replace

import pytest

from prometheus_nt.domain.runs import Mode, RunIdentity

IDENTITY = RunIdentity(
    strategy_id="US_CORE",
    sleeve_id="US_CORE_H21",
    mode=Mode.BACKTEST,
    code_hash="c0de",
    config_hash="c0f1",
    data_fingerprint="da7a",
    seed=0,
)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("strategy_id", "EU_CORE"),
        ("sleeve_id", "US_CORE_H5"),
        ("mode", Mode.PAPER),
        ("code_hash", "c0de2"),
        ("config_hash", "c0f2"),
        ("data_fingerprint", "da7b"),
        ("seed", 1),
    ],
)
def test_every_part_of_the_identity_changes_the_run(part, value):
    assert replace(IDENTITY, **{part: value}).run_id != IDENTITY.run_id


def test_equal_identities_are_one_run():
    assert replace(IDENTITY).run_id == IDENTITY.run_id


def test_parts_do_not_run_into_each_other():
    moved = replace(IDENTITY, code_hash="c0dec0", config_hash="f1")

    assert moved.run_id != IDENTITY.run_id


def test_a_run_names_its_sleeve_and_twelve_digits():
    sleeve, _, digest = IDENTITY.run_id.rpartition("-")

    assert sleeve == "US_CORE_H21"
    assert len(digest) == 12
    assert int(digest, 16) >= 0


def test_a_mode_is_the_word_in_the_configuration():
    assert [mode.value.lower() for mode in Mode] == ["backtest", "paper", "live"]
