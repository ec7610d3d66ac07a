"""A rebalance that is killed at any moment and started again sends every order exactly once."""

import asyncio
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.ib.journal import Journal
from adapters.ib_gateway.account import Account
from adapters.ib_gateway.book import Terms
from adapters.ib_gateway.contracts import Contracts, Stock, contract_id
from adapters.ib_gateway.faults import Faults
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.market import Clock
from adapters.ib_gateway.server import Server, serving
from tests.integration.ib import killed_rebalance
from tests.integration.ib.forked import Forked
from tests.integration.ib_gateway.market import ACCOUNT, commission, fill_price, prices

pytestmark = pytest.mark.integration

POINTS = int(os.environ.get("PROMETHEUS_IB_KILLS", "3"))
"""The nightly run sets 50."""

NAMES = [f"S{number:03d}" for number in range(200)]


def wide_gateway() -> Gateway:
    """Return a gateway of two hundred stocks, all priced as the first of the small market."""
    narrow = prices()
    wide = {
        name: np.repeat(getattr(narrow, name)[:, :1], len(NAMES), axis=1)
        for name in ("open", "high", "low", "close", "volume", "split", "dividend")
    }
    stocks = [Stock(contract_id(s, "STK", "USD"), s, "USD", "NASDAQ", s) for s in NAMES]
    return Gateway(
        Terms(Contracts(stocks), fill_price, commission),
        Clock(replace(narrow, **wide), first=2, last=9, settle_seconds=600.0),
        Account(ACCOUNT, 1_000_000.0),
        Faults(),
    )


def child(server: Server, folder: Path) -> Forked:
    return Forked(killed_rebalance.main, str(server.port), str(folder), ACCOUNT, *NAMES)


async def orders_reach(server: Server, count: int, process: Forked) -> None:
    while server.gateway.book.placed < count and process.returncode is None:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("seed", range(POINTS))
def test_a_killed_rebalance_of_two_hundred_names_sends_every_order_once(seed, tmp_path):
    rng = random.Random(seed)

    async def test() -> None:
        async with serving(Server(wide_gateway())) as server:
            process = child(server, tmp_path)
            await orders_reach(server, rng.randint(0, 199), process)
            await asyncio.sleep(rng.random() * 0.05)
            process.kill()
            await process.wait()
            killed_at = server.gateway.book.placed

            process = child(server, tmp_path)
            async with asyncio.timeout(60):
                code = await process.wait()

            symbols = Counter(
                server.gateway.book.stock(order.column).symbol
                for order in server.gateway.book.orders.values()
            )
            assert code == 0
            assert max(symbols.values()) == 1, "an order was sent twice"
            assert set(symbols) == set(NAMES), f"killed at {killed_at}"
            journal = Journal(tmp_path / "orders.journal", ACCOUNT, 1)
            sent = {order.reference for order in server.gateway.book.orders.values()}
            assert sent <= set(journal.intents), "an order was on the wire before its intent"
            journal.close()

    asyncio.run(test())
