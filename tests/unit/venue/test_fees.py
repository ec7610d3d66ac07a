from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nautilus_trader.common.component import TestClock
from nautilus_trader.common.factories import OrderFactory
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import StrategyId, TraderId
from nautilus_trader.model.objects import Money, Price, Quantity

from prometheus_nt.venue.fees import PerShareFees, commission, commissions, in_cents
from prometheus_nt.venue.params import FeeParams
from prometheus_nt.venue.prices import equity_instrument

STOCKS = [equity_instrument("AAPL.US"), equity_instrument("MSFT.US")]
ROWS = {stock.id: row for row, stock in enumerate(STOCKS)}


@pytest.fixture
def fees():
    model = PerShareFees(FeeParams(), ROWS)
    model.begin_session(np.array([1.0, 1.0]))
    return model


@pytest.fixture
def order_of():
    factory = OrderFactory(TraderId("TEST-001"), StrategyId("FEES-001"), TestClock())

    def order(shares, row=0, side=OrderSide.BUY):
        return factory.market(STOCKS[row].id, side, Quantity.from_int(shares))

    return order


def _charge(fees, order, shares, price, row=0) -> Decimal:
    fee = fees.get_commission(
        order, Quantity.from_int(shares), Price.from_str(f"{price:.6f}"), STOCKS[row]
    )
    assert isinstance(fee, Money)
    assert fee.currency == USD
    return fee.as_decimal()


@pytest.mark.parametrize(
    ("shares", "price", "expected"),
    [
        (100, 50.0, 1.00),  # 0.50 is below the floor
        (200, 50.0, 1.00),  # exactly the floor
        (1_000, 50.0, 5.00),
        (10, 0.50, 0.05),  # 1 % of 5 dollars
        (1_000, 0.25, 2.50),  # 5.00 is above 1 % of 250 dollars
        (1_000, 0.50, 5.00),  # exactly the cap
    ],
)
def test_the_price_list_of_the_broker(fees, order_of, shares, price, expected):
    assert commission(shares, shares * price, FeeParams()) == pytest.approx(expected, abs=1e-12)
    assert _charge(fees, order_of(shares), shares, price) == Decimal(str(expected))


def test_a_sale_costs_what_a_purchase_costs(fees, order_of):
    assert _charge(fees, order_of(1_000, side=OrderSide.SELL), 1_000, 50.0) == Decimal("5.00")


def test_partial_fills_of_one_order_pay_one_floor(fees, order_of):
    order = order_of(150)

    paid = [_charge(fees, order, shares, 50.0) for shares in (60, 50, 40)]

    assert paid == [Decimal("1.00"), Decimal("0.00"), Decimal("0.00")]


def test_partial_fills_add_up_to_the_fee_of_the_whole_order(fees, order_of):
    order = order_of(1_000)

    paid = [_charge(fees, order, shares, 50.0) for shares in (100, 300, 600)]

    # 1.00; then 400 shares cost 2.00 and 1 000 cost 5.00
    assert paid == [Decimal("1.00"), Decimal("1.00"), Decimal("3.00")]


def test_partial_fills_pay_the_rounded_fee_of_what_has_filled_so_far(fees, order_of):
    order = order_of(603)

    paid = [_charge(fees, order, 201, 50.0) for _ in range(3)]

    # 201 shares cost 1.005, 402 cost 2.01 and 603 cost 3.015: to the cent 1.01, 2.01 and 3.02.
    # Each fill pays what that total has grown by.
    assert paid == [Decimal("1.01"), Decimal("1.00"), Decimal("1.01")]
    assert sum(paid) == _charge(fees, order_of(603), 603, 50.0) == Decimal("3.02")


@pytest.mark.parametrize(
    "parts", [[201] * 7, [1] * 300, [1, 250, 3, 999], [100, 101, 102, 103], [333, 333, 334]]
)
def test_however_an_order_is_filled_it_costs_what_it_costs_in_one_piece(fees, order_of, parts):
    whole = _charge(fees, order_of(sum(parts)), sum(parts), 50.0)
    order = order_of(sum(parts))

    assert sum(_charge(fees, order, part, 50.0) for part in parts) == whole


def test_two_orders_pay_two_floors(fees, order_of):
    assert _charge(fees, order_of(60), 60, 50.0) == Decimal("1.00")
    assert _charge(fees, order_of(60), 60, 50.0) == Decimal("1.00")


def test_an_order_that_goes_on_another_day_pays_its_floor_again(fees, order_of):
    order = order_of(120)
    _charge(fees, order, 60, 50.0)

    fees.begin_session(np.array([1.0, 1.0]))

    assert _charge(fees, order, 60, 50.0) == Decimal("1.00")


def test_before_a_split_the_fee_is_for_the_shares_traded_on_the_day(fees, order_of):
    fees.begin_session(np.array([28.0, 1.0]))

    # 28 000 venue shares were 1 000 shares on the day; of the other stock they are 28 000.
    assert _charge(fees, order_of(28_000), 28_000, 10.0) == Decimal("5.00")
    assert _charge(fees, order_of(28_000, row=1), 28_000, 10.0, row=1) == Decimal("140.00")


def test_before_a_reverse_split_there_were_more_shares_to_pay_for(fees, order_of):
    fees.begin_session(np.array([0.1, 1.0]))

    assert _charge(fees, order_of(100), 100, 45.0) == Decimal("5.00")


def test_other_prices_can_be_agreed(order_of):
    free = PerShareFees(FeeParams(per_share_usd=0.0, minimum_usd=0.0), ROWS)
    free.begin_session(np.array([1.0, 1.0]))

    assert _charge(free, order_of(1_000), 1_000, 50.0) == Decimal("0.00")
    assert commission(1_000, 1e6, FeeParams(per_share_usd=0.01, minimum_usd=2.0)) == 10.0


def test_a_fee_never_falls_when_the_order_grows():
    shares = np.arange(1, 2_000)

    for price in (0.01, 0.5, 3.0, 500.0):
        fees = [commission(count, count * price, FeeParams()) for count in shares]
        assert (np.diff(fees) >= 0.0).all()


def test_a_fill_before_the_first_session_is_a_bug(order_of):
    with pytest.raises(RuntimeError, match="before the first session"):
        _charge(PerShareFees(FeeParams(), ROWS), order_of(1), 1, 10.0)


@given(
    shares=st.lists(st.integers(1, 400_000), min_size=1, max_size=40),
    price=st.integers(1, 900_000_000),
    factor=st.sampled_from([1.0, 0.5, 28.0, 3.0]),
    floor=st.sampled_from([0.0, 0.35, 1.0, 1.005]),
)
def test_many_orders_cost_to_the_cent_what_each_costs_alone(shares, price, factor, floor):
    params = FeeParams(minimum_usd=floor)
    venue_shares = np.array(shares)
    traded = venue_shares / np.full(len(shares), factor)
    values = venue_shares * (price / 1e6)

    found = commissions(traded, values, params)

    alone = [
        in_cents(commission(size, value, params))
        for size, value in zip(traded, values.tolist(), strict=True)
    ]
    assert found.tolist() == [float(fee) for fee in alone]


def test_many_fees_at_half_a_cent_are_rounded_as_each_alone():
    # 0.005 USD a share: odd shares above the floor end on half a cent.
    traded = np.arange(1, 5_000) / np.ones(4_999)
    params = FeeParams(minimum_usd=0.0)

    found = commissions(traded, traded * 50.0, params)

    assert found.tolist() == [
        float(in_cents(commission(size, float(size) * 50.0, params))) for size in traded
    ]
