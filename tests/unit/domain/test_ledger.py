from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.ledger import CashFlow, CashFlowKind, Ledger, micros
from prometheus_nt.domain.sessions import OvernightFinancing

SESSION = date(2024, 1, 3)
FRIDAY, MONDAY = date(2024, 1, 5), date(2024, 1, 8)


def _weekend(borrow=0.0, debit=0.0, credit=0.0):
    """Three nights at annual rates of 360 days."""
    return OvernightFinancing(FRIDAY, MONDAY, 3, *(r * 3 / 360 for r in (borrow, debit, credit)))


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


def test_short_shares_cost_their_value_at_the_last_mark_for_every_night(ledger):
    _buy(ledger, 0, -1_000, 50.00)
    _buy(ledger, 1, 300, 40.00)
    ledger.mark(np.array([60.00, 45.00]))
    before = ledger.cash_micros

    ledger.finance(_weekend(borrow=0.012))

    # 1 000 * 60.00 * 1.2 % * 3 / 360; the sale price of 50.00 does not matter.
    fee = CashFlow(MONDAY, CashFlowKind.BORROW_FEE, "A", -1_000, -6_000_000)
    assert ledger.cash_flows == [fee]
    assert ledger.cash_micros == before - 6_000_000
    state = ledger.state(MONDAY, "BOOK")
    assert (state.borrow_fees, state.interest) == (6.00, 0.00)
    ledger.check()


def test_a_book_of_130_long_and_30_short_pays_interest_on_30(ledger):
    _buy(ledger, 0, 1_300, 100.00)
    _buy(ledger, 1, -600, 50.00)
    ledger.mark(np.array([100.00, 50.00]))

    ledger.finance(_weekend(debit=0.06, credit=0.04))

    # Cash is 0, but 30 000 of it stand as collateral for the lent shares: 30 000 * 6 % * 3 / 360.
    interest = CashFlow(MONDAY, CashFlowKind.INTEREST, None, 0, -15_000_000)
    assert ledger.cash_flows == [interest]
    assert (ledger.cash, ledger.state(MONDAY, "BOOK").interest) == (-15.00, -15.00)


def test_a_book_of_100_long_and_100_short_has_borrowed_nothing(ledger):
    _buy(ledger, 0, 1_000, 100.00)
    _buy(ledger, 1, -2_000, 50.00)
    ledger.mark(np.array([100.00, 50.00]))

    ledger.finance(_weekend(debit=0.06, credit=0.04))

    assert ledger.cash_flows == []


def test_the_proceeds_of_a_short_sale_earn_nothing(ledger):
    _buy(ledger, 0, -800, 50.00)
    ledger.mark(np.array([60.00, np.nan]))

    ledger.finance(_weekend(credit=0.036))

    # Cash is 140 000, of which 48 000 are collateral: (140 000 - 48 000) * 3.6 % * 3 / 360.
    assert ledger.cash_flows == [CashFlow(MONDAY, CashFlowKind.INTEREST, None, 0, 27_600_000)]


def test_a_loan_costs_the_debit_rate_and_idle_cash_earns_the_credit_rate(ledger):
    ledger.finance(_weekend(debit=0.06, credit=0.012))
    _buy(ledger, 0, 2_000, 60.00)
    ledger.finance(_weekend(debit=0.06, credit=0.012))

    # 100 000 * 1.2 % * 3 / 360 = 10.00; (100 010 - 120 000) * 6 % * 3 / 360 = -9.995
    assert [flow.amount_micros for flow in ledger.cash_flows] == [10_000_000, -9_995_000]
    assert ledger.state(MONDAY, "BOOK").interest == 0.005


def test_a_long_book_without_a_loan_has_no_financing(ledger):
    _buy(ledger, 0, 2_000, 50.00)
    ledger.mark(np.array([45.00, np.nan]))

    ledger.finance(_weekend(borrow=0.01, debit=0.06))

    assert ledger.cash_flows == []
    assert ledger.cash_micros == 0


def test_a_fee_that_rounds_to_nothing_leaves_no_flow(ledger):
    _buy(ledger, 0, -1, 0.01)

    ledger.finance(_weekend(borrow=0.001))

    assert ledger.cash_flows == []


def test_short_shares_that_were_never_marked_cannot_be_charged(ledger):
    ledger.shares[1] = -10

    with pytest.raises(AccountingError, match="2024-01-08: short but never marked: B"):
        ledger.finance(_weekend(borrow=0.01))

    assert ledger.cash_micros == ledger.capital_micros


def test_a_short_is_charged_for_its_last_night_and_leaves_at_its_last_mark(ledger):
    _buy(ledger, 1, -100, 40.00, fee=1.00)
    ledger.mark(np.array([np.nan, 30.00]))

    ledger.finance(_weekend(borrow=0.012))
    ledger.pay_dividends(MONDAY, np.array([0.0, 0.25]))
    ledger.close_delisted(MONDAY, np.array([1]))

    # 4 000 - 1 received, then 0.30 of fee, 25 of dividend and 3 000 for the shares paid.
    assert ledger.cash == ledger.equity == 100_000 + 3_999.00 - 0.30 - 25.00 - 3_000.00
    assert ledger.realized_pnl == 1_000.00
    ledger.check()


def test_drawdown_is_measured_from_the_highest_close_and_first_from_the_capital(ledger):
    _buy(ledger, 0, 1_000, 100.00)

    drawdowns = []
    for close in (90.00, 120.00, 108.00, 60.00, 125.00):
        ledger.mark(np.array([close, np.nan]))
        drawdowns.append(ledger.state(SESSION, "BOOK").drawdown)

    assert drawdowns == pytest.approx([-0.1, 0.0, -0.1, -0.5, 0.0], abs=1e-12)


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


def test_a_delisting_pays_the_last_mark_and_its_recorded_return(ledger):
    # 100 at a mark of 40 with 30 % lost: 100 * 28; 10 short at 20, worthless: nothing is paid back.
    ledger.fill(0, 100, micros(50.0), 0)
    ledger.fill(1, -10, micros(25.0), 0)
    ledger.mark(np.array([40.0, 20.0]))
    cash = ledger.cash

    ledger.close_delisted(SESSION, np.array([0, 1]), np.array([-0.3, -1.0]))

    assert ledger.cash - cash == pytest.approx(2800.0, abs=1e-9)
    assert [flow.amount_micros for flow in ledger.cash_flows] == [micros(2800.0), 0]
    assert ledger.realized_pnl == pytest.approx(100 * (28.0 - 50.0) + 10 * 25.0)
    assert ledger.shares.tolist()[:2] == [0, 0]
    ledger.check()


def test_an_unrecorded_delisting_return_is_the_last_mark_and_below_nothing_is_refused(ledger):
    ledger.fill(0, 100, micros(50.0), 0)
    ledger.mark(np.array([40.0, 20.0]))

    with pytest.raises(AccountingError, match=r"delisting return of .* is below -1"):
        ledger.close_delisted(SESSION, np.array([0]), np.array([-1.01]))
    ledger.close_delisted(SESSION, np.array([0]), np.array([np.nan]))

    assert ledger.cash_flows[-1].amount_micros == micros(4000.0)
