"""What a closed node leaves behind in its process: nothing."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

from persistence.engine_outputs import OutputStore
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.engine_outputs import SharedDay, SharedSessions
from prometheus_nt.jobs.wiring import wire_backtest

pytestmark = pytest.mark.integration

RUNS = 3


def mapped(folder):
    """Return how many files of a folder this process has mapped."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sum(str(folder) in line for line in maps)


@pytest.mark.parametrize("writes_records", [True, False])
def test_a_closed_node_frees_its_books_and_the_tapes_it_read(
    market, configured, fills, tmp_path, writes_records
):
    config = configured(without=["profiles", "regime"])
    sessions = SharedSessions(market, 0, len(market) - 1, market.fingerprint)
    held = []

    for _ in range(RUNS):
        day = SharedDay.of(OutputStore(tmp_path), sessions, config, config.sleeves[0])
        table = replace(day, writes_records=writes_records).table()
        identity = RunIdentity("S", "S_H63", Mode.BACKTEST, "c", "h", "d", 0)
        node = wire_backtest(config, config.sleeves[0], market, identity, table)
        node.mirror.attach(node.engine.kernel.msgbus)
        node.feed.run(0, len(market) - 1)
        assert fills(node)
        assert mapped(tmp_path) >= 1
        held += [weakref.ref(part) for part in (node.mirror, node.sleeve, node.feed)]
        node.close()
        del node, table, day
        gc.collect()

    assert [ref() for ref in held] == [None] * len(held)
    assert mapped(tmp_path) == 0
