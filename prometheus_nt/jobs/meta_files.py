"""The files of a meta-portfolio: what it was made of, what came out, and what it lacks."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.jobs.meta_members import COMPLETENESS, WEIGHTS
from prometheus_nt.meta.completeness import MetaPortfolio, present
from prometheus_nt.meta.long_space import Atoms, ReturnsMatrix
from prometheus_nt.reporting.meta_markdown import render_meta_markdown
from prometheus_nt.reporting.meta_page import render_meta_page

RETURNS, TARGETS, REPORT = "meta_returns.parquet", "meta_targets.json", "meta_portfolio_report.html"
MARKDOWN = "meta_portfolio_report.md"
SIGN_TEST = "directional_sign_test.json"
ATOMS, RAW, SYNTHETIC = "atoms.parquet", "returns_matrix.parquet", "synthetic_returns.parquet"


def write_atoms(folder: RunFolder, atoms: Atoms, weights: FloatArray) -> None:
    """Write the table of atoms with their long-space weights, (A,)."""
    columns = {
        "atom_id": atoms.atom_id,
        "instrument_id": atoms.instrument_id,
        "direction": atoms.direction,
        "weight": weights,
    }
    folder.write_table(ATOMS, columns)


def read_atoms(folder: RunFolder) -> tuple[Atoms, FloatArray]:
    """Return the table of atoms and their weights, (A,), as they are in the file."""
    table = folder.read_table(ATOMS)
    ids, instruments = (tuple(table[name].tolist()) for name in ("atom_id", "instrument_id"))
    return Atoms(ids, instruments, table["direction"]), table["weight"]


def write_matrix(folder: RunFolder, name: str, matrix: ReturnsMatrix) -> None:
    """Write returns as Parquet: sessions, then a column each."""
    columns = dict(zip(matrix.columns, matrix.values.T, strict=True))
    folder.write_table(name, {"session": matrix.sessions, **columns})


def read_matrix(folder: RunFolder, name: str) -> ReturnsMatrix:
    """Return the returns of a file of `write_matrix`."""
    table = folder.read_table(name)
    sessions = table.pop("session").astype("datetime64[D]")
    values = np.empty((len(sessions), len(table)))
    for at, column in enumerate(table.values()):
        values[:, at] = column
    return ReturnsMatrix(sessions, tuple(table), values)


def remove_book(folder: RunFolder) -> None:
    """Take away what a reader could trade by, and the verdict on it.

    Raises
    ------
    StoreError
        If a file is there and cannot be removed.
    """
    for name in (COMPLETENESS, WEIGHTS, TARGETS):
        try:
            (folder.path / name).unlink(missing_ok=True)
        except OSError as refused:
            raise StoreError(f"{folder.path / name}: cannot be removed: {refused}") from refused


def write_meta(meta: MetaPortfolio, folder: RunFolder) -> dict[str, Any]:
    """Write what there is of a meta-portfolio, its completeness last; return that."""
    if meta.matrix is not None:
        write_matrix(folder, RETURNS, meta.matrix)
    if meta.sign_test is not None:
        folder.write_json(SIGN_TEST, meta.sign_test.document(meta.meta_id))
    if meta.passed:
        folder.write_json(WEIGHTS, _weights_document(meta))
        folder.write_json(TARGETS, _targets_document(meta))
    folder.write_text(REPORT, render_meta_page(meta), "html")
    folder.write_text(MARKDOWN, render_meta_markdown(meta), "markdown")
    files = {
        name: {"sha256": one.sha256, "bytes": one.bytes} for name, one in folder.written.items()
    }
    document = _plain(_completeness(meta) | {"files": files})
    document["seal"] = content_hash([document])
    folder.write_json(COMPLETENESS, document)
    return document


def _completeness(meta: MetaPortfolio) -> dict[str, Any]:
    return {
        "meta_id": meta.meta_id,
        "verdict": meta.verdict,
        "as_of": meta.as_of,
        "codes": meta.codes,
        "findings": [asdict(one) for one in meta.findings],
        "params": meta.params.model_dump(mode="json"),
        "members": _members(meta),
        "sleeves": [
            {
                "sleeve_id": sleeve.sleeve_id,
                "run_id": sleeve.run_id,
                "decided": sleeve.decided,
                "sessions": len(sleeve.stream),
                "made_of": asdict(sleeve.data),
            }
            for sleeve in meta.sleeves.values()
        ],
    }


def _members(meta: MetaPortfolio) -> list[dict[str, Any]]:
    weights = meta.weights
    return [
        {
            "asked": member.asked,
            "member_id": member.member_id,
            "name": member.name,
            "weight": weights.get(member.member_id),
        }
        for member in meta.members
    ]


def _weights_document(meta: MetaPortfolio) -> dict[str, Any]:
    found = present(meta.allocation, "allocation")
    sessions = present(meta.matrix, "matrix").sessions
    return {
        "meta_id": meta.meta_id,
        "as_of": meta.as_of,
        "method": found.method,
        "bounds": {"min_weight": found.low, "max_weight": found.high, "slack": found.slack},
        "effective_number": found.effective_number,
        "sessions": found.sessions,
        "first_session": str(sessions[0]),
        "last_session": str(sessions[-1]),
        "members": [
            {**row, "raw_weight": raw}
            for row, raw in zip(_members(meta), found.raw.tolist(), strict=True)
        ],
    }


def _targets_document(meta: MetaPortfolio) -> dict[str, Any]:
    book = present(meta.book, "book")
    ids = {run_id: sleeve.sleeve_id for run_id, sleeve in meta.sleeves.items()}
    return {
        "meta_id": meta.meta_id,
        "as_of": meta.as_of,
        "gross": float(book.gross.sum()),
        "net": float(book.net.sum()),
        "volatility": meta.volatility,
        "decided": {run_id: sleeve.decided for run_id, sleeve in meta.sleeves.items()},
        "targets": book.targets(ids),
    }


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as it will be read again."""
    plain: dict[str, Any] = json.loads(json.dumps(document, default=str, allow_nan=False))
    return plain
