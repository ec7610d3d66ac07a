"""EODHD: daily bars, corporate actions and reference facts over HTTP."""

from adapters.eodhd.source import (
    BASE_URL,
    KEY_VARIABLE,
    URL_VARIABLE,
    EodhdSource,
    Selection,
    eodhd,
)

__all__ = ["BASE_URL", "KEY_VARIABLE", "URL_VARIABLE", "EodhdSource", "Selection", "eodhd"]
