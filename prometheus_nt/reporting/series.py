"""What a report is made of: one run, as aligned arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt

from prometheus_nt.domain.books import RiskBasis, StressLoss, TailRisk
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import FloatArray, IntArray, SessionArray
from prometheus_nt.domain.runs import Mode

COST_KINDS = ("commission", "spread", "impact", "borrow_fees", "interest_paid")
"""What trading costs, then what holding costs."""

FILL_COLUMNS = (
    "instrument_id",
    "side",
    "quantity",
    "price",
    "commission_usd",
    "spread_cost_usd",
    "impact_cost_usd",
    "decision_price",
    "split_factor",
)

PER_SESSION = ("equity", "cash", "gross", "net", "turnover", "dividends")


@dataclass(frozen=True, eq=False)
class FillTable:
    """Every fill of a run, column by column, in the order in which they happened.

    Attributes
    ----------
    timestamps : (F,) array of datetime64[s], UTC
    instrument_id : (F,) array of str
    side : (F,) array of 'BUY' or 'SELL'
    quantity : (F,) int array
        Venue shares, > 0.
    price, decision_price : (F,) arrays, USD per venue share
        The decision price is the close the order was decided on; NaN where unknown.
    commission_usd, spread_cost_usd, impact_cost_usd : (F,) arrays, >= 0
    split_factor : (F,) array
        Venue shares per share as traded on the day.

    Raises
    ------
    DataError
        If the columns differ in length, a side is unknown or the timestamps are no datetimes.
    """

    timestamps: npt.NDArray[np.datetime64]
    instrument_id: npt.NDArray[np.object_]
    side: npt.NDArray[np.object_]
    quantity: IntArray
    price: FloatArray
    commission_usd: FloatArray
    spread_cost_usd: FloatArray
    impact_cost_usd: FloatArray
    decision_price: FloatArray
    split_factor: FloatArray

    def __post_init__(self) -> None:
        if self.timestamps.dtype.kind != "M":
            raise DataError(f"fills.timestamps: expected datetimes, found {self.timestamps.dtype}")
        for name in FILL_COLUMNS:
            _require_shape(f"fills.{name}", getattr(self, name), (len(self),))
        unknown = sorted(set(self.side.tolist()) - {"BUY", "SELL"})
        if unknown:
            raise DataError(f"fills.side: expected BUY or SELL, found {', '.join(unknown)}")

    def __len__(self) -> int:
        return len(self.timestamps)

    @classmethod
    def empty(cls) -> "FillTable":
        """Return the fills of a run that never traded."""
        words, numbers = np.empty(0, dtype=object), np.empty(0)
        return cls(
            timestamps=np.empty(0, dtype="datetime64[s]"),
            instrument_id=words,
            side=words,
            quantity=np.empty(0, dtype=np.int64),
            price=numbers,
            commission_usd=numbers,
            spread_cost_usd=numbers,
            impact_cost_usd=numbers,
            decision_price=numbers,
            split_factor=numbers,
        )


@dataclass(frozen=True, kw_only=True)
class BookRisk:
    """What the risk stage said of a run's last book: held at its last close, or decided then.

    Attributes
    ----------
    volatility : float or None
        Annualised, of the book held at constant weights.
    weights : mapping of instrument id to weight
    component_risk : mapping of the largest contributors to their part of the volatility
    """

    as_of: date
    volatility: float | None
    weights: Mapping[str, float]
    component_risk: Mapping[str, float]
    tails: tuple[TailRisk, ...]
    stress: tuple[StressLoss, ...]
    basis: RiskBasis = "target"


@dataclass(frozen=True, eq=False, kw_only=True)
class RunSeries:
    """One run of one sleeve over T sessions and N instruments; money in USD.

    Attributes
    ----------
    sessions : (T,) array of datetime64[D], ascending
    equity : (T,) array
        Cash plus shares at the close, after each session.
    starting_capital : float, > 0
    benchmark : (T,) array of levels > 0, or None
        Only its ratios matter; its first return is that of the second session.
    cash, gross, net : (T,) arrays
        At each close: cash, sum of absolute and sum of signed position values, as fractions of
        equity; NaN where equity is not positive.
    turnover : (T,) array
        One-way: the larger of the notional bought and sold in the session, over equity.
    costs : mapping of each of `COST_KINDS` to a (T,) array, >= 0
    dividends : (T,) array
        Received (> 0) or paid on short positions (< 0).
    weights : (T, N) array
        Signed position values at the close, as fractions of equity; NaN where it is not positive.
    sectors : tuple of N sector names, None where unknown; empty if none is known
    other_cash_flows : mapping of kind to a (T,) array
        Money that moved without a trade and is neither a dividend nor a cost: interest received,
        proceeds of delistings (paid, where the position was short); > 0 is received.
    regimes : (T,) array of labels, None where unknown; or None
        The market's regime as it was known before each session: that of the close before.
    risk : BookRisk or None
        Of the last target; None if the run recorded none.

    Raises
    ------
    DataError
        If there is no session, a shape is wrong, or a level cannot be measured against.
    """

    run_id: str
    strategy_id: str
    sleeve_id: str
    mode: Mode
    sessions: SessionArray
    equity: FloatArray
    starting_capital: float
    benchmark: FloatArray | None
    benchmark_id: str | None
    cash: FloatArray
    gross: FloatArray
    net: FloatArray
    turnover: FloatArray
    costs: Mapping[str, FloatArray]
    dividends: FloatArray
    weights: FloatArray
    instruments: tuple[str, ...]
    sectors: tuple[str | None, ...]
    fills: FillTable
    other_cash_flows: Mapping[str, FloatArray] = field(default_factory=dict)
    regimes: npt.NDArray[np.object_] | None = None
    risk: BookRisk | None = None

    def __post_init__(self) -> None:
        self._check_sessions()
        self._check_shapes()
        self._check_levels()

    def __len__(self) -> int:
        return len(self.sessions)

    @cached_property
    def returns(self) -> FloatArray:
        """Simple returns per session, (T,); the first is measured from the starting capital."""
        return simple_returns(np.concatenate(([self.starting_capital], self.equity)))

    @property
    def long(self) -> FloatArray:
        """Long positions at each close, as fractions of equity, (T,)."""
        return (self.gross + self.net) / 2.0

    @property
    def short(self) -> FloatArray:
        """Short positions at each close, as fractions of equity, <= 0, (T,)."""
        return (self.net - self.gross) / 2.0

    @cached_property
    def benchmark_returns(self) -> FloatArray | None:
        """Simple returns of the benchmark, (T - 1,): those of every session but the first."""
        return None if self.benchmark is None else simple_returns(self.benchmark)

    def _check_sessions(self) -> None:
        if not len(self.sessions):
            raise DataError(f"{self.run_id}: a report needs at least one session, found none")
        if not (np.diff(self.sessions) > np.timedelta64(0)).all():
            raise DataError(f"{self.run_id}: sessions must ascend without duplicates")

    def _check_shapes(self) -> None:
        count, names = len(self.sessions), len(self.instruments)
        if sorted(self.costs) != sorted(COST_KINDS):
            expected, found = ", ".join(COST_KINDS), ", ".join(self.costs)
            raise DataError(f"{self.run_id}: costs: expected {expected}; found {found}")
        arrays = {name: getattr(self, name) for name in PER_SESSION}
        if self.benchmark is not None:
            arrays["benchmark"] = self.benchmark
        arrays |= {f"costs.{kind}": self.costs[kind] for kind in COST_KINDS}
        arrays |= {f"other_cash_flows.{kind}": flow for kind, flow in self.other_cash_flows.items()}
        for name, array in arrays.items():
            _require_shape(name, array, (count,))
        _require_shape("weights", self.weights, (count, names))
        if self.regimes is not None:
            _require_shape("regimes", self.regimes, (count,))
        if len(self.sectors) not in (0, names):
            raise DataError(f"sectors: expected {names} or none, found {len(self.sectors)}")

    def _check_levels(self) -> None:
        money = {"equity": self.equity, "dividends": self.dividends}
        money |= {**self.costs, **self.other_cash_flows}
        for name, array in money.items():
            if not np.isfinite(array).all():
                raise DataError(f"{self.run_id}: {name} is not a number on some session")
        if not self.starting_capital > 0.0:
            raise DataError(f"{self.run_id}: starting capital {self.starting_capital} is not > 0")
        if self.benchmark is None:
            return
        if not (np.isfinite(self.benchmark) & (self.benchmark > 0.0)).all():
            raise DataError(f"{self.benchmark_id}: a benchmark level is missing or not positive")


def simple_returns(levels: FloatArray) -> FloatArray:
    """Return level over previous level less one, (T - 1,) of (T,).

    NaN from the first level that is not positive: nothing can be earned on a ruined book.
    """
    solvent = np.logical_and.accumulate(levels[:-1] > 0.0)
    base = np.where(solvent, levels[:-1], np.nan)
    returns: FloatArray = levels[1:] / base - 1.0
    return returns


def _require_shape(name: str, array: npt.NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise DataError(f"{name}: expected shape {shape}, found {array.shape}")
