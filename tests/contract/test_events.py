from threading import Thread

import pytest
import sqlalchemy as sa

from persistence import events
from persistence.tables.operations import events as table

ENTRIES = [("MADE", {"name": "a", "value": -0.0}), ("MADE", {"name": "ü", "value": 1e-17})]


def write(database, stream, entries):
    with database.writer() as connection:
        return events.append(connection, stream, entries)


def verify(database, stream="s"):
    with database.reader() as connection:
        return events.verify(connection, stream)


def change(database, entry, **values):
    with database.writer() as connection:
        this = sa.update(table).where(table.c.sequence == entry)
        connection.execute(this.values(**values))


def test_what_was_appended_comes_back_in_order_and_whole(database):
    write(database, "s", ENTRIES)
    write(database, "s", [("ENDED", {"name": "a"})])

    with database.reader() as connection:
        assert events.payloads(connection, "s", "MADE") == [entry for _, entry in ENTRIES]
        assert events.streams(connection) == ["s"]
    assert verify(database) is None


def test_the_same_content_has_the_same_hash_whenever_it_is_written(database):
    one = write(database, "one", ENTRIES)
    two = write(database, "two", ENTRIES)

    assert one != two, "the stream's name is part of its content"
    with database.writer() as connection:
        connection.execute(sa.delete(table).where(table.c.stream == "one"))
    assert write(database, "one", ENTRIES) == one


@pytest.mark.parametrize("sequence", [1, 3, 5])
def test_one_flipped_byte_is_located(database, sequence):
    write(database, "s", [("MADE", {"value": number}) for number in range(5)])

    change(database, sequence, payload='{"value": 9}')

    assert verify(database).sequence == sequence
    assert "not what was sealed" in verify(database).reason


SEALED = ("kind", "payload", "previous_hash", "hash")
"""All of an entry but its name, whose change is another stream, and the clock."""


@pytest.mark.parametrize("column", SEALED)
def test_one_flipped_bit_of_any_sealed_character_is_located(database, column):
    write(database, "s", [("MADE", {"value": number}) for number in range(4)])
    with database.reader() as connection:
        query = sa.select(table.c[column]).where(table.c.sequence == 3)
        written = connection.execute(query).scalar_one()

    for place in range(len(written)):
        flipped = written[:place] + chr(ord(written[place]) ^ 1) + written[place + 1 :]
        change(database, 3, **{column: flipped})

        assert verify(database).sequence == 3, (column, place)

    change(database, 3, **{column: written})
    assert verify(database) is None


def test_a_removed_and_a_resealed_entry_are_located(database):
    write(database, "s", [("MADE", {"value": number}) for number in range(4)])
    with database.writer() as connection:
        connection.execute(sa.delete(table).where(table.c.sequence == 2))

    assert verify(database).sequence == 2

    change(database, 3, sequence=2)
    assert verify(database).sequence == 2


def test_writers_at_once_leave_one_unbroken_chain(database):
    def work(name):
        for number in range(10):
            write(database, "s", [(name, {"value": number})])

    workers = [Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert verify(database) is None
    with database.reader() as connection:
        assert len(events.payloads(connection, "s", "w2")) == 10
