"""Scanners: who passes a list of filters after a close, and why the others do not.

1. `FIELDS` is the vocabulary: what a filter may measure, as numbers, texts or flags.
2. `scan_panel` asks every filter of every instrument; what is unknown passes none.
3. Those that pass all are sorted, and the first `limit` are selected.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, IntArray, Params
from prometheus_nt.engines import features, measures
from prometheus_nt.engines.numerics.returns import trailing_return

Operator = Literal[">=", ">", "<=", "<", "==", "in", "not in"]

Values = np.ndarray
"""(N,) numbers with NaN, or objects with None, where unknown."""

TRADING, LIMIT = "trading", "limit"
"""Filters that every scanner has besides its own."""


class _Asked(Params):
    """One quantity of the vocabulary; a lookback and a skip where it has them.

    lookback : sessions; None is the field's own.
    skip : newest sessions that a momentum leaves out.
    """

    field: str
    lookback: int | None = Field(None, ge=1)
    skip: int | None = Field(None, ge=0)

    @field_validator("field")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(FIELDS)}"
            raise ValueError(f"unknown field; {hint}")
        return name

    @model_validator(mode="after")
    def _takes_what_it_is_given(self) -> Self:
        spec = FIELDS[self.field]
        if self.lookback is not None and spec.lookback is None:
            raise ValueError(f"{self.field} has no lookback")
        if self.skip is not None and not spec.skips:
            raise ValueError(f"{self.field} skips no sessions")
        if self.skip is not None and self.skip >= self.sessions:
            raise ValueError(f"skip: must be below the lookback of {self.sessions}")
        return self

    @property
    def sessions(self) -> int:
        """The lookback that holds."""
        return self.lookback or FIELDS[self.field].lookback or 1

    @property
    def label(self) -> str:
        """The quantity in words: `momentum(252, 21)`."""
        if FIELDS[self.field].lookback is None:
            return self.field
        skipped = f", {self.skip}" if self.skip else ""
        return f"{self.field}({self.sessions}{skipped})"


class FilterParams(_Asked):
    """What an instrument must be: a quantity, an operator, a bound.

    value : a number; true or false for a flag; texts for `in` and `not in`.
    """

    operator: Operator
    value: bool | float | tuple[str, ...]

    @field_validator("value", mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> bool | float | tuple[str, ...]:
        if isinstance(value, bool):
            return value
        if isinstance(value, int | float) and isfinite(value):
            return float(value)
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            if value:
                return tuple(value)
            raise ValueError("a list of names must not be empty")
        raise ValueError("expected a number, true or false, or a list of names")

    @model_validator(mode="after")
    def _compares_like_with_like(self) -> Self:
        kind = FIELDS[self.field].kind
        operators, expected = OPERATORS[kind]
        if self.operator not in operators:
            known = ", ".join(operators)
            raise ValueError(f"{self.field} is a {kind}: operator must be one of {known}")
        if type(self.value) is not expected:
            raise ValueError(f"{self.field} is a {kind}: value must be {VALUES[kind]}")
        return self

    @property
    def name(self) -> str:
        """The filter in words: `price >= 5`."""
        match self.value:
            case tuple() as names:
                bound = f"{len(names)} names" if len(names) > 3 else ", ".join(names)
            case bool() as flag:
                bound = str(flag).lower()
            case number:
                bound = f"{number:g}"
        return f"{self.label} {self.operator} {bound}"


class SortParams(_Asked):
    """By which number the best are chosen; the largest first unless `ascending`."""

    ascending: bool = False

    @model_validator(mode="after")
    def _is_a_number(self) -> Self:
        if FIELDS[self.field].kind != "number":
            raise ValueError(f"{self.field} is a {FIELDS[self.field].kind}: sort by a number")
        return self


class ScannerParams(Params):
    """A whole scanner.

    Attributes
    ----------
    scanner_id
        The universe id of its members.
    direction, logic
        What the selected are meant for; recorded, not used.
    max_gap
        Sessions within which an instrument must have a bar; 1 asks for one on the day itself.
    filters
        All of them must hold.
    sort, limit
        Only the first `limit` of those that pass are selected; None selects all.
    """

    scanner_id: str = Field(pattern=r"^[A-Za-z0-9_]{1,40}$")
    description: str = ""
    direction: Literal["LONG", "SHORT"] = "LONG"
    logic: str | None = None
    max_gap: int = Field(1, ge=1)
    filters: tuple[FilterParams, ...] = Field(min_length=1)
    sort: SortParams | None = None
    limit: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _knows_the_best(self) -> Self:
        if self.limit is not None and self.sort is None:
            raise ValueError("limit: of whom? Name a sort as well")
        return self


@dataclass(frozen=True, eq=False)
class Scan:
    """Who passed a scanner after a close.

    Attributes
    ----------
    filters : tuple of F texts
        What was asked, in words; the first is whether the instrument trades.
    values : tuple of F (N,) arrays
        What each filter measured.
    passed : (F, N) bool array
    score : (N,) array
        What the selected are sorted by; NaN for those that fail a filter, and without a sort.
    rank : (N,) int array
        Place among those that pass every filter, from 0; -1 for the others.
    included : (N,) bool array
    """

    as_of: date
    scanner_id: str
    instruments: tuple[str, ...]
    filters: tuple[str, ...]
    values: tuple[Values, ...]
    passed: BoolArray
    score: FloatArray
    rank: IntArray
    included: BoolArray

    def failures(self) -> dict[str, int]:
        """Return how many instruments fail each filter, by its words."""
        failed = (~self.passed).sum(axis=1).tolist()
        return dict(zip(self.filters, failed, strict=True))


def scan_panel(panel: MarketPanel, params: ScannerParams) -> Scan:
    """Return who passes every filter after the panel's last close.

    Equal scores rank in the order of the instruments, and those of unknown score last.

    Raises
    ------
    DataError
        If membership is asked of a panel that keeps none.
    """
    trading = measures.traded_within(panel, params.max_gap)
    asked = [(item, FIELDS[item.field].measure(panel, item, params)) for item in params.filters]
    passed = [trading, *(_holds(item, values) for item, values in asked)]
    candidates = np.logical_and.reduce(passed)
    score = np.full(len(panel.instruments), np.nan)
    if params.sort is not None:
        by = FIELDS[params.sort.field].measure(panel, params.sort, params)
        score = np.where(candidates, by, np.nan)
    rank = _ranks(candidates, score, params.sort)
    limit = len(rank) if params.limit is None else params.limit
    return Scan(
        as_of=panel.as_of,
        scanner_id=params.scanner_id,
        instruments=panel.instruments,
        filters=(TRADING, *(item.name for item in params.filters)),
        values=(trading, *(values for _, values in asked)),
        passed=np.array(passed),
        score=score,
        rank=rank,
        included=(rank >= 0) & (rank < limit),
    )


def _ranks(candidates: BoolArray, score: FloatArray, sort: SortParams | None) -> IntArray:
    ascending = sort is not None and sort.ascending
    key = np.where(np.isnan(score), np.inf, score if ascending else -score)
    order = np.lexsort((key, ~candidates))
    rank = np.full(len(score), -1, dtype=np.int64)
    count = int(candidates.sum())
    rank[order[:count]] = np.arange(count)
    return rank


def _holds(asked: FilterParams, values: Values) -> BoolArray:
    bound = asked.value
    match asked.operator:
        case "in" | "not in":
            assert isinstance(bound, tuple)
            known = np.array([value is not None for value in values], dtype=np.bool_)
            listed = np.isin(values.astype(str), bound)
            passing: BoolArray = known & (listed if asked.operator == "in" else ~listed)
            return passing
        case operator:
            # Comparisons with NaN are false: what is unknown passes nothing.
            holds: BoolArray = COMPARISONS[operator](values, bound)
            return holds


COMPARISONS: dict[str, Callable[..., Any]] = {
    ">=": np.greater_equal,
    ">": np.greater,
    "<=": np.less_equal,
    "<": np.less,
    "==": np.equal,
}

OPERATORS: dict[str, tuple[tuple[str, ...], type]] = {
    "number": ((">=", ">", "<=", "<"), float),
    "text": (("in", "not in"), tuple),
    "flag": (("==",), bool),
}

VALUES = {"number": "a number", "text": "a list of names", "flag": "true or false"}


def _price(panel: MarketPanel, _: _Asked, params: ScannerParams) -> FloatArray:
    return measures.last_price(panel, params.max_gap)


def _history(panel: MarketPanel, _: _Asked, __: ScannerParams) -> FloatArray:
    return measures.history(panel)


def _dollar_volume(panel: MarketPanel, asked: _Asked, _: ScannerParams) -> FloatArray:
    return measures.dollar_volume(panel, asked.sessions)


def _momentum(panel: MarketPanel, asked: _Asked, _: ScannerParams) -> FloatArray:
    return trailing_return(panel, asked.sessions, asked.skip or 0)


def _volatility(panel: MarketPanel, asked: _Asked, _: ScannerParams) -> FloatArray:
    return measures.volatility(panel, asked.sessions)


def _drawdown(panel: MarketPanel, asked: _Asked, _: ScannerParams) -> FloatArray:
    return measures.drawdown(panel, asked.sessions)


def _beta(panel: MarketPanel, asked: _Asked, _: ScannerParams) -> FloatArray:
    return measures.beta(panel, asked.sessions)


def _newest(causal: Callable[[MarketPanel], FloatArray]) -> "_Measure":
    """Return a measure that is the newest row of a history."""

    def measure(panel: MarketPanel, _: _Asked, __: ScannerParams) -> FloatArray:
        row: FloatArray = causal(panel)[-1]
        return row

    return measure


def _sector(panel: MarketPanel, _: _Asked, __: ScannerParams) -> np.ndarray:
    return np.array(panel.sectors or (None,) * len(panel.instruments), dtype=object)


def _symbol(panel: MarketPanel, _: _Asked, __: ScannerParams) -> np.ndarray:
    symbols = [name.rpartition(".")[0] or name for name in panel.instruments]
    return np.array(symbols, dtype=object)


def _instrument(panel: MarketPanel, _: _Asked, __: ScannerParams) -> np.ndarray:
    return np.array(panel.instruments, dtype=object)


def _member(panel: MarketPanel, _: _Asked, __: ScannerParams) -> BoolArray:
    return measures.membership(panel, "field member")


_Measure = Callable[[MarketPanel, Any, ScannerParams], Values]


class _Spec(NamedTuple):
    """How a field is measured, what kind of thing it is, and its own lookback if it has one."""

    measure: _Measure
    kind: Literal["number", "text", "flag"] = "number"
    lookback: int | None = None
    skips: bool = False


FIELDS: dict[str, _Spec] = {
    "price": _Spec(_price),
    "history": _Spec(_history),
    "dollar_volume": _Spec(_dollar_volume, lookback=63),
    "momentum": _Spec(_momentum, lookback=252, skips=True),
    "volatility": _Spec(_volatility, lookback=63),
    "drawdown": _Spec(_drawdown, lookback=252),
    "beta": _Spec(_beta, lookback=252),
    "recommend_ma": _Spec(_newest(features.recommend_ma)),
    "recommend_other": _Spec(_newest(features.recommend_other)),
    "recommend_all": _Spec(_newest(features.recommend_all)),
    "adx": _Spec(_newest(features.adx)),
    "sector": _Spec(_sector, "text"),
    "symbol": _Spec(_symbol, "text"),
    "instrument": _Spec(_instrument, "text"),
    "member": _Spec(_member, "flag"),
}
"""Units: price in the instrument's currency as traded, dollar volume in money a session, momentum
and drawdown as fractions, volatility a year, ratings from -1 to 1, adx from 0 to 100, history in
bars. Symbols are ids without their market."""
