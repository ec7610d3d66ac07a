"""Look at the files of a finished meta-portfolio as they are now, and say all that is wrong.

A reader of the files alone, who trusts neither the verdict that they hold nor the code that wrote
them: every rule by which a meta-portfolio fails is asked again of what is there.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from pyarrow import ArrowInvalid

from persistence.artifacts import RunFolder
from prometheus_nt.domain.errors import ConfigError, DataError, MetaFailure, StoreError
from prometheus_nt.jobs.meta_files import (
    ATOMS,
    MARKDOWN,
    RAW,
    REPORT,
    RETURNS,
    SIGN_TEST,
    SYNTHETIC,
    TARGETS,
    read_atoms,
    read_matrix,
)
from prometheus_nt.jobs.meta_members import (
    COMPLETENESS,
    META,
    META_ID,
    WEIGHTS,
    meta_dir,
    whole_document,
)
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.meta.completeness import matrix_findings, weight_findings
from prometheus_nt.meta.findings import Finding, error
from prometheus_nt.meta.flattening import CONSERVED
from prometheus_nt.meta.sign_test import sign_test
from prometheus_nt.reporting.meta_markdown import unfinished_sections

REQUIRED = (RETURNS, WEIGHTS, TARGETS, ATOMS, RAW, SYNTHETIC, REPORT, MARKDOWN, COMPLETENESS)

UNREADABLE = (StoreError, DataError, ValueError, KeyError, TypeError, ArrowInvalid)
"""What reading a file that is not what it should be may raise."""


def audit_meta(folder: RunFolder) -> tuple[Finding, ...]:
    """Return everything that fails of a meta-portfolio by its files; nothing is a pass."""
    found = [one for name in RULES for one in audit_rule(folder, name)]
    return tuple(dict.fromkeys(found))


def audit_rule(folder: RunFolder, name: str) -> tuple[Finding, ...]:
    """Return what one of `RULES` finds; a file that it cannot read fails as one that is missing."""
    try:
        return tuple(RULES[name](folder))
    except UNREADABLE as unreadable:
        said = f"cannot be read as it should be: {unreadable}"
        return (error("META_MISSING_ARTIFACTS", name, said),)


def audit_named(stores: Stores, meta_id: str) -> tuple[Finding, ...]:
    """Return what fails of the meta-portfolio of this id.

    Raises
    ------
    ConfigError
        If that is no id of one.
    """
    if not META_ID.fullmatch(meta_id):
        raise ConfigError(
            f"{meta_id!r}: no id of a meta-portfolio; expected {META} and sixteen hexadecimal "
            "digits"
        )
    return audit_meta(RunFolder(meta_dir(stores.settings), meta_id))


def _on_presence(folder: RunFolder) -> Iterator[Finding]:
    for name in REQUIRED:
        if not folder.hash_of(name):
            yield error("META_MISSING_ARTIFACTS", name, "is not there; make it again")


def _on_verdict(folder: RunFolder) -> Iterator[Finding]:
    try:
        document = whole_document(folder)
    except MetaFailure as failure:
        yield error(failure.code, failure.subject, failure.message)
        return
    if document["verdict"] != "PASS":
        yield from (Finding(**one) for one in document["findings"] if one["level"] == "ERROR")


def _on_sign_test(folder: RunFolder) -> Iterator[Finding]:
    if folder.hash_of(SIGN_TEST) is None:
        yield error("META_SIGN_TEST_MISSING", SIGN_TEST, "the directional sign test is not there")
        return
    try:
        errors = folder.read_json(SIGN_TEST)["errors"] + 0
    except UNREADABLE as unreadable:
        yield error("META_SIGN_TEST_PARSE", SIGN_TEST, f"cannot be read: {unreadable}")
        return
    if errors:
        yield error("META_SIGN_TEST_FAIL", SIGN_TEST, f"{errors} errors were recorded")
    atoms, _ = read_atoms(folder)
    again = sign_test(atoms, read_matrix(folder, SYNTHETIC), read_matrix(folder, RAW))
    if not again.passed:
        codes = ", ".join(dict.fromkeys(one.code for one in again.findings))
        yield error("META_SIGN_TEST_FAIL", SIGN_TEST, f"the files as they are give {codes}")


def _on_weights(folder: RunFolder) -> Iterator[Finding]:
    members, params = folder.read_json(WEIGHTS)["members"], _params(folder)
    matrix = read_matrix(folder, RETURNS)
    yield from matrix_findings(matrix, params)
    weights = {row["member_id"]: row["weight"] for row in members}
    yield from weight_findings(matrix.columns, weights, params)


def _on_targets(folder: RunFolder) -> Iterator[Finding]:
    document, params = folder.read_json(TARGETS), _params(folder)
    rows = document["targets"]
    if not rows:
        yield error("META_EMPTY_FLATTENED", TARGETS, "the flattened book holds nothing")
        return
    net = np.array([row["net"] for row in rows], dtype=np.float64)
    for row in rows:
        yield from _conserved(row)
        if not abs(row["net"]) <= params.max_asset + CONSERVED:
            said = f"net weight {row['net']:.2%}, more than {params.max_asset:.2%}"
            yield error("META_CONCENTRATION", row["instrument_id"], said)
    gross = float(sum(row["gross"] for row in rows))
    for label, found in (("net", float(net.sum())), ("gross", gross)):
        if not abs(found - document[label]) <= CONSERVED:
            said = f"{label} weights sum to {found:.12g}, recorded was {document[label]:.12g}"
            yield error("META_NOT_CONSERVED", TARGETS, said)


def _conserved(row: dict[str, Any]) -> Iterator[Finding]:
    """Yield an error unless a position is what its contributors say, net and gross."""
    parts = [one["weight"] for one in row["contributors"]]
    for label, found in (("net", sum(parts)), ("gross", sum(map(abs, parts)))):
        # Not `>`: NaN is no conservation.
        if not abs(found - row[label]) <= CONSERVED:
            said = f"{label} {row[label]:.12g}, its contributors sum to {found:.12g}"
            yield error("META_NOT_CONSERVED", row["instrument_id"], said)


def _on_report(folder: RunFolder) -> Iterator[Finding]:
    path = folder.path / MARKDOWN
    if not path.exists():
        return  # told already
    text = path.read_text(encoding="utf-8")
    missing = unfinished_sections(text)
    if "**PASS**" not in text and "**FAIL**" not in text:
        missing = ["the verdict", *missing]
    if missing:
        said = f"absent or empty: {', '.join(missing)}; make the meta-portfolio again"
        yield error("META_REPORT_INCOMPLETE", MARKDOWN, said)


def _params(folder: RunFolder) -> MetaAllocationParams:
    return MetaAllocationParams.model_validate(folder.read_json(COMPLETENESS)["params"])


RULES: Mapping[str, Callable[[RunFolder], Iterator[Finding]]] = {
    "completeness": _on_presence,
    "verdict": _on_verdict,
    "sign_test": _on_sign_test,
    "allocation": _on_weights,
    "flattening": _on_targets,
    "report": _on_report,
}
"""What is asked of the files, in order."""
