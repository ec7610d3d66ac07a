"""What a trading node has seen of its market, session by session, as it saw it.

A vendor adds late bars and corrects old ones. A node that replayed today's data to find back where
it stood would decide what it never decided, so it replays its tape. The first record is the whole
history before the first session traded; each later one is a session, written before anybody acts
on it.
"""

from dataclasses import dataclass
from datetime import date
from io import BytesIO

import numpy as np

from persistence.spool import Spool
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import BoolArray, FloatArray, SessionArray


@dataclass(frozen=True, eq=False)
class SeenSession:
    """One session's data.

    Attributes
    ----------
    bars : (fields, N) array, in the order of `PANEL_FIELDS`
    delisted : (N,) bool array
        Whose recorded delisting takes effect at this session's open.
    delisting_return : (N,) array
        What their holders get beyond the last price, as a fraction of it; NaN where unknown.
    """

    session: date
    bars: FloatArray
    delisted: BoolArray
    delisting_return: FloatArray


class SessionTape:
    """The tape of one run.

    Parameters
    ----------
    spool : Spool
        Held by this process alone.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._history: MarketPanel | None = None
        self._seen: list[SeenSession] = []
        for number, record in enumerate(spool.records()):
            with np.load(BytesIO(record), allow_pickle=False) as arrays:
                if number == 0:
                    self._history = _panel(arrays["sessions"], arrays["stack"], arrays)
                else:
                    self._seen.append(_session(arrays))

    @property
    def begun(self) -> bool:
        """Whether the history before the first session is on the tape."""
        return self._history is not None

    @property
    def instruments(self) -> tuple[str, ...]:
        """The instruments of the run: those of its first session, for good."""
        return () if self._history is None else self._history.instruments

    @property
    def sessions(self) -> list[date]:
        """The sessions seen, oldest first."""
        return [each.session for each in self._seen]

    @property
    def first_row(self) -> int:
        """The row of the panel that holds the first session seen."""
        return 0 if self._history is None else len(self._history)

    def begin(self, history: MarketPanel) -> None:
        """Write what was known before the first session; it may be a panel without a row."""
        arrays = {
            "sessions": history.sessions,
            "stack": np.stack([getattr(history, name) for name in PANEL_FIELDS]),
            "instruments": np.array(history.instruments),
            "sectors": _texts(history.sectors),
            "fingerprint": np.array(history.fingerprint),
        }
        self._spool.append(_packed(arrays))
        self._history = _panel(history.sessions.copy(), arrays["stack"], arrays)

    def extend(self, sessions: list[SeenSession]) -> None:
        """Write sessions; on return they are on the disk.

        Raises
        ------
        DataError
            If they do not follow what was seen.
        """
        for before, each in zip([*self._seen[-1:], *sessions], sessions, strict=False):
            if before is not each and before.session >= each.session:
                raise DataError(f"{each.session} does not follow {before.session} on the tape")
        self._spool.append(*map(_packed_session, sessions))
        self._seen.extend(sessions)

    def panel(self) -> MarketPanel:
        """Return all that was seen."""
        assert self._history is not None
        history = self._history
        if not self._seen:
            return history
        older = np.stack([getattr(history, name) for name in PANEL_FIELDS])
        newer = np.stack([each.bars for each in self._seen], axis=1)
        days = np.array(self.sessions, dtype="datetime64[D]")
        stack = np.concatenate([older, newer], axis=1)
        sessions = np.concatenate([history.sessions, days])
        names = {
            "instruments": np.array(history.instruments),
            "sectors": _texts(history.sectors),
            "fingerprint": np.array(history.fingerprint),
        }
        return _panel(sessions, stack, names)

    def delisted(self) -> tuple[SessionArray, FloatArray]:
        """Return when each delisting took effect, NaT where none did, and what it paid."""
        assert self._history is not None
        count = len(self._history.instruments)
        on = np.full(count, "NaT", dtype="datetime64[D]")
        returns: FloatArray = np.full(count, np.nan)
        for each in self._seen:
            on[each.delisted] = np.datetime64(each.session, "D")
            returns[each.delisted] = each.delisting_return[each.delisted]
        return on, returns


def seen_session(
    panel: MarketPanel, row: int, delisted: BoolArray, returns: FloatArray
) -> SeenSession:
    """Return a row of a panel as a session of a tape."""
    bars = np.stack([getattr(panel, name)[row] for name in PANEL_FIELDS])
    return SeenSession(panel.sessions[row].astype(object), bars, delisted, returns)


def _panel(
    sessions: SessionArray, stack: FloatArray, names: "dict[str, np.ndarray]"
) -> MarketPanel:
    fields = {name: stack[number].copy() for number, name in enumerate(PANEL_FIELDS)}
    instruments = tuple(names["instruments"].tolist())
    return MarketPanel(
        sessions=sessions.copy(),
        instruments=instruments,
        # Of the data that the run began with: a record's hash must not change as sessions follow.
        fingerprint=str(names["fingerprint"]),
        sectors=tuple(sector or None for sector in names["sectors"].tolist()),
        **fields,
    )


def _session(arrays: "dict[str, np.ndarray]") -> SeenSession:
    session: date = arrays["session"].item()
    return SeenSession(
        session,
        arrays["bars"],
        arrays["delisted"],
        arrays["delisting_return"],
    )


def _texts(sectors: tuple[str | None, ...]) -> "np.ndarray":
    return np.array([sector or "" for sector in sectors], dtype=np.str_)


def _packed_session(seen: SeenSession) -> bytes:
    return _packed(
        {
            "session": np.array(seen.session, dtype="datetime64[D]"),
            "bars": seen.bars,
            "delisted": seen.delisted,
            "delisting_return": seen.delisting_return,
        }
    )


def _packed(arrays: "dict[str, np.ndarray]") -> bytes:
    sink = BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()
