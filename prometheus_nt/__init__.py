"""Prometheus NT: event-driven backtesting and trading on NautilusTrader.

In a notebook: `prometheus_nt.load_panel("sample_sp500").to_frame("close")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_nt.notebook import load_panel, load_run

__all__ = ["load_panel", "load_run"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: importing the package must not load pandas and the databases.
    if name in __all__:
        return getattr(import_module("prometheus_nt.notebook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
