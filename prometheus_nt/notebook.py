"""What a notebook asks for, as pandas: `load_panel` and `load_run`.

pandas begins here: everything below works on arrays. Sessions are a DatetimeIndex without a time
zone, as pyfolio, quantstats and most notebooks expect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from persistence.artifacts import RunFolder
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.record import FloatArray, SessionArray
from prometheus_nt.engines.numerics.returns import total_return_index, total_returns
from prometheus_nt.jobs.report import load_run_series
from prometheus_nt.jobs.selection import Selection, select_panel
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.reporting.series import RunSeries
from prometheus_nt.settings import Settings

Day = str | date

DERIVED = {"returns": total_returns, "total_return_index": total_return_index}
"""Fields that are computed: simple returns of a holder, and what 1 grew to, dividends included."""


@dataclass(frozen=True, eq=False)
class PanelFrames:
    """A market panel with pandas at its edge.

    Attributes
    ----------
    panel : MarketPanel
        The arrays themselves; engines take this.
    """

    dataset: str
    panel: MarketPanel

    def __len__(self) -> int:
        return len(self.panel)

    @property
    def instruments(self) -> tuple[str, ...]:
        return self.panel.instruments

    @cached_property
    def sessions(self) -> pd.DatetimeIndex:
        """The sessions, without a time zone."""
        return _index(self.panel.sessions)

    def to_frame(self, field: str = "close") -> pd.DataFrame:
        """Return one field, a row per session and a column per instrument; NaN where not traded.

        Parameters
        ----------
        field : str
            open, high, low, close, volume (as traded), split, dividend; or returns,
            total_return_index (of a holder).

        Raises
        ------
        ConfigError
            If there is no such field.
        """
        if field in PANEL_FIELDS:
            values: FloatArray = getattr(self.panel, field)
        elif field in DERIVED:
            values = self.panel.derived(DERIVED[field])
        else:
            known = ", ".join((*PANEL_FIELDS, *DERIVED))
            raise ConfigError(f"field: unknown {field!r}; known: {known}")
        columns = pd.Index(self.instruments, name="instrument_id")
        return pd.DataFrame(np.array(values), index=self.sessions, columns=columns)

    def __repr__(self) -> str:
        span = f"{self.panel.sessions[0]} to {self.panel.sessions[-1]}"
        return f"{self.dataset}: {len(self):,} sessions {span}, {len(self.instruments)} instruments"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>{self.to_frame().tail().to_html()}"


@dataclass(frozen=True, eq=False)
class RunFrames:
    """A finished run with pandas at its edge.

    Attributes
    ----------
    series : RunSeries
        The run as aligned arrays.
    statistics : dict
        Its figures, by the names of `statistics.json`.
    """

    series: RunSeries
    statistics: dict[str, Any]
    folder: RunFolder

    @property
    def run_id(self) -> str:
        return self.series.run_id

    @cached_property
    def sessions(self) -> pd.DatetimeIndex:
        """The sessions that the run traded, without a time zone."""
        return _index(self.series.sessions)

    @cached_property
    def equity(self) -> pd.Series:
        """Equity at each close, USD."""
        return pd.Series(self.series.equity, index=self.sessions, name="equity")

    @cached_property
    def returns(self) -> pd.Series:
        """Simple returns per session; the first is measured from the starting capital."""
        return pd.Series(self.series.returns, index=self.sessions, name=self.series.sleeve_id)

    @cached_property
    def benchmark_returns(self) -> pd.Series | None:
        """Simple returns of the benchmark from the second session on; None without one."""
        values = self.series.benchmark_returns
        if values is None:
            return None
        return pd.Series(values, index=self.sessions[1:], name=self.series.benchmark_id)

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Signed positions at each close, as fractions of equity."""
        columns = pd.Index(self.series.instruments, name="instrument_id")
        return pd.DataFrame(self.series.weights, index=self.sessions, columns=columns)

    def table(self, name: str) -> pd.DataFrame:
        """Return one table of the run's folder: orders, fills, positions or equity."""
        return pd.DataFrame(self.folder.read_table(f"{name}.parquet"))

    def __repr__(self) -> str:
        span = f"{self.series.sessions[0]} to {self.series.sessions[-1]}"
        return f"{self.series.sleeve_id} {self.run_id}: {len(self.series):,} sessions {span}"

    def _repr_html_(self) -> str:
        figures = pd.Series(
            {name: value for name, value in self.statistics.items() if np.isscalar(value)}
        )
        return f"<p>{escape(repr(self))}</p>{figures.to_frame('value').to_html()}"


def load_panel(
    dataset: str,
    start: Day | None = None,
    end: Day | None = None,
    symbols: Sequence[str] | None = None,
    as_of: Day | None = None,
) -> PanelFrames:
    """Return a dataset, or a part of it.

    Parameters
    ----------
    start, end : str or date, optional
        First and last day; days without trading roll inwards.
    symbols : sequence of str, optional
        Store ids, or names in any scheme as of the last session.
    as_of : str or date, optional
        Nothing later than its close is handed out.

    Raises
    ------
    PrometheusError
        If there is no such dataset, session or symbol.
    """
    days = [_day(name, day) for name, day in (("start", start), ("end", end), ("as_of", as_of))]
    chosen = [symbols] if isinstance(symbols, str) else symbols
    with open_stores(Settings.from_environment()) as stores:
        return PanelFrames(
            dataset, select_panel(stores, Selection(dataset, days[0], days[1], chosen, days[2]))
        )


def load_run(run: str = "latest") -> RunFrames:
    """Return a finished run by its id, the beginning of it, or `latest`.

    Raises
    ------
    StoreError
        If no one run matches, or its files are gone.
    """
    with open_stores(Settings.from_environment()) as stores:
        run_id = stores.runtime.find_run(run)["run_id"]
        folder = RunFolder(stores.settings.runs_dir, run_id)
    return RunFrames(load_run_series(folder), folder.read_json("statistics.json"), folder)


def _index(sessions: SessionArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(sessions.astype("datetime64[ns]"), name="session")


def _day(name: str, day: Day | None) -> date | None:
    if day is None or isinstance(day, date):
        # A Timestamp or a datetime is a date with hours: only its day counts.
        return day.date() if isinstance(day, pd.Timestamp) else day
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise ConfigError(f"{name}: {day!r} is no day; write it as 2008-09-12") from None
