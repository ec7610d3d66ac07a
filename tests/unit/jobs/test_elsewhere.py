"""What another process finds, or refuses, is what this one would have."""

import os

import numpy as np
import pytest

from prometheus_nt.domain.errors import ConfigError, DataError, InsufficientHistory, PrometheusError
from prometheus_nt.jobs.elsewhere import found_elsewhere
from prometheus_nt.meta.bootstrap import block_length
from prometheus_nt.settings import Settings


def test_what_is_found_elsewhere_is_what_would_be_found_here_by_another_process():
    record = np.random.default_rng(1).normal(0.0, 0.01, 200)

    assert found_elsewhere(block_length, record) == block_length(record)
    assert found_elsewhere(os.getpid) != os.getpid()


def test_an_error_keeps_its_kind_and_its_words():
    with pytest.raises(DataError, match="2 returns, at least 30 are needed"):
        found_elsewhere(block_length, np.zeros(2))

    with pytest.raises(ConfigError, match="PROMETHEUS_EXECUTOR"):
        found_elsewhere(Settings.from_environment, {"PROMETHEUS_EXECUTOR": "nowhere"})


def test_an_error_that_is_made_of_facts_keeps_its_words_under_the_kind_above_it():
    with pytest.raises(DataError, match="needs 3 sessions, has 2") as told:
        found_elsewhere(refuse)

    assert type(told.value) is DataError


def test_a_process_that_fails_is_an_error_that_says_how():
    with pytest.raises(
        PrometheusError,
        match=r"divide: its process failed: .*; ZeroDivision",
    ):
        found_elsewhere(divide)


def refuse():
    from datetime import date

    raise InsufficientHistory(date(2024, 1, 2), 3, 2)


def divide():
    return 1 / 0
