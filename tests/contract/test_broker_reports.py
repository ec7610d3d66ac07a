"""What brokers said, on both engines."""

from dataclasses import replace
from datetime import UTC, date, datetime

from persistence import events
from persistence.broker_reports import BrokerReport, keep, newest

FRIDAY, MONDAY = date(2024, 2, 2), date(2024, 2, 5)
REPORT = BrokerReport(
    account_id="IB-DU1",
    at=datetime(2024, 2, 2, 22, tzinfo=UTC),
    as_of=FRIDAY,
    runs=("one", "two"),
    shares={"A.US": 3, "B.US": -1},
    books={"A.US": 3, "B.US": -1},
    cash=100.25,
)


def said(database, *reports):
    with database.writer() as connection:
        for report in reports:
            keep(connection, report)


def heard(database, run_id, as_of=None):
    with database.reader() as connection:
        return newest(connection, run_id, as_of)


def test_each_run_of_an_account_has_what_was_said(database):
    said(database, REPORT)

    assert heard(database, "one") == heard(database, "two") == REPORT
    assert heard(database, "three") is None


def test_what_is_said_again_keeps_the_time_when_it_was_said_first(database):
    said(database, REPORT, replace(REPORT, at=datetime(2024, 2, 2, 23, tzinfo=UTC)))

    assert heard(database, "one").at == REPORT.at
    with database.reader() as connection:
        assert events.position(connection, "broker:one")[0] == 1
        assert events.verify(connection, "broker:one") is None


def test_of_a_session_only_what_was_said_by_its_close_is_known(database):
    later = replace(REPORT, as_of=MONDAY, shares={"A.US": 4}, books={"A.US": 4})
    said(database, REPORT, later)

    assert heard(database, "one").as_of == MONDAY
    assert heard(database, "one", FRIDAY) == REPORT
    assert heard(database, "one", date(2024, 2, 1)) is None


def test_a_broker_s_stock_that_no_book_knows_is_a_break_and_so_is_one_it_lacks():
    report = replace(REPORT, shares={"A.US": 5, "X.US": 1}, books={"A.US": 5, "B.US": -1})

    assert report.breaks == {"B.US": 1, "X.US": 1}
