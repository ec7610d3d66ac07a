"""Shared engine outputs: computed once, whole or not at all, and never more than the limit."""

from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from persistence.engine_outputs import OutputStore
from prometheus_nt.domain.books import BookEvidence, BookTarget, Fallback
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.market import (
    FragilityMeasures,
    PositionTemplate,
    RegimeLabel,
    RegimeState,
)
from prometheus_nt.domain.record import content_hash

NAMES = ("A.US", "B.US")
DAY = date(2012, 3, 1)


def _book(number):
    evidence = BookEvidence(
        method="equal",
        as_of_solved=DAY,
        regime=RegimeLabel.CARRY,
        fallbacks=(Fallback("risk_budgeting", "no history"),),
        turnover=np.float64(0.1),
        expected_volatility=float("nan"),
    )
    return BookTarget(DAY, "B", NAMES, np.array([0.5, number]), None, ("max_weight",), evidence)


def _store(tmp_path, **options):
    return OutputStore(tmp_path / "outputs", **options)


def _never():
    raise AssertionError("computed a second time")


def test_every_kind_of_value_is_read_back_as_it_was(tmp_path):
    records = [
        InsufficientHistory(DAY, 252, 10),
        None,
        _book(0.25),
        RegimeState(
            DAY, "US", RegimeLabel.CRISIS, 0.9, np.eye(4)[0], np.eye(4), {"p": 0.5}, {}, None
        ),
        FragilityMeasures(
            as_of=DAY,
            horizon=21,
            drawdown_threshold=0.1,
            instruments=NAMES,
            fragility_score=np.array([np.nan, 0.5]),
            fragility_class=np.array([-1, 2]),
            drawdown_probability=np.full(2, np.nan),
            components={"tail": np.zeros(2)},
            scenario_losses={},
            templates=(PositionTemplate("A.US", "SHORT", 0.1, 21, "weak"),),
        ),
    ]

    tape = _store(tmp_path).tape("key", NAMES, lambda: records)

    assert (tape.at(0).as_of, tape.at(0).needed, tape.at(0).available) == (DAY, 252, 10)
    assert tape.at(1) is None
    assert [tape.has(position) for position in range(5)] == [False, False, True, True, True]
    for position in (2, 3, 4):
        assert content_hash([tape.at(position)]) == content_hash([records[position]])
    assert tape.at(2).instruments is NAMES
    assert isinstance(tape.at(4).templates[0], PositionTemplate)
    assert isinstance(tape.at(2).evidence.turnover, np.float64)


def test_what_is_read_cannot_be_written(tmp_path):
    weights = _store(tmp_path).tape("key", NAMES, lambda: [_book(0.25)]).at(0).weights

    with pytest.raises(ValueError, match="read-only"):
        weights[0] = 1.0


def test_a_value_without_a_place_is_refused_and_leaves_nothing(tmp_path):
    store = _store(tmp_path)

    with pytest.raises(TypeError, match="a set has no place"):
        store.tape("key", NAMES, lambda: [{"of": {1, 2}}])

    assert not list(store.folder.glob("*.tape"))
    assert len(store.tape("key", NAMES, lambda: [_book(1.0)])) == 1


def test_the_second_who_asks_computes_nothing(tmp_path):
    store = _store(tmp_path)
    store.tape("key", NAMES, lambda: [_book(0.25)])

    assert store.tape("key", NAMES, _never).at(0).weights.tolist() == [0.5, 0.25]


def test_a_tape_that_was_cut_is_made_again(tmp_path):
    store = _store(tmp_path)
    store.tape("key", NAMES, lambda: [_book(0.25)] * 3)
    path = store.folder / "key.tape"
    path.write_bytes(path.read_bytes()[:-40])

    assert len(store.tape("key", NAMES, lambda: [_book(0.5)])) == 1
    assert store.tape("key", NAMES, _never).at(0).weights.tolist() == [0.5, 0.5]


def test_what_was_not_used_for_the_longest_time_makes_room_and_its_readers_read_on(tmp_path):
    size = _store(tmp_path / "one").tape("key", NAMES, lambda: [_book(0.0)] * 50)._buffer.size()
    store = _store(tmp_path, largest_bytes=int(2.5 * size))
    first = store.tape("first", NAMES, lambda: [_book(0.1)] * 50)
    store.tape("second", NAMES, lambda: [_book(0.2)] * 50)
    store.tape("first", NAMES, _never)

    store.tape("third", NAMES, lambda: [_book(0.3)] * 50)

    assert {path.stem for path in store.folder.glob("*.tape")} == {"first", "third"}
    assert store.bytes_used() <= store.largest_bytes
    assert first.at(49).weights.tolist() == [0.5, 0.1]


def _compete(folder, barrier, counted):
    def compute():
        with counted.get_lock():
            counted.value += 1
        yield from [_book(0.25)] * 200

    barrier.wait()
    tape = OutputStore(folder).tape("key", NAMES, compute)
    assert len(tape) == 200


def test_of_several_processes_one_computes_and_all_read(tmp_path):
    context = get_context("fork")
    barrier, counted = context.Barrier(4), context.Value("i", 0)
    workers = [
        context.Process(target=_compete, args=(tmp_path / "outputs", barrier, counted))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert counted.value == 1


def test_a_tape_that_nobody_holds_any_more_is_closed_and_unmapped(tmp_path):
    store = _store(tmp_path)
    tape = store.tape("key", NAMES, lambda: [_book(0.25)])
    weights = tape.at(0).weights

    del tape
    assert _mapped(tmp_path) == 1  # its array is still in use
    assert weights.tolist() == [0.5, 0.25]

    del weights
    assert _mapped(tmp_path) == 0


def test_many_uses_of_a_tape_leave_no_file_open(tmp_path):
    store = _store(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(100):
        assert store.tape("key", NAMES, lambda: [_book(0.25)]).at(0) is not None

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def _mapped(folder):
    """Return how many files of a folder this process has mapped."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sum(str(folder) in line for line in maps)
