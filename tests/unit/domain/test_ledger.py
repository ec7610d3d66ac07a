from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.ledger import CashFlow, CashFlowKind, Ledger, micros

SESSION = date(2024, 1, 3)


@pytest.fixture
def ledger():
    return Ledger(("A", "B"), 100_000.0)


def _buy(ledger, row, shares, price, fee=0.0):
    return ledger.fill(row, shares, micros(price), micros(fee))


def test_buys_at_two_prices_average_their_cost(ledger):
    _buy(ledger, 0, 100, 10.00, fee=1.00)
    _buy(ledger, 0, 300, 12.00, fee=1.50)

    # 100 000.00 - 1 000.00 - 3 600.00 - 2.50
    assert ledger.cash_micros == 95_397_500_000
    assert ledger.shares.tolist() == [400, 0]
    assert ledger.average_cost[0] == 11.50
    assert ledger.realized_pnl == 0.0


def test_a_partial_sale_realises_against_the_average_cost_and_leaves_it(ledger):
    _buy(ledger, 0, 100, 10.00)
    _buy(ledger, 0, 300, 12.00)

    realised = _buy(ledger, 0, -150, 13.25, fee=1.00)

    # 150 * (13.25 - 11.50), and 100 000 - 4 600 + 1 987.50 - 1
    assert realised == ledger.realized_pnl == 262.50
    assert ledger.cash_micros == 97_386_500_000
    assert (ledger.shares[0], ledger.average_cost[0]) == (250, 11.50)


def test_selling_everything_leaves_no_cost(ledger):
    _buy(ledger, 0, 100, 10.00)

    assert _buy(ledger, 0, -100, 9.00) == -100.00
    assert ledger.shares[0] == 0
    assert np.isnan(ledger.average_cost[0])


def test_a_flip_through_zero_realises_the_long_and_opens_the_short_at_its_price(ledger):
    _buy(ledger, 0, 100, 10.00)

    realised = _buy(ledger, 0, -250, 12.00)

    # The 100 held earn 2.00 each; the other 150 are a new short at 12.00.
    assert realised == 200.00
    assert (ledger.shares[0], ledger.average_cost[0]) == (-150, 12.00)
    assert ledger.cash_micros == micros(100_000 - 1_000 + 3_000)


def test_a_short_earns_when_it_is_bought_back_lower(ledger):
    _buy(ledger, 0, -100, 20.00)
    _buy(ledger, 0, -100, 22.00)

    realised = _buy(ledger, 0, 50, 16.00)

    assert realised == 50 * (21.00 - 16.00)
    assert (ledger.shares[0], ledger.average_cost[0]) == (-150, 21.00)


def test_a_short_that_flips_opens_a_long_at_the_new_price(ledger):
    _buy(ledger, 0, -100, 20.00)

    assert _buy(ledger, 0, 130, 25.00) == -500.00
    assert (ledger.shares[0], ledger.average_cost[0]) == (30, 25.00)


def test_commissions_leave_cash_but_not_the_cost_of_shares(ledger):
    _buy(ledger, 0, 100, 10.00, fee=7.77)

    assert ledger.cash_micros == micros(100_000 - 1_000 - 7.77)
    assert ledger.average_cost[0] == 10.00
    assert ledger.state(SESSION, "BOOK").commissions == 7.77


def test_dividends_are_credited_to_holders_and_debited_from_short_sellers(ledger):
    _buy(ledger, 0, 300, 10.00)
    _buy(ledger, 1, -200, 10.00)
    before = ledger.cash_micros

    ledger.pay_dividends(SESSION, np.array([0.24, 0.50]))

    assert ledger.cash_micros - before == 72_000_000 - 100_000_000
    assert ledger.cash_flows == [
        CashFlow(SESSION, CashFlowKind.DIVIDEND, "A", 300, 72_000_000),
        CashFlow(SESSION, CashFlowKind.DIVIDEND, "B", -200, -100_000_000),
    ]
    assert ledger.state(SESSION, "BOOK").dividends == -28.00


def test_who_holds_nothing_or_is_paid_nothing_gets_no_cash_flow(ledger):
    _buy(ledger, 0, 300, 10.00)

    ledger.pay_dividends(SESSION, np.array([0.0, 0.50]))

    assert ledger.cash_flows == []


@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_a_dividend_that_is_not_a_number_is_refused_and_changes_nothing(ledger, unknown):
    _buy(ledger, 0, 300, 10.00)
    _buy(ledger, 1, -200, 10.00)
    before = ledger.cash_micros

    with pytest.raises(AccountingError, match=r"^2024-01-03: the dividend of B is not a number$"):
        ledger.pay_dividends(SESSION, np.array([0.24, unknown]))

    assert ledger.cash_micros == before
    assert ledger.cash_flows == []


def test_every_holding_whose_dividend_is_not_a_number_is_named(ledger):
    _buy(ledger, 0, 300, 10.00)
    _buy(ledger, 1, -200, 10.00)

    with pytest.raises(AccountingError, match="the dividend of A, B is not a number"):
        ledger.pay_dividends(SESSION, np.array([np.nan, np.nan]))


def test_a_dividend_that_is_not_a_number_does_not_matter_to_who_holds_nothing(ledger):
    _buy(ledger, 0, 300, 10.00)

    ledger.pay_dividends(SESSION, np.array([0.24, np.nan]))

    assert ledger.cash_flows == [CashFlow(SESSION, CashFlowKind.DIVIDEND, "A", 300, 72_000_000)]


def test_a_delisting_turns_shares_into_cash_at_their_last_mark(ledger):
    _buy(ledger, 0, 100, 10.00)
    _buy(ledger, 1, -50, 40.00)
    ledger.mark(np.array([8.00, 30.00]))
    equity = ledger.equity

    ledger.close_delisted(SESSION, np.array([0, 1]))

    assert ledger.equity == ledger.cash == equity == 100_000 - 200 + 500
    assert ledger.shares.tolist() == [0, 0]
    assert ledger.realized_pnl == -200.00 + 500.00
    assert ledger.cash_flows == [
        CashFlow(SESSION, CashFlowKind.DELISTING, "A", 100, 800_000_000),
        CashFlow(SESSION, CashFlowKind.DELISTING, "B", -50, -1_500_000_000),
    ]
    ledger.check()


def test_a_delisting_of_what_is_not_held_does_nothing(ledger):
    ledger.close_delisted(SESSION, np.array([0, 1]))

    assert ledger.cash_flows == []


def test_a_missing_close_keeps_the_old_mark_and_counts_how_old_it_is(ledger):
    _buy(ledger, 0, 100, 10.00)
    ledger.mark(np.array([11.00, 5.00]))

    ages = []
    for closes in ([np.nan, 6.00], [np.nan, np.nan], [12.00, np.nan]):
        ledger.mark(np.array(closes))
        ages.append((ledger.marks.tolist(), ledger.unmarked_sessions.tolist(), ledger.equity))

    assert ages == [
        ([11.00, 6.00], [1, 0], 100_100.00),
        ([11.00, 6.00], [2, 1], 100_100.00),
        ([12.00, 6.00], [0, 2], 100_200.00),
    ]


def test_a_first_fill_is_the_mark_until_there_is_a_close(ledger):
    _buy(ledger, 0, 100, 10.00, fee=1.00)

    assert ledger.equity == 99_999.00


def test_what_is_held_but_was_never_marked_has_no_value(ledger):
    ledger.shares[1] = 10

    with pytest.raises(AccountingError, match="held but never marked: B"):
        _ = ledger.equity


def test_a_mark_that_is_missing_but_not_held_does_not_matter(ledger):
    assert ledger.equity == 100_000.00


@pytest.mark.parametrize(
    ("quantity", "price", "commission"), [(0, 10, 0), (5, 0, 0), (5, -1, 0), (5, 10, -1)]
)
def test_an_impossible_fill_is_refused_and_changes_nothing(ledger, quantity, price, commission):
    with pytest.raises(AccountingError, match=f"B: impossible fill of {quantity} shares"):
        ledger.fill(1, quantity, price, commission)

    assert ledger.cash == ledger.equity == 100_000.00
    assert not ledger.shares.any()


def test_the_check_finds_a_single_lost_micro_dollar(ledger):
    _buy(ledger, 0, 100, 10.00, fee=1.00)
    ledger.pay_dividends(SESSION, np.array([0.10, 0.0]))
    ledger.check()

    ledger.cash_micros -= 1

    with pytest.raises(AccountingError, match=r"cash is 99008999999 .* explain 99009000000"):
        ledger.check()


def test_a_book_state_is_a_copy_that_later_events_do_not_touch(ledger):
    _buy(ledger, 0, 100, 10.00)
    ledger.mark(np.array([11.00, np.nan]))

    state = ledger.state(SESSION, "BOOK")
    _buy(ledger, 0, 100, 20.00)
    ledger.mark(np.array([30.00, 1.00]))

    assert (state.as_of, state.book_id, state.instruments) == (SESSION, "BOOK", ("A", "B"))
    assert (state.cash, state.equity) == (99_000.00, 100_100.00)
    assert state.shares.tolist() == [100, 0]
    assert state.average_cost[0] == 10.00
    assert state.marks[0] == 11.00
    assert state.unmarked_sessions.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("usd", "expected"), [(0.1, 100_000), (0.0000005, 0), (0.0000015, 2), (-1.25, -1_250_000)]
)
def test_dollars_become_whole_micro_dollars(usd, expected):
    assert micros(usd) == expected
