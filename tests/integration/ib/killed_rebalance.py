"""A process that rebalances many names through the order desk; it is killed by the test.

It ends by itself once the broker has said something about every order; its exit code is 1 if it
halted.
"""

import asyncio
from pathlib import Path

from adapters.ib.config import Backoff, DeskParams, LinkParams
from adapters.ib.desk import OrderDesk
from adapters.ib.journal import Journal, order_reference
from adapters.ib.link import Link
from adapters.ib.orders import Standing
from adapters.ib_gateway.contracts import contract_id
from prometheus_nt.domain.errors import GateRefusal

PLAN = "rebalance-2024-01-03"
BATCH = 10


async def settled(desk: OrderDesk, refs: list[str]) -> None:
    """Wait until the broker, or its lists, have said something about every order."""
    while any(desk.orders.by_ref[ref].told is Standing.SENT for ref in refs):
        await asyncio.sleep(0.01)


def next_reference(desk: OrderDesk, symbol: str) -> str | None:
    """Return the reference to send a name's order under; None if the broker has it.

    Only an order of which the lists prove that it never arrived gets another attempt.
    """
    for attempt in range(100):
        ref = order_reference(PLAN, symbol, 0, attempt)
        if ref not in desk.journal.intents:
            return ref
        if desk.orders.by_ref[ref].told is not Standing.REJECTED:
            return None
    raise AssertionError(f"{symbol}: a hundred attempts")


async def rebalance(desk: OrderDesk, symbols: list[str]) -> None:
    await settled(desk, list(desk.journal.intents))
    for at in range(0, len(symbols), BATCH):
        wanted = {s: next_reference(desk, s) for s in symbols[at : at + BATCH]}
        intents = [
            desk.intent(
                ref=ref,
                plan=PLAN,
                instrument=f"{symbol}.US",
                contract=contract_id(symbol, "STK", "USD"),
                side=1,
                quantity=1,
                kind="MKT",
                tif="OPG",
                limit=None,
                stop=None,
            )
            for symbol, ref in wanted.items()
            if ref is not None
        ]
        while intents:
            try:
                desk.submit(*intents)
                break
            except GateRefusal:
                await asyncio.sleep(0.02)
        # The moments between batches are where most kills land in life.
        await asyncio.sleep(0.01)
    await settled(desk, list(desk.journal.intents))


async def run(port: int, folder: Path, account: str, symbols: list[str]) -> int:
    params = LinkParams(
        port=port,
        also_ports=(port,),
        account=account,
        backoff=Backoff(first_seconds=0.02, most_seconds=0.1, client_id_seconds=0.1),
    )
    link, journal = Link(params), Journal(folder / "orders.journal", account, params.client_id)
    quick = DeskParams(tick_seconds=0.02, answer_seconds=1.0, apart_seconds=0.4)
    desk = OrderDesk(link, journal, lambda _: None, quick)
    try:
        await desk.start()
        await rebalance(desk, symbols)
    finally:
        await desk.stop()
        await link.close()
        journal.close()
    return 1 if desk.halts else 0


def main(port: str, folder: str, account: str, *symbols: str) -> int:
    return asyncio.run(run(int(port), Path(folder), account, list(symbols)))
