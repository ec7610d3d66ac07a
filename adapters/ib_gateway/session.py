"""One client at the gateway: its requests, its subscriptions, and the answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.ib_gateway.actions import Action, Send, error
from adapters.ib_gateway.book import Book
from adapters.ib_gateway.contracts import MARKET_RULE, details_of
from adapters.ib_gateway.data import DataDesk, Refusal, moment_of, refused
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.orders import Fill
from adapters.ib_gateway.requests import Request
from adapters.ib_gateway.wire import Values, integer
from prometheus_nt.domain.errors import DataError

MOST_SUMMARIES = 2

TEXT_FIGURES = (("AccountType", "INDIVIDUAL"), ("AccountReady", "true"), ("Currency", "USD"))
LEDGER_FIGURES = (
    ("CashBalance", "TotalCashValue"),
    ("TotalCashBalance", "TotalCashValue"),
    ("StockMarketValue", "StockMarketValue"),
    ("NetLiquidationByCurrency", "NetLiquidation"),
    ("UnrealizedPnL", "UnrealizedPnL"),
    ("RealizedPnL", "RealizedPnL"),
)


@dataclass
class Session:
    """A connected client.

    Attributes
    ----------
    version : int
        Of the protocol, as agreed with it.
    accounts : str
        What it is told it may trade.
    """

    client_id: int
    version: int
    book: Book
    desk: DataDesk
    emit: Callable[..., None]
    accounts: str
    account_updates: bool = False
    positions: bool = False
    summaries: dict[int, list[str]] = field(default_factory=dict)
    multi: set[int] = field(default_factory=set)
    multi_positions: set[int] = field(default_factory=set)
    profits: set[int] = field(default_factory=set)
    single_profits: dict[int, int] = field(default_factory=dict)

    def greet(self) -> None:
        """Say what a gateway says to a client that has begun."""
        farms = {
            2104: "Market data farm connection is OK:usfarm",
            2106: "HMDS data farm connection is OK:ushmds",
            2158: "Sec-def data farm connection is OK:secdefnj",
        }
        said: list[Action] = [
            self._send("managedAccounts", accounts=self.accounts),
            self._send("nextValidId", orderId=self.book.next_id(self.client_id)),
            *(error(self.client_id, code, text) for code, text in farms.items()),
        ]
        self.emit("greet", said, client_id=self.client_id)

    def handle(self, request: Request) -> None:
        """Answer a request."""
        try:
            ANSWERS[request.name](self, request.values)
        except Refusal as refusal:
            self._say(refused(self.client_id, request.req_id, refusal))
        except DataError as unreadable:
            text = f"Server error when reading an API client request. {unreadable}"
            self._say(error(self.client_id, 320, text, request.req_id))

    def on_stage(self) -> None:
        """Tell what the stage that begins reveals."""
        self.desk.on_stage()
        if self.book.clock.stage is not Stage.NIGHT:
            self.on_account()

    def on_position(self, column: int) -> None:
        """Tell subscribers a position that changed."""
        said: list[Action] = [self._position_multi(r, column) for r in sorted(self.multi_positions)]
        if self.positions:
            said.append(self._position(column))
        if said:
            self.emit("positions", said, client_id=self.client_id)

    def on_account(self) -> None:
        """Tell subscribers the account."""
        if self.account_updates:
            self._tell_account()
        for req_id in self.summaries:
            self.emit("summary", self._summary(req_id), client_id=self.client_id)
        for req_id in sorted(self.profits):
            self._say(self._profit(req_id))
        for req_id, held in self.single_profits.items():
            self._say(self._single_profit(req_id, held))

    def _figures(self) -> dict[str, float]:
        book = self.book
        figures = book.account.figures(book.clock.price)
        figures["StockMarketValue"] = figures["NetLiquidation"] - figures["TotalCashValue"]
        return figures

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return every account value: its key, its value as text and its currency."""
        figures, currency = self._figures(), self.book.account.currency
        rows = [(key, value, "") for key, value in TEXT_FIGURES]
        rows += [
            (key, f"{value:.2f}", currency)
            for key, value in figures.items()
            if key not in ("StockMarketValue", "UnrealizedPnL", "RealizedPnL")
        ]
        equity = figures["NetLiquidation"]
        cushion = figures["ExcessLiquidity"] / equity if equity else 0.0
        rows.append(("Cushion", f"{cushion:.6f}", ""))
        rows.append(("DayTradesRemaining", "-1", ""))
        for unit in (currency, "BASE"):
            rows += [(key, f"{figures[name]:.2f}", unit) for key, name in LEDGER_FIGURES]
            rows.append(("ExchangeRate", "1.00", unit))
        return rows

    def _tell_account(self) -> None:
        account = self.book.account.account_id
        said: list[Action] = [
            self._send("accountValue", key=key, value=value, currency=currency, account=account)
            for key, value, currency in self._rows()
        ]
        said += [self._portfolio(column) for column in self.book.account.positions]
        now = f"{self.book.clock.local():%H:%M}"
        said.append(self._send("accountTime", time=now))
        said.append(self._send("accountDownloadEnd", account=account))
        self.emit("account", said, client_id=self.client_id)

    def _portfolio(self, column: int) -> Send:
        book = self.book
        position, price = book.account.positions[column], book.clock.price(column)
        value = position.shares * price
        stock = book.stock(column)
        values = stock.wire(stock.primary_exchange) | {
            "position": position.shares,
            "marketPrice": price,
            "marketValue": value,
            "averageCost": position.average_cost,
            "unrealized": value - position.shares * position.average_cost,
            "realized": 0.0,
            "account": book.account.account_id,
        }
        return Send(self.client_id, "portfolio", values)

    def _position_values(self, column: int) -> dict[str, Any]:
        stock, position = self.book.stock(column), self.book.account.positions[column]
        return stock.wire(stock.primary_exchange) | {
            "account": self.book.account.account_id,
            "position": position.shares,
            "averageCost": position.average_cost,
        }

    def _position(self, column: int) -> Send:
        return Send(self.client_id, "position", self._position_values(column))

    def _position_multi(self, req_id: int, column: int) -> Send:
        values = self._position_values(column) | {"reqId": req_id, "modelCode": ""}
        return Send(self.client_id, "positionMulti", values)

    def _profit(self, req_id: int) -> Send:
        figures = self._figures()
        before = self.book.account.opening_equity
        daily = None if before is None else figures["NetLiquidation"] - before
        return self._send(
            "pnl",
            reqId=req_id,
            daily=daily,
            unrealized=figures["UnrealizedPnL"],
            realized=figures["RealizedPnL"],
        )

    def _single_profit(self, req_id: int, column: int) -> Send:
        book = self.book
        position = book.account.held().get(column)
        shares = 0 if position is None else position.shares
        value = shares * book.clock.price(column)
        cost = 0.0 if position is None else shares * position.average_cost
        # What a position earned today and what it realised alone are not kept.
        return self._send(
            "pnlSingle",
            reqId=req_id,
            position=shares,
            daily=None,
            unrealized=value - cost,
            realized=None,
            value=value,
        )

    def _summary(self, req_id: int) -> list[Action]:
        tags = self.summaries[req_id]
        account, ledger = self.book.account.account_id, {key for key, _ in LEDGER_FIGURES}
        ledger_asked = any(tag.startswith("$LEDGER") for tag in tags)
        rows = [
            (key, value, currency)
            for key, value, currency in self._rows()
            if (key in tags and key not in ledger) or (key in ledger and ledger_asked)
        ]
        said: list[Action] = [
            self._send(
                "accountSummary",
                reqId=req_id,
                account=account,
                tag=key,
                value=value,
                currency=currency,
            )
            for key, value, currency in rows
        ]
        return [*said, self._send("accountSummaryEnd", reqId=req_id)]

    def _require_own(self, asked: Values) -> None:
        if asked["account"] not in ("", "All", self.book.account.account_id):
            raise Refusal(321, "Error validating request.-'bz' : cause - Invalid account code")

    def _send(self, name: str, **values: Any) -> Send:
        return Send(self.client_id, name, values)

    def _say(self, *said: Action) -> None:
        self.emit("answer", list(said), client_id=self.client_id)

    def place(self, asked: Values) -> None:
        self.book.place(self.client_id, asked)

    def cancel(self, asked: Values) -> None:
        self.book.cancel(self.client_id, integer(asked["orderId"]))

    def open_orders(self, _: Values) -> None:
        self._tell_orders(self.client_id)

    def all_open_orders(self, _: Values) -> None:
        self._tell_orders(None)

    def _tell_orders(self, owner: int | None) -> None:
        said: list[Action] = []
        for order in self.book.open_orders(owner):
            said += [
                self.book.shown(order, self.client_id),
                self.book.status(order, self.client_id),
            ]
        self.emit("open_orders", [*said, self._send("openOrderEnd")], client_id=self.client_id)

    def completed_orders(self, asked: Values) -> None:
        said: list[Action] = []
        for order in self.book.completed():
            if integer(asked["apiOnly"]) and order.order_id == 0:
                continue
            values = order.values(
                self.book.stock(order.column).wire(), self.book.account.account_id
            )
            ended = self.book.clock.local(order.done_ns)
            zone = self.book.clock.prices.time_zone
            values |= {"completedTime": f"{ended:%Y%m%d %H:%M:%S} {zone}"}
            values |= {"completedStatus": _completed_status(order.status, order.filled)}
            said.append(Send(self.client_id, "completedOrder", values))
        said.append(self._send("completedOrdersEnd"))
        self.emit("completed", said, client_id=self.client_id)

    def executions(self, asked: Values) -> None:
        req_id, since = integer(asked["reqId"]), 0
        if asked["time"]:
            moment = moment_of(asked["time"], self.book.clock.prices.zone)
            since = int(moment.timestamp() * 1e9)
        said: list[Action] = []
        for fill in self.book.todays_fills():
            if fill.time_ns >= since and self._fits(fill, asked):
                said.append(self.book.execution(fill, self.client_id, req_id))
                said.append(self.book.commission_report(fill, self.client_id))
        said.append(self._send("executionEnd", reqId=req_id))
        self.emit("executions", said, client_id=self.client_id)

    def _fits(self, fill: Fill, asked: Values) -> bool:
        stock = self.book.stock(fill.column)
        known = {
            "clientId": str(fill.client_id),
            "account": self.book.account.account_id,
            "symbol": stock.symbol,
            "secType": "STK",
            "exchange": stock.home,
            "side": "BUY" if fill.side > 0 else "SELL",
        }
        return all(asked[name] in ("", "0", value) for name, value in known.items())

    def subscribe_account(self, asked: Values) -> None:
        self._require_own(asked)
        self.account_updates = bool(integer(asked["subscribe"]))
        if self.account_updates:
            self._tell_account()

    def subscribe_positions(self, _: Values) -> None:
        self.positions = True
        said: list[Action] = [self._position(column) for column in self.book.account.held()]
        said.append(self._send("positionEnd"))
        self.emit("positions", said, client_id=self.client_id)

    def cancel_positions(self, _: Values) -> None:
        self.positions = False

    def subscribe_multi_positions(self, asked: Values) -> None:
        req_id = integer(asked["reqId"])
        self.multi_positions.add(req_id)
        held = self.book.account.held()
        said: list[Action] = [self._position_multi(req_id, column) for column in held]
        self.emit("positions", [*said, self._send("positionMultiEnd", reqId=req_id)])

    def cancel_multi_positions(self, asked: Values) -> None:
        self.multi_positions.discard(integer(asked["reqId"]))

    def subscribe_multi(self, asked: Values) -> None:
        self._require_own(asked)
        req_id, account = integer(asked["reqId"]), self.book.account.account_id
        self.multi.add(req_id)
        ledger = {key for key, _ in LEDGER_FIGURES} | {"NetLiquidation"}
        said: list[Action] = [
            self._send(
                "accountUpdateMulti",
                reqId=req_id,
                account=account,
                modelCode="",
                key=key,
                value=value,
                currency=currency,
            )
            for key, value, currency in self._rows()
            if key in ledger or not integer(asked["ledgerAndNLV"])
        ]
        said.append(self._send("accountUpdateMultiEnd", reqId=req_id))
        self.emit("account", said, client_id=self.client_id)

    def cancel_multi(self, asked: Values) -> None:
        self.multi.discard(integer(asked["reqId"]))

    def subscribe_summary(self, asked: Values) -> None:
        req_id = integer(asked["reqId"])
        if len(self.summaries) >= MOST_SUMMARIES and req_id not in self.summaries:
            raise Refusal(
                322,
                "Error processing request.-'cA' : cause - Maximum number of account summary "
                "requests exceeded",
            )
        self.summaries[req_id] = asked["tags"].replace(" ", "").split(",")
        self.emit("summary", self._summary(req_id), client_id=self.client_id)

    def cancel_summary(self, asked: Values) -> None:
        self.summaries.pop(integer(asked["reqId"]), None)

    def subscribe_profit(self, asked: Values) -> None:
        self._require_own(asked)
        self.profits.add(integer(asked["reqId"]))
        self._say(self._profit(integer(asked["reqId"])))

    def cancel_profit(self, asked: Values) -> None:
        self.profits.discard(integer(asked["reqId"]))

    def subscribe_single_profit(self, asked: Values) -> None:
        column = self.book.terms.contracts.column(integer(asked["conId"]))
        if column is None:
            raise Refusal(2150, "Invalid position trade derived value")
        self.single_profits[integer(asked["reqId"])] = column
        self._say(self._single_profit(integer(asked["reqId"]), column))

    def cancel_single_profit(self, asked: Values) -> None:
        self.single_profits.pop(integer(asked["reqId"]), None)

    def contract_details(self, asked: Values) -> None:
        req_id = integer(asked["reqId"])
        found = self.book.terms.contracts.matching(asked)
        if not found:
            raise Refusal(200, "No security definition has been found for the request")
        hours = self._hours()
        said: list[Action] = []
        for column in found:
            values = details_of(self.book.stock(column), hours, "US/Eastern")
            said.append(Send(self.client_id, "contractData", values | {"reqId": req_id}))
        said.append(self._send("contractDataEnd", reqId=req_id))
        self.emit("contract", said, client_id=self.client_id)

    def _hours(self) -> tuple[str, str]:
        """Return the trading and liquid hours of this and the next sessions."""
        clock = self.book.clock
        liquid, trading = [], []
        for row in range(clock.row, min(clock.row + 6, len(clock.prices.sessions))):
            opened = clock.local(int(clock.prices.opens_ns[row]))
            closed = clock.local(int(clock.prices.closes_ns[row]))
            liquid.append(f"{opened:%Y%m%d:%H%M}-{closed:%Y%m%d:%H%M}")
            trading.append(f"{opened:%Y%m%d}:0400-{opened:%Y%m%d}:2000")
        return ";".join(trading), ";".join(liquid)

    def matching_symbols(self, asked: Values) -> None:
        samples = [
            stock.wire()
            | {
                "primaryExchange": stock.primary_exchange,
                "derivatives": [],
                "description": stock.long_name,
                "issuerId": "",
            }
            for stock in self.book.terms.contracts.sampled(asked["pattern"])
        ]
        self._say(self._send("symbolSamples", reqId=integer(asked["reqId"]), samples=samples))

    def market_rule(self, asked: Values) -> None:
        rule = integer(asked["ruleId"])
        if rule != MARKET_RULE:
            raise Refusal(321, "Error validating request.-'cz' : cause - Invalid market rule id")
        increments = [{"lowEdge": 0.0, "increment": 0.01}]
        self._say(self._send("marketRule", ruleId=rule, increments=increments))

    def current_time(self, _: Values) -> None:
        epoch = self.book.clock.now_ns() // 10**9
        self.emit("time", [self._send("currentTime", epoch=epoch)], client_id=self.client_id)

    def next_ids(self, _: Values) -> None:
        self._say(self._send("nextValidId", orderId=self.book.next_id(self.client_id)))

    def managed_accounts(self, _: Values) -> None:
        self._say(self._send("managedAccounts", accounts=self.accounts))

    def family_codes(self, _: Values) -> None:
        codes = [{"account": self.accounts, "code": ""}]
        self._say(self._send("familyCodes", codes=codes))

    def data_type(self, asked: Values) -> None:
        self.desk.data_type = integer(asked["type"])


def _completed_status(status: str, filled: int) -> str:
    return f"Filled Size: {filled}" if status == "Filled" else "Cancelled by Trader"


def _nothing(_: Session, __: Values) -> None:
    """Leave unanswered what has no effect on stock orders of one account."""


def _empty(name: str, items: str) -> Callable[[Session, Values], None]:
    def answer(session: Session, asked: Values) -> None:
        values = {"reqId": integer(asked.get("reqId", "")), items: []}
        session.emit("answer", [Send(session.client_id, name, values)], client_id=session.client_id)

    return answer


def _ends(kind: str) -> Callable[[Session, Values], None]:
    return lambda session, asked: session.desk.cancel(kind, integer(asked["reqId"]))


def _user(session: Session, asked: Values) -> None:
    values = {"reqId": integer(asked["reqId"]), "whiteBrandingId": ""}
    session.emit("answer", [Send(session.client_id, "userInfo", values)])


ANSWERS: Mapping[str, Callable[[Session, Values], None]] = {
    "startApi": _nothing,
    "placeOrder": Session.place,
    "cancelOrder": Session.cancel,
    "reqGlobalCancel": lambda session, _: session.book.cancel_all(),
    "reqOpenOrders": Session.open_orders,
    "reqAllOpenOrders": Session.all_open_orders,
    "reqAutoOpenOrders": Session.open_orders,
    "reqCompletedOrders": Session.completed_orders,
    "reqExecutions": Session.executions,
    "reqIds": Session.next_ids,
    "reqManagedAccts": Session.managed_accounts,
    "reqCurrentTime": Session.current_time,
    "reqAccountUpdates": Session.subscribe_account,
    "reqPositions": Session.subscribe_positions,
    "cancelPositions": Session.cancel_positions,
    "reqPositionsMulti": Session.subscribe_multi_positions,
    "cancelPositionsMulti": Session.cancel_multi_positions,
    "reqAccountSummary": Session.subscribe_summary,
    "cancelAccountSummary": Session.cancel_summary,
    "reqAccountUpdatesMulti": Session.subscribe_multi,
    "cancelAccountUpdatesMulti": Session.cancel_multi,
    "reqPnL": Session.subscribe_profit,
    "cancelPnL": Session.cancel_profit,
    "reqPnLSingle": Session.subscribe_single_profit,
    "cancelPnLSingle": Session.cancel_single_profit,
    "reqContractDetails": Session.contract_details,
    "reqMatchingSymbols": Session.matching_symbols,
    "reqMarketRule": Session.market_rule,
    "reqMarketDataType": Session.data_type,
    "reqMktData": lambda session, asked: session.desk.request_quotes(asked),
    "cancelMktData": _ends("quotes"),
    "reqTickByTick": lambda session, asked: session.desk.request_stream(asked),
    "cancelTickByTick": _ends("stream"),
    "reqRealTimeBars": lambda session, asked: session.desk.request_real_time_bars(asked),
    "cancelRealTimeBars": _ends("real_time"),
    "reqHistoricalData": lambda session, asked: session.desk.request_history(asked),
    "cancelHistoricalData": _ends("history"),
    "reqHeadTimestamp": lambda session, asked: session.desk.request_head(asked),
    "cancelHeadTimestamp": _nothing,
    "reqFamilyCodes": Session.family_codes,
    "reqSoftDollarTiers": _empty("softDollarTiers", "tiers"),
    "reqMktDepthExchanges": _empty("depthExchanges", "exchanges"),
    "reqNewsProviders": _empty("newsProviders", "providers"),
    "reqUserInfo": _user,
}
"""Name of a request -> what answers it."""
