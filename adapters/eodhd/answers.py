"""Read cells of EODHD's answers: numbers, days and lists, or an error that names the field.

The vendor writes numbers as numbers or as text, and an empty object as an empty list.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from adapters.http import SchemaChanged

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
UNKNOWN = ("", "NA", "N/A", "None", "null")


@dataclass(frozen=True)
class Cells:
    """An object of an answer, and where it stands, for messages.

    Attributes
    ----------
    where : str
        The endpoint.
    path : str
        The place inside the answer: `[3]` or `Financials.Cash_Flow.yearly` for example.
    """

    where: str
    path: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, path: str, value: Any) -> "Cells":
        """Return `value` as an object; an empty list counts as an empty one."""
        if value is None or value == []:
            value = {}
        if not isinstance(value, dict):
            raise SchemaChanged(where, path or "(the answer)", value, "an object")
        return cls(where, path, value)

    def inside(self, name: str) -> "Cells":
        """Return the object `name`, empty if there is none."""
        return Cells.of(self.where, self.place(name), self.values.get(name))

    def require(self, name: str) -> Any:
        """Return the value of `name`, or raise `SchemaChanged` with the fields there are."""
        if name not in self.values:
            there = ", ".join(sorted(self.values)[:10]) or "no field"
            raise SchemaChanged(self.where, self.place(name), there, "this field")
        return self.values[name]

    def number(self, name: str) -> float | None:
        """Return a finite number, None where the vendor does not know it."""
        value = self.require(name)
        number = as_number(value)
        if number is None and not is_unknown(value):
            raise SchemaChanged(self.where, self.place(name), value, "a number")
        return number

    def day(self, name: str) -> date | None:
        """Return a day, None where the vendor does not know it."""
        value = self.require(name)
        day = as_day(value)
        if day is None and not (is_unknown(value) or value == "0000-00-00"):
            raise SchemaChanged(self.where, self.place(name), value, "a day as YYYY-MM-DD")
        return day

    def known_day(self, name: str) -> date:
        """Return a day that must be known."""
        day = self.day(name)
        if day is None:
            raise SchemaChanged(self.where, self.place(name), self.values[name], "a known day")
        return day

    def text(self, name: str) -> str | None:
        """Return a text without surrounding space, None where it is missing or empty."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise SchemaChanged(self.where, self.place(name), value, "a text")
        return (value or "").strip() or None

    def known_text(self, name: str) -> str:
        """Return a text that must be there."""
        self.require(name)
        text = self.text(name)
        if text is None:
            raise SchemaChanged(self.where, self.place(name), self.values[name], "a text")
        return text

    def place(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def objects(where: str, path: str, value: Any) -> Iterator[Cells]:
    """Yield the objects of a list, or of an object whose keys only number or date them."""
    if value is None:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield Cells.of(where, f"{path}.{key}" if path else str(key), item)
        return
    if not isinstance(value, list):
        raise SchemaChanged(where, path or "(the answer)", value, "a list")
    for position, item in enumerate(value):
        yield Cells.of(where, f"{path}[{position}]", item)


def as_number(value: Any) -> float | None:
    """Return a finite number from a number or its text, None if it is neither."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_day(value: Any) -> date | None:
    """Return the day of a text YYYY-MM-DD, None if it is none."""
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def is_unknown(value: Any) -> bool:
    """Return whether the vendor says that it does not know a value."""
    return value is None or (isinstance(value, str) and value.strip() in UNKNOWN)
