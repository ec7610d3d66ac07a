"""pyarrow, imported when it is first used: who reads a few rows does without its 35 megabytes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["arrow_csv", "arrow_json", "pa", "pc", "pq"]


class _Late:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import compute as pc
    from pyarrow import csv as arrow_csv
    from pyarrow import json as arrow_json
else:
    pa, pq = _Late("pyarrow"), _Late("pyarrow.parquet")
    pc, arrow_csv, arrow_json = (_Late(f"pyarrow.{name}") for name in ("compute", "csv", "json"))
