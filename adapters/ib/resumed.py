"""Go on with an interrupted ingest from the broker: what is stored whole is not asked for again.

Dividends are inferred from a whole history, so that there is nothing to gain from asking for a part
of one: an instrument is either stored up to the newest session, or read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from adapters.ib.source import IbSource
from adapters.source import (
    PRICE_FIELDS,
    Action,
    ActionType,
    DatasetInfo,
    InstrumentInfo,
    Issue,
    PriceTable,
)
from prometheus_nt.domain.record import FloatArray, SessionArray

StoredBars = Callable[[str], tuple[SessionArray, FloatArray]]
"""Instrument id -> its stored sessions, and (sessions, `PRICE_FIELDS`) values."""

StoredActions = Callable[[str], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class ResumedSource:
    """The broker, asked only for instruments whose stored history is not whole.

    Attributes
    ----------
    bars, actions : what is stored of an instrument; may be called by several threads
    newest : the session with which a whole history ends
    again : whether an instrument is to be read again all the same
    """

    source: IbSource
    bars: StoredBars
    actions_of: StoredActions
    newest: date
    again: Callable[[str], bool]

    @property
    def info(self) -> DatasetInfo:
        return self.source.info

    def instruments(self) -> Sequence[InstrumentInfo]:
        return self.source.instruments()

    def refused(self) -> Sequence[Issue]:
        return self.source.refused()

    def read(self, instrument_id: str) -> PriceTable:
        days, values = self.bars(instrument_id)
        if not self._is_whole(instrument_id, days):
            return self.source.read(instrument_id)
        columns: dict[str, Any] = {name: values[:, at] for at, name in enumerate(PRICE_FIELDS)}
        # No row of an answer: nothing was asked.
        rows = np.zeros(len(days), dtype=np.int64)
        where = f"stored {instrument_id}"
        return PriceTable(instrument_id, days, **columns, source_file=where, source_rows=rows)

    def actions(self, instrument_id: str) -> Sequence[Action]:
        days, _ = self.bars(instrument_id)
        if not self._is_whole(instrument_id, days):
            return self.source.actions(instrument_id)
        return [
            Action(
                instrument_id,
                row["ex_date"],
                ActionType(row["action_type"]),
                row["value"],
                row["source"],
            )
            for row in self.actions_of(instrument_id)
        ]

    def _is_whole(self, instrument_id: str, days: SessionArray) -> bool:
        if not len(days) or days[-1] < np.datetime64(self.newest, "D"):
            return False
        if self.again(instrument_id):
            return False
        first = self.source.first
        # A name that was listed later than the first day begins where its trades do.
        needed = first is None or days[0] > np.datetime64(first, "D")
        begun = self.source.begins(instrument_id) if needed else None
        return begun is None or days[0] <= np.datetime64(begun, "D")
