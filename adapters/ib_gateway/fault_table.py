"""Every fault that can be injected, by name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from adapters.ib_gateway.actions import Action, Close, Later, Mode, Raw, Restart, Send, error
from adapters.ib_gateway.fault import Fault, Strike
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.orders import CANCELLED, PRE_SUBMITTED, SUBMITTED, Fill, Order, Refused
from adapters.ib_gateway.wire import frame

Effect = Callable[[Strike], Any]

TEXTS = {
    100: "Max rate of messages per second has been exceeded",
    103: "Duplicate order id",
    104: "Cannot modify a filled order.",
    110: "The price does not conform to the minimum price variation for this contract.",
    162: "Historical Market Data Service error message:HMDS query returned no data",
    200: "No security definition has been found for the request",
    201: "Order rejected - reason:injected by a fault",
    321: "Error validating request.-'bD' : cause - The API interface is in Read-Only mode.",
    354: "Requested market data is not subscribed.",
    404: "Order held while securities are located.",
    1100: "Connectivity between IB and Trader Workstation has been lost.",
    1101: "Connectivity between IB and Trader Workstation has been restored - data lost.",
    1102: "Connectivity between IB and Trader Workstation has been restored - data maintained.",
    2103: "Market data farm connection is broken:usfarm",
    2104: "Market data farm connection is OK:usfarm",
    2105: "HMDS data farm connection is broken:ushmds",
    2106: "HMDS data farm connection is OK:ushmds",
    2109: "Order Event Warning: Attribute 'Outside Regular Trading Hours' is ignored.",
    10197: "No market data during competing live session",
    10349: "Order TIF was set to DAY based on order preset.",
}


def _is(action: Action, *names: str) -> bool:
    return isinstance(action, Send) and action.name in names


def _text(code: int) -> str:
    return TEXTS.get(code, "injected by a fault")


def _each_client(make: Callable[[Strike, int], list[Action]]) -> Effect:
    """Return an effect that adds actions for each client: `when` is before, after or instead."""

    def effect(strike: Strike) -> list[Action]:
        added = [action for client in strike.clients for action in make(strike, client)]
        when = strike.arg("when")
        if when == "instead":
            return added
        return [*added, *strike.said] if when == "before" else [*strike.said, *added]

    return effect


def _connection(
    about: str, make: Callable[[Strike, int], list[Action]], when: str = "after", **args: Any
) -> Fault:
    return Fault(about, ("ack",), _each_client(make), {"when": when, **args}, at_once=True)


def _half(strike: Strike, client: int) -> list[Action]:
    whole = Send(client, "currentTime", {"epoch": strike.gateway.clock.now_ns() // 10**9})
    return [Raw(client, half_of=whole), Close(client)]


def _deaf(strike: Strike, client: int) -> list[Action]:
    broken: list[Action] = [Close(client, reset=True)]
    return [Mode(client, "deaf"), Later(strike.arg("seconds"), lambda: broken)]


def _told(code: int) -> Callable[[Strike, int], list[Action]]:
    return lambda _, client: [error(client, code, _text(code))]


def _link(lost: bool, code: int) -> Callable[[Strike, int], list[Action]]:
    def make(strike: Strike, client: int) -> list[Action]:
        if lost:
            strike.gateway.cut_link()
        else:
            strike.gateway.restore_link()
        if code == 1101 and client in strike.gateway.sessions:
            strike.gateway.sessions[client].desk.forget()
        return [error(client, code, _text(code))]

    return make


def _storm(strike: Strike, client: int) -> list[Action]:
    pair: list[Action] = [error(client, 1100, _text(1100)), error(client, 1102, _text(1102))]
    return pair * int(strike.arg("count"))


def _farms(strike: Strike, client: int) -> list[Action]:
    bad: list[Action] = [error(client, code, _text(code)) for code in (2103, 2105)]
    good: list[Action] = [error(client, code, _text(code)) for code in (2104, 2106)]
    return [*bad, Later(strike.arg("seconds"), lambda: good)]


def _reject(strike: Strike) -> bool:
    code = strike.arg("code")
    raise Refused(code, _text(code), inactive=bool(strike.arg("inactive")))


def _warn(strike: Strike) -> list[Action]:
    order: Order = strike.about["order"]
    code = strike.arg("code")
    return [*strike.said, error(order.client_id, code, _text(code), order.order_id)]


def _twice(*names: str) -> Effect:
    def effect(strike: Strike) -> list[Action]:
        said: list[Action] = []
        for action in strike.said:
            said += [action, action] if _is(action, *names) else [action]
        return said

    return effect


def _without(*names: str) -> Effect:
    return lambda strike: [action for action in strike.said if not _is(action, *names)]


def _first(name: str) -> Effect:
    def effect(strike: Strike) -> list[Action]:
        return sorted(strike.said, key=lambda action: not _is(action, name))

    return effect


def _commission_late(strike: Strike) -> list[Action]:
    late = [action for action in strike.said if _is(action, "commissionReport")]
    return [
        *(action for action in strike.said if action not in late),
        Later(strike.arg("seconds"), lambda: late),
    ]


def _late(strike: Strike) -> list[Action]:
    said = strike.said
    return [Later(strike.arg("seconds"), lambda: said)]


def _ack_late(strike: Strike) -> list[Action]:
    """Let a fill overtake what acknowledges its order."""
    said = strike.said
    return [Later(0.0, lambda: said)]


def _three(strike: Strike) -> list[int]:
    remaining = strike.about["order"].remaining
    third = remaining // 3
    return [third, third, remaining - 2 * third]


def _some(strike: Strike) -> list[int]:
    order: Order = strike.about["order"]
    strike.gateway.faults.stopped.add(order.perm_id)
    return [int(order.remaining * strike.arg("fraction"))]


def _race(strike: Strike) -> bool:
    order: Order = strike.about["order"]
    book = strike.gateway.book
    price = book.clock.price(order.column) if order.limit is None else order.limit
    book.take(order, price)
    text = f"OrderId {order.order_id} that needs to be cancelled cannot be cancelled, "
    strike.gateway.outbox.append(
        error(order.client_id, 10148, f"{text}state: {order.status}.", order.order_id)
    )
    return True


def _fill_after_cancel(strike: Strike) -> list[Action]:
    order, book = strike.about["order"], strike.gateway.book

    def fill() -> list[Action]:
        order.status, order.done_ns = SUBMITTED, None
        price = book.clock.price(order.column) if order.limit is None else order.limit
        book.fill(order, order.remaining, price)
        return []

    return [*strike.said, Later(strike.arg("seconds"), fill)]


def _correct(strike: Strike) -> list[Action]:
    fill: Fill = strike.about["fill"]
    book = strike.gateway.book
    shares = strike.arg("shares") if strike.arg("shares") >= 0 else fill.shares

    def revise() -> list[Action]:
        price = round(fill.price + strike.arg("move"), 6) if shares else 0.0
        revised = book.revise(fill, shares, price)
        return [book.execution(revised), book.commission_report(revised)]

    return [*strike.said, Later(strike.arg("seconds"), revise)]


def _utc(strike: Strike) -> list[Action]:
    fills = {fill.exec_id: fill for fill in strike.gateway.book.fills}

    def told(action: Action) -> Action:
        if not isinstance(action, Send) or action.name != "execution":
            return action
        seconds = fills[action.values["execId"]].time_ns / 1e9
        stamp = f"{datetime.fromtimestamp(seconds, tz=UTC):%Y%m%d-%H:%M:%S}"
        return replace(action, values=action.values | {"time": stamp})

    return [told(action) for action in strike.said]


def _reuse_ids(strike: Strike) -> list[Action]:
    book = strike.gateway.book
    if book.clock.stage is Stage.NIGHT:
        book.ids_from = len(book.fills)
    return strike.said


def _newest(strike: Strike) -> Order | None:
    working = strike.gateway.book.open_orders()
    return strike.about.get("order") or (working[-1] if working else None)


def _user_cancels(strike: Strike) -> list[Action]:
    order, book = _newest(strike), strike.gateway.book

    def cancel() -> list[Action]:
        if order is not None and order.is_open:
            book.finish(order, CANCELLED)
        return []

    return [*strike.said, Later(0.0, cancel)]


def _user_edits(strike: Strike) -> list[Action]:
    order, book = _newest(strike), strike.gateway.book

    def edit() -> list[Action]:
        if order is None or not order.is_open:
            return []
        order.quantity = max(order.filled + 1, int(order.quantity * strike.arg("factor")))
        return [book.shown(order), book.status(order)]

    return [*strike.said, Later(0.0, edit)]


def _ids_restart(strike: Strike) -> list[Action]:
    strike.gateway.book.restart_ids()
    return strike.said


def _foreign(strike: Strike) -> list[Action]:
    order = Order(
        perm_id=0,
        client_id=strike.arg("owner"),
        order_id=strike.arg("order_id"),
        column=strike.arg("column"),
        side=1,
        quantity=strike.arg("shares"),
        order_type="MKT",
        tif="DAY",
        limit=None,
        stop=None,
        status=PRE_SUBMITTED,
    )
    strike.gateway.book.enter_by_hand(order)
    return strike.said


def _twin(strike: Strike) -> list[Action]:
    order, book = _newest(strike), strike.gateway.book

    def enter() -> list[Action]:
        if order is not None:
            book.enter_again(order)
        return []

    return [*strike.said, Later(0.0, enter)]


def _margin_call(strike: Strike) -> list[Action]:
    book = strike.gateway.book
    figures = book.account.figures(book.clock.price)
    # Below the maintenance margin by a hundredth of what is held.
    book.account.cash -= figures["ExcessLiquidity"] + 0.01 * figures["GrossPositionValue"]
    for session in list(strike.gateway.sessions.values()):
        session.on_account()
    return strike.said


def _no_currency(strike: Strike) -> list[Action]:
    return [
        action
        for action in strike.said
        if not isinstance(action, Send) or action.values.get("currency", "") in ("", "BASE")
    ]


def _wants(strike: Strike) -> bool:
    return strike.arg("request") in ("", strike.about["request"].name)


def _drop(strike: Strike) -> bool:
    return not _wants(strike)


def _delay(strike: Strike) -> bool:
    if not _wants(strike):
        return True
    session, request = strike.about["session"], strike.about["request"]

    def answer() -> list[Action]:
        session.handle(request)
        return []

    strike.gateway.outbox.append(Later(strike.arg("seconds"), answer))
    return False


def _fail(strike: Strike) -> bool:
    if not _wants(strike):
        return True
    code, request = strike.arg("code"), strike.about["request"]
    [client] = strike.clients
    strike.gateway.outbox.append(error(client, code, _text(code), request.req_id))
    return False


def _bars(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Effect:
    def told(action: Action) -> Action:
        if not isinstance(action, Send) or action.name != "historicalData":
            return action
        return replace(action, values=action.values | {"bars": change(action.values["bars"])})

    return lambda strike: [told(action) for action in strike.said]


def _open_bar(strike: Strike) -> list[Action]:
    clock = strike.gateway.clock
    if clock.stage is not Stage.OPEN:
        return strike.said
    today = {"date": f"{clock.session:%Y%m%d}"}
    return list(_bars(lambda bars: [*bars, bars[-1] | today])(strike))


def _flood(strike: Strike) -> list[Action]:
    return strike.said * int(strike.arg("count"))


def _half_day(strike: Strike) -> list[Action]:
    def told(action: Action) -> Action:
        if not isinstance(action, Send) or "liquidHours" not in action.values:
            return action
        hours = action.values["liquidHours"]
        return replace(
            action, values=action.values | {"liquidHours": hours.replace(":1600", ":1300")}
        )

    return [told(action) for action in strike.said]


def _too_fast(strike: Strike) -> list[Action]:
    for client in strike.clients:
        strike.gateway.exceed(client)
    return strike.said


def _held(about: str, **args: Any) -> Fault:
    return Fault(about, (), lambda strike: strike.said, args, lasting=True)


FAULTS: Mapping[str, Fault] = {
    # transport
    "close": _connection("The connection ends.", lambda _, client: [Close(client)], "before"),
    "close_after": _connection("The same, after what was to be said.", lambda _, c: [Close(c)]),
    "reset": _connection(
        "The connection breaks without a farewell.",
        lambda _, client: [Close(client, reset=True)],
        "before",
    ),
    "half_frame": _connection("Half a frame, then the end.", _half, "before"),
    "bytewise": _connection(
        "Every byte in a write of its own.", lambda _, c: [Mode(c, "bytewise")]
    ),
    "garbage": _connection(
        "A frame of noise.", lambda _, client: [Raw(client, frame(b"\xff\xfe\x00garbage\x00"))]
    ),
    "huge_length": _connection(
        "A frame that announces two gigabytes, so that the stream hangs.",
        lambda _, client: [Raw(client, b"\x7f\xff\xff\xff")],
        "before",
    ),
    "deaf": _connection(
        "The gateway stops reading and writing; after so many seconds the socket breaks.",
        _deaf,
        "before",
        seconds=10.0,
    ),
    "jitter": _connection(
        "Every message comes up to so many seconds late.",
        lambda strike, client: [Mode(client, "jitter", strike.arg("seconds"))],
        seconds=0.3,
    ),
    "burst": _connection(
        "Messages wait, and come together after so many seconds.",
        lambda strike, client: [Mode(client, "burst", strike.arg("seconds"))],
        seconds=1.0,
    ),
    "refuse": Fault(
        "New connections are refused for so many seconds; the old ones stay.",
        ("ack",),
        lambda strike: [*strike.said, Restart(strike.arg("seconds"), keep=True)],
        {"seconds": 5.0},
        at_once=True,
    ),
    "hang_handshake": Fault("A new connection gets no answer.", ("handshake",), lambda _: "hang"),
    "duplicate_client": Fault(
        "A new connection is told that its client id is taken.",
        ("handshake",),
        lambda _: "duplicate",
    ),
    # orders
    "lose_order": Fault("An order vanishes without a word.", ("intake",), lambda _: False),
    "reject": Fault(
        "An order is refused with a code, with status Inactive unless inactive=0.",
        ("intake",),
        _reject,
        {"code": 201, "inactive": 1},
    ),
    "warn": Fault(
        "A code that refuses nothing comes for an order.", ("ack",), _warn, {"code": 10349}
    ),
    "duplicate_status": Fault(
        "Every status of an event comes twice.",
        ("ack", "fill"),
        _twice("orderStatus"),
        lasting=True,
    ),
    "late_ack": Fault("An order's fill overtakes its acknowledgement.", ("ack",), _ack_late),
    "missing_status": Fault(
        "No status comes with a fill.",
        ("fill",),
        _without("orderStatus", "openOrder"),
        lasting=True,
    ),
    "missing_ack": Fault("No acknowledgement comes.", ("ack",), lambda _: []),
    "cancel_races_fill": Fault("An order fills while its cancel is on the way.", ("keeps",), _race),
    "cancel_pending": Fault(
        "A cancel stays pending until the order ends by itself.", ("keeps",), lambda _: True
    ),
    "fill_after_cancel": Fault(
        "A cancelled order fills after all.", ("cancel",), _fill_after_cancel, {"seconds": 0.2}
    ),
    "partial_then_stop": Fault(
        "An order fills in part and never again.", ("parts",), _some, {"fraction": 0.4}
    ),
    "three_partials": Fault("An order fills in three parts.", ("parts",), _three),
    "user_cancels": Fault(
        "Somebody cancels the order at the terminal.",
        ("ack",),
        _user_cancels,
        at_once=True,
        by_hand=True,
    ),
    "user_edits": Fault(
        "Somebody changes the order's size at the terminal.",
        ("ack",),
        _user_edits,
        {"factor": 0.5},
        at_once=True,
        by_hand=True,
    ),
    "ids_restart": Fault(
        "Order ids begin anew, as after a reset in the gateway's settings.",
        ("ack",),
        _ids_restart,
        at_once=True,
    ),
    "twin_order": Fault(
        "The broker works an order twice: two permanent ids under one reference.",
        ("ack",),
        _twin,
        at_once=True,
    ),
    "foreign_order": Fault(
        "Another client enters a market order.",
        ("ack",),
        _foreign,
        {"owner": 77, "order_id": 1, "column": 0, "shares": 10},
        at_once=True,
        by_hand=True,
    ),
    # fills
    "duplicate_execution": Fault("An execution comes twice.", ("fill",), _twice("execution")),
    "commission_first": Fault(
        "A commission comes before its execution.", ("fill",), _first("commissionReport")
    ),
    "commission_late": Fault(
        "A commission comes late.", ("fill",), _commission_late, {"seconds": 1.0}
    ),
    "commission_never": Fault(
        "No commission comes, not even when asked for.",
        ("fill", "executions"),
        _without("commissionReport"),
        lasting=True,
    ),
    "correction": Fault(
        "An execution is replaced by its next revision: `shares` (-1 the same), price + `move`.",
        ("fill",),
        _correct,
        {"shares": -1, "move": 0.01, "seconds": 0.2},
    ),
    "bust": Fault(
        "An execution is taken back: a revision of no shares.",
        ("fill",),
        _correct,
        {"shares": 0, "move": 0.0, "seconds": 0.2},
    ),
    "silent_fill": Fault("A fill is not told until it is asked for.", ("fill",), lambda _: []),
    "utc_time": Fault(
        "Times of executions are in UTC, with a dash.", ("fill", "executions"), _utc, lasting=True
    ),
    "reuse_exec_ids": Fault(
        "Execution ids begin anew every day.", ("stage",), _reuse_ids, lasting=True
    ),
    # link
    "link_lost": _connection("1100: the broker is out of reach.", _link(True, 1100)),
    "link_back": _connection("1102: it is back, with data.", _link(False, 1102)),
    "link_back_empty": _connection("1101: it is back, subscriptions are lost.", _link(False, 1101)),
    "link_storm": _connection("Many 1100 and 1102.", _storm, count=20),
    "restart": Fault(
        "The gateway goes down, and is back after so many seconds.",
        ("ack",),
        lambda strike: [*strike.said, Restart(strike.arg("seconds"))],
        {"seconds": 5.0},
        at_once=True,
    ),
    "token": Fault(
        "The weekly login is due: 1100, then down until somebody has logged in.",
        ("ack",),
        lambda strike: [
            *strike.said,
            *(error(client, 1100, _text(1100)) for client in strike.clients),
            Restart(strike.arg("seconds")),
        ],
        {"seconds": 60.0},
        at_once=True,
    ),
    "farms": _connection("Data farms break, and are back later.", _farms, seconds=1.0),
    "competing": _connection("10197: another session has the data.", _told(10197)),
    # account
    "stale_positions": Fault(
        "Positions come late.", ("positions",), _late, {"seconds": 5.0}, lasting=True
    ),
    "no_download_end": Fault(
        "The end of the account never comes.",
        ("account",),
        _without("accountDownloadEnd"),
        lasting=True,
    ),
    "wrong_accounts": _held("Clients are told of another account.", accounts="DU9999999"),
    "margin_call": Fault(
        "Cash falls until the maintenance margin is not covered.",
        ("fill",),
        _margin_call,
        at_once=True,
    ),
    "no_currency": Fault(
        "Account values of a currency are missing.",
        ("account", "summary"),
        _no_currency,
        lasting=True,
    ),
    # data
    "drop_request": Fault(
        "A request gets no answer; of one name, or of any.", ("request",), _drop, {"request": ""}
    ),
    "delay_request": Fault(
        "A request is answered late.", ("request",), _delay, {"request": "", "seconds": 1.0}
    ),
    "data_error": Fault(
        "A request is answered with an error.",
        ("request",),
        _fail,
        {"request": "reqHistoricalData", "code": 162},
    ),
    "volume_unknown": Fault(
        "Bars come without volume.",
        ("history",),
        _bars(lambda bars: [bar | {"volume": -1} for bar in bars]),
        lasting=True,
    ),
    "missing_day": Fault(
        "The newest bar but one is missing.", ("history",), _bars(lambda b: [*b[:-2], *b[-1:]])
    ),
    "duplicate_bar": Fault(
        "The newest bar comes twice.", ("history",), _bars(lambda b: [*b, *b[-1:]])
    ),
    "open_bar": Fault(
        "The session that trades now has a bar already.", ("history",), _open_bar, lasting=True
    ),
    "zero_price": Fault(
        "The newest bar closes at nothing.",
        ("history",),
        _bars(lambda bars: [*bars[:-1], *(bar | {"close": 0.0} for bar in bars[-1:])]),
    ),
    "crossed_quotes": _held("Bid and ask are swapped."),
    "delayed_only": _held("There is no live data, only delayed on request."),
    "tick_flood": Fault("Quotes come many times.", ("quote",), _flood, {"count": 500}),
    "half_day": Fault(
        "Contracts say that regular sessions close at 13:00.",
        ("contract",),
        _half_day,
        lasting=True,
    ),
    # pacing
    "too_fast": Fault(
        "Error 100, as if the client had sent too much; the third time ends its connection.",
        ("ack",),
        _too_fast,
        at_once=True,
    ),
    "line_limit": _held("Fewer market data lines.", lines=1),
    "silent_pacing": _held("Messages that come too fast wait instead of being refused."),
}
"""Name of a fault -> what it does."""

WALK = (
    "close",
    "close_after",
    "close_after:on=fill",
    "reset",
    "half_frame",
    "bytewise",
    "garbage",
    "jitter",
    "burst",
    "warn",
    "duplicate_status",
    "late_ack",
    "missing_status",
    "missing_ack",
    "partial_then_stop",
    "three_partials",
    "duplicate_execution",
    "commission_first",
    "commission_late",
    "commission_never",
    "correction",
    "silent_fill",
    "link_storm",
    "farms",
    "stale_positions:seconds=1",
    "restart:seconds=1",
    "refuse:seconds=1",
)
"""Faults of a random walk: after them the broker's truth can still be found out."""
