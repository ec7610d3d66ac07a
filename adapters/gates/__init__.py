"""Quality gates: what is kept of an instrument's bars, and how healthy a stored history is."""

from adapters.gates.case import Case, GateParams
from adapters.gates.check import check_prices

__all__ = ["Case", "GateParams", "check_prices"]
