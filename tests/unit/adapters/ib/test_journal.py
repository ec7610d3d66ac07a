import os
from dataclasses import replace

import pytest

from adapters.ib.journal import Intent, Journal, order_reference
from prometheus_nt.domain.errors import ConfigError, StoreError, TradingHalted, VenueError

ACCOUNT = "DU1234567"
INTENT = Intent(
    ref="plan-AAPL-0-0",
    plan="plan",
    instrument="AAPL.NASDAQ",
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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "orders.journal"


def test_an_intent_is_known_to_the_next_process(path):
    journal = Journal(path, ACCOUNT, 1)
    journal.intend(INTENT)
    journal.note("accepted", ref=INTENT.ref, perm_id=5)
    journal.close()

    again = Journal(path, ACCOUNT, 1)

    assert again.intents == {INTENT.ref: INTENT}
    assert [record["kind"] for record in again.records(INTENT.ref)] == ["intent", "accepted"]
    again.close()


def test_a_reference_is_never_written_twice_over_restarts(path):
    journal = Journal(path, ACCOUNT, 1)
    journal.intend(INTENT)
    journal.close()
    again = Journal(path, ACCOUNT, 1)

    with pytest.raises(VenueError, match="never resent"):
        again.intend(replace(INTENT, order_id=99))

    assert len(list(again.records(INTENT.ref))) == 1
    again.close()


def test_a_reference_twice_in_one_breath_writes_neither(path):
    journal = Journal(path, ACCOUNT, 1)

    with pytest.raises(VenueError, match=r"plan-AAPL-0-0"):
        journal.intend(INTENT, INTENT)

    assert journal.intents == {}
    journal.close()


def test_every_torn_end_of_the_file_is_cut_off_and_what_is_before_it_stays(path):
    journal = Journal(path, ACCOUNT, 1)
    journal.intend(INTENT)
    journal.intend(replace(INTENT, ref="plan-IBM-0-0", order_id=13))
    journal.close()
    whole = path.read_bytes()
    kept = whole.rindex(b"\n", 0, len(whole) - 1) + 1

    for length in range(kept, len(whole)):
        path.write_bytes(whole[:length])
        again = Journal(path, ACCOUNT, 1)
        assert list(again.intents) == [INTENT.ref]
        again.intend(replace(INTENT, ref="plan-KO-0-0", order_id=14))
        again.close()
        after = Journal(path, ACCOUNT, 1)
        assert list(after.intents) == [INTENT.ref, "plan-KO-0-0"]
        after.close()


def test_damage_before_the_end_is_an_error(path):
    journal = Journal(path, ACCOUNT, 1)
    journal.intend(INTENT)
    journal.note("accepted", ref=INTENT.ref, perm_id=5)
    journal.close()
    content = bytearray(path.read_bytes())
    content[content.index(b"AAPL")] ^= 1
    path.write_bytes(content)

    with pytest.raises(StoreError, match="damaged at byte"):
        Journal(path, ACCOUNT, 1)


def test_one_process_holds_the_journal(path):
    journal = Journal(path, ACCOUNT, 1)

    with pytest.raises(StoreError, match="another process"):
        Journal(path, ACCOUNT, 1)

    journal.close()
    Journal(path, ACCOUNT, 1).close()


def test_a_journal_of_another_account_or_client_is_refused(path):
    Journal(path, ACCOUNT, 1).close()

    for account, client in (("DU7654321", 1), (ACCOUNT, 2)):
        with pytest.raises(ConfigError, match="choose another folder"):
            Journal(path, account, client)


def test_an_intent_is_synced_before_it_returns_and_a_note_need_not_be(path, monkeypatch):
    journal = Journal(path, ACCOUNT, 1)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(path.read_bytes().count(b"\n")))

    journal.intend(INTENT)
    journal.note("accepted", ref=INTENT.ref, perm_id=5)

    assert synced == [2]
    journal.close()


def test_a_full_disk_halts_and_the_intent_is_not_known(path, monkeypatch):
    journal = Journal(path, ACCOUNT, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)

    with pytest.raises(TradingHalted, match="No space left"):
        journal.intend(INTENT)

    assert journal.intents == {}
    journal.close()


def test_a_reference_is_the_same_for_the_same_order_and_fits_the_brokers_field():
    long_plan = "US_CORE_LONG_EQ_H21@2024-01-04-rebalance"

    assert order_reference("p1", "AAPL") == "p1-AAPL-0-0"
    assert order_reference(long_plan, "AAPL", 1, 2) == order_reference(long_plan, "AAPL", 1, 2)
    assert len(order_reference(long_plan, "AAPL", 1, 2)) <= 36
    assert order_reference(long_plan, "AAPL") != order_reference(long_plan + "x", "AAPL")
    with pytest.raises(ConfigError, match="too long"):
        order_reference(long_plan, "A" * 30)
