"""The trading day as a table: each row is one engine, its inputs and the record it makes.

After every close, `actors.market_data` publishes the panel that ends there. Each row below runs as
soon as it holds every input of that session, and publishes its own record in turn:

    MarketPanel -> stability -> assessment -> universe -> portfolio -> risk -> TargetPortfolio
         |              `-> fragility ------------------------^
         |-> regime ----------------------------|-------------'
         `-> profiles --------------------------'

A node may do without profiles, regime and fragility. Universe, portfolio and risk are also told
their own records of the session before, risk hears what the sleeve owns (`BookState`), and
fragility hears stored scenarios where the node names some (`ScenarioOutlook`). A sleeve
(`strategies.sleeve`) turns the `TargetPortfolio` into orders for the next open. One that follows a
meta-portfolio needs fewer rows (`MEMBERS_DAY`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_nt.domain.books import BookTarget, MemberBooks, TargetPortfolio, Universe
from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.ledger import BookState
from prometheus_nt.domain.market import (
    FragilityMeasures,
    InstrumentScores,
    RegimeState,
    ScenarioOutlook,
    StabilityVectors,
)
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.profiles import Profiles
from prometheus_nt.domain.record import Params
from prometheus_nt.engines.assessment import assess
from prometheus_nt.engines.fragility import measure_fragility
from prometheus_nt.engines.meta_book import follow_members
from prometheus_nt.engines.portfolio import build_book
from prometheus_nt.engines.profiles import build_profiles
from prometheus_nt.engines.regime import classify_regime
from prometheus_nt.engines.risk import apply_limits
from prometheus_nt.engines.stability import measure_stability
from prometheus_nt.engines.universe import select_universe


@dataclass(frozen=True)
class Stage:
    """One row of the day: `compute(*inputs, params, **optional)` returns an `output` record.

    Attributes
    ----------
    optional : mapping of keyword to record type
        Handed over where the node makes such a record, else None.
    feedback : bool
        `compute` also takes `previous`, the stage's own record of the session before, or None.
    skippable : bool
        A node may do without the stage.
    unheard : callable of the records of a session, optional
        Whether nobody would hear what the stage makes of them: then it makes nothing.
    """

    name: str
    compute: Callable[..., Any]
    inputs: tuple[type, ...]
    output: type
    optional: Mapping[str, type] = field(default_factory=dict)
    feedback: bool = False
    skippable: bool = False
    unheard: Callable[[Mapping[type, Any]], bool] | None = None

    def run(self, made: Mapping[type, Any], params: Params | None, previous: Any = None) -> Any:
        """Return the record of a session from the records that were `made` before it.

        Raises
        ------
        InsufficientHistory
            If the engine has not warmed up.
        """
        given = {name: made.get(record_type) for name, record_type in self.optional.items()}
        if self.feedback:
            given["previous"] = previous
        return self.compute(*(made[record_type] for record_type in self.inputs), params, **given)


PIPELINE = (
    Stage("profiles", build_profiles, (MarketPanel,), Profiles, skippable=True),
    Stage("regime", classify_regime, (MarketPanel,), RegimeState, skippable=True),
    Stage("stability", measure_stability, (MarketPanel,), StabilityVectors),
    Stage(
        "fragility",
        measure_fragility,
        (MarketPanel, StabilityVectors),
        FragilityMeasures,
        optional={"scenarios": ScenarioOutlook},
        skippable=True,
    ),
    Stage("assessment", assess, (MarketPanel, StabilityVectors), InstrumentScores),
    Stage(
        "universe",
        select_universe,
        (MarketPanel, StabilityVectors, InstrumentScores),
        Universe,
        optional={"regime": RegimeState, "profiles": Profiles},
        feedback=True,
    ),
    Stage(
        "portfolio",
        build_book,
        (MarketPanel, Universe, InstrumentScores),
        BookTarget,
        optional={"regime": RegimeState, "fragility": FragilityMeasures},
        feedback=True,
    ),
    Stage(
        "risk",
        apply_limits,
        (MarketPanel, BookTarget),
        TargetPortfolio,
        optional={"books": BookState},
        feedback=True,
    ),
)

MEMBERS_DAY = (
    Stage("portfolio", follow_members, (MarketPanel, MemberBooks), BookTarget, feedback=True),
    PIPELINE[-1],
)
"""The day of a sleeve that follows a meta-portfolio: its members have been through theirs."""


def table_of(without: Collection[str], *, follows_members: bool) -> tuple[Stage, ...]:
    """Return the rows of the day that a sleeve runs."""
    if follows_members:
        return MEMBERS_DAY
    return tuple(stage for stage in PIPELINE if stage.name not in without)


def run_day(
    panel: MarketPanel,
    params: Mapping[str, Params],
    previous: Mapping[str, Any],
    table: Sequence[Stage] = PIPELINE,
) -> dict[str, Any]:
    """Return the record of every stage that has the history for one, by name of the stage.

    Parameters
    ----------
    params : mapping of stage name to its settings
    previous : mapping of stage name to record
        What this function returned for the session before; empty at the start.
    """
    made: dict[type, Any] = {MarketPanel: panel}
    records: dict[str, Any] = {}
    for stage in table:
        if not set(stage.inputs) <= set(made):
            continue
        with suppress(InsufficientHistory):
            record = stage.run(made, params.get(stage.name), previous.get(stage.name))
            made[stage.output] = records[stage.name] = record
    return records
