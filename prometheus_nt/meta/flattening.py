"""One book out of many: sleeves' books times their weights, down through nested meta-portfolios.

1. `leaf_weights` walks down the tree and says what each sleeve weighs in the whole;
2. `flatten` adds the sleeves' books up, net and gross, and keeps who contributed what;
3. what the tree holds, added up from below instead, must be what came out (`CONSERVED`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.domain.record import FloatArray
from prometheus_nt.meta.findings import Finding, error, warning
from prometheus_nt.meta.long_space import ROUNDING

MAX_DEPTH = 3
"""Meta-portfolios above a sleeve."""

CONSERVED = 1e-9
"""Difference between sums of weights that is rounding."""

Tree = Mapping[str, Mapping[str, float]]
"""Weights of its members, sleeves or metas, by the id of each meta-portfolio."""

Books = Mapping[str, Mapping[str, float]]
"""Signed weights of its instruments by the id of each sleeve."""


@dataclass(frozen=True, eq=False)
class FlatBook:
    """The book of the whole, as fractions of its equity.

    Attributes
    ----------
    instruments : tuple of N str
    net, gross : (N,) arrays
        Sum of what sleeves hold with its sign, and without.
    contributors : tuple of N tuples of (sleeve, signed weight)
        Largest first; of what is held through several metas, all of it at once.
    """

    instruments: tuple[str, ...]
    net: FloatArray
    gross: FloatArray
    contributors: tuple[tuple[tuple[str, float], ...], ...]

    def targets(self, sleeve_ids: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return a plain row per instrument, the largest net weight first.

        Parameters
        ----------
        sleeve_ids : mapping of the run that stands for a sleeve to the sleeve's id
        """
        order = np.argsort(-np.abs(self.net), kind="stable").tolist()
        return [
            {
                "instrument_id": self.instruments[at],
                "net": float(self.net[at]),
                "gross": float(self.gross[at]),
                "direction": _direction(float(self.net[at])),
                "contributors": [
                    {"sleeve_id": sleeve_ids[run_id], "run_id": run_id, "weight": weight}
                    for run_id, weight in self.contributors[at]
                ],
            }
            for at in order
        ]


def flatten(root: str, metas: Tree, books: Books, max_depth: int = MAX_DEPTH) -> FlatBook:
    """Return the book of the meta-portfolio `root`.

    Raises
    ------
    MetaFailure
        META_CYCLE, META_TOO_DEEP, META_UNKNOWN_MEMBER, META_UNKNOWN_WEIGHT, or
        META_NOT_CONSERVED if gross or net is lost on the way.
    """
    shares = leaf_weights(root, metas, frozenset(books), max_depth)
    rows = sorted(
        (name, sleeve, shares[sleeve] * weight)
        for sleeve in shares
        for name, weight in books[sleeve].items()
        if weight != 0.0
    )
    parts = [(name, [row[1:] for row in group]) for name, group in groupby(rows, lambda r: r[0])]
    flat = FlatBook(
        instruments=tuple(name for name, _ in parts),
        net=np.array([sum(weight for _, weight in part) for _, part in parts], dtype=np.float64),
        gross=np.array([sum(abs(w) for _, w in part) for _, part in parts], dtype=np.float64),
        contributors=tuple(tuple(sorted(part, key=lambda p: -abs(p[1]))) for _, part in parts),
    )
    require_conserved(flat, root, metas, books)
    return flat


def leaf_weights(
    root: str, metas: Tree, sleeves: frozenset[str], max_depth: int = MAX_DEPTH
) -> dict[str, float]:
    """Return what each sleeve weighs in `root`, through every path that leads to it.

    Raises
    ------
    MetaFailure
        If a meta-portfolio contains itself, lies deeper than `max_depth`, has a member that
        nobody knows, or a weight that is unknown or negative.
    """
    shares: dict[str, float] = {}
    for leaf, share in _descend(root, 1.0, metas, (), sleeves, max_depth):
        shares[leaf] = shares.get(leaf, 0.0) + share
    return dict(sorted(shares.items()))


def require_conserved(flat: FlatBook, root: str, metas: Tree, books: Books) -> None:
    """Require gross and net of `flat` to be those of the tree, added up from below.

    Raises
    ------
    MetaFailure
        META_NOT_CONSERVED.
    """
    for label, found, size in (("gross", flat.gross, abs), ("net", flat.net, float)):
        expected = _weighed(root, metas, books, size)
        # Not `>`: NaN is no conservation.
        if not abs(float(found.sum()) - expected) <= CONSERVED:
            raise MetaFailure(
                "META_NOT_CONSERVED",
                root,
                f"{label} weights sum to {float(found.sum()):.12g}, those of its members to "
                f"{expected:.12g}",
            )


def concentration(flat: FlatBook, warn_above: float, fail_above: float) -> tuple[Finding, ...]:
    """Return the instruments whose net weight is too much of the whole."""
    size = np.abs(flat.net)
    found = []
    for at in np.flatnonzero(~(size <= min(warn_above, fail_above) + CONSERVED)).tolist():
        failed = not size[at] <= fail_above + CONSERVED
        limit = fail_above if failed else warn_above
        said = f"net weight {flat.net[at]:.2%}, more than {limit:.2%}"
        found.append(
            (error if failed else warning)("META_CONCENTRATION", flat.instruments[at], said)
        )
    return tuple(found)


def _descend(
    member: str,
    share: float,
    metas: Tree,
    above: tuple[str, ...],
    sleeves: frozenset[str],
    max_depth: int,
) -> Iterator[tuple[str, float]]:
    if member in above:
        path = " > ".join((*above, member))
        raise MetaFailure("META_CYCLE", member, f"contains itself: {path}")
    if member not in metas:
        if member not in sleeves:
            raise MetaFailure("META_UNKNOWN_MEMBER", member, "is neither a sleeve nor a meta")
        yield member, share
        return
    if len(above) == max_depth:
        path = " > ".join((*above, member))
        raise MetaFailure("META_TOO_DEEP", member, f"more than {max_depth} levels: {path}")
    for child, weight in sorted(metas[member].items()):
        if not weight >= -ROUNDING:
            raise MetaFailure("META_UNKNOWN_WEIGHT", child, f"weighs {weight:g} in {member}")
        yield from _descend(child, share * weight, metas, (*above, member), sleeves, max_depth)


def _weighed(member: str, metas: Tree, books: Books, size: Any) -> float:
    """Return the sum of `size(weight)` of all that a member holds."""
    if member in metas:
        parts = metas[member].items()
        return sum(weight * _weighed(child, metas, books, size) for child, weight in parts)
    return float(sum(size(weight) for weight in books[member].values()))


def _direction(net: float) -> str:
    if abs(net) <= ROUNDING:
        return "FLAT"
    return "LONG" if net > 0.0 else "SHORT"
