"""Market data of one client: quotes, bars and history, from what the clock has revealed."""

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from adapters.ib_gateway.actions import Action, Send, error
from adapters.ib_gateway.contracts import Contracts
from adapters.ib_gateway.market import Bars, Clock, Stage
from adapters.ib_gateway.wire import Values, integer
from prometheus_nt.domain.record import IntArray

TOP_SIZE = 100_000
"""Shares at the touch: the simulated book is ample, as the backtest's is."""

MOST_LINES, MOST_TICK_STREAMS = 100, 5

LIVE, DELAYED = 1, 3
TICKS = {"bid": 1, "ask": 2, "last": 4, "close": 9}
DELAYED_TICKS = {"bid": 66, "ask": 67, "last": 68, "close": 75}
VOLUME_TICK, LAST_TIME_TICK = 8, 45

HISTORY_ERROR = "Historical Market Data Service error message:"
SMALL_BARS = frozenset({"1 secs", "1 sec", "5 secs", "10 secs", "15 secs", "30 secs"})
SECONDS_OF = {"S": 1, "D": 86400, "W": 7 * 86400, "M": 31 * 86400, "Y": 366 * 86400}


class Refusal(Exception):
    """A request for data is refused; carries the code and text of the error that says so."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


@dataclass
class HistoryPacing:
    """Counts requests for small bars, of which a gateway takes only so many."""

    monotonic: Callable[[], float]
    _asked: deque[tuple[float, int, str]] = field(default_factory=deque)

    def admit(self, column: int, request: str) -> None:
        """Count a request, or raise `Refusal` as the gateway does."""
        now = self.monotonic()
        while self._asked and now - self._asked[0][0] > 600:
            self._asked.popleft()
        same = [at for at, other, _ in self._asked if other == column and now - at <= 2]
        again = [at for at, _, other in self._asked if other == request and now - at <= 15]
        if len(self._asked) >= 60 or len(same) >= 5 or again:
            text = "Historical data request pacing violation"
            raise Refusal(162, f"{HISTORY_ERROR}{text}")
        self._asked.append((now, column, request))


@dataclass
class DataDesk:
    """What one client subscribed to, and the answers to its requests.

    Parameters
    ----------
    emit : function of a hook's name and messages
    quote : function of a column and a price, that returns bid and ask
    """

    client_id: int
    clock: Clock
    contracts: Contracts
    emit: Callable[..., None]
    quote: Callable[[int, float], tuple[float, float]]
    lines: dict[int, int] = field(default_factory=dict)
    real_time: dict[int, int] = field(default_factory=dict)
    growing: dict[int, int] = field(default_factory=dict)
    streams: dict[int, tuple[int, str]] = field(default_factory=dict)
    data_type: int = LIVE
    delayed_only: bool = False
    most_lines: int = MOST_LINES

    def __post_init__(self) -> None:
        self._bars = Bars(self.clock.prices, self.clock)
        self._pacing = HistoryPacing(self.clock.monotonic)

    def forget(self) -> None:
        """Drop every subscription, as error 1101 announces."""
        for subscribed in (self.lines, self.real_time, self.growing, self.streams):
            subscribed.clear()

    def request_quotes(self, asked: Values) -> None:
        """Subscribe to the quotes of a contract, or tell them once."""
        req_id, column = integer(asked["reqId"]), self._column(asked)
        if req_id in self.lines:
            raise Refusal(102, "Duplicate ticker id")
        if len(self.lines) >= self.most_lines:
            raise Refusal(101, "Max number of tickers has been reached")
        if self.delayed_only and self.data_type not in (3, 4):
            raise Refusal(
                10089,
                "Requested market data requires additional subscription for API. See link in "
                "'Market Data Connections' dialog for more details.",
            )
        shown = [
            self._send("marketDataType", reqId=req_id, type=DELAYED if self.delayed_only else LIVE),
            self._send(
                "tickReqParams",
                reqId=req_id,
                minTick=self.contracts.stocks[column].min_tick,
                bboExchange="",
                permissions=3,
            ),
        ]
        self.emit("quote_request", [*shown, *self.ticks(req_id, column)], column=column)
        if integer(asked["snapshot"]):
            self.emit("quote_end", [self._send("tickSnapshotEnd", reqId=req_id)])
        else:
            self.lines[req_id] = column

    def request_stream(self, asked: Values) -> None:
        """Subscribe to single ticks of a contract."""
        req_id, column = integer(asked["reqId"]), self._column(asked)
        if asked["tickType"] not in ("BidAsk", "Last", "AllLast", "MidPoint"):
            raise Refusal(321, "Error validating request.-'bK' : cause - Invalid tick type")
        if len(self.streams) >= MOST_TICK_STREAMS:
            raise Refusal(10190, "Max number of tick-by-tick requests has been reached")
        self.streams[req_id] = (column, asked["tickType"])
        if self.clock.traded(column):
            self.emit("stream", self._single(req_id), column=column)

    def request_real_time_bars(self, asked: Values) -> None:
        """Subscribe to five-second bars of a contract."""
        req_id, column = integer(asked["reqId"]), self._column(asked)
        if asked["whatToShow"] != "TRADES":
            raise Refusal(162, f"{HISTORY_ERROR}HMDS query returned no data")
        self.real_time[req_id] = column

    def request_history(self, asked: Values) -> None:
        """Tell daily bars of a contract, or the sessions they are of."""
        req_id, column = integer(asked["reqId"]), self._column(asked)
        if asked["barSize"] in SMALL_BARS:
            self._pacing.admit(column, "|".join(str(asked[name]) for name in sorted(asked)))
        rows = self._rows(column, asked)
        if asked["whatToShow"] == "SCHEDULE":
            self.emit("history", [self._schedule(req_id, rows)], column=column)
            return
        self._require_daily(asked, rows)
        total = asked["whatToShow"] == "ADJUSTED_LAST"
        values = {
            "reqId": req_id,
            "start": self._stamp(rows[0]),
            "end": self._stamp(rows[-1]),
            "bars": self._daily(column, rows, total=total),
        }
        self.emit("history", [Send(self.client_id, "historicalData", values)], column=column)
        if integer(asked["keepUpToDate"]):
            self.growing[req_id] = column

    def request_head(self, asked: Values) -> None:
        """Tell when the history of a contract begins."""
        req_id, column = integer(asked["reqId"]), self._column(asked)
        rows = self._bars.rows(column, None, self.clock.session, None)
        if not len(rows):
            raise Refusal(162, f"{HISTORY_ERROR}No head time stamp")
        opened = int(self.clock.prices.opens_ns[rows[0]]) // 10**9
        stamp = str(opened)
        if asked["formatDate"] != "2":
            stamp = f"{datetime.fromtimestamp(opened, tz=UTC):%Y%m%d-%H:%M:%S}"
        self.emit("head", [self._send("headTimestamp", reqId=req_id, timestamp=stamp)])

    def cancel(self, kind: str, req_id: int) -> None:
        """End a subscription; an unknown one is an error."""
        subscribed: Mapping[str, dict[int, Any]] = {
            "quotes": self.lines,
            "real_time": self.real_time,
            "history": self.growing,
            "stream": self.streams,
        }
        if subscribed[kind].pop(req_id, None) is not None:
            return
        if kind == "history":
            raise Refusal(366, f"No historical data query found for ticker id:{req_id}")
        raise Refusal(300, f"Can't find EId with tickerId:{req_id}")

    def on_stage(self) -> None:
        """Tell subscribers what the stage that begins reveals."""
        if self.clock.stage is Stage.NIGHT:
            return
        for req_id, column in list(self.lines.items()):
            self.emit("quote", self.ticks(req_id, column), column=column)
        for req_id, (column, _) in list(self.streams.items()):
            if self.clock.traded(column):
                self.emit("stream", self._single(req_id), column=column)
        if self.clock.stage is Stage.CLOSED:
            self._grow()
            self._tick_bars(last=True)

    def on_five_seconds(self) -> None:
        """Tell the bars of five seconds in which nothing traded."""
        if self.clock.stage is Stage.OPEN:
            self._tick_bars(last=False)

    def ticks(self, req_id: int, column: int) -> list[Action]:
        """Return the quote of a contract as ticks."""
        numbers = DELAYED_TICKS if self.delayed_only else TICKS
        price = self.clock.price(column)
        if not np.isfinite(price):
            return []
        prices = {"last": price, "close": self.clock.previous_close(column)}
        if self.clock.traded(column):
            bid, ask = self.quote(column, price)
            prices = {"bid": bid, "ask": ask} | prices
        said = [
            self._send(
                "tickPrice",
                reqId=req_id,
                tickType=numbers[name],
                price=value,
                size=TOP_SIZE if name in ("bid", "ask") else 0,
                attributes=0,
            )
            for name, value in prices.items()
            if np.isfinite(value)
        ]
        if self.clock.traded(column) and not self.delayed_only:
            stamp = str(self.clock.now_ns() // 10**9)
            said.append(self._send("tickString", reqId=req_id, tickType=LAST_TIME_TICK, text=stamp))
        return [*said, *self._volume(req_id, column)]

    def _volume(self, req_id: int, column: int) -> list[Action]:
        volume = self.clock.prices.volume[self.clock.row, column]
        if self.clock.stage is not Stage.CLOSED or not np.isfinite(volume):
            return []
        return [self._send("tickSize", reqId=req_id, tickType=VOLUME_TICK, size=int(volume))]

    def _single(self, req_id: int) -> list[Action]:
        column, kind = self.streams[req_id]
        price, epoch = self.clock.price(column), self.clock.now_ns() // 10**9
        bid, ask = self.quote(column, price)
        values: dict[str, Any]
        match kind:
            case "BidAsk":
                values = {"tickType": 3, "bidAsk": 1, "bid": bid, "ask": ask}
                values |= {"bidSize": TOP_SIZE, "askSize": TOP_SIZE, "mask": 0}
            case "MidPoint":
                values = {"tickType": 4, "midpoint": 1, "middle": (bid + ask) / 2}
            case _:
                values = {"tickType": 1 if kind == "Last" else 2, "last": 1, "price": price}
                values |= {"size": 0, "mask": 0, "conditions": ""}
                values["exchange"] = self.contracts.stocks[column].home
        return [self._send("tickByTick", reqId=req_id, epoch=epoch, **values)]

    def _grow(self) -> None:
        for req_id, column in list(self.growing.items()):
            if np.isfinite(self.clock.prices.close[self.clock.row, column]):
                rows: IntArray = np.array([self.clock.row])
                [bar] = self._daily(column, rows, total=False)
                self.emit("grow", [self._send("historicalDataUpdate", reqId=req_id, **bar)])

    def _tick_bars(self, *, last: bool) -> None:
        row, prices = self.clock.row, self.clock.prices
        epoch = self.clock.starts_ns(row, self.clock.stage) // 10**9
        epoch = epoch - 5 if last else self.clock.now_ns() // 10**9 // 5 * 5
        for req_id, column in list(self.real_time.items()):
            first = float(prices.open[row, column])
            if not np.isfinite(first):
                continue
            bar = dict.fromkeys(("open", "high", "low", "close", "wap"), first)
            bar |= {"volume": 0, "count": 0}
            if last:
                # All of the session after its open falls into its last bar.
                named = {
                    name: getattr(prices, name)[row, column] for name in ("high", "low", "close")
                }
                bar |= {name: float(value) for name, value in named.items()}
                bar |= {"volume": _whole(prices.volume[row, column]), "wap": -1, "count": -1}
            message = self._send("realTimeBar", reqId=req_id, epoch=epoch, **bar)
            self.emit("real_time", [message], column=column)

    def _daily(self, column: int, rows: IntArray, *, total: bool) -> list[dict[str, Any]]:
        values = self._bars.values(column, rows, total=total)
        days = [f"{day:%Y%m%d}" for day in self.clock.prices.sessions[rows].astype(object)]
        names = ("open", "high", "low", "close")
        series = [np.round(values[name], 6).tolist() for name in names]
        volumes = [_whole(volume) for volume in values["volume"]]
        return [
            dict(zip(("date", *names, "volume"), bar, strict=True)) | {"wap": -1, "count": -1}
            for bar in zip(days, *series, volumes, strict=True)
        ]

    def _schedule(self, req_id: int, rows: IntArray) -> Send:
        prices = self.clock.prices
        hours = [
            (
                self.clock.local(int(prices.opens_ns[row])),
                self.clock.local(int(prices.closes_ns[row])),
            )
            for row in rows
        ]
        sessions = [
            {
                "start": f"{opened:%Y%m%d-%H:%M:%S}",
                "end": f"{closed:%Y%m%d-%H:%M:%S}",
                "refDate": f"{opened:%Y%m%d}",
            }
            for opened, closed in hours
        ]
        if not sessions:
            raise Refusal(162, f"{HISTORY_ERROR}HMDS query returned no data")
        first, last = sessions[0]["start"], sessions[-1]["end"]
        return self._send(
            "historicalSchedule",
            reqId=req_id,
            start=first,
            end=last,
            timeZone="US/Eastern",
            sessions=sessions,
        )

    def _require_daily(self, asked: Values, rows: IntArray) -> None:
        known = asked["whatToShow"] in ("TRADES", "ADJUSTED_LAST") and asked["barSize"] == "1 day"
        if not known or not len(rows):
            raise Refusal(162, f"{HISTORY_ERROR}HMDS query returned no data")
        if asked["whatToShow"] == "ADJUSTED_LAST" and asked["endDateTime"]:
            raise Refusal(
                321,
                "Error validating request.-'bN' : cause - End date not supported with adjusted "
                "last",
            )

    def _rows(self, column: int, asked: Values) -> IntArray:
        found = re.fullmatch(r"(\d+) ([SDWMY])", asked["duration"].strip())
        if found is None:
            raise Refusal(
                321,
                "Error validating request.-'bN' : cause - Historical data query duration is "
                "invalid",
            )
        count, unit = int(found[1]), found[2]
        end = self._end(asked["endDateTime"])
        if unit == "D":
            return self._bars.rows(column, None, end, count)
        start = end - timedelta(seconds=count * SECONDS_OF[unit])
        return self._bars.rows(column, start, end, None)

    def _end(self, text: str) -> date:
        """Return the last day whose close is not after the end that is asked for."""
        if not text:
            return self.clock.session
        moment = moment_of(text, self.clock.prices.zone)
        row = int(np.searchsorted(self.clock.prices.closes_ns, moment.timestamp() * 1e9, "right"))
        sessions = self.clock.prices.sessions
        last: date = sessions[max(row - 1, 0)].astype(object)
        return last if row else last - timedelta(days=1)

    def _column(self, asked: Values) -> int:
        column = self.contracts.one(asked)
        if column is None:
            raise Refusal(200, "No security definition has been found for the request")
        return column

    def _stamp(self, row: int) -> str:
        return (
            f"{self.clock.local(int(self.clock.prices.opens_ns[row])):%Y%m%d %H:%M:%S} US/Eastern"
        )

    def _send(self, name: str, **values: Any) -> Send:
        return Send(self.client_id, name, values)


def refused(client_id: int, req_id: int, refusal: Refusal) -> Send:
    """Return the error message of a refusal."""
    return error(client_id, refusal.code, refusal.text, req_id)


def _whole(volume: float) -> int:
    """Return a volume as the wire says it: -1 is the word for unknown."""
    return int(volume) if np.isfinite(volume) else -1


def moment_of(text: str, home: ZoneInfo) -> datetime:
    """Return the time of a request: on a named clock, the exchange's, or UTC if dashed.

    Raises
    ------
    Refusal
        If it cannot be read.
    """
    words = text.split()
    try:
        if "-" in words[0]:
            return datetime.strptime(words[0], "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
        zone = ZoneInfo(words[2]) if len(words) > 2 else home
        return datetime.strptime(" ".join(words[:2]), "%Y%m%d %H:%M:%S").replace(tzinfo=zone)
    except (ValueError, ZoneInfoNotFoundError):
        raise Refusal(
            10314,
            "End Date/Time: The date, time, or time-zone entered is invalid. The correct format is "
            "yyyymmdd hh:mm:ss xx/xxxx where yyyymmdd and xx/xxxx are optional.",
        ) from None
