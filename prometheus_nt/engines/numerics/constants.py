"""Numbers that several engines share."""

SESSIONS_PER_YEAR = 252

NEGLIGIBLE = 1e-12
"""Relative size below which a difference is rounding, not information."""
