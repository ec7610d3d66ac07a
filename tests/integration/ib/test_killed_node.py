"""A node that is killed at any moment of a rebalance and started again sends every order once."""

import asyncio
import os
import random
from collections import Counter
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest

from adapters.ib_gateway.control import Control
from adapters.ib_gateway.server import Server, serving
from prometheus_nt.jobs.gateway import GatewayRequest, build_gateway
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings
from tests.integration.ib import killed_node
from tests.integration.ib.forked import Forked

pytestmark = pytest.mark.integration

POINTS = int(os.environ.get("PROMETHEUS_IB_NODE_KILLS", "2"))
"""The nightly run sets 50."""

START, END = date(2006, 1, 3), date(2006, 1, 11)


@pytest.fixture(scope="module")
def historical(sample_history):
    """Return the address of one historical database that all nodes read."""
    return f"sqlite:///{sample_history}"


@asynccontextmanager
async def market(historical: str, home: Path):
    """Yield a simulated gateway, and how a node's process is started at it."""
    settings = Settings(home, historical, f"sqlite:///{home}/runtime.db")
    home.mkdir()
    request = GatewayRequest("sample_ohlcv", START, END, fast=True)
    with open_stores(settings, upgrade=True) as stores:
        gateway = build_gateway(stores, request)
    async with serving(Server(gateway)) as server:
        control = Control(server)
        ports = (str(server.port), str(await control.start()))
        urls = (str(home), historical, settings.runtime_url)

        def start() -> Forked:
            return Forked(killed_node.main, *urls, *ports, str(START), str(END))

        yield server.gateway, start
        await control.close()


def traded(gateway) -> Counter:
    """Return what is in the broker's book, without its numbers."""
    orders = gateway.book.orders.values()
    return Counter((o.column, o.side, o.quantity, o.filled, o.status) for o in orders)


@pytest.fixture(scope="module")
def undisturbed(historical, tmp_path_factory):
    """What a node trades that nobody kills."""

    async def run():
        async with market(historical, tmp_path_factory.mktemp("whole") / "home") as (
            gateway,
            start,
        ):
            process = start()
            assert await asyncio.wait_for(process.wait(), 300) == 0
            return traded(gateway)

    found = asyncio.run(run())
    assert found.total() > 4
    return found


async def kill(process, gateway, rng: random.Random, most: int) -> None:
    """Kill a process soon after the broker has taken so many orders, or in its start."""
    wanted = rng.randint(0, most)
    while gateway.book.placed < wanted and process.returncode is None:
        await asyncio.sleep(0.001)
    await asyncio.sleep(rng.random() * rng.choice((0.02, 0.3, 3.0)))
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest.mark.parametrize("seed", range(POINTS))
def test_a_node_that_is_killed_twice_sends_every_order_once(
    historical, undisturbed, tmp_path, seed
):
    rng = random.Random(seed)

    async def run():
        async with market(historical, tmp_path / "home") as (gateway, start):
            for _ in range(2):
                await kill(start(), gateway, rng, undisturbed.total() - 1)
            process = start()
            code = await asyncio.wait_for(process.wait(), 300)
            references = Counter(order.reference for order in gateway.book.orders.values())
            return code, references, traded(gateway)

    code, references, found = asyncio.run(run())

    assert code == 0
    assert max(references.values()) == 1
    assert found == undisturbed
