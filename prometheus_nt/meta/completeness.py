"""The gates of a meta-portfolio: what is asked for is all there, or the whole fails with codes.

1. `asked_findings`: the question itself can be answered;
2. `member_findings`: each member has a record that ends where the others' do;
3. `parity_findings`: all of them were made of the same data;
4. `matrix_findings`, `weight_findings`, `book_findings` and `sign_findings`: each stage gave what
   the next one needs.

A meta-portfolio without errors has passed only if nothing of it is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import TypeVar

import numpy as np

from prometheus_nt.domain.errors import MetaFailure
from prometheus_nt.meta.allocation import Allocation, MetaAllocationParams, bounds_of
from prometheus_nt.meta.findings import Finding, error, errors_of, warning
from prometheus_nt.meta.flattening import FlatBook, concentration
from prometheus_nt.meta.long_space import ReturnsMatrix
from prometheus_nt.meta.sign_test import CONSERVED, SignTest
from prometheus_nt.meta.streams import Stream, correlation_of

Part = TypeVar("Part")


@dataclass(frozen=True)
class MadeOf:
    """What has to be the same of all sleeves, so that their records can be compared.

    friction : hash of what trading and holding costs.
    """

    market: str
    mode: str
    dataset: str
    revision: int
    friction: str


@dataclass(frozen=True, eq=False)
class Sleeve:
    """A finished run that stands for a sleeve.

    Attributes
    ----------
    stream : Stream
        Its whole record; a user cuts it at its own `as_of`.
    decided : date or None
        The session whose close the newest visible target was decided at; None without one.
    book : mapping of instrument to signed weight of that target
    """

    run_id: str
    sleeve_id: str
    strategy_id: str
    data: MadeOf
    code_hash: str
    stream: Stream
    decided: date | None = None
    book: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """What is weighed: a sleeve or another meta-portfolio; without a stream it was not found.

    Attributes
    ----------
    asked : str
        How it was asked for.
    member_id : str
        Run id of a sleeve, id of a meta-portfolio.
    name : str
        How a page calls it.
    decided : date or None
        The close at which the weights of a meta-portfolio were decided; None of a sleeve.
    """

    asked: str
    member_id: str
    name: str
    stream: Stream | None = None
    decided: date | None = None


@dataclass(frozen=True, eq=False)
class MetaPortfolio:
    """A meta-portfolio as far as its gates let it come.

    Attributes
    ----------
    sleeves : mapping of run id to each sleeve below, through every nested meta-portfolio
    matrix : ReturnsMatrix or None
        Joined returns of the members up to `as_of`.
    later : ReturnsMatrix or None
        Joined returns after it, which no weight has seen.
    volatility : float or None
        Annualised, of the flattened book at constant weights in long space; None if unknown.
    """

    meta_id: str
    as_of: date | None
    params: MetaAllocationParams
    members: tuple[Member, ...]
    sleeves: Mapping[str, Sleeve]
    metas: Mapping[str, Mapping[str, float]]
    findings: tuple[Finding, ...]
    matrix: ReturnsMatrix | None = None
    later: ReturnsMatrix | None = None
    allocation: Allocation | None = None
    book: FlatBook | None = None
    sign_test: SignTest | None = None
    volatility: float | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing is missing."""
        parts = (self.as_of, self.matrix, self.allocation, self.book, self.sign_test)
        return not errors_of(self.findings) and all(part is not None for part in parts)

    @property
    def verdict(self) -> str:
        """PASS or FAIL."""
        return "PASS" if self.passed else "FAIL"

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of all errors, each once, in the order they were found."""
        return tuple(dict.fromkeys(one.code for one in errors_of(self.findings)))

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the members by id; empty before allocation."""
        if self.allocation is None:
            return {}
        ids = [member.member_id for member in self.members]
        return dict(zip(ids, self.allocation.weights.tolist(), strict=True))

    def found(self, *findings: Finding) -> "MetaPortfolio":
        """Return the meta-portfolio with what a gate found."""
        return replace(self, findings=(*self.findings, *findings))


def present(part: Part | None, name: str) -> Part:
    """Return a part of a meta-portfolio that an earlier stage should have made.

    Raises
    ------
    MetaFailure
        META_INCOMPLETE, if it did not.
    """
    if part is None:
        raise MetaFailure("META_INCOMPLETE", name, "was not made by an earlier stage")
    return part


def asked_findings(names: Sequence[str], params: MetaAllocationParams) -> tuple[Finding, ...]:
    """Return what is wrong with the question, whatever the members are."""
    found = []
    if not names:
        found.append(error("META_NO_SLEEVES", "", "no run was named"))
    if len(names) == 1 and not params.single:
        said = "one sleeve is no meta-portfolio; declare it (`--single`) if it is meant"
        found.append(error("META_SINGLE_SLEEVE", names[0], said))
    if names:
        try:
            bounds_of(len(names), params)
        except MetaFailure as failure:
            found.append(error(failure.code, failure.subject, failure.message))
    return tuple(found)


def settled_as_of(streams: Sequence[Stream], asked: date | None) -> date | None:
    """Return the close at which weights are decided; None if no record reaches it.

    The last session that every record has, or the last of any record that is not after `asked`.
    """
    ends = [stream.sessions[-1] for stream in streams if len(stream)]
    if asked is not None:
        cut = [stream.until(asked) for stream in streams]
        ends = [stream.sessions[-1] for stream in cut if len(stream)]
    if not ends:
        return None
    session: date = (min(ends) if asked is None else max(ends)).astype(object)
    return session


def duplicate_findings(members: Sequence[Member]) -> tuple[Finding, ...]:
    """Return the members that are there twice."""
    ids = [member.member_id for member in members]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    return tuple(error("META_DUPLICATE_SLEEVE", name, "is named more than once") for name in twice)


def member_findings(member: Member, as_of: date | None) -> tuple[Finding, ...]:
    """Return what is wrong with the record of a member that was found."""
    if member.stream is None:
        return ()
    seen = None if as_of is None else member.stream.until(as_of)
    if seen is None or not len(seen):
        said = f"its record has no return up to {as_of or 'the day asked for'}"
        return (error("META_EMPTY_RETURNS", member.member_id, said),)
    if not np.isfinite(seen.returns).all():
        unknown = int((~np.isfinite(seen.returns)).sum())
        said = f"{unknown} of {len(seen)} returns are unknown"
        return (error("META_UNKNOWN_RETURNS", member.member_id, said),)
    last = seen.sessions[-1].astype(object)
    if last != as_of:
        said = f"its record ends at {last}, before {as_of}; run it to there, or ask for {last}"
        return (error("META_STALE_SLEEVE", member.member_id, said),)
    if member.decided is not None and member.decided > as_of:
        said = f"its weights were decided at {member.decided}, after {as_of}"
        return (error("META_LOOK_AHEAD", member.member_id, said),)
    return ()


def parity_findings(sleeves: Sequence[Sleeve]) -> tuple[Finding, ...]:
    """Return in what the sleeves differ that should be the same."""
    found = []
    for part in fields(MadeOf):
        values = {str(getattr(sleeve.data, part.name)) for sleeve in sleeves}
        if len(values) > 1:
            both = ", ".join(sorted(values))
            said = f"the sleeves' {part.name} differ ({both}); run them on the same"
            found.append(error("META_PARITY", part.name, said))
    if len({sleeve.code_hash for sleeve in sleeves}) > 1:
        said = "the sleeves were run by different versions of the code"
        found.append(warning("META_PARITY", "code", said))
    return tuple(found)


def book_presence(sleeve: Sleeve, as_of: date) -> tuple[Finding, ...]:
    """Return an error if a sleeve had decided nothing by `as_of`."""
    if sleeve.book is not None:
        return ()
    return (error("META_NO_TARGET", sleeve.run_id, f"no target was recorded by {as_of}"),)


def matrix_findings(matrix: ReturnsMatrix, params: MetaAllocationParams) -> tuple[Finding, ...]:
    """Return what is wrong with the joined returns."""
    if not len(matrix):
        return (error("META_EMPTY_RETURNS", "", "the members have no session in common"),)
    known = int(np.isfinite(np.diag(correlation_of(matrix.values))).sum())
    if known < (1 if params.single else 2):
        said = f"{known} of {len(matrix.columns)} members can be correlated"
        return (error("META_SINGLE_MATCH", "", said),)
    return ()


def weight_findings(
    columns: Sequence[str], weights: Mapping[str, float], params: MetaAllocationParams
) -> tuple[Finding, ...]:
    """Return what is wrong with the weights of the columns of the joined returns."""
    if not weights:
        return (error("META_EMPTY_WEIGHTS", "", "there are no weights"),)
    found = []
    if set(weights) != set(columns):
        odd = ", ".join(sorted(set(weights) ^ set(columns)))
        said = f"weights and returns are not of the same members: {odd}"
        found.append(error("META_WEIGHT_COLUMN_MISMATCH", "", said))
    if sum(weight > 0.0 for weight in weights.values()) < 2 and not params.single:
        found.append(error("META_SINGLE_WEIGHT", "", "fewer than two members have a weight"))
    total = sum(weights.values())
    if not abs(total - 1.0) <= CONSERVED:
        found.append(error("META_BAD_WEIGHT_SUM", "", f"weights sum to {total:.12g}, not to 1"))
    return tuple(found)


def book_findings(book: FlatBook, params: MetaAllocationParams) -> tuple[Finding, ...]:
    """Return what is wrong with the flattened book."""
    if not book.gross.any():
        return (error("META_EMPTY_FLATTENED", "", "the flattened book holds nothing"),)
    return concentration(book, params.warn_asset, params.max_asset)


def sign_findings(test: SignTest | None) -> tuple[Finding, ...]:
    """Return an error unless the directional sign test was made and passed."""
    if test is None:
        return (error("META_SIGN_TEST_MISSING", "", "the directional sign test was not made"),)
    failed = errors_of(test.findings)
    if not failed:
        return ()
    codes = ", ".join(dict.fromkeys(one.code for one in failed))
    return (*failed, error("META_SIGN_TEST_FAIL", "", f"{len(failed)} errors: {codes}"))
