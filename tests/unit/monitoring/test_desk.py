"""Routes that may take seconds, beside others, in an application of their own."""

import asyncio
from threading import Event
from types import SimpleNamespace

import httpx
import pytest
from anyio import to_thread
from fastapi import FastAPI

from prometheus_nt.monitoring.access import Access
from prometheus_nt.monitoring.desk import SLOW_AT_ONCE, Desk, OurDesk, aside


def application(may: Event, under_way: list[int]) -> FastAPI:
    app = FastAPI()
    app.state.desk = Desk(SimpleNamespace(), SimpleNamespace(), Access(port=0))

    @app.get("/slow")
    @aside
    def slow(desk: OurDesk, number: int) -> int:
        under_way.append(number)
        may.wait(30)
        return number

    @app.get("/quick")
    def quick(desk: OurDesk) -> str:
        return "quick"

    return app


def test_answers_that_take_long_leave_the_threads_of_the_others_alone():
    may, under_way = Event(), []

    async def scenario():
        # As many threads as the slow answers would need if they were answered like the others.
        to_thread.current_default_thread_limiter().total_tokens = SLOW_AT_ONCE
        transport = httpx.ASGITransport(app=application(may, under_way))
        async with httpx.AsyncClient(transport=transport, base_url="http://desk") as client:
            asked = [client.get("/slow", params={"number": number}) for number in range(6)]
            waiting = [asyncio.create_task(one) for one in asked]
            while len(under_way) < SLOW_AT_ONCE:
                await asyncio.sleep(0.01)
            quick = (await client.get("/quick")).json()
            busy = len(under_way)
            may.set()
            return quick, busy, [one.json() for one in await asyncio.gather(*waiting)]

    quick, busy, slow = asyncio.run(scenario())

    assert (quick, busy) == ("quick", SLOW_AT_ONCE)
    assert slow == list(range(6))


def test_a_slow_route_without_a_desk_is_a_mistake_that_is_named():
    @aside
    def lonely(desk: object) -> None:
        return None

    with pytest.raises(TypeError, match="lonely"):
        asyncio.run(lonely(desk=None))
