"""What a rehearsal and its backtest did otherwise, and what is named as its cause."""

from dataclasses import replace
from datetime import date

from adapters.ib_gateway.fault import Struck
from persistence.trades import StoredFill, StoredOrder
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs.rehearse import differences, explained

FIRST, SECOND, THIRD = date(2006, 1, 4), date(2006, 1, 5), date(2006, 1, 6)
ORDER = StoredOrder(FIRST, "AAPL.US", "BUY", 100, 100, "FILLED")
FILL = StoredFill(SECOND, "AAPL.US", "BUY", 100, 75.5, 1.0)
CALENDAR = MarketCalendar.of("US_EQ")


def test_the_same_rows_in_another_order_do_not_differ():
    other = replace(ORDER, instrument_id="IBM.US")

    assert list(differences("order", [ORDER, other], [other, ORDER])) == []


def test_a_row_twice_is_a_difference():
    (found,) = differences("order", [ORDER, ORDER], [ORDER])

    assert (found.rehearsed, found.backtested) == ("BUY 100, 100 filled, FILLED", None)


def test_another_price_is_one_difference_and_a_missing_fill_another():
    lost = replace(FILL, instrument_id="IBM.US")

    found = list(differences("fill", [replace(FILL, price=75.6)], [FILL, lost]))

    assert [(each.instrument_id, each.rehearsed, each.backtested) for each in found] == [
        ("AAPL.US", "BUY 100 at 75.600000, fee 1.00", "BUY 100 at 75.500000, fee 1.00"),
        ("IBM.US", None, "BUY 100 at 75.500000, fee 1.00"),
    ]


def test_a_difference_names_the_faults_of_its_own_stock():
    struck = [Struck(FIRST, "reject", "AAPL"), Struck(FIRST, "close", "IBM")]
    found = list(differences("fill", [], [FILL]))

    (told,) = explained(found, struck, CALENDAR)

    assert told.cause == "reject"


def test_what_differs_later_follows_from_the_first_fault():
    struck = [Struck(FIRST, "reject", "AAPL")]
    later = replace(FILL, session=date(2006, 1, 20))
    found = [*differences("order", [ORDER], []), *differences("fill", [later], [])]

    causes = [each.cause for each in explained(found, struck, CALENDAR)]

    assert causes == ["reject", f"follows from reject of {FIRST}"]


def test_a_difference_without_any_fault_is_unexplained():
    (told,) = explained(list(differences("fill", [FILL], [])), [], CALENDAR)

    assert told.cause == "unexplained"
    assert told.session == SECOND < THIRD
