"""Seeded walks over faults, for a desk and for a node."""

import asyncio
import random

from nautilus_trader.model.enums import OrderStatus

from adapters.ib.orders import Standing
from adapters.ib_gateway.faults import random_rules
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from prometheus_nt.domain.errors import GateRefusal
from tests.integration.ib.node import Node, require_same
from tests.integration.ib.session import until
from tests.integration.ib.trading import Trader, require_agreement

PENDING = (OrderStatus.INITIALIZED, OrderStatus.SUBMITTED)
SYMBOLS = ("AAPL", "IBM", "KO")


async def send_when_possible(trader: Trader, ref: str, symbol: str, shares: int) -> None:
    """Send an order, however often nothing may be sent."""
    async with asyncio.timeout(15):
        while True:
            await until(lambda: trader.desk.ready or trader.desk.halts)
            try:
                return trader.send(ref, symbol, shares)
            except GateRefusal:
                if trader.desk.halts:
                    raise
                await asyncio.sleep(0.01)


async def silent(server: Server) -> None:
    """Wait until the gateway has said what its faults say later, such as the revision of a fill."""
    await until(lambda: not server._timers)


async def node_walk(server: Server, node: Node, seed: int, orders: int = 6) -> None:
    """Let a node trade for the open under random faults, and end like the broker."""
    rng = random.Random(seed)
    server.gateway.faults.rules += random_rules(seed, 4)
    for number in range(orders):
        await until(lambda: node.desk.ready)
        shares = 10 * (number + 1) * rng.choice((1, -1))
        node.send(f"plan-{number}", SYMBOLS[number % 3], shares)
        await asyncio.sleep(rng.random() * 0.05)
    refs = [f"plan-{number}" for number in range(orders)]
    await until(lambda: not any(node.status(ref) in PENDING for ref in refs))
    server.advance(Stage.OPEN)
    await asyncio.sleep(rng.random() * 0.2)
    server.gateway.faults.rules.clear()
    server.gateway.faults.stopped.clear()
    server.advance(Stage.CLOSED)
    await until(lambda: all(node.order(ref).is_closed for ref in refs))
    await silent(server)
    await node.learns()
    require_same(server, node)
    assert node.halts == []


async def walk(server: Server, trader: Trader, seed: int, orders: int = 8) -> None:
    """Trade a few orders for the open under random faults, and end in agreement."""
    rng = random.Random(seed)
    server.gateway.faults.rules += random_rules(seed, 4)
    for number in range(orders):
        shares = 10 * (number + 1) * rng.choice((1, -1))
        await send_when_possible(trader, f"plan-{number}", SYMBOLS[number % 3], shares)
        await asyncio.sleep(rng.random() * 0.02)
    await until(
        lambda: all(trader.standing(f"plan-{n}") is not Standing.SENT for n in range(orders))
    )
    server.advance(Stage.OPEN)
    await asyncio.sleep(rng.random() * 0.2)
    server.gateway.faults.rules.clear()
    server.gateway.faults.stopped.clear()
    server.advance(Stage.CLOSED)
    await until(lambda: all(trader.standing(f"plan-{n}").is_final for n in range(orders)))
    await silent(server)
    await trader.learns()
    require_agreement(server, trader)
    assert trader.halts() == []
