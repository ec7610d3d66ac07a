import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderStatus, OrderType
from nautilus_trader.model.events import (
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderUpdated,
)
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    TraderId,
    VenueOrderId,
)
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.model.orders import MarketOrder

from adapters.ib.halt import Halt, HaltReason
from adapters.ib.orders import (
    Accepted,
    Alert,
    Cancelled,
    CancelRejected,
    CommissionCorrected,
    CommissionSeen,
    ErrorSeen,
    Execution,
    FillCorrected,
    Filled,
    ModifyRejected,
    OrderSeen,
    OwnOrder,
    OwnOrders,
    Rejected,
    Standing,
    StatusSeen,
    Updated,
)
from adapters.ib.translation import STATUSES, exact_price

ACCOUNT, CLIENT, ORDER_ID, PERM = "DU1234567", 1, 12, 1_500_000_001
NOON = 1_704_373_200 * 10**9


def seen(status="Submitted", **changes) -> OrderSeen:
    plain = OrderSeen(
        ref="r",
        perm_id=PERM,
        client_id=CLIENT,
        order_id=ORDER_ID,
        account=ACCOUNT,
        contract=7,
        symbol="AAPL",
        side=1,
        quantity=100,
        kind="MKT",
        tif="DAY",
        limit=None,
        stop=None,
        status=status,
    )
    return replace(plain, **changes)


def status(text, filled=0, **changes) -> StatusSeen:
    return replace(StatusSeen(PERM, CLIENT, ORDER_ID, text, filled), **changes)


def execution(number=1, shares=100, price=10.0, revision=1, **changes) -> Execution:
    plain = Execution(
        exec_id=f"0000e0d5.{number:08x}.01.{revision:02d}",
        ref="r",
        perm_id=PERM,
        client_id=CLIENT,
        order_id=ORDER_ID,
        account=ACCOUNT,
        contract=7,
        symbol="AAPL",
        side=1,
        shares=shares,
        price=price,
        at_ns=NOON,
    )
    return replace(plain, **changes)


def fee(number=1, revision=1, amount=1.0) -> CommissionSeen:
    return CommissionSeen(f"0000e0d5.{number:08x}.01.{revision:02d}", amount, "USD")


def error(code, kind="reject", text="words") -> ErrorSeen:
    return ErrorSeen(ORDER_ID, code, text, kind)


def book(**changes) -> tuple[OwnOrders, OwnOrder]:
    orders = OwnOrders(ACCOUNT)
    plain = {"ref": "r", "client_id": CLIENT, "order_id": ORDER_ID, "side": 1, "quantity": 100}
    return orders, orders.expect(OwnOrder(**(plain | changes)))


def play(orders: OwnOrders, *messages, now=0.0) -> list:
    return [event for message in messages for event in orders.hear(message, now, CLIENT)]


def names(events) -> list[str]:
    return [type(event).__name__ for event in events]


def test_a_market_order_is_accepted_and_filled_with_its_commission():
    orders, order = book()

    said = play(
        orders, seen(), status("Submitted"), execution(), status("Filled", 100), fee(amount=1.5)
    )

    assert said == [Accepted("r", PERM), Filled("r", execution().exec_id, execution(), 1.5)]
    assert order.standing is order.told is Standing.FILLED


def test_a_fill_without_status_or_acknowledgement_is_enough():
    orders, order = book()

    said = play(orders, execution(), fee())

    assert names(said) == ["Accepted", "Filled"]
    assert order.told is Standing.FILLED


def test_duplicates_say_nothing_new():
    orders, _ = book()

    said = play(orders, seen(), seen(), execution(), execution(), fee(), fee(), status("Filled"))

    assert names(said) == ["Accepted", "Filled"]


def test_a_commission_before_its_execution_is_kept():
    orders, _ = book()

    said = play(orders, seen(), fee(amount=2.5), execution())

    assert said[-1] == Filled("r", execution().exec_id, execution(), 2.5)


def test_a_fill_whose_commission_never_comes_is_told_after_two_seconds_and_corrected_later():
    orders, _ = book()
    play(orders, seen(), execution(), now=5.0)

    assert orders.settle(6.9) == []
    assert orders.settle(7.0) == [Filled("r", execution().exec_id, execution(), None)]
    assert play(orders, fee(amount=1.25), now=90.0) == [
        CommissionCorrected("r", execution(), None, 1.25)
    ]


def test_a_corrected_price_replaces_the_fill_and_adds_no_shares():
    orders, order = book()
    play(orders, seen(), execution(), fee())

    said = play(orders, execution(price=10.5, revision=2), fee(revision=2))

    assert said == [FillCorrected("r", execution(), execution(price=10.5, revision=2))]
    assert (order.filled, order.average_price) == (100, 10.5)


def test_a_correction_that_overtakes_what_it_corrects_is_the_only_fill():
    orders, order = book()

    said = play(orders, seen(), execution(revision=2), fee(revision=2), execution(), fee())

    assert names(said) == ["Accepted", "Filled"]
    assert order.filled == 100


@pytest.mark.parametrize("shares", [0, 60])
def test_a_bust_or_smaller_fill_halts(shares):
    orders, order = book()
    play(orders, seen(), execution(), fee())

    said = play(orders, execution(shares=shares, revision=2))

    assert names(said) == ["FillCorrected", "Halt"]
    assert said[1].reason is HaltReason.REVISED_FILL
    assert order.filled == shares


@pytest.mark.parametrize("code", [103, 110, 200, 201, 321, 434, 10243])
def test_a_refusal_rejects_at_once_with_code_and_text(code):
    orders, _ = book()

    assert play(orders, error(code)) == [Rejected("r", code, "words")]


def test_inactive_before_its_error_waits_for_the_code():
    orders, _ = book()

    said = play(orders, status("Inactive", perm_id=0), error(201))

    assert said == [Rejected("r", 201, "words")]


def test_inactive_alone_rejects_after_half_a_second():
    orders, _ = book()
    play(orders, status("Inactive", perm_id=0), now=1.0)

    assert orders.settle(1.4) == []
    assert names(orders.settle(1.5)) == ["Rejected"]


def test_inactive_while_shares_are_located_changes_nothing():
    orders, order = book()

    said = play(orders, seen("PreSubmitted"), status("Inactive", why_held="locate"))

    assert names(said) == ["Accepted"]
    assert order.standing is Standing.ACCEPTED


def test_inactive_of_an_accepted_order_cancels_it():
    orders, _ = book()

    assert names(play(orders, seen(), status("Inactive"))) == ["Accepted", "Cancelled"]


def test_an_error_for_a_working_order_does_not_end_it():
    orders, order = book()

    said = play(orders, seen(), error(201))

    assert names(said) == ["Accepted", "Alert"]
    assert order.standing is Standing.ACCEPTED


def test_an_order_that_lives_after_its_rejection_halts_once():
    orders, _ = book()

    said = play(orders, error(201), seen(), execution(), fee())

    assert names(said) == ["Rejected", "Halt"]
    assert said[1].reason is HaltReason.REVIVED_ORDER


def test_a_cancel_that_races_a_fill_is_refused_and_the_order_is_filled():
    orders, order = book()
    play(orders, seen())
    order.cancelling = True

    said = play(orders, execution(), fee(), error(10148, "cancel_reject"))

    assert names(said) == ["Filled"]


def test_a_refused_cancel_of_a_working_order_is_told():
    orders, order = book()
    play(orders, seen())
    order.cancelling = True

    assert play(orders, error(10147, "cancel_reject")) == [CancelRejected("r", 10147, "words")]


def test_a_fill_after_the_cancel_is_told_and_the_rest_cancelled_again():
    orders, order = book()
    play(orders, seen(), status("Cancelled"))

    said = play(orders, execution(shares=40), fee())

    assert names(said) == ["Filled", "Cancelled"]
    assert (order.told, order.filled) == (Standing.CANCELLED, 40)


def test_a_cancelled_order_waits_for_the_executions_that_its_status_counts():
    orders, order = book()

    said = play(orders, seen(), status("Cancelled", 40))
    assert names(said) == ["Accepted"]
    assert order.lacks_executions

    assert names(play(orders, execution(shares=40), fee())) == ["Filled", "Cancelled"]


def test_terms_that_somebody_changes_are_an_update():
    orders, _ = book()
    play(orders, seen())

    assert play(orders, seen(quantity=50)) == [Updated("r", 50, None, None)]
    assert play(orders, seen(quantity=50)) == []


def test_a_refused_change_leaves_the_order_open():
    orders, order = book()
    play(orders, seen())
    order.wanted_terms = (200, None, None)

    assert play(orders, error(201)) == [ModifyRejected("r", 201, "words")]
    assert order.standing is Standing.ACCEPTED


def test_more_shares_than_asked_for_halt_and_are_not_told():
    orders, _ = book()
    play(orders, seen(), execution(1), fee(1))

    said = play(orders, execution(2), fee(2))

    assert names(said) == ["Halt"]
    assert said[0].reason is HaltReason.OVERFILLED_ORDER


def test_two_permanent_ids_under_one_reference_halt():
    orders, _ = book()
    play(orders, seen())

    said = play(orders, seen(perm_id=PERM + 1, order_id=13))

    assert [event.reason for event in said] == [HaltReason.DUPLICATE_ORDER]


def test_an_order_that_nobody_wrote_down_halts_once():
    orders, _ = book()
    stranger = seen(ref="", perm_id=77, client_id=9, order_id=1)

    said = play(orders, stranger, stranger, status("Submitted", perm_id=77, client_id=9))

    assert [event.reason for event in said] == [HaltReason.UNKNOWN_ORDER]


def test_an_order_of_another_account_halts():
    orders, _ = book()

    said = play(orders, seen(account="DU7777777"))

    assert [event.reason for event in said] == [HaltReason.WRONG_ACCOUNT]


def test_an_order_id_that_begins_anew_is_not_the_old_order():
    orders, _ = book()
    play(orders, seen())

    said = play(orders, seen(ref="", perm_id=PERM + 5))

    assert [event.reason for event in said] == [HaltReason.UNKNOWN_ORDER]


def test_an_execution_id_of_another_day_is_another_trade():
    orders, order = book(quantity=200)
    tomorrow = NOON + 86_400 * 10**9

    said = play(
        orders, seen(quantity=200), execution(), fee(), execution(at_ns=tomorrow), fee(amount=1.0)
    )

    fills = [event for event in said if isinstance(event, Filled)]
    assert len({fill.trade_id for fill in fills}) == 2
    assert order.filled == 200


# -- any order, any repetition

SCRIPTS = {
    "filled in parts": [
        seen("PreSubmitted"),
        seen(),
        status("Submitted"),
        execution(1, 30),
        fee(1),
        execution(2, 30),
        fee(2),
        execution(3, 40),
        fee(3),
        status("Filled", 100),
        seen("Filled", completed=True, order_id=0),
    ],
    "corrected": [seen(), execution(1), fee(1), execution(1, price=11.0, revision=2), fee(1, 2)],
    "busted": [seen(), execution(1), fee(1), execution(1, shares=0, revision=2)],
    "rejected": [status("Inactive", perm_id=0), error(201), error(399, "reject")],
    "cancelled in part": [
        seen(),
        execution(1, 40),
        fee(1),
        status("PendingCancel", 40),
        status("Cancelled", 40),
    ],
    "without commissions": [seen(), execution(1, 60), execution(2, 40), status("Filled", 100)],
    "refused while it works": [seen(), status("Submitted"), error(201), execution(1), fee(1)],
}


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(SCRIPTS)), seed=st.integers(0, 2**32 - 1))
def test_any_order_and_repetition_of_messages_ends_in_the_same_state_by_legal_steps(name, seed):
    rng = random.Random(seed)
    straight, expected = book()
    play(straight, *SCRIPTS[name])
    messages = SCRIPTS[name] + rng.choices(SCRIPTS[name], k=rng.randint(0, 6))
    rng.shuffle(messages)
    orders, order = book()
    told: list = []

    for at, message in enumerate(messages):
        told += orders.hear(message, at * rng.choice((0.0, 0.3)), CLIENT)
    told += orders.settle(1_000.0) + orders.settle(2_000.0)

    assert order.standing is expected.standing
    assert order.executions == expected.executions
    revived = any(isinstance(e, Halt) and e.reason is HaltReason.REVIVED_ORDER for e in told)
    nautilus = applied(told)
    assert nautilus.status == STATUSES[order.told]
    if not revived and not order.is_halted:
        assert order.told is order.standing
        assert nautilus.filled_qty == Quantity.from_int(order.filled)
    fills = [event.trade_id for event in told if isinstance(event, Filled)]
    assert len(fills) == len(set(fills))


def applied(told) -> MarketOrder:
    """Return a Nautilus order that has taken what was told; an illegal step would raise."""
    trader, strategy = TraderId("T-1"), StrategyId("S-1")
    instrument, ref = InstrumentId.from_str("AAPL.NASDAQ"), ClientOrderId("r")
    account = AccountId("IB-1")
    order = MarketOrder(
        trader, strategy, instrument, ref, OrderSide.BUY, Quantity.from_int(100), UUID4(), 0
    )
    head = (trader, strategy, instrument, ref)
    tail = (UUID4(), 0, 0)
    order.apply(OrderSubmitted(*head, account, *tail))
    venue_id = VenueOrderId(str(PERM))
    for event in told:
        match event:
            case Accepted():
                order.apply(OrderAccepted(*head, venue_id, account, *tail))
            case Rejected(_, code, text):
                order.apply(OrderRejected(*head, account, f"{code} {text}", *tail))
            case Cancelled():
                order.apply(OrderCanceled(*head, venue_id, account, *tail))
            case Updated(_, quantity, _, _):
                order.apply(
                    OrderUpdated(
                        *head, venue_id, account, Quantity.from_int(quantity), None, None, *tail
                    )
                )
            case Filled(_, trade_id, fill, commission):
                order.apply(
                    OrderFilled(
                        *head,
                        venue_id,
                        account,
                        TradeId(trade_id),
                        None,
                        OrderSide.BUY,
                        OrderType.MARKET,
                        Quantity.from_int(fill.shares),
                        exact_price(fill.price),
                        USD,
                        Money(commission or 0.0, USD),
                        LiquiditySide.TAKER,
                        *tail,
                    )
                )
            case Alert() | Halt() | FillCorrected() | CommissionCorrected():
                pass
    assert order.status != OrderStatus.INITIALIZED
    return order
