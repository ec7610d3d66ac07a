"""The figures of a divergence: its causes, its worst sessions and instruments, as plain rows."""

from typing import Any

import numpy as np

from prometheus_nt.domain.record import FloatArray
from prometheus_nt.reporting.divergence_records import CAUSES, CENT, MEANING, Divergence

Rows = list[dict[str, Any]]


def cause_rows(found: Divergence) -> Rows:
    """Return a row for every cause: its part after the last close, its largest, its evidence."""
    pieces = [item.cause for item in found.evidence]
    return [
        {
            "cause": cause.value,
            "usd": float(part[-1]),
            "bps": float(1e4 * part[-1] / found.equity_b[-1]),
            "largest_usd": float(part[np.argmax(np.abs(part))]),
            "evidence": pieces.count(cause),
            "meaning": MEANING[cause],
        }
        for cause, part in zip(CAUSES, found.parts.T, strict=True)
    ]


def worst_sessions(found: Divergence, most: int) -> Rows:
    """Return the sessions in which the gap changed most, with what changed it, largest first."""
    changes = np.diff(found.parts, axis=0, prepend=np.zeros((1, len(CAUSES))))
    total = np.diff(found.gap, prepend=0.0)
    return [
        {
            "session": str(found.sessions[row]),
            "usd": float(total[row]),
            "bps": float(1e4 * total[row] / found.equity_b[row]),
            "causes": _by_cause(changes[row]),
        }
        for row in _largest(np.abs(changes).sum(axis=1), most)
    ]


def worst_instruments(found: Divergence, most: int) -> Rows:
    """Return the instruments with the largest parts of the last gap, largest first."""
    names = (*found.instruments, None)
    return [
        {
            "instrument_id": names[column],
            "usd": float(found.by_instrument[:, column].sum()),
            "causes": _by_cause(found.by_instrument[:, column]),
        }
        for column in _largest(np.abs(found.by_instrument).sum(axis=0), most)
    ]


def _largest(sizes: FloatArray, most: int) -> list[int]:
    order = np.argsort(-sizes, kind="stable")[:most]
    return [row for row in order.tolist() if sizes[row] > CENT / 2]


def _by_cause(parts: FloatArray) -> dict[str, float]:
    return {
        cause.value: amount
        for cause, amount in zip(CAUSES, parts.tolist(), strict=True)
        if abs(amount) > CENT / 2
    }
