"""Proposals to change a strategy's settings: their states, and settings by their dotted names."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from prometheus_nt.domain.errors import ConfigError, ProposalRefused
from prometheus_nt.domain.record import content_hash

PROPOSABLE = ("engines", "execution.planner", "gate")
"""Sections of a node that say how it trades.

The others say what, when and where; or what trading costs: a better assumption is no better trade.
"""


class Status(StrEnum):
    """Where a proposal stands."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    APPLIED = "APPLIED"
    REVERTED = "REVERTED"


OPEN = (Status.PENDING, Status.APPROVED)
"""While it is one of these, nobody may propose the same change again."""

MOVES = {
    Status.APPROVED: (Status.PENDING,),
    Status.REJECTED: OPEN,
    Status.APPLIED: (Status.APPROVED,),
    Status.REVERTED: (Status.APPLIED,),
}
"""Where a proposal may come from, by where it goes."""


def require_move(proposal_id: str, at: str, to: Status) -> None:
    """Refuse a move that no proposal may make.

    Raises
    ------
    ProposalRefused
        Naming where the proposal stands, and from where the move would be legal.
    """
    legal = MOVES[to]
    if at not in legal:
        raise ProposalRefused(
            f"{proposal_id}: is {at}, and only one that is {' or '.join(legal)} can become {to}; "
            "`prometheus meta proposals` lists them"
        )


def require_proposable(key: str) -> None:
    """Refuse a setting that says what is traded, when or where, and not how.

    Raises
    ------
    ConfigError
        Naming the sections whose settings can be proposed.
    """
    if not is_proposable(key):
        raise ConfigError(
            f"{key}: cannot be proposed; only settings below {', '.join(PROPOSABLE)} can, such as "
            "engines.portfolio.max_names"
        )


def is_proposable(key: str) -> bool:
    """Return whether a dotted setting lies below one of the sections of `PROPOSABLE`."""
    below = any(key.startswith(f"{section}.") for section in PROPOSABLE)
    return below and all(key.split("."))


def setting_of(settings: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Return `{"value": ...}` of a dotted setting, None where it is not given."""
    found: Any = settings
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return {"value": found}


def with_setting(settings: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return the settings with one more, or another, dotted setting."""
    name, _, rest = key.partition(".")
    below = settings.get(name)
    inner = below if isinstance(below, Mapping) else {}
    return {**settings, name: with_setting(inner, rest, value) if rest else value}


def without_setting(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the settings less a dotted one, and less the sections that it leaves empty."""
    name, _, rest = key.partition(".")
    others = {other: value for other, value in settings.items() if other != name}
    below = settings.get(name)
    if not rest or not isinstance(below, Mapping):
        return others
    left = without_setting(below, rest)
    return {**others, name: left} if left else others


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every setting by its dotted name; lists are values, and so is an empty section."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the hash of plain settings, in whatever order a database gives them back."""
    return content_hash([json.dumps(settings, sort_keys=True)])


def change_hash(strategy_id: str, key: str, value: Any) -> str:
    """Return what two proposals of the same change of a strategy have in common."""
    return settings_hash({"strategy": strategy_id, "key": key, "value": value})
