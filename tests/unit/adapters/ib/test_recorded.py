"""What a journal knows of its orders, read while its node may be writing."""

from dataclasses import asdict, replace

import pytest

from adapters.ib.journal import Intent, Journal
from adapters.ib.orders import Execution, Standing
from adapters.ib.recorded import RecordedOrders
from prometheus_nt.domain.answers import ToldFill

ACCOUNT = "DU1234567"
INTENT = Intent(
    ref="plan-AAPL-0-0",
    plan="plan",
    instrument="AAPL.US",
    contract=7,
    side=1,
    quantity=100,
    kind="MKT",
    tif="OPG",
    limit=None,
    stop=None,
    account=ACCOUNT,
    client_id=1,
    order_id=12,
    day="2024-01-04",
    written_ns=1,
)
FILL = Execution(
    exec_id="0001.02.01",
    ref=INTENT.ref,
    perm_id=5,
    client_id=1,
    order_id=12,
    account=ACCOUNT,
    contract=7,
    symbol="AAPL",
    side=1,
    shares=100,
    price=75.5,
    at_ns=9,
)


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / "orders.journal", ACCOUNT, 1)
    yield made
    made.close()


def read(journal):
    return RecordedOrders(journal.path, ACCOUNT, 1)


def test_an_order_goes_its_way_while_the_journal_is_held(journal):
    journal.intend(INTENT)
    sent = read(journal).outcome(INTENT.ref)
    journal.note("accepted", ref=INTENT.ref, perm_id=5)
    accepted = read(journal).outcome(INTENT.ref)
    journal.note("execution", **asdict(FILL))
    journal.note("commission", exec_id=FILL.exec_id, amount=1.0, currency="USD")
    filled = read(journal).outcome(INTENT.ref)

    assert (sent.standing, sent.final) == (Standing.SENT, False)
    assert (accepted.standing, accepted.final) == (Standing.ACCEPTED, False)
    assert (filled.standing, filled.final) == (Standing.FILLED, True)
    (fill,) = filled.fills
    assert fill == ToldFill(fill.trade_id, 100, 75.5, 1.0, 9)


def test_a_fill_without_its_commission_is_not_final(journal):
    journal.intend(INTENT)
    journal.note("accepted", ref=INTENT.ref, perm_id=5)
    journal.note("execution", **asdict(FILL))

    found = read(journal).outcome(INTENT.ref)

    assert (found.standing, found.final, found.fills) == (Standing.FILLED, False, ())


def test_an_order_that_never_arrived_is_known_as_that(journal):
    journal.intend(INTENT)
    journal.note("rejected", ref=INTENT.ref, code=0, text="never reached the broker")

    assert read(journal).outcome(INTENT.ref).never_arrived


def test_what_was_never_written_is_unknown_and_no_file_has_no_orders(journal, tmp_path):
    journal.intend(replace(INTENT, ref="another"))

    assert read(journal).outcome(INTENT.ref) is None
    assert RecordedOrders(tmp_path / "nothing", ACCOUNT, 1).outcome(INTENT.ref) is None


def test_facts_are_read_by_their_kind(journal):
    journal.write("baseline", runs=["a"], other_cash=5.0)

    (found,) = read(journal).noted("baseline")

    assert found["other_cash"] == 5.0
