"""What every database promises, on either engine."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from math import inf, nan

import numpy as np
import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    select,
    text,
)

from persistence.blocks import Block, JsonTexts
from persistence.database import COPY_FROM_ROWS, Database, upsert
from persistence.tables.types import JSON, UtcDateTime
from prometheus_nt.domain.errors import ConfigError, StoreError

samples = Table(
    "samples",
    MetaData(),
    Column("name", String(50), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("number", Double),
    Column("count", Integer),
    Column("big", BigInteger),
    Column("flag", Boolean),
    Column("words", Text),
    Column("document", JSON),
    Column("moment", UtcDateTime),
    Column("plain_moment", DateTime(timezone=True)),
    Column("order", Integer, server_default="7"),
)
COLUMNS = tuple(column.name for column in samples.columns if column.name != "order")
DAY = date(2024, 2, 29)
MOMENT = datetime(2024, 2, 29, 21, 0, 0, 123456, tzinfo=UTC)
FILLER = 2 * COPY_FROM_ROWS


class Colour(StrEnum):
    RED = "RED"


@pytest.fixture
def store(empty_database):
    with empty_database.writer() as connection:
        samples.metadata.create_all(connection)
    return empty_database


def row(name="a", **values):
    values = {"name": name, "day": DAY} | values
    return tuple(values.get(column) for column in COLUMNS)


def stored(database: Database, name="a"):
    with database.reader() as connection:
        found = connection.execute(select(samples).where(samples.c.name == name)).one()
    return found._mapping


# Few rows and many rows take different ways into PostgreSQL.
@pytest.fixture(params=[0, FILLER], ids=["few", "many"])
def put(request, store):
    def write(*rows, update=True):
        extra = [row(f"filler{number}") for number in range(request.param)]
        with store.writer() as connection:
            return upsert(connection, samples, COLUMNS, [*rows, *extra], update=update)

    write.extra = request.param
    return write


def test_every_kind_of_value_comes_back_as_it_went_in(store, put):
    document = {"b": [1, 2.5, None, "x"], "a": {"ä": True}}
    values = {
        "number": 0.1 + 0.2,
        "count": -3,
        "big": 2**62,
        "flag": True,
        "words": "plain",
        "document": document,
        "moment": MOMENT,
    }

    sent = put(row(**values))

    assert sent == 1 + put.extra
    found = stored(store)
    assert {name: found[name] for name in values} == values
    assert found["day"] == DAY
    assert found["moment"].tzinfo is UTC
    assert found["order"] == 7


@pytest.mark.parametrize(
    "words",
    ["", " ", "'", '"', '""', "a,b", "a\nb", "a\r\nb\t", "\\N", "\\", "%s ? :x", "NULL", "日本 €"],
)
def test_text_survives_whatever_it_contains(store, put, words):
    put(row(words=words, document={"text": words}))

    assert stored(store)["words"] == words
    assert stored(store)["document"] == {"text": words}


def test_null_stays_null_in_every_column(store, put):
    put(row())

    assert all(stored(store)[name] is None for name in COLUMNS[2:])
    with store.reader() as connection:
        nulls = select(func.count()).where(samples.c.document.is_(None), samples.c.name == "a")
        assert connection.execute(nulls).scalar_one() == 1


def test_nan_becomes_null_and_infinity_stays(store, put):
    put(row("a", number=nan, document={"x": nan, "y": [nan, 1.0]}), row("b", number=-inf))

    assert stored(store)["number"] is None
    assert stored(store)["document"] == {"x": None, "y": [None, 1.0]}
    assert stored(store, "b")["number"] == -inf


def test_doubles_are_bit_exact(store, put):
    numbers = np.random.default_rng(1).normal(size=50) * 10.0 ** np.arange(-25, 25)

    put(*(row(f"n{number}", number=value) for number, value in enumerate(numbers)))

    found = [stored(store, f"n{number}")["number"] for number in range(50)]
    assert found == numbers.tolist()


def test_numpy_scalars_and_enums_are_plain_values(store, put):
    put(row(number=np.float64(1.5), count=np.int64(3), flag=np.True_, words=Colour.RED))

    found = stored(store)
    assert (found["number"], found["count"], found["flag"]) == (1.5, 3, True)
    assert found["words"] == "RED"


def test_times_of_any_zone_are_one_instant(store, put):
    eastern = MOMENT.astimezone(timezone(timedelta(hours=-5)))

    put(row(moment=eastern, plain_moment=eastern))

    assert stored(store)["moment"] == MOMENT
    assert stored(store)["moment"].utcoffset() == timedelta(0)
    assert stored(store)["plain_moment"].replace(tzinfo=UTC) == MOMENT


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("moment", datetime(2024, 1, 1)),  # noqa: DTZ001
        ("count", "many"),
        ("document", {"x": object()}),
        ("document", {"x": inf}),
        ("number", "high"),
    ],
)
def test_a_value_without_meaning_in_its_column_is_refused_by_name(store, put, column, value):
    with pytest.raises(StoreError, match=f"samples.{column}|timezone"):
        put(row(**{column: value}))


def test_a_conflict_updates_the_other_columns_only(store, put):
    put(row(number=1.0, words="old"), row("b", number=5.0))

    with store.writer() as connection:
        upsert(connection, samples, ("name", "day", "number"), [("a", DAY, 2.0)])

    assert (stored(store)["number"], stored(store)["words"]) == (2.0, "old")
    assert stored(store, "b")["number"] == 5.0


def test_a_conflict_changes_nothing_without_update(store, put):
    put(row(number=1.0))

    put(row(number=2.0), row("b", number=3.0), update=False)

    assert stored(store)["number"] == 1.0
    assert stored(store, "b")["number"] == 3.0


def test_the_last_row_of_one_key_counts(store, put):
    put(row(number=1.0), row(number=2.0), row(number=3.0))

    assert stored(store)["number"] == 3.0


def test_two_upserts_share_one_transaction(store, put):
    with store.writer() as connection:
        many = [row(f"x{number}") for number in range(FILLER)]
        upsert(connection, samples, COLUMNS, many)
        upsert(connection, samples, COLUMNS, [row("y"), *many])

    assert count(store) == FILLER + 1


def test_no_rows_are_no_statement(store):
    with store.writer() as connection:
        assert upsert(connection, samples, COLUMNS, []) == 0


def test_an_upsert_needs_the_whole_key(store):
    with store.writer() as connection, pytest.raises(StoreError, match="needs its whole key"):
        upsert(connection, samples, ("name", "number"), [("a", 1.0)])


def test_a_failed_writer_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.writer() as connection:
        upsert(connection, samples, COLUMNS, [row()])
        _ = 1 / 0

    assert count(store) == 0


def test_a_reader_cannot_write(store):
    with pytest.raises(StoreError), store.reader() as connection:
        upsert(connection, samples, COLUMNS, [row()])

    assert count(store) == 0


def test_a_reader_keeps_its_snapshot_while_others_write(store):
    with store.reader() as reader:
        before = counted(reader)
        with store.writer() as writer:
            upsert(writer, samples, COLUMNS, [row()])

        assert counted(reader) == before == 0


def test_a_missing_table_says_which_command_makes_it(empty_database):
    with empty_database.writer() as connection:
        connection.execute(text("SELECT 1"))

    with (
        pytest.raises(StoreError, match="prometheus db upgrade"),
        empty_database.reader() as connection,
    ):
        connection.execute(select(samples))


def test_a_reader_of_an_absent_file_says_which_command_makes_it(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path}/none/absent.db")

    with pytest.raises(StoreError, match="prometheus db upgrade"), database.reader():
        pass

    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made_or_a_foreign_file_says_what_to_do(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"no database, but quite as long as the header of one would have to be " * 20)

    for path, problem in (
        (file / "home" / "x.db", "home: cannot be made: Not a directory; set PROMETHEUS_HOME"),
        (file, "file is not a database; move it away"),
        (tmp_path, "unable to open database file; make the file and its folder writable"),
    ):
        with (
            pytest.raises(StoreError, match=problem),
            Database.open(f"sqlite:///{path}").writer() as connection,
        ):
            connection.exec_driver_sql("SELECT * FROM sqlite_master")


def test_a_writer_makes_the_folder_even_with_odd_characters(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path}/a b#c/ü.db")

    with database.writer() as connection:
        connection.exec_driver_sql("CREATE TABLE x (y INTEGER)")
    with database.reader() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM x").scalar_one() == 0
    database.close()


@pytest.mark.parametrize("url", ["", "mysql://h/d", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_other_addresses_are_refused_with_an_example(url):
    with pytest.raises(ConfigError, match=r"sqlite:///path/to/file\.db"):
        Database.open(url)


def test_a_password_is_never_shown():
    database = Database.open("postgresql://me:s3cret@127.0.0.1:1/nowhere")

    with pytest.raises(StoreError) as refused, database.reader():
        pass

    assert "s3cret" not in repr(database) + database.safe_url + str(refused.value)


def test_a_closed_file_holds_all_that_was_written_without_a_journal_beside_it(tmp_path):
    path = tmp_path / "closed.db"
    database = Database.open(f"sqlite:///{path}")
    with database.writer() as connection:
        samples.create(connection)
        connection.execute(samples.insert(), {"name": "a", "day": DAY})
    with database.reader() as connection:
        connection.execute(select(samples.c.name)).all()

    database.close()

    assert [each.name for each in tmp_path.iterdir()] == ["closed.db"]


def test_writers_use_the_journal_settings_of_a_shared_file(sqlite_database):
    with sqlite_database.writer() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]

    assert pragmas == ["wal", 1, 30_000, 1]


def counted(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(samples)).scalar_one()


def count(database: Database) -> int:
    with database.reader() as connection:
        return counted(connection)


@pytest.mark.parametrize("count", [3, FILLER])
def test_rows_given_as_columns_are_the_rows_given_as_tuples(store, count):
    numbers = np.arange(count) / 3.0
    numbers[1] = nan
    documents = JsonTexts(f'{{"n": {number}}}' for number in range(count))
    names = ("name", "day", "number", "count", "flag", "document", "moment")
    parts = (DAY, numbers, list(range(count)), True, documents, MOMENT)
    block = Block.of(count, [f"block{number}" for number in range(count)], *parts)
    tuples = [(f"tuple{number}", *row[1:]) for number, row in enumerate(block)]

    with store.writer() as connection:
        sent = upsert(connection, samples, names, block)
        upsert(connection, samples, names, tuples)
        upsert(connection, samples, names, block)

    assert sent == count
    with store.reader() as connection:
        found = {row.name: tuple(row)[1:] for row in connection.execute(select(samples))}
    assert len(found) == 2 * count
    for number in range(count):
        assert found[f"block{number}"] == found[f"tuple{number}"]
    assert found["block1"][1] is None
    assert found["block2"][6] == {"n": 2}


def test_the_mark_of_commits_moves_with_every_commit_and_with_nothing_else(store):
    row = [("a", DAY)]
    marks = [store.commit_mark(), store.commit_mark()]
    with store.reader() as connection:
        connection.execute(select(samples)).all()
    marks.append(store.commit_mark())

    with store.writer() as connection:
        upsert(connection, samples, ["name", "day"], row)
        within = store.commit_mark()
    after = [store.commit_mark(), store.commit_mark()]
    with Database.open(store._url.render_as_string(hide_password=False)).writer() as connection:
        connection.execute(samples.delete())

    assert len(set(marks)) == 1
    assert len({*marks, after[0], store.commit_mark()}) == 3
    assert after[0] not in (*marks, within)
    assert after[1] == after[0]


def test_the_mark_of_commits_is_asked_by_many_threads_at_once(store):
    with ThreadPoolExecutor(8) as threads:
        marks = list(threads.map(lambda _: store.commit_mark(), range(64)))

    assert len(set(marks)) == 1


def test_the_mark_of_commits_of_a_database_that_is_not_there_says_what_to_do(tmp_path):
    absent = Database.open(f"sqlite:///{tmp_path / 'absent.db'}")

    with pytest.raises(StoreError, match="db upgrade"):
        absent.commit_mark()


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE other (number INTEGER)",
        "ALTER TABLE samples ADD COLUMN late INTEGER",
        "ALTER TABLE samples DROP COLUMN words",
        "CREATE INDEX ix_samples_number ON samples (number)",
        "DROP TABLE samples",
    ],
)
def test_the_mark_of_the_schema_moves_with_its_tables_and_not_with_their_rows(store, change):
    before = store.schema_mark()
    with store.writer() as connection:
        upsert(connection, samples, ["name", "day"], [("a", DAY)])
    written = store.schema_mark()
    with store.writer() as connection:
        connection.exec_driver_sql(change)

    assert before == written
    assert store.schema_mark() != before
