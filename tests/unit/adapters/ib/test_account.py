import pytest

from adapters.ib.account import AccountValues
from prometheus_nt.domain.errors import DataError

ACCOUNT = "DU1234567"


def values(*rows: tuple[str, str, str], at: float = 0.0) -> AccountValues:
    found = AccountValues(ACCOUNT)
    for key, value, currency in rows:
        found.take(key, value, currency, ACCOUNT, at)
    return found


FUNDS = (("NetLiquidation", "1000.50", "USD"), ("AvailableFunds", "400.25", "USD"))


def test_total_free_and_locked_add_up():
    picture = values(*FUNDS).picture()

    [balance] = picture.balances
    assert [float(m) for m in (balance.total, balance.free, balance.locked)] == [
        1000.5,
        400.25,
        600.25,
    ]
    assert picture.margins == []


def test_margins_and_other_figures_are_kept():
    rows = (("InitMarginReq", "50", "USD"), ("MaintMarginReq", "25", "USD"), ("Cushion", "0.5", ""))

    picture = values(*FUNDS, *rows).picture()

    assert float(picture.margins[0].initial) == 50.0
    assert float(picture.margins[0].maintenance) == 25.0
    assert picture.info["Cushion"] == "0.5"
    assert picture.info["NetLiquidation USD"] == "1000.50"


@pytest.mark.parametrize("missing", [0, 1])
def test_an_account_without_its_total_or_free_funds_is_not_told(missing):
    rows = [row for at, row in enumerate(FUNDS) if at != missing]

    assert values(*rows).picture() is None


def test_values_of_another_account_are_not_taken():
    found = AccountValues(ACCOUNT)
    for key, value, currency in FUNDS:
        found.take(key, value, currency, "DU7654321", 0.0)

    assert not found.is_due(100.0)
    assert found.picture() is None


def test_a_picture_is_due_once_values_are_at_rest_or_their_batch_has_ended():
    found = values(*FUNDS, at=5.0)

    assert not found.is_due(5.9)
    assert found.is_due(6.0)
    found.picture()
    assert not found.is_due(100.0)
    found.take("NetLiquidation", "1", "USD", ACCOUNT, 200.0)
    found.end(200.1)
    assert found.is_due(200.1)


def test_a_deficit_is_locked_beyond_the_total():
    picture = values(("NetLiquidation", "100", "USD"), ("AvailableFunds", "-20", "USD")).picture()

    assert float(picture.balances[0].locked) == 120.0


def test_text_that_is_no_amount_is_an_error():
    with pytest.raises(DataError, match="NetLiquidation"):
        values(("NetLiquidation", "n/a", "USD"), FUNDS[1]).picture()
