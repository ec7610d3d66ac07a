"""Books side by side: what they hold, in which sectors, and at what risk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.encoders.joint import Block, JointSpace, JointVectors, join
from prometheus_nt.encoders.scaling import anchored, robust_zscores, typical_where_unknown

SPACE = "PORTFOLIO_CORE_V0"

RISK_FEATURES = (
    "gross_exposure",
    "net_exposure",
    "cash_weight",
    "num_names",
    "herfindahl",
    "largest_weight",
    "expected_volatility",
    "var_95",
    "expected_shortfall_95",
    "beta",
    "max_drawdown",
)


@dataclass(frozen=True)
class PortfolioFacts:
    """A target book and its risk report, as stored.

    weights, sectors : fractions of equity; an instrument or sector that is absent is not held.
    sectors : None if the sectors are not known.
    risk : figures by name; None, or absent, where unknown.
    """

    portfolio_id: str
    as_of: date
    weights: Mapping[str, float]
    sectors: Mapping[str, float] | None
    risk: Mapping[str, float | None]


def portfolio_vectors(books: Sequence[PortfolioFacts]) -> JointVectors:
    """Return the joint vectors of these books; risk is standardised by these books alone."""
    instruments = sorted({name for book in books for name in book.weights})
    sectors = sorted({name for book in books for name in book.sectors or ()})
    risk = np.array([[_number(book.risk.get(name)) for name in RISK_FEATURES] for book in books])
    parts = {
        "weights": _aligned([book.weights for book in books], instruments),
        "sectors": _aligned([book.sectors for book in books], sectors),
        "risk": anchored(typical_where_unknown(robust_zscores(risk))),
    }
    names = {
        "weights": tuple(instruments),
        "sectors": tuple(sectors),
        "risk": (*RISK_FEATURES, "anchor"),
    }
    blocks = tuple(Block(name, names[name]) for name in names if names[name])
    present = {block.name: parts[block.name] for block in blocks}
    return join(JointSpace(SPACE, blocks), tuple(book.portfolio_id for book in books), present)


def _aligned(books: Sequence[Mapping[str, float] | None], names: Sequence[str]) -> FloatArray:
    nothing = [np.nan] * len(names)
    rows = [nothing if book is None else [book.get(name, 0.0) for name in names] for book in books]
    return np.array(rows, dtype=np.float64).reshape(len(books), len(names))


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
