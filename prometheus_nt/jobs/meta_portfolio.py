"""A meta-portfolio: finished sleeves weighed and flattened into one book, or a report of why not.

1. `meta_members` finds the members, and what each had decided by `as_of`;
2. their content is the id: a meta-portfolio that is there already is not made again;
3. the stages join, allocate, flatten and test; the first that fails is the last;
4. the files are written, `completeness.json` last: it says PASS or FAIL, and holds the hash of
   every other. Weights and targets are written only if all passed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from persistence.artifacts import RunFolder
from prometheus_nt.domain.errors import ConfigError, MetaFailure, PrometheusError
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.engines.numerics.constants import SESSIONS_PER_YEAR
from prometheus_nt.engines.numerics.returns import total_returns
from prometheus_nt.engines.solver import annualised_volatility_of
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.meta_files import (
    RAW,
    REPORT,
    SYNTHETIC,
    read_atoms,
    read_matrix,
    remove_book,
    write_atoms,
    write_matrix,
    write_meta,
)
from prometheus_nt.jobs.meta_members import (
    META,
    Gathered,
    asked_members,
    gather,
    meta_dir,
    whole_document,
    with_books,
)
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.allocation import MetaAllocationParams, allocate
from prometheus_nt.meta.completeness import (
    MetaPortfolio,
    asked_findings,
    book_findings,
    book_presence,
    duplicate_findings,
    matrix_findings,
    member_findings,
    parity_findings,
    present,
    settled_as_of,
    sign_findings,
    weight_findings,
)
from prometheus_nt.meta.findings import Finding, error, errors_of
from prometheus_nt.meta.flattening import flatten, leaf_weights
from prometheus_nt.meta.long_space import Atoms, ReturnsMatrix, atoms_of, synthesised
from prometheus_nt.meta.sign_test import SignTest, flattening_test, sign_test, weights_test
from prometheus_nt.meta.streams import join_warnings, joined

FORMAT = 2
"""Raised when what is written changes, so that older meta-portfolios are not taken for it."""

STOPPED = "META_STAGE_FAILED"
"""Code of what stops a stage and is no gate: a store that cannot be read, for example."""

MIN_OBSERVATIONS, MAX_MISSING = 20, 0.1
"""What the volatility of a book needs to be known, as in the solver."""

log = logging.getLogger(__name__)

Stage = Callable[[MetaPortfolio], MetaPortfolio]


@dataclass(frozen=True)
class MetaRequest:
    """What is asked for.

    Attributes
    ----------
    runs : tuple of str
        Run ids or their beginnings, and ids of meta-portfolios.
    config : Path or None
        A node, whose sleeves' newest runs are meant.
    as_of : date or None
        The close at which weights are decided; None is the last that every member has.
    """

    runs: tuple[str, ...] = ()
    config: Path | None = None
    as_of: date | None = None
    params: MetaAllocationParams = field(default_factory=MetaAllocationParams)


@dataclass(frozen=True)
class MetaSummary:
    """What became of it; `cached` if it had been made before."""

    meta_id: str
    verdict: str
    as_of: str | None
    codes: tuple[str, ...]
    findings: tuple[dict[str, str], ...]
    members: tuple[dict[str, Any], ...]
    report: Path
    cached: bool


def meta_params(**settings: Any) -> MetaAllocationParams:
    """Return validated parameters.

    Raises
    ------
    ConfigError
        If one is unknown or out of range; the message has a line for each.
    """
    try:
        return MetaAllocationParams.model_validate(settings)
    except ValidationError as invalid:
        told = [
            f"meta-portfolio: {'.'.join(map(str, one['loc'])) or 'bounds'}: {one['msg']}"
            for one in invalid.errors()
        ]
        raise ConfigError("\n".join(told)) from None


def make_meta_portfolio(stores: Stores, request: MetaRequest) -> MetaSummary:
    """Make a meta-portfolio, or the report of what it lacks; return what became of it.

    Raises
    ------
    ConfigError
        If the node's file is wrong.
    StoreError
        If a file cannot be written.
    """
    begun = _begin(stores, request)
    folder = RunFolder(meta_dir(stores.settings), begun.meta_id)
    before = _made_before(folder)
    if before is not None:
        return _summary(folder, before, cached=True)
    # Whatever happens from here on, no older book stays beside it.
    remove_book(folder)
    made = _through_stages(begun, stores, folder)
    document = write_meta(made, folder)
    log.info("meta=%s as_of=%s verdict=%s made", made.meta_id, made.as_of, made.verdict)
    return _summary(folder, document, cached=False)


def audit_signs(folder: RunFolder) -> SignTest:
    """Return the directional sign test of the files of a meta-portfolio as they are now."""
    atoms, _ = read_atoms(folder)
    return sign_test(atoms, read_matrix(folder, SYNTHETIC), read_matrix(folder, RAW))


def _made_before(folder: RunFolder) -> dict[str, Any] | None:
    """Return the completeness of a result that need not be made again; None if there is none.

    One that is half made or was altered since is made again, and so is one that a stage could not
    finish: what stopped it is no part of the id.
    """
    try:
        document = whole_document(folder)
    except MetaFailure:
        return None
    return None if STOPPED in document["codes"] else document


def _begin(stores: Stores, request: MetaRequest) -> MetaPortfolio:
    asked = asked_members(request.runs, request.config, stores)
    found = gather(stores, asked)
    streams = [member.stream for member in found.members if member.stream is not None]
    as_of = settled_as_of(streams, request.as_of)
    found.sleeves = with_books(stores, found.sleeves, as_of)
    findings = (
        *asked_findings([one.name for one in asked], request.params),
        *found.findings,
        *_found_of_members(found, as_of),
    )
    return MetaPortfolio(
        meta_id=_identity(request, found, as_of, findings),
        as_of=as_of,
        params=request.params,
        members=tuple(found.members),
        sleeves=found.sleeves,
        metas=found.metas,
        findings=findings,
    )


def _found_of_members(found: Gathered, as_of: date | None) -> list[Finding]:
    findings = [*duplicate_findings(found.members)]
    for member in found.members:
        findings += member_findings(member, as_of)
    sleeves = list(found.sleeves.values())
    findings += parity_findings(sleeves)
    if as_of is not None:
        findings += [one for sleeve in sleeves for one in book_presence(sleeve, as_of)]
    return findings


def _identity(
    request: MetaRequest, found: Gathered, as_of: date | None, findings: tuple[Finding, ...]
) -> str:
    """Return the id: a hash of everything that the result follows from."""
    content = [
        FORMAT,
        code_hash(),
        request.params.digest(),
        as_of,
        [(member.member_id, member.stream) for member in found.members],
        [
            (run_id, one.data, one.decided, one.book)
            for run_id, one in sorted(found.sleeves.items())
        ],
        found.metas,
        [(one.code, one.subject) for one in findings],
    ]
    return META + content_hash(content)


def _through_stages(begun: MetaPortfolio, stores: Stores, folder: RunFolder) -> MetaPortfolio:
    """Return the meta-portfolio after its stages, or after the first that failed."""
    meta = begun
    stages: tuple[Stage, ...] = (
        _join,
        _allocate,
        _flatten,
        partial(_test_signs, stores, folder),
    )
    for stage in stages:
        if errors_of(meta.findings):
            break
        try:
            meta = stage(meta)
        except MetaFailure as failure:
            meta = meta.found(error(failure.code, failure.subject, failure.message))
        except PrometheusError as failure:
            # Whatever stops a stage belongs on the report, which would be missing otherwise.
            meta = meta.found(error(STOPPED, type(failure).__name__, str(failure)))
    return meta


def _join(meta: MetaPortfolio) -> MetaPortfolio:
    as_of = present(meta.as_of, "as_of")
    whole = {one.member_id: one.stream for one in meta.members if one.stream is not None}
    seen = {name: stream.until(as_of) for name, stream in whole.items()}
    matrix = joined(seen)
    later = joined({name: stream.after(as_of) for name, stream in whole.items()})
    warnings = join_warnings(seen, meta.params.warn_dropped)
    for one in warnings:
        log.warning("meta=%s %s: %s", meta.meta_id, one.code, one.message)
    return replace(meta, matrix=matrix, later=later).found(
        *warnings, *matrix_findings(matrix, meta.params)
    )


def _allocate(meta: MetaPortfolio) -> MetaPortfolio:
    matrix = present(meta.matrix, "matrix")
    weighed = replace(meta, allocation=allocate(matrix.values, meta.params))
    return weighed.found(*weight_findings(matrix.columns, weighed.weights, meta.params))


def _flatten(meta: MetaPortfolio) -> MetaPortfolio:
    book = flatten(meta.meta_id, _tree(meta), _books(meta))
    return replace(meta, book=book).found(*book_findings(book, meta.params))


def _test_signs(stores: Stores, folder: RunFolder, meta: MetaPortfolio) -> MetaPortfolio:
    """Write the atoms and their returns, and test what can be read again of them."""
    book = present(meta.book, "book")
    atoms, weights = atoms_of(_weighed_books(meta))
    raw = _physical_returns(stores, meta, sorted(set(atoms.instrument_id)))
    write_atoms(folder, atoms, weights)
    write_matrix(folder, RAW, raw)
    write_matrix(folder, SYNTHETIC, synthesised(atoms, raw))
    atoms, weights = read_atoms(folder)
    net = dict(zip(book.instruments, book.net.tolist(), strict=True))
    gross = dict(zip(book.instruments, book.gross.tolist(), strict=True))
    test = audit_signs(folder).extended(
        (*weights_test(atoms, weights), *flattening_test(atoms, weights, net, gross))
    )
    volatility = _volatility(atoms, weights, read_matrix(folder, SYNTHETIC))
    tested = replace(meta, sign_test=test, volatility=volatility)
    return tested.found(*sign_findings(test))


def _weighed_books(meta: MetaPortfolio) -> dict[str, dict[str, float]]:
    """Return the sleeves' signed books as fractions of the whole."""
    shares = leaf_weights(meta.meta_id, _tree(meta), frozenset(meta.sleeves))
    return {
        run_id: {name: share * weight for name, weight in _books(meta)[run_id].items()}
        for run_id, share in shares.items()
    }


def _tree(meta: MetaPortfolio) -> dict[str, Mapping[str, float]]:
    return {**meta.metas, meta.meta_id: meta.weights}


def _books(meta: MetaPortfolio) -> dict[str, Mapping[str, float]]:
    return {run_id: sleeve.book or {} for run_id, sleeve in meta.sleeves.items()}


def _physical_returns(
    stores: Stores, meta: MetaPortfolio, instruments: Sequence[str]
) -> ReturnsMatrix:
    """Return a year of total returns up to `as_of` of those instruments that the dataset has."""
    data = next(iter(meta.sleeves.values())).data
    panel = panel_of(stores, data.dataset, None, data.revision)
    known = set(panel.instruments)
    panel = panel.select(tuple(name for name in instruments if name in known))
    panel = panel.until(present(meta.as_of, "as_of"))
    returns = panel.derived(total_returns)[-SESSIONS_PER_YEAR:]
    return ReturnsMatrix(panel.sessions[-SESSIONS_PER_YEAR:], panel.instruments, returns)


def _volatility(atoms: Atoms, weights: FloatArray, synthetic: ReturnsMatrix) -> float | None:
    if synthetic.columns != atoms.atom_id:
        return None
    return annualised_volatility_of(weights, synthetic.values, MIN_OBSERVATIONS, MAX_MISSING)


def _summary(folder: RunFolder, document: Mapping[str, Any], *, cached: bool) -> MetaSummary:
    return MetaSummary(
        meta_id=document["meta_id"],
        verdict=document["verdict"],
        as_of=document["as_of"],
        codes=tuple(document["codes"]),
        findings=tuple(document["findings"]),
        members=tuple(document["members"]),
        report=folder.path / REPORT,
        cached=cached,
    )
