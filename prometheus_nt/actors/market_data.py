"""Hands the engines what is known at the close they are asked about, and nothing newer."""

from collections.abc import Sequence
from datetime import date

from nautilus_trader.common.actor import Actor
from nautilus_trader.common.config import ActorConfig
from nautilus_trader.model.identifiers import ComponentId

from prometheus_nt.bus import Published, publish, subscribe
from prometheus_nt.domain.books import MemberBooks
from prometheus_nt.domain.market import ScenarioOutlook, SimulatedReturns
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import Absent
from prometheus_nt.domain.sessions import SessionClose
from prometheus_nt.meta.member_books import BookSchedule


class PanelReplay(Actor):
    """Publishes row t of a recorded panel, and everything before it, after close t."""

    def __init__(self, panel: MarketPanel) -> None:
        super().__init__(ActorConfig(component_id=ComponentId("MARKET-DATA")))
        self._panel = panel

    def on_start(self) -> None:
        subscribe(self, SessionClose)

    def on_data(self, data: Published) -> None:
        publish(self, self._panel.until(data.record.as_of))

    def extend(self, panel: MarketPanel) -> None:
        """Take a panel with the same rows and more sessions after them."""
        self._panel = panel


class ScenarioReplay(Actor):
    """Publishes, after every close, the newest of several scenario sets that was made by then."""

    def __init__(self, sets: Sequence[SimulatedReturns]) -> None:
        super().__init__(ActorConfig(component_id=ComponentId("SCENARIOS")))
        self._sets = tuple(sets)

    def on_start(self) -> None:
        subscribe(self, SessionClose)

    def on_data(self, data: Published) -> None:
        as_of = data.record.as_of
        outlook = newest_outlook(self._sets, as_of)
        if outlook is not None:
            publish(self, outlook)
        else:
            publish(self, Absent(as_of, ScenarioOutlook.__name__, "no set was made by then"))


class MemberReplay(Actor):
    """Publishes, after every close, what a meta-portfolio's members had decided by then."""

    def __init__(self, schedule: BookSchedule) -> None:
        super().__init__(ActorConfig(component_id=ComponentId("MEMBER-BOOKS")))
        self._schedule = schedule

    def on_start(self) -> None:
        subscribe(self, SessionClose)

    def on_data(self, data: Published) -> None:
        as_of = data.record.as_of
        books = self._schedule.at(as_of)
        if books is not None:
            publish(self, books)
        else:
            publish(self, Absent(as_of, MemberBooks.__name__, "no weights were decided by then"))


def newest_outlook(sets: Sequence[SimulatedReturns], as_of: date) -> ScenarioOutlook | None:
    """Return the newest of several scenario sets that was made by then; None if none was."""
    known = [one for one in sets if one.made_on <= as_of]
    if not known:
        return None
    return ScenarioOutlook(as_of, (max(known, key=lambda one: one.made_on),))
