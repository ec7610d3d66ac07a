"""Books a planner and a gate can judge: every test states only what it is about."""

from collections.abc import Callable

import numpy as np
import pytest

from strategies.planner import BookView


def _book_of(prices, *, shares=None, cash=0.0, **changes) -> BookView:
    prices = np.array(prices, dtype=np.float64)
    held = np.zeros(len(prices), dtype=np.int64) if shares is None else np.array(shares)
    marks = np.array(changes.pop("marks", prices), dtype=np.float64)
    fields = {
        "equity": cash + float(held @ np.nan_to_num(marks)),
        "lots": np.ones(len(prices), dtype=np.int64),
        "working": np.zeros(len(prices), dtype=bool),
        "pending": np.zeros(len(prices), dtype=np.int64),
        "usual_value": np.full(len(prices), np.nan),
    }
    fields |= {
        name: value if name == "equity" else np.array(value) for name, value in changes.items()
    }
    return BookView(shares=held, prices=prices, marks=marks, **fields)


@pytest.fixture(scope="session")
def book_of() -> Callable[..., BookView]:
    """Book at these prices; equity is `cash` plus shares at their marks unless given."""
    return _book_of
