"""The members of a meta-portfolio, from the stores: finished runs, and meta-portfolios of them.

1. `asked_members` says what is asked for: runs by name, or the newest run of each sleeve of a node;
2. `gather` finds each, requires its files to be there and to be what was recorded, and reads its
   record; of a meta-portfolio, those of all its members below;
3. `with_books` adds what each sleeve had decided by a day.

What cannot be had is a finding with a code, so that all of it is told at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from persistence.artifacts import RunFolder
from prometheus_nt.domain.errors import MetaFailure, StoreError
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.applied import stored_node
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.meta.completeness import MadeOf, Member, Sleeve
from prometheus_nt.meta.findings import Finding, error
from prometheus_nt.meta.flattening import MAX_DEPTH
from prometheus_nt.meta.streams import Stream, blended, joined
from prometheus_nt.reporting.series import simple_returns
from prometheus_nt.settings import Settings

META = "META-"
"""What the id of a meta-portfolio begins with."""

META_ID = re.compile(META + "[0-9a-f]{16}")

COMPLETENESS, WEIGHTS = "completeness.json", "meta_weights.json"

NEEDED = ("manifest.json", "equity.parquet")
"""Files of a run that a meta-portfolio reads."""

FRICTION = ("quotes", "fees", "financing")
"""Sections of the execution that make a record dearer or cheaper."""


@dataclass(frozen=True)
class Asked:
    """One member as asked for.

    Attributes
    ----------
    name : str
        A run id or its beginning, the id of a meta-portfolio, or a sleeve id.
    config_hash : str or None
        Of the sleeve `name`, whose newest run is meant; None if `name` names a run.
    """

    name: str
    config_hash: str | None = None


@dataclass
class Gathered:
    """What was found of the members, and what was not."""

    members: list[Member] = field(default_factory=list)
    sleeves: dict[str, Sleeve] = field(default_factory=dict)
    metas: dict[str, dict[str, float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def asked_members(runs: Sequence[str], config: Path | None, stores: Stores) -> list[Asked]:
    """Return what is asked for, in order."""
    asked = [Asked(name) for name in runs]
    if config is not None:
        node = stored_node(stores, [config])
        asked += [Asked(sleeve.sleeve_id, node.config_hash(sleeve)) for sleeve in node.sleeves]
    return asked


def meta_dir(settings: Settings) -> Path:
    """Return where meta-portfolios are kept."""
    return settings.home / "meta"


def gather(stores: Stores, asked: Sequence[Asked]) -> Gathered:
    """Return the members, with their whole records; those that cannot be had are findings."""
    found = Gathered()
    for one in asked:
        try:
            member = _member(stores, one, found, above=())
        except MetaFailure as failure:
            found.findings.append(error(failure.code, failure.subject, failure.message))
            member = Member(one.name, one.name, one.name)
        found.members.append(member)
    return found


def members_of(stores: Stores, meta_id: str) -> tuple[date, Gathered]:
    """Return the day of a finished meta-portfolio, and everything below it.

    Raises
    ------
    MetaFailure
        If it, or anything below it, is not there as it was written, or did not pass.
    """
    document = _passed_weights(stores, meta_id)
    found = Gathered()
    weights = {row["member_id"]: row["weight"] for row in document["members"]}
    found.members = [_member(stores, Asked(name), found, above=()) for name in weights]
    found.metas[meta_id] = weights
    return date.fromisoformat(document["as_of"]), found


def with_books(
    stores: Stores, sleeves: Mapping[str, Sleeve], as_of: date | None
) -> dict[str, Sleeve]:
    """Return the sleeves with the newest target that each had decided by `as_of`."""
    return {run_id: _with_book(stores, sleeve, as_of) for run_id, sleeve in sleeves.items()}


def whole_document(folder: RunFolder) -> dict[str, Any]:
    """Return the completeness of a finished meta-portfolio.

    Raises
    ------
    MetaFailure
        META_MISSING_ARTIFACTS if it or one of its files is not there, META_ALTERED_ARTIFACTS if
        one is not what was written.
    """
    name = folder.path.name
    try:
        document = folder.read_json(COMPLETENESS)
    except (StoreError, ValueError) as unreadable:
        said = f"no readable {COMPLETENESS}; make the meta-portfolio again"
        raise MetaFailure("META_MISSING_ARTIFACTS", name, said) from unreadable
    unsealed = {key: value for key, value in document.items() if key != "seal"}
    if document.get("seal") != content_hash([unsealed]):
        raise MetaFailure("META_ALTERED_ARTIFACTS", name, f"{COMPLETENESS} was altered")
    _require_files(folder, name, document["files"])
    return document


def _member(stores: Stores, asked: Asked, found: Gathered, above: tuple[str, ...]) -> Member:
    if asked.config_hash is None and asked.name.startswith(META):
        return _nested(stores, asked.name, found, above)
    row = _row(stores, asked)
    run_id = row["run_id"]
    if run_id not in found.sleeves:
        found.sleeves[run_id] = _sleeve(stores, row)
    sleeve = found.sleeves[run_id]
    return Member(asked.name, run_id, sleeve.sleeve_id, sleeve.stream)


def _nested(stores: Stores, meta_id: str, found: Gathered, above: tuple[str, ...]) -> Member:
    """Return a meta-portfolio as a member: its own members at its own weights."""
    path = (*above, meta_id)
    if meta_id in above:
        raise MetaFailure("META_CYCLE", meta_id, f"contains itself: {' > '.join(path)}")
    if len(path) >= MAX_DEPTH:
        said = f"more than {MAX_DEPTH} levels: this one > {' > '.join(path)}"
        raise MetaFailure("META_TOO_DEEP", meta_id, said)
    document = _passed_weights(stores, meta_id)
    weights = {row["member_id"]: row["weight"] for row in document["members"]}
    children = [_member(stores, Asked(name), found, path) for name in weights]
    found.metas[meta_id] = weights
    streams = {child.member_id: child.stream for child in children if child.stream is not None}
    return Member(
        meta_id,
        meta_id,
        meta_id,
        blended(joined(streams), weights),
        date.fromisoformat(document["as_of"]),
    )


def _passed_weights(stores: Stores, meta_id: str) -> dict[str, Any]:
    """Return the document of the weights of a meta-portfolio that passed."""
    if not META_ID.fullmatch(meta_id):
        said = f"is no id of a meta-portfolio; expected {META} and sixteen hexadecimal digits"
        raise MetaFailure("META_MISSING_RUN", meta_id, said)
    folder = RunFolder(meta_dir(stores.settings), meta_id)
    if whole_document(folder)["verdict"] != "PASS":
        raise MetaFailure("META_CHILD_FAILED", meta_id, "did not pass; see its report")
    return folder.read_json(WEIGHTS)


def _row(stores: Stores, asked: Asked) -> dict[str, Any]:
    runtime = stores.runtime
    try:
        if asked.config_hash is None:
            row = runtime.find_run(asked.name)
        else:
            row = runtime.newest_run(asked.name, asked.config_hash)
    except StoreError as absent:
        raise MetaFailure("META_MISSING_RUN", asked.name, str(absent)) from absent
    if row["status"] != "COMPLETED":
        said = f"is {row['status']}; run it to its end"
        raise MetaFailure("META_RUN_NOT_COMPLETED", row["run_id"], said)
    return row


def _sleeve(stores: Stores, row: Mapping[str, Any]) -> Sleeve:
    run_id = row["run_id"]
    folder = RunFolder(stores.settings.runs_dir, run_id)
    recorded = {one["name"]: one for one in stores.runtime.artifacts(run_id)}
    _require_files(folder, run_id, {name: recorded.get(name) for name in NEEDED})
    manifest, config = folder.read_json("manifest.json"), row["config_json"]
    return Sleeve(
        run_id=run_id,
        sleeve_id=row["sleeve_id"],
        strategy_id=row["strategy_id"],
        data=MadeOf(
            market=row["market_id"],
            mode=row["mode"],
            dataset=row["dataset_id"],
            revision=manifest["data_revision"],
            friction=content_hash([config["execution"][name] for name in FRICTION]),
        ),
        code_hash=row["code_hash"],
        stream=_stream(folder, float(manifest["starting_capital"])),
    )


def _stream(folder: RunFolder, starting_capital: float) -> Stream:
    table = folder.read_table("equity.parquet")
    # A column without a row has no type of its own.
    levels = np.concatenate(([starting_capital], table["equity"].astype(np.float64)))
    return Stream(table["session"].astype("datetime64[D]"), simple_returns(levels))


def _require_files(folder: RunFolder, subject: str, recorded: Mapping[str, Any]) -> None:
    """Require files to be there and to have the hash that was recorded of them."""
    now = {name: folder.hash_of(name) for name in recorded}
    missing = [name for name, row in recorded.items() if row is None or now[name] is None]
    if missing:
        said = f"missing: {', '.join(missing)}; run it again with --force"
        raise MetaFailure("META_MISSING_ARTIFACTS", subject, said)
    altered = [name for name, row in recorded.items() if row["sha256"] != now[name]]
    if altered:
        said = f"not what was recorded: {', '.join(altered)}; run it again with --force"
        raise MetaFailure("META_ALTERED_ARTIFACTS", subject, said)


def _with_book(stores: Stores, sleeve: Sleeve, as_of: date | None) -> Sleeve:
    if as_of is None:
        return sleeve
    try:
        decided, book = stores.runtime.latest_target(sleeve.run_id, as_of)
    except StoreError:
        return sleeve  # a gate says so
    return replace(sleeve, decided=decided, book=book)
