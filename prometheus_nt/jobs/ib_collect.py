"""Bring a session's bars from the broker after its close, for a node that waits for them.

1. `IbCollector.bring` asks once the bars may be final, and again from time to time: when, the rules
   of `day.daemon.jobs` say, as for a daemon that would do it beside the node.
2. In a thread with a connection of its own, the bars go the way of `prometheus data ingest ib`:
   through the gates into the dataset, counted as an ingest of the session. Meanwhile the node does
   its chores. All connections of a node count what they ask in one budget.
3. Whether enough bars are there, the node judges as it does for bars that come from elsewhere. A
   session that is late raises `data_late` with the names that are missing, once.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta

from adapters.gates.health import coverage
from adapters.ib.config import LinkParams, link_params
from adapters.ib.pacing import HistoryBudget
from adapters.ib.source import IbSource, LinkThread
from persistence.alerts import Alert, raise_alert, resolve
from persistence.health import HealthStore
from persistence.instruments import InstrumentStore
from prometheus_nt.actors.session_clock import Stop
from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.daily_jobs import JobKind
from prometheus_nt.domain.errors import (
    ConfigError,
    DataError,
    StoreError,
    StoreUnavailable,
    VenueError,
)
from prometheus_nt.jobs.data import IB, read_source, spec_of
from prometheus_nt.jobs.health import held
from prometheus_nt.jobs.readiness import DATA_LATE, MOST_NAMED, recorded_ingestion
from prometheus_nt.jobs.stores import Stores

LOOK_SECONDS = 0.1
CHORE_SECONDS = 5.0
MOST_SAID = 20
"""Missing names in the text of an alert; its details have more."""

log = logging.getLogger(__name__)


def require_collectable(config: NodeConfig, stores: Stores) -> None:
    """Raise `ConfigError` if a node is to collect bars, and its dataset is not made of such.

    Also if it is not said where the broker's gateway is.
    """
    name = config.data.dataset
    try:
        kind = spec_of(stores.historical.dataset(name)).kind
    except StoreError as unknown:
        raise ConfigError(f"data.collect: {unknown}") from unknown
    if kind != config.data.collect:
        raise ConfigError(
            f"data.collect: {config.data.collect}, and dataset {name!r} is made of {kind}; sources "
            f"do not blend: fill a dataset of its own with `prometheus data ingest {IB}`, or leave "
            "data.collect out and bring the bars beside the node"
        )
    _link(config, stores)


def _link(config: NodeConfig, stores: Stores) -> LinkParams:
    """Return the connection that asks for bars, beside the one that trades."""
    beside = {"client_id": stores.settings.ib_ingest_client_id}
    return link_params(stores.settings.ib, mode=config.mode, **config.ib.link | beside)


class IbCollector:
    """Brings the bars of a node's sessions, one session at a time."""

    def __init__(self, config: NodeConfig, stores: Stores, now: Callable[[], datetime]) -> None:
        self._config, self._stores, self._now = config, stores, now
        self._calendar = MarketCalendar.of(config.market)
        rules = config.day.daemon.rules
        self._rule = rules[JobKind.INGEST_PRICES]
        self._late_minutes = rules[JobKind.CHECK_DATA].late_after_minutes
        self._params = _link(config, stores)
        most = stores.settings.ib_requests_per_ten_minutes
        self._budget = HistoryBudget(time.monotonic, most=most)
        self._asked_at: datetime | None = None
        self._late: date | None = None

    def bring(self, session: date, stop: Stop, chore: Callable[[], None]) -> None:
        """Ask for a closed session's bars if it is time to; return once nobody is asked any more.

        Parameters
        ----------
        stop : event that ends the asking
        chore : done every few seconds meanwhile; what it raises ends the asking, and rises
        """
        if self._is_due(session):
            self._asked_at = self._now()
            self._ask(session, stop, chore)
        self._tell_if_late(session)

    def arrived(self) -> None:
        """End the alert that a session is late, perhaps of an earlier process."""
        with suppress(StoreUnavailable), self._stores.runtime.database.writer() as connection:
            resolve(connection, DATA_LATE, self._config.data.dataset)

    def _is_due(self, session: date) -> bool:
        begins = self._calendar.close_time(session) + timedelta(minutes=self._rule.delay_minutes)
        if self._asked_at is not None:
            begins = max(begins, self._asked_at + timedelta(seconds=self._rule.poll_seconds))
        return self._now() >= begins

    def _ask(self, session: date, stop: Stop, chore: Callable[[], None]) -> None:
        thread, moment = LinkThread(self._params, self._budget), self._now()
        with ThreadPoolExecutor(1, "collect") as pool:
            asking = pool.submit(self._collect, thread, session, moment)
            try:
                self._attend(asking, session, stop, chore)
            finally:
                thread.give_up()
        try:
            log.info("session=%s collected, %d rows written", session, asking.result())
        except (VenueError, DataError, StoreUnavailable) as failed:
            log.warning("session=%s is not collected: %s", session, failed)

    def _attend(
        self, asking: Future[int], session: date, stop: Stop, chore: Callable[[], None]
    ) -> None:
        """Wait for the asking, or for somebody who stops it."""
        chored = time.monotonic()
        while wait([asking], LOOK_SECONDS).not_done and not stop.is_set():
            if time.monotonic() - chored > CHORE_SECONDS:
                chore()
                self._tell_if_late(session)
                chored = time.monotonic()

    def _collect(self, thread: LinkThread, session: date, moment: datetime) -> int:
        """Bring what the dataset lacks of the sessions that are over; return the rows written."""
        store, dataset_id = self._stores.historical, self._config.data.dataset
        spec = replace(spec_of(store.dataset(dataset_id)), end=self._last(moment))
        minimum = self._config.day.min_data_coverage
        known = InstrumentStore(store.database).read()
        wanted = {name: known.contract(name, moment.date()) for name in self._names()}
        try:
            thread.start()
            with recorded_ingestion(store, dataset_id, session, minimum):
                source = IbSource(
                    thread,
                    dataset_id,
                    spec.market_id,
                    wanted,
                    spec.start,
                    spec.end,
                    forgiving=True,
                )
                return read_source(self._stores, source, spec, now=moment).rows_written
        finally:
            thread.close()

    def _names(self) -> list[str]:
        """Return the instruments of the dataset that the node reads."""
        config, chosen = self._config.data, self._config.instruments
        rows = self._stores.historical.coverage(config.dataset)
        stored = [str(row["instrument_id"]) for row in rows]
        if chosen == "all":
            return stored
        also = config.benchmark if config.benchmark_dataset is None else None
        return [name for name in stored if name in chosen or name == also]

    def _last(self, moment: datetime) -> date | None:
        """Return the last session whose bars may be final; None if none has begun since.

        With an end the broker has to be asked when each history begins, a third question a name.
        """
        final = self._calendar.roll_back(moment.date())
        settled = timedelta(minutes=self._rule.delay_minutes)
        while self._calendar.close_time(final) + settled > moment:
            final = self._calendar.previous_session(final)
        opens_ns = self._calendar.open_ns(self._calendar.next_session(final))
        return final if moment.timestamp() * 1e9 >= opens_ns else None

    def _tell_if_late(self, session: date) -> None:
        if self._late_minutes is None or self._late == session:
            return
        late = self._calendar.close_time(session) + timedelta(minutes=self._late_minutes)
        if self._now() < late:
            return
        with suppress(StoreUnavailable):
            missing, expected = self._missing(session)
            if not missing:
                return
            dataset_id = self._config.data.dataset
            more = f" and {len(missing) - MOST_SAID} more" if len(missing) > MOST_SAID else ""
            text = (
                f"{dataset_id}: the broker has no bar of {session} {self._late_minutes:g} minutes "
                f"after its close for {len(missing)} of {expected} instruments: "
                f"{', '.join(missing[:MOST_SAID])}{more}; nothing is decided until "
                f"{self._config.day.min_data_coverage:.0%} are here"
            )
            details = {"session": session.isoformat(), "missing": missing[:MOST_NAMED]}
            alert = Alert(DATA_LATE, "WARNING", dataset_id, text, details, self._now())
            with self._stores.runtime.database.writer() as connection:
                raise_alert(connection, alert)
            log.error("%s", text)
            self._late = session

    def _missing(self, session: date) -> tuple[list[str], int]:
        """Return who has no bar of a session, if too few have one, and of how many it is wanted."""
        store, wanted = self._stores.historical, set(self._names())
        health = HealthStore(store.database)
        holdings = [
            each
            for each in held(health, self._config.data.dataset, self._calendar, session)
            if each.instrument_id in wanted
        ]
        received, expected = coverage(holdings, session, self._calendar)
        if received >= self._config.day.min_data_coverage * expected:
            return [], expected
        silent = (each for each in holdings if not each.delisted and each.last != session)
        return [each.instrument_id for each in silent], expected
