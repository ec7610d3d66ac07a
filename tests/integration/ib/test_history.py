import asyncio
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ib_async import BarData, Stock

from adapters.ib.errors import BrokerRefusal, NoAnswer
from adapters.ib.history import History, bars_of, duration
from adapters.ib.pacing import HistoryBudget
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.server import Server
from prometheus_nt.domain.errors import SourceError
from tests.integration.ib.session import inject, linked, with_gateway

pytestmark = pytest.mark.integration

AAPL, IBM, KO = (Stock(name, "SMART", "USD") for name in ("AAPL", "IBM", "KO"))
FIRST = date(2024, 1, 2)


def history_of(link) -> History:
    clock = asyncio.get_running_loop().time
    return History(link, HistoryBudget(clock, most=10_000, of_one=10_000, apart_seconds=0.0))


def test_daily_bars_are_those_of_the_market_up_to_the_last_close():
    async def test(server: Server) -> None:
        server.advance(Stage.CLOSED, 3)
        async with linked(server) as link:
            bars = await history_of(link).daily(AAPL, FIRST)

            # AAPL opens at 100 + row and closes one above; three sessions after row 1 have closed.
            assert bars.sessions.tolist() == [date(2024, 1, day) for day in (2, 3, 4, 5, 8)]
            assert bars.close.tolist() == [101.0, 102.0, 103.0, 104.0, 105.0]
            assert bars.high.tolist() == [102.0, 103.0, 104.0, 105.0, 106.0]
            assert bars.volume.tolist() == [1_000_000.0] * 5

    with_gateway(test)


def test_first_and_last_day_are_both_included_and_nothing_else():
    async def test(server: Server) -> None:
        server.advance(Stage.CLOSED, 5)
        async with linked(server) as link:
            bars = await history_of(link).daily(AAPL, date(2024, 1, 3), date(2024, 1, 5))
            assert bars.sessions.tolist() == [date(2024, 1, day) for day in (3, 4, 5)]

    with_gateway(test)


def test_trades_are_adjusted_for_splits_and_adjusted_trades_for_dividends_too():
    async def test(server: Server) -> None:
        server.advance(Stage.CLOSED, 8)
        async with linked(server) as link:
            history = history_of(link)
            split = await history.daily(IBM, FIRST)
            plain = await history.daily(KO, FIRST)
            adjusted = await history.daily(KO, FIRST, adjusted=True)

            # IBM opened at 200 and split 2:1 at row 6; KO paid 0.5 at row 7.
            assert split.open[0] == 100.0 and split.volume[0] == 2_000_000.0
            ratio = adjusted.close / plain.close
            assert np.allclose(ratio[-3:], 1.0)
            assert (ratio[:5] < 1.0).all()

    with_gateway(test)


def test_a_day_that_trades_has_a_bar_that_is_not_its_last():
    async def test(server: Server) -> None:
        server.advance(Stage.OPEN)
        async with linked(server) as link:
            history = history_of(link)
            with pytest.raises(SourceError, match="no bar; expected one"):
                await history.session_bar(AAPL, date(2024, 1, 4))
            server.advance(Stage.CLOSED)
            bar = await history.session_bar(AAPL, date(2024, 1, 4))
            assert (bar.session, bar.close, bar.volume) == (date(2024, 1, 4), 103.0, 1_000_000.0)

    with_gateway(test)


def test_a_session_is_collected_and_what_did_not_trade_is_named():
    async def test(server: Server) -> None:
        server.advance(Stage.CLOSED, 4)
        async with linked(server) as link:
            contracts = {"AAPL.US": AAPL, "KO.US": KO, "NOPE.US": Stock("NOPE", "SMART", "USD")}

            # KO is halted at row 5.
            found = await history_of(link).session_bars(contracts, date(2024, 1, 9))

            assert found.session == date(2024, 1, 9)
            assert set(found.bars) == {"AAPL.US"}
            assert "no bar" in found.missing["KO.US"]
            assert "error 200" in found.missing["NOPE.US"]

    with_gateway(test)


def test_an_unknown_volume_is_unknown_and_not_minus_one():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            bars = await history_of(link).daily(AAPL, FIRST)
            assert np.isnan(bars.volume).all() and (bars.close > 0).all()

    with_gateway(test, "volume_unknown")


@pytest.mark.parametrize(
    ("fault", "said"), [("zero_price", "expected positive"), ("duplicate_bar", "2 bars")]
)
def test_a_bar_that_cannot_be_a_session_is_refused(fault, said):
    async def test(server: Server) -> None:
        async with linked(server) as link:
            with pytest.raises(SourceError, match=said):
                await history_of(link).session_bar(AAPL, date(2024, 1, 3))

    with_gateway(test, fault)


def test_an_error_and_a_silence_are_no_empty_history():
    async def test(server: Server) -> None:
        async with linked(server, request_timeout_seconds=0.1) as link:
            history = history_of(link)
            with pytest.raises(BrokerRefusal) as refused:
                await history.daily(AAPL, FIRST)
            assert refused.value.code == 162
            inject(server, "drop_request:request=reqHistoricalData,times=1000")
            with pytest.raises(NoAnswer):
                await history.daily(AAPL, FIRST)

    with_gateway(test, "data_error:code=162")


def test_a_question_that_was_lost_is_asked_again():
    async def test(server: Server) -> None:
        async with linked(server, request_timeout_seconds=0.2) as link:
            inject(server, "drop_request:request=reqHistoricalData")
            assert len(await history_of(link).daily(AAPL, FIRST)) == 2

    with_gateway(test)


def test_a_link_that_goes_while_history_comes_is_waited_for():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            inject(server, "drop_request:request=reqHistoricalData")
            asking = asyncio.create_task(history_of(link).daily(AAPL, FIRST))
            await asyncio.sleep(0.05)
            inject(server, "close")
            assert len(await asking) == 2

    with_gateway(test)


def test_the_beginning_of_a_history_is_a_day():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            assert await history_of(link).earliest(AAPL) == FIRST

    with_gateway(test)


def test_questions_wait_as_their_budget_says():
    async def test(server: Server) -> None:
        async with linked(server) as link:
            now, waits = [0.0], []

            async def sleep(seconds: float) -> None:
                waits.append(seconds)
                now[0] += seconds

            history = History(link, HistoryBudget(lambda: now[0], most=3), sleep)
            for number in range(5):
                await history.daily(AAPL, FIRST, FIRST + timedelta(days=number))
            assert sum(waits) == pytest.approx(600.0)

    with_gateway(test)


@given(st.integers(0, 20_000))
def test_a_duration_is_never_shorter_than_what_was_asked_for(days):
    count, unit = duration(timedelta(days=days)).split()

    assert int(count) * {"D": 1, "Y": 365}[unit] >= days


def test_ten_days_are_not_a_week_and_eighteen_months_are_not_a_year():
    assert duration(timedelta(days=10)) == "11 D"
    assert duration(timedelta(days=540)) == "2 Y"


def test_a_date_that_cannot_be_read_is_an_error():
    with pytest.raises(SourceError, match="yesterday"):
        bars_of([BarData(date="yesterday")], "AAPL")
