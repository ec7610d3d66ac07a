"""What a node has to know of its instruments before a sleeve may start.

1. `read_metadata` requires tick, lot, precision, currency and market of every instrument;
2. it takes the recorded ends of their listings, which decide what a position becomes;
3. `metadata_notes` says what a reader of a run must know of both.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from persistence.instruments import InstrumentStore
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.instruments import InstrumentMap, TradingSpec
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.venue.carry import Delistings, delisting_rows

MOST_NAMES = 10

SILENT_SESSIONS = 5
"""So long after its last bar a name without a recorded end may be late or halted, not gone."""


@dataclass(frozen=True, eq=False)
class NodeMetadata:
    """How the instruments of a panel trade, and how their listings ended, in panel order."""

    specs: tuple[TradingSpec, ...]
    delistings: Delistings

    def fingerprint(self, panel: MarketPanel) -> str:
        """Return the content hash of everything that decides a run's money."""
        if not self.delistings.any_recorded:
            return panel.fingerprint
        ends = self.delistings
        return content_hash([panel.fingerprint, ends.on.astype(np.int64), ends.returns])

    def document(self) -> dict[str, Any]:
        """Return how complete the metadata are and where they come from."""
        sources = Counter(spec.source for spec in self.specs)
        return {
            "instruments": len(self.specs),
            "coverage": 1.0,
            "sources": dict(sorted(sources.items())),
        }


def read_metadata(stores: Stores, panel: MarketPanel) -> NodeMetadata:
    """Return the metadata of every instrument of a panel.

    Raises
    ------
    MissingMetadata
        If anything that trading needs is unknown of any of them.
    ConfigError
        If they are not all in one currency.
    """
    known = InstrumentStore(stores.historical.database).read()
    specs = tuple(known.trading_specs(panel.instruments))
    currencies = sorted({spec.currency for spec in specs})
    if len(currencies) > 1:
        raise ConfigError(
            f"instruments: one node trades one currency, found {', '.join(currencies)}; name the "
            "instruments of one currency under `instruments`"
        )
    return NodeMetadata(specs, _delistings(known, panel))


def delistings_at_close(delistings: Delistings, panel: MarketPanel) -> Delistings:
    """Return the ends as they can be told at the panel's last close.

    The record of a run that is over shows who never trades again. At the close of a day that is
    still open: whoever had a bar in the last `SILENT_SESSIONS` before it is held, unless its end
    is recorded.
    """
    recent = (~np.isnan(panel.close[-1 - SILENT_SESSIONS :])).any(axis=0)
    held = recent & np.isnat(delistings.on)
    after = panel.sessions[-1] + np.timedelta64(1, "D")
    return Delistings(np.where(held, after, delistings.on), delistings.returns)


def metadata_notes(metadata: NodeMetadata, panel: MarketPanel, first: int, last: int) -> list[str]:
    """Return what a reader must know of the instruments of panel rows `first` to `last`."""
    usual = [spec for spec in metadata.specs if spec.source.startswith("default of ")]
    notes = []
    if usual:
        notes.append(
            f"Instruments: tick and lot of {len(usual)} of {len(metadata.specs)} are the "
            f"{usual[0].source}, {usual[0].tick_size} and {usual[0].lot_size}; the simulated venue "
            "quotes finer than a tick and trades single shares."
        )
    if metadata.specs[0].currency != "USD":
        notes.append(
            f"Currency: prices are in {metadata.specs[0].currency}, and so is every amount of "
            "money of this run, whatever its name says."
        )
    ended = delisting_rows(panel, metadata.delistings)
    unknown = (ended >= first) & (ended <= last) & np.isnan(metadata.delistings.returns)
    if unknown.any():
        names = [panel.instruments[column] for column in np.flatnonzero(unknown)]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        notes.append(
            f"Delistings: the bars of {', '.join(names[:MOST_NAMES])}{more} end before the run "
            "does and no delisting return is recorded: positions were closed at the last price."
        )
    return notes


def _delistings(known: InstrumentMap, panel: MarketPanel) -> Delistings:
    ends = [known.delisting(name) for name in panel.instruments]
    days = [None if end is None else end.delisted_on for end in ends]
    returns = [None if end is None else end.delisting_return for end in ends]
    return Delistings(np.array(days, dtype="datetime64[D]"), np.array(returns, dtype=np.float64))
