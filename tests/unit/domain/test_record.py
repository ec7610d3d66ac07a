import os
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.record import Params, Record, content_hash, record_hash
from prometheus_nt.domain.runs import SleeveDecision

PROGRAM = """
from dataclasses import dataclass
from datetime import date
import numpy as np
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode, SleeveDecision

decision = SleeveDecision(date(2024, 1, 2), "BOOK", 3, ("B", "A"), ())
mapping = {name: len(name) for name in ("alpha", "beta", "gamma", "delta")}
parts = ["text", 1, 2.5, None, Mode.BACKTEST, date(2024, 1, 2), mapping, decision, np.arange(6.0)]
print(content_hash(parts))
"""

DECISION = SleeveDecision(date(2024, 1, 2), "BOOK", 3, ("A",), ())


@dataclass(frozen=True)
class Opened:
    as_of: date
    value: float


@dataclass(frozen=True)
class Closed:
    as_of: date
    value: float


@dataclass(frozen=True)
class Cached:
    as_of: date
    value: float
    _cache: object = None


class WindowParams(Params):
    lookback: int = 21


class OtherParams(Params):
    lookback: int = 21


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.5])),
        (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(2), np.zeros(2, dtype=np.int64)),
        (np.zeros(2, dtype=np.float64), np.zeros(4, dtype=np.float32)),
        (np.array([0.0, np.nan]), np.array([0.0, 0.0])),
    ],
    ids=["value", "order", "shape", "dimensions", "dtype", "width", "missing"],
)
def test_arrays_that_differ_have_different_hashes(one, other):
    assert content_hash([one]) != content_hash([other])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["b", "a"]),
        (["ab"], ["a", "b"]),
        (["1"], [1]),
        ([1], [1.0]),
        ([None], []),
        ([None], ["None"]),
        ([{"a": 1}], [{"a": 2}]),
        ([("a", "b"), "c"], [("a",), ("b", "c")]),
        ([(), ("a",)], [("a",), ()]),
        ([{"a": {"b": 1, "c": 2}}], [{"a": {"b": 1}, "c": 2}]),
        ([{}], [()]),
        ([{"a": 1}], [["a", 1]]),
        ([{"a": 1}], [[("a", 1)]]),
        ([Opened(date(2024, 1, 2), 1.0)], [(date(2024, 1, 2), 1.0)]),
        ([Opened(date(2024, 1, 2), 1.0)], [{"as_of": date(2024, 1, 2), "value": 1.0}]),
        ([Opened(date(2024, 1, 2), 1.0)], ["Opened", (date(2024, 1, 2), 1.5)]),
        ([[Opened(date(2024, 1, 2), 1.0)], 1], [[Opened(date(2024, 1, 2), 1.0), 1]]),
    ],
)
def test_values_that_differ_have_different_hashes(one, other):
    assert content_hash(one) != content_hash(other)


def test_equal_arrays_have_one_hash_whatever_their_memory_looks_like():
    table = np.arange(6.0).reshape(2, 3)
    views = [np.asfortranarray(table), np.repeat(table, 2, axis=1)[:, ::2], table.copy()]

    assert {content_hash([view]) for view in views} == {content_hash([table])}


def test_the_order_of_the_keys_of_a_mapping_does_not_matter():
    assert content_hash([{"a": 1, "b": 2}]) == content_hash([{"b": 2, "a": 1}])


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"a", "b"}, "set"),
        (frozenset({"a"}), "frozenset"),
        (np.array(["a", None], dtype=object), "ndarray"),
        (object(), "object"),
        (len, "builtin_function_or_method"),
        (iter([1]), "list_iterator"),
        (WindowParams(), "WindowParams"),
    ],
)
def test_what_may_show_itself_differently_tomorrow_has_no_hash(part, name):
    for parts in ([part], [("a", part)], [{"a": part}], [Opened(date(2024, 1, 2), part)]):
        with pytest.raises(TypeError, match=f"^a {name} has no content hash$"):
            content_hash(parts)


def test_a_private_field_does_not_count():
    plain = Cached(date(2024, 1, 2), 1.0)

    assert content_hash([replace(plain, _cache=object())]) == content_hash([plain])
    assert content_hash([replace(plain, value=2.0)]) != content_hash([plain])


def test_equal_panels_have_one_hash_whatever_was_computed_from_them(panel_of):
    panel = panel_of([1.0, 2.0, 3.0])
    before = content_hash([panel])

    panel.derived(lambda whole: 2.0 * whole.close)

    assert panel.as_of == date(2020, 1, 3)
    assert content_hash([panel]) == before == content_hash([panel_of([1.0, 2.0, 3.0])])
    assert content_hash([panel_of([1.0, 2.0, 3.5])]) != before
    assert content_hash([panel.until(date(2020, 1, 2))]) != before


def test_a_hash_has_sixteen_digits():
    assert len(content_hash(["x"])) == 16
    assert int(content_hash(["x"]), 16) >= 0


def test_a_hash_is_the_same_in_every_process():
    printed = []
    for seed in ("0", "1", "random"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(done.stdout)

    assert len(set(printed)) == 1
    assert len(printed[0].strip()) == 16


def test_equal_records_have_equal_hashes_and_every_field_counts():
    changes = [
        {"as_of": date(2024, 1, 3)},
        {"book_id": "OTHER"},
        {"orders": 4},
        {"held": ("B",)},
        {"deferred": ("A",)},
        {"held": (), "deferred": ("A",)},
    ]

    hashes = {record_hash(replace(DECISION, **change)) for change in changes}

    assert len(hashes | {record_hash(DECISION)}) == len(changes) + 1
    assert record_hash(replace(DECISION)) == record_hash(DECISION)


def test_records_of_two_types_with_equal_fields_have_different_hashes():
    day = date(2024, 1, 2)

    assert record_hash(Opened(day, 1.0)) != record_hash(Closed(day, 1.0))


def test_a_panel_is_hashed_by_its_fingerprint_and_its_end(panel_of):
    panel = panel_of([1.0, 2.0, 3.0])

    assert record_hash(panel) == content_hash(["test", date(2020, 1, 3)])
    assert record_hash(panel.until(date(2020, 1, 2))) != record_hash(panel)


def test_whatever_has_an_as_of_is_a_record(panel_of):
    assert isinstance(DECISION, Record)
    assert isinstance(panel_of([1.0]), Record)
    assert not isinstance(object(), Record)


def test_an_unknown_setting_is_an_error():
    with pytest.raises(ValidationError, match=r"lookbak\n.*Extra inputs are not permitted"):
        WindowParams(lookbak=5)


def test_settings_are_frozen():
    params = WindowParams()

    with pytest.raises(ValidationError, match="frozen"):
        params.lookback = 5


def test_the_digest_of_settings_differs_by_value_and_by_type():
    assert WindowParams().digest() == WindowParams(lookback=21).digest()
    assert WindowParams().digest() != WindowParams(lookback=22).digest()
    assert WindowParams().digest() != OtherParams().digest()
