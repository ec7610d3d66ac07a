import os

import pytest

from persistence.spool import Spool, records_of
from prometheus_nt.domain.errors import StoreError, TradingHalted


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "out.spool"


def filled(path, *records):
    spool = Spool(path)
    spool.append(*records)
    spool.close()


def test_records_come_back_in_their_order_after_the_process_is_gone(path):
    filled(path, b"one", b"", b"three" * 1000)

    spool = Spool(path)

    assert list(spool.records()) == [b"one", b"", b"three" * 1000]
    assert len(spool) == path.stat().st_size
    spool.close()


def test_a_cleared_spool_is_empty_and_takes_new_records(path):
    spool = Spool(path)
    spool.append(b"old")

    spool.clear()
    spool.append(b"new")

    assert list(spool.records()) == [b"new"]
    spool.close()


@pytest.mark.parametrize("kept", range(1, 19))
def test_a_record_that_a_crash_tore_is_cut_off(path, kept):
    filled(path, b"whole")
    whole = path.stat().st_size
    filled(path, b"abc")
    os.truncate(path, whole + kept)

    spool = Spool(path)
    spool.append(b"next")

    assert list(spool.records()) == [b"whole", b"next"]
    spool.close()


@pytest.mark.parametrize("byte", [0, 5, 13, 17])
def test_damage_before_the_end_is_an_error_not_a_shorter_spool(path, byte):
    filled(path, b"first", b"second")
    content = bytearray(path.read_bytes())
    content[byte] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(StoreError, match="the record at byte 0 is damaged"):
        Spool(path)


def test_a_second_holder_is_refused_until_the_first_lets_go(path):
    first = Spool(path)

    with pytest.raises(StoreError, match="another process trades this run"):
        Spool(path)
    first.close()

    Spool(path).close()


def test_a_full_disk_halts(path):
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    spool = Spool(path)

    with pytest.raises(TradingHalted, match=r"out\.spool: cannot be written.*positions stay"):
        spool.append(b"lost")

    spool.close()


def test_a_folder_in_the_place_of_the_file_halts(path):
    path.mkdir(parents=True)

    with pytest.raises(TradingHalted, match="cannot be written"):
        Spool(path)


def test_records_can_be_read_while_another_process_holds_the_spool(path):
    spool = Spool(path)
    spool.append(b"one", b"two")
    content = path.read_bytes()

    assert records_of(path) == [b"one", b"two"]
    assert path.read_bytes() == content
    spool.append(b"three")
    assert records_of(path) == [b"one", b"two", b"three"]
    spool.close()


def test_a_spool_that_is_not_there_has_no_records_and_is_not_made(path):
    assert records_of(path) == []
    assert not path.exists()
