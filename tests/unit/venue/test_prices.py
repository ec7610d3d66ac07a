from decimal import Decimal

import numpy as np
import pytest
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.objects import Price, Quantity

from prometheus_nt.domain.ledger import micros
from prometheus_nt.venue.prices import (
    PRICE_DECIMALS,
    RAW_PER_MICRO,
    RAW_PER_SHARE,
    equity_instrument,
    to_micros,
)


def test_a_venue_price_survives_the_round_trip_exactly():
    rng = np.random.default_rng(3)
    amounts = np.concatenate([[1, 999_999, 123_456_789], rng.integers(1, 10**12, 2_000)])

    for amount in amounts.tolist():
        price = Price.from_raw(amount * RAW_PER_MICRO, PRICE_DECIMALS)
        assert micros(price.as_decimal()) == amount


def test_dollars_become_the_nearest_micro_dollar():
    prices = np.array([0.1, 33.333333333, 1e-7, 123_456.789_012, 2.5e-6, 3.5e-6])

    assert to_micros(prices).tolist() == [100_000, 33_333_333, 0, 123_456_789_012, 2, 4]
    assert to_micros(prices).dtype == np.int64


def test_every_cent_is_exact():
    cents = np.arange(1, 200_000)

    assert to_micros(cents / 100.0).tolist() == (cents * 10_000).tolist()


def test_a_missing_price_becomes_zero_which_is_never_a_price():
    assert to_micros(np.array([np.nan, 1.0])).tolist() == [0, 1_000_000]


@pytest.mark.parametrize(
    ("amount", "expected"), [("0.000001", 1), ("12.34", 12_340_000), ("-3.50", -3_500_000)]
)
def test_decimal_amounts_are_exact(amount, expected):
    assert micros(Decimal(amount)) == expected


def test_the_instrument_trades_whole_shares_at_micro_dollar_prices():
    stock = equity_instrument("BRK-B.US")

    assert str(stock.id) == "BRK-B.US"
    assert stock.quote_currency == USD
    assert stock.price_increment.as_decimal() == Decimal("0.000001")
    assert stock.make_price(1.0000004).as_decimal() == Decimal("1.000000")
    assert Quantity.from_int(7).raw == 7 * RAW_PER_SHARE
