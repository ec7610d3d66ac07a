"""What there is to choose from, and who asks."""

from datetime import date
from importlib.metadata import version
from itertools import groupby

from fastapi import APIRouter

from persistence.choices import choices
from prometheus_nt.domain.runs import Mode
from prometheus_nt.monitoring.answers import Answer, Part
from prometheus_nt.monitoring.desk import Asking, OurDesk
from prometheus_nt.monitoring.routes.common import NO_RUN, reasons

router = APIRouter(prefix="/api", tags=["options"])


class Strategy(Part):
    """A strategy with its sleeves and their portfolios."""

    strategy_id: str
    sleeves: list[str]
    portfolios: list[str]


class Options(Answer):
    """What can be asked for. role : of who asks. open_to_all : whether no token is asked for."""

    regions: list[str]
    markets: list[str]
    strategies: list[Strategy]
    modes: list[Mode]
    first_session: date | None
    last_session: date | None
    version: str
    open_to_all: bool
    role: str
    caller: str


@router.get("/options")
def options(desk: OurDesk, asking: Asking) -> Options:
    """Return what has been recorded that people choose by, and what the caller may do."""
    found = choices(desk.stores.runtime.database)
    by_strategy = groupby(found["strategies"], key=lambda row: row["strategy_id"])
    grouped = {name: list(rows) for name, rows in by_strategy}
    span = {name: found[name] for name in ("first_session", "last_session")}
    return Options(
        **{name: found[name] for name in ("regions", "markets", "modes")},
        strategies=[
            Strategy(
                strategy_id=name,
                sleeves=[row["sleeve_id"] for row in rows],
                portfolios=[row["portfolio_id"] for row in rows],
            )
            for name, rows in grouped.items()
        ],
        version=version("prometheus-nt"),
        open_to_all=desk.access.open_to_all,
        role=asking.role.name,
        caller=asking.name,
        unknown=reasons(span, NO_RUN),
        **span,
    )
