"""Part of a dataset, as a person asks for it: some symbols, some sessions, as of a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from persistence.instruments import InstrumentStore
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import Stores


@dataclass(frozen=True)
class Selection:
    """What of a dataset is wanted; None is all there is.

    start, end : a day without trading rolls inwards, `start` forwards and `end` backwards.
    symbols : store ids, or names in any scheme as of the last session.
    as_of : nothing later is handed out.
    """

    dataset: str
    start: date | None = None
    end: date | None = None
    symbols: Sequence[str] | None = None
    as_of: date | None = None


def select_panel(stores: Stores, wanted: Selection) -> MarketPanel:
    """Return the panel of a selection.

    Raises
    ------
    ConfigError
        If no session is left, or a symbol is unknown or means several instruments.
    DataError
        If a symbol is an instrument that the dataset does not have.
    """
    panel = panel_of(stores, wanted.dataset)
    ends = [day for day in (wanted.end, wanted.as_of) if day is not None]
    bounds = (wanted.start or date.min, min(ends, default=date.max))
    first = int(np.searchsorted(panel.sessions, np.datetime64(bounds[0], "D")))
    after = int(np.searchsorted(panel.sessions, np.datetime64(bounds[1], "D"), side="right"))
    if first >= after:
        raise ConfigError(
            f"dataset {wanted.dataset!r} has no session from {wanted.start or 'its start'} to "
            f"{bounds[1]}; it has {panel.sessions[0]} to {panel.sessions[-1]}"
        )
    last: date = panel.sessions[after - 1].astype(object)
    # Symbols before sessions: what is derived from a view then knows the history before it.
    if wanted.symbols is not None:
        panel = panel.select(_ids(stores, wanted, panel, last))
    return panel.until(last).last(after - first)


def _ids(stores: Stores, wanted: Selection, panel: MarketPanel, as_of: date) -> tuple[str, ...]:
    known = InstrumentStore(stores.historical.database).read()
    members = set(panel.instruments)
    found = []
    for name in wanted.symbols or ():
        own = [each for each in (name, name.upper()) if each in members]
        instrument_id = own[0] if own else known.resolve(name, as_of)
        if instrument_id not in members:
            raise DataError(
                f"{name}: {instrument_id} is not in dataset {wanted.dataset!r}, which has "
                f"{len(members)} instruments; `prometheus instruments check {wanted.dataset}` "
                "lists them"
            )
        found.append(instrument_id)
    return tuple(dict.fromkeys(found))
