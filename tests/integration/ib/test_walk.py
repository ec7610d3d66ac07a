"""Random faults: whatever goes wrong, the broker and the desk agree at the end."""

import os

import pytest

from adapters.ib_gateway.server import Server
from tests.integration.ib.node import dispose, trading_node
from tests.integration.ib.session import with_gateway
from tests.integration.ib.trading import trading
from tests.integration.ib.walks import node_walk, walk

pytestmark = pytest.mark.integration

SEEDS = int(os.environ.get("PROMETHEUS_IB_WALKS", "20"))
"""The nightly run sets 200."""


@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_any_faults_no_order_was_sent_twice_and_every_order_is_known(seed, tmp_path):
    async def test(server: Server) -> None:
        async with trading(server, tmp_path) as trader:
            await walk(server, trader, seed)

    with_gateway(test)


@pytest.mark.parametrize("seed", range(1_000, 1_000 + max(4, SEEDS // 5)))
def test_after_any_faults_a_nodes_cache_is_the_brokers(seed, tmp_path):
    async def test(server: Server) -> None:
        async with trading_node(server.port, tmp_path) as node:
            await node_walk(server, node, seed)

    with_gateway(test)
    dispose()
