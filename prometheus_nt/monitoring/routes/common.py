"""What the routes of the status endpoints share: parameters, reasons, and how rows become parts."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel

from persistence.standing import Record, Standing
from prometheus_nt.domain.calendar import MARKETS, REGIONS
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.runs import Mode
from prometheus_nt.monitoring.answers import Name

NO_RUN = "no run has been recorded up to this session"
NOT_MEASURED = "not measured: the engine is off in this configuration, or its inputs are missing"
NO_SESSION_BEFORE = "the record begins too late for it"

EVERYWHERE = "GLOBAL"
"""What the mission's documents call any region."""


def _region(
    region: Annotated[Name | None, Query(description="Default, and GLOBAL: any.")] = None,
) -> str | None:
    """Return the region asked for; None is any."""
    if region in (None, EVERYWHERE):
        return None
    if region not in REGIONS:
        known = ", ".join((*REGIONS, EVERYWHERE))
        raise ConfigError(f"region: unknown region {region!r}; known regions: {known}")
    return region


def _market(
    market_id: Annotated[Name | None, Query(description="Default: any.")] = None,
) -> str | None:
    """Return the market asked for; None is any."""
    if market_id is not None and market_id not in MARKETS:
        known = ", ".join(MARKETS)
        raise ConfigError(f"market_id: unknown market {market_id!r}; known markets: {known}")
    return market_id


Region = Annotated[str | None, Depends(_region)]
Market = Annotated[str | None, Depends(_market)]
Strategy = Annotated[Name | None, Query(description="Default: any.")]
OfMode = Annotated[Mode | None, Query(description="Default: the most real mode that has rows.")]


def only(row: Mapping[str, object], model: type[BaseModel]) -> Record:
    """Return what a model has of a row."""
    return {name: row[name] for name in model.model_fields if name in row}


def whose(found: Standing | None) -> Record:
    """Return the fields that say whose rows an answer is made of."""
    if found is None:
        return {"as_of_date": None, "run_id": None}
    return {"as_of_date": found.session, "run_id": found.run_id}


def reasons(fields: Mapping[str, object], why: str) -> dict[str, str]:
    """Return why each field that is null is not known."""
    return {name: why for name, value in fields.items() if value is None}


def of_hundred(score: float | None) -> float | None:
    """Return a score of 0 to 100 as a fraction."""
    return None if score is None else score / 100.0


def calm(score: float | None) -> float | None:
    """Return one minus a score of 0 to 100 as a fraction, within 0 and 1: 1 is calm."""
    return None if score is None else min(max(1.0 - score / 100.0, 0.0), 1.0)
