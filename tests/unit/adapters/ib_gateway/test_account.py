import pytest

from adapters.ib_gateway.account import Account, Position, require_paper
from prometheus_nt.domain.errors import ConfigError


def test_a_position_remembers_what_it_cost_with_commissions():
    position = Position()

    opened = position.trade(100, 10.0, 1.0)
    more = position.trade(100, 20.0, 1.0)
    sold = position.trade(-50, 30.0, 2.0)

    assert (opened, more) == (None, None)
    assert position.average_cost == pytest.approx((1001 + 2001) / 200)
    assert sold == pytest.approx((30 - 15.01) * 50 - 2)
    assert position.shares == 150


def test_a_short_position_earns_when_it_is_bought_back_lower():
    position = Position()
    position.trade(-100, 10.0, 1.0)

    earned = position.trade(100, 8.0, 1.0)

    assert position == Position(0, 0.0)
    assert earned == pytest.approx(100 * (9.99 - 8) - 1)


def test_a_trade_through_zero_closes_one_side_and_opens_the_other():
    position = Position()
    position.trade(100, 10.0, 0.0)

    earned = position.trade(-150, 12.0, 3.0)

    # Two thirds of the fee belong to what it closes.
    assert earned == pytest.approx(200 - 2)
    assert position.shares == -50
    assert position.average_cost == pytest.approx(12 - 1 / 50)


def test_a_split_pays_out_the_fraction():
    account = Account("DU1", 0.0, {0: Position(101, 30.0)})

    account.split(0, 1.5, 20.0)

    assert account.positions[0].shares == 151
    assert account.positions[0].average_cost == pytest.approx(20.0)
    assert account.cash == pytest.approx(0.5 * 20)


def test_figures_of_an_account_by_hand():
    account = Account("DU1", 4_000.0, {0: Position(100, 50.0), 1: Position(-10, 100.0)})

    figures = account.figures(lambda column: (60.0, 90.0)[column])

    assert figures["NetLiquidation"] == pytest.approx(4_000 + 6_000 - 900)
    assert figures["GrossPositionValue"] == pytest.approx(6_900)
    assert figures["InitMarginReq"] == pytest.approx(3_450)
    assert figures["AvailableFunds"] == pytest.approx(9_100 - 3_450)
    assert figures["ExcessLiquidity"] == pytest.approx(9_100 - 1_725)
    assert figures["UnrealizedPnL"] == pytest.approx(1_000 + 100)


@pytest.mark.parametrize("account", ["U1234567", "F123", "", "DUX", "du123"])
def test_no_live_account_is_played(account):
    with pytest.raises(ConfigError, match="no paper account"):
        require_paper(account)


def test_paper_accounts_are_played():
    assert [require_paper(name) for name in ("DU1234567", "DF12")] == ["DU1234567", "DF12"]
