from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.books import MemberBooks
from prometheus_nt.domain.errors import AccountingError, DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.engines.meta_book import follow_members, member_weights
from prometheus_nt.engines.portfolio_params import PortfolioParams

SESSIONS = np.array(["2024-01-02", "2024-01-03", "2024-01-04"], dtype="datetime64[D]")
NAMES = ("A.US", "B.US")
EVEN = [[0.5, 0.0], [0.0, 0.5]]


def panel_of(close, split=1.0, dividend=0.0):
    close = np.array(close, dtype=np.float64)
    return MarketPanel(
        sessions=SESSIONS[: len(close)],
        instruments=NAMES,
        open=close.copy(),
        high=close.copy(),
        low=close.copy(),
        close=close,
        volume=np.full(close.shape, 1e6),
        split=np.broadcast_to(split, close.shape).copy(),
        dividend=np.broadcast_to(dividend, close.shape).copy(),
        fingerprint="small",
    )


def held_of(books, shares=(0.5, 0.5), decided=0, as_of=date(2024, 1, 4)):
    books = np.array(books, dtype=np.float64)
    return MemberBooks(
        as_of=as_of,
        meta_id="META-0123456789abcdef",
        as_of_weighed=date(2024, 1, 2),
        instruments=NAMES,
        members=tuple(f"RUN{number}" for number in range(len(books))),
        shares=np.array(shares, dtype=np.float64),
        decided=SESSIONS[np.broadcast_to(decided, len(books))],
        books=books,
    )


def test_a_position_grows_with_its_price_and_the_equity_with_all_of_them():
    panel = panel_of([[10, 20], [11, 20], [12, 10]])

    weights = member_weights(panel, held_of([[0.5, 0.25], [0.0, -0.5]]))

    # 1 becomes 0.5 x 1.2 + 0.25 x 0.5 + 0.25 = 0.975 of the first, 1 + 0.25 of the second.
    assert weights[0] == pytest.approx([0.6 / 0.975, 0.125 / 0.975])
    assert weights[1] == pytest.approx([0.0, -0.25 / 1.25])


def test_a_dividend_is_cash_and_a_split_is_nothing():
    split, dividend = np.ones((3, 2)), np.zeros((3, 2))
    split[1, 0], dividend[2, 1] = 2.0, 2.0
    panel = panel_of([[10, 20], [5, 20], [5, 18]], split, dividend)

    weights = member_weights(panel, held_of([[0.5, 0.5], [0.0, 0.0]]))

    # Two points of the price were paid out: the position is smaller, the equity is not.
    assert weights[0] == pytest.approx([0.5, 0.45])


def test_each_member_moves_from_its_own_decision_on():
    panel = panel_of([[10, 20], [20, 20], [20, 20]])

    weights = member_weights(panel, held_of([[0.5, 0.0], [0.5, 0.0]], decided=[0, 1]))

    assert weights[:, 0] == pytest.approx([1.0 / 1.5, 0.5])


def test_a_missing_bar_leaves_a_position_at_its_last_price():
    panel = panel_of([[10, 20], [12, 20], [np.nan, 20]])

    weights = member_weights(panel, held_of(EVEN))

    assert weights[0, 0] == pytest.approx(0.6 / 1.1)


def test_the_book_is_the_members_books_at_their_weights():
    panel = panel_of([[10, 20], [10, 20], [10, 20]])

    book = follow_members(
        panel, held_of([[0.6, 0.2], [-0.4, 0.0]], (0.75, 0.25)), PortfolioParams()
    )

    assert book.weights == pytest.approx([0.75 * 0.6 - 0.25 * 0.4, 0.15])
    assert (book.as_of, book.instruments) == (date(2024, 1, 4), NAMES)
    assert book.evidence.method == "members of META-0123456789abcdef"
    assert book.evidence.turnover is None


def test_turnover_is_against_the_book_of_the_session_before():
    panel = panel_of([[10, 20], [10, 20], [10, 20]])
    before = follow_members(panel, held_of(EVEN), PortfolioParams())

    after = follow_members(
        panel, held_of([[0.0, 0.5], [0.0, 0.5]]), PortfolioParams(), previous=before
    )

    assert after.evidence.turnover == pytest.approx(0.25)


def test_unknown_weights_are_not_conserved():
    panel = panel_of([[10, 20], [10, 20], [10, 20]])
    of_a_member, of_a_name = held_of(EVEN, (np.nan, 0.5)), held_of([[np.nan, 0.0], [0.0, 0.5]])

    with pytest.raises(AccountingError, match="META-0123456789abcdef holds nan net"):
        follow_members(panel, of_a_member, PortfolioParams())
    with pytest.raises(DataError, match="nothing is left of RUN0"):
        follow_members(panel, of_a_name, PortfolioParams())


def test_a_ruined_member_has_no_weights():
    panel = panel_of([[10, 20], [30, 20], [30, 20]])

    with pytest.raises(DataError, match="nothing is left of RUN0"):
        member_weights(panel, held_of([[-0.5, 0.0], [0.0, 0.5]]))


def test_a_decision_outside_the_panel_is_refused():
    panel = panel_of([[10, 20], [10, 20]])

    with pytest.raises(DataError, match="a session that the panel has not"):
        member_weights(panel, held_of(EVEN, decided=2))
