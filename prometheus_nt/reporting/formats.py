"""How numbers are written on a page: one function per unit, and one word for what is unknown."""

from math import isfinite

UNKNOWN = "n/a"
MINUS = "\u2212"

Number = float | int | None


def percent(value: Number, digits: int = 2) -> str:
    """Return a fraction as a percentage, with fewer decimals as it grows."""
    if value is None or not isfinite(value):
        return UNKNOWN
    if abs(value) >= 1.0:
        digits = min(digits, 1 if abs(value) < 10.0 else 0)
    return _signed(f"{100.0 * value:,.{digits}f}") + "%"


def brief_percent(value: Number) -> str:
    """Return a fraction as a percentage with one decimal."""
    return percent(value, digits=1)


def ratio(value: Number) -> str:
    """Return a plain number with two decimals."""
    return UNKNOWN if value is None or not isfinite(value) else _signed(f"{value:,.2f}")


def signed(value: Number) -> str:
    """Return a plain number with three decimals and its sign."""
    if value is None or not isfinite(value):
        return UNKNOWN
    text = _signed(f"{value:,.3f}")
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def usd(value: Number) -> str:
    """Return an amount of money in whole dollars, with cents below a hundred."""
    if value is None or not isfinite(value):
        return UNKNOWN
    text = f"{abs(value):,.0f}" if abs(value) >= 100.0 else f"{abs(value):,.2f}"
    return f"{MINUS}${text}" if value < 0.0 and text.strip("0.") else f"${text}"


def price(value: Number) -> str:
    """Return a price per share in dollars and cents, with four decimals below one dollar."""
    if value is None or not isfinite(value):
        return UNKNOWN
    return f"${value:,.2f}" if value >= 1.0 else f"${value:,.4f}"


def whole(value: Number) -> str:
    """Return a count."""
    return UNKNOWN if value is None or not isfinite(value) else _signed(f"{value:,.0f}")


def bps(value: Number) -> str:
    """Return a fraction in basis points, with one decimal."""
    return UNKNOWN if value is None or not isfinite(value) else _signed(f"{1e4 * value:,.1f}")


def _signed(text: str) -> str:
    if not text.startswith("-"):
        return text
    # What rounds to zero has no sign.
    return MINUS + text[1:] if text.strip("-0.,") else text[1:]
