"""The directional sign test: no sign may be lost or turned twice on the way to a book.

1. `sign_test`: before weights are chosen, every atom's stream is the long-space form of its
   instrument's returns, to the bit, on the same sessions, unknown where they are unknown;
2. `weights_test`: what the solver hands back is still in long space;
3. `flattening_test`: the book has the sign of the sum of its atoms, and all of their gross.

An absence is an error: a test that finds nothing to test has not passed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.meta.findings import Finding, error, errors_of
from prometheus_nt.meta.long_space import CAP, LONG, ROUNDING, Atoms, ReturnsMatrix, to_long_space

VERSION = 2

CONSERVED = 1e-9
"""Difference between sums of weights that is rounding."""


@dataclass(frozen=True)
class SignTest:
    """What the test found, of how much.

    Attributes
    ----------
    n_rows : int
        Sessions compared.
    capped_days : int
        Returns of shorts beyond the cap.
    input_hashes : mapping of input to the hash of its content
    """

    findings: tuple[Finding, ...]
    n_atoms: int = 0
    n_long: int = 0
    n_short: int = 0
    n_rows: int = 0
    capped_days: int = 0
    cap: float = CAP
    input_hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether there is not one error."""
        return not errors_of(self.findings)

    def extended(self, findings: Sequence[Finding]) -> "SignTest":
        """Return the test with what later checks found."""
        return replace(self, findings=(*self.findings, *findings))

    def document(self, run_id: str) -> dict[str, Any]:
        """Return the test as plain values."""
        failed = len(errors_of(self.findings))
        counts = ("n_atoms", "n_long", "n_short", "n_rows", "capped_days", "cap")
        return {
            "version": VERSION,
            "atol": 0.0,
            "errors": failed,
            "warnings": len(self.findings) - failed,
            "findings": [
                {
                    "level": one.level,
                    "code": one.code,
                    "run_id": run_id,
                    "symbol": one.subject,
                    "message": one.message,
                }
                for one in self.findings
            ],
            **{name: getattr(self, name) for name in counts},
            "input_hashes": dict(self.input_hashes),
        }


def sign_test(
    atoms: Atoms, synthetic: ReturnsMatrix | None, raw: ReturnsMatrix | None, cap: float = CAP
) -> SignTest:
    """Return whether `synthetic` is exactly the long-space form of `raw`.

    Parameters
    ----------
    synthetic : ReturnsMatrix or None
        A column per atom, by its id.
    raw : ReturnsMatrix or None
        A column per instrument, by its id.
    """
    absent = tuple(_absences(synthetic, raw))
    if absent or synthetic is None or raw is None:
        return SignTest(absent)
    found = [*_structure(atoms, synthetic, raw)]
    if np.array_equal(synthetic.sessions, raw.sessions):
        found += _values(atoms, synthetic, raw, cap)
    longs = int((atoms.direction == LONG).sum())
    hashed = {"atoms": atoms, "synthetic_returns": synthetic, "returns_matrix": raw}
    return SignTest(
        tuple(found),
        n_atoms=len(atoms),
        n_long=longs,
        n_short=len(atoms) - longs,
        n_rows=len(raw),
        capped_days=_capped_days(atoms, raw, cap),
        cap=cap,
        input_hashes={name: content_hash([content]) for name, content in hashed.items()},
    )


def weights_test(atoms: Atoms, weights: FloatArray) -> tuple[Finding, ...]:
    """Return the atoms whose weights, (A,), are not in long space any more."""
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= -ROUNDING)))
    return tuple(
        error(
            "SIGNTEST_OPTIMIZER_NOT_NORMALIZED",
            atoms.atom_id[row],
            f"weight {weights[row]:g}; in long space it is known and not negative",
        )
        for row in wrong.tolist()
    )


def flattening_test(
    atoms: Atoms, weights: FloatArray, net: Mapping[str, float], gross: Mapping[str, float]
) -> tuple[Finding, ...]:
    """Return where a flattened book lost the sign or the gross of its atoms.

    Parameters
    ----------
    weights : (A,) array of long-space weights
    net, gross : mapping of instrument to weight
        What the book came to.
    """
    names = sorted({*atoms.instrument_id, *net, *gross})
    row = np.searchsorted(names, atoms.instrument_id) if len(atoms) else np.empty(0, np.int64)
    signed = np.bincount(row, weights * atoms.direction, minlength=len(names)).astype(np.float64)
    sizes = np.bincount(row, weights, minlength=len(names))
    held = np.array([net.get(name, 0.0) for name in names])
    held_gross = np.array([gross.get(name, 0.0) for name in names])
    turned = np.flatnonzero(~(_sign(signed) == _sign(held)))
    lost = np.flatnonzero(~(np.abs(sizes - held_gross) <= CONSERVED))
    return (
        *(
            error(
                "SIGNTEST_FLATTENED_SIGN",
                names[at],
                f"net weight {held[at]:g}; its atoms sum to {signed[at]:g}",
            )
            for at in turned.tolist()
        ),
        *(
            error(
                "SIGNTEST_GROSS_NOT_CONSERVED",
                names[at],
                f"gross weight {held_gross[at]:g}; its atoms hold {sizes[at]:g}",
            )
            for at in lost.tolist()
        ),
    )


def _absences(synthetic: ReturnsMatrix | None, raw: ReturnsMatrix | None) -> Iterator[Finding]:
    for name, matrix in (("SYNTHETIC", synthetic), ("RAW", raw)):
        if matrix is None:
            yield error(f"SIGNTEST_MISSING_{name}", "", f"there are no {name.lower()} returns")
        elif not matrix.values.size:
            shape = f"{len(matrix)} sessions of {len(matrix.columns)} columns"
            yield error(f"SIGNTEST_EMPTY_{name}", "", f"{name.lower()} returns are {shape}")


def _structure(atoms: Atoms, synthetic: ReturnsMatrix, raw: ReturnsMatrix) -> Iterator[Finding]:
    """Yield what is missing, left over, or on other sessions."""
    if not len(atoms):
        yield error("SIGNTEST_NO_ATOMS", "", "there is not one atom to test")
    for name in sorted(set(atoms.instrument_id) - set(raw.columns)):
        yield error("SIGNTEST_MISSING_PHYSICAL_COL", name, "no returns of the instrument itself")
    # Of an instrument without returns nothing can be made: that has been said.
    pairs = zip(atoms.atom_id, atoms.instrument_id, strict=True)
    made = {atom for atom, name in pairs if name in raw.columns}
    for name in sorted(made - set(synthetic.columns)):
        yield error("SIGNTEST_MISSING_ATOM_COL", name, "the atom has no synthetic returns")
    for name in sorted(set(synthetic.columns) - set(atoms.atom_id)):
        yield error("SIGNTEST_UNKNOWN_COL", name, "synthetic returns of what is no atom")
    for label, matrix in (("synthetic", synthetic), ("raw", raw)):
        if len(set(matrix.columns)) < len(matrix.columns):
            yield error("SIGNTEST_DUPLICATE_COL", "", f"a {label} column is there twice")
    if not np.array_equal(synthetic.sessions, raw.sessions):
        yield error(
            "SIGNTEST_INDEX_MISMATCH",
            "",
            f"synthetic returns are of {_span(synthetic)}, raw ones of {_span(raw)}",
        )


def _values(
    atoms: Atoms, synthetic: ReturnsMatrix, raw: ReturnsMatrix, cap: float
) -> Iterator[Finding]:
    """Yield the atoms whose streams differ from what their instruments say."""
    physical = {name: at for at, name in enumerate(raw.columns)}
    streams = {name: at for at, name in enumerate(synthetic.columns)}
    pairs = zip(atoms.atom_id, atoms.instrument_id, strict=True)
    rows = [row for row, (atom, name) in enumerate(pairs) if atom in streams and name in physical]
    returns = raw.values[:, [physical[atoms.instrument_id[row]] for row in rows]]
    found = synthetic.values[:, [streams[atoms.atom_id[row]] for row in rows]]
    directions = atoms.direction[rows]
    expected = to_long_space(returns, directions, cap)
    holes = np.isnan(found) != np.isnan(expected)
    differs = ~holes & ~np.isnan(expected) & (found != expected)
    # All that is wrong with such a short is that it loses more than it can.
    uncapped = ((found == -returns) | ~differs).all(axis=0)
    for at in np.flatnonzero(holes.any(axis=0)).tolist():
        said = f"{int(holes[:, at].sum())} sessions are known in one matrix only"
        yield error("SIGNTEST_NAN_MISMATCH", atoms.atom_id[rows[at]], said)
    for at in np.flatnonzero(differs.any(axis=0)).tolist():
        code, rule = _rule(directions[at] == LONG, bool(uncapped[at]), cap)
        said = f"{int(differs[:, at].sum())} sessions differ from {rule}"
        yield error(code, atoms.atom_id[rows[at]], said)


def _rule(is_long: bool, uncapped: bool, cap: float) -> tuple[str, str]:
    """Return the code of a stream that differs, and the rule it does not keep."""
    if is_long:
        return "SIGNTEST_LONG_MISMATCH", "R"
    ending = "NOT_CAPPED" if uncapped else "NOT_INVERTED"
    return f"SIGNTEST_SHORT_{ending}", f"-min(R, {cap:g})"


def _capped_days(atoms: Atoms, raw: ReturnsMatrix, cap: float) -> int:
    """Return how many returns of instruments that are held short are beyond the cap."""
    pairs = zip(atoms.instrument_id, atoms.direction.tolist(), strict=True)
    shorted = {name for name, direction in pairs if direction != LONG}
    return int((raw.values[:, [name in shorted for name in raw.columns]] > cap).sum())


def _sign(weights: FloatArray) -> FloatArray:
    """Return the signs; NaN, which equals nothing, where a weight is unknown."""
    signs: FloatArray = np.where(np.abs(weights) <= ROUNDING, 0.0, np.sign(weights))
    return signs


def _span(matrix: ReturnsMatrix) -> str:
    return f"{len(matrix)} sessions {matrix.sessions[0]}..{matrix.sessions[-1]}"
