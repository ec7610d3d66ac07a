"""Quality gates: what is kept of an instrument's bars, and how healthy a stored history is."""

from adapters.gates.case import Case, QualityParams
from adapters.gates.check import check_prices

__all__ = ["Case", "QualityParams", "check_prices"]
