"""Opening the two databases that every job needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from persistence import schema
from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.runtime import RuntimeStore
from persistence.trials import TrialLedger
from prometheus_nt.settings import Settings


@dataclass(frozen=True)
class Stores:
    """Where jobs read from and write to."""

    settings: Settings
    historical: HistoricalStore
    runtime: RuntimeStore

    @property
    def trials(self) -> TrialLedger:
        """The ledger of everything that was tried, in the runtime database."""
        return TrialLedger(self.runtime.database)


@contextmanager
def open_stores(settings: Settings, *, upgrade: bool = False) -> Iterator[Stores]:
    """Yield the stores; `upgrade` brings both schemas up to date first."""
    databases = {
        "historical": Database.open(settings.historical_url),
        "runtime": Database.open(settings.runtime_url),
    }
    try:
        if upgrade:
            for branch, database in databases.items():
                schema.upgrade(database, branch)
        yield Stores(
            settings,
            HistoricalStore(databases["historical"]),
            RuntimeStore(databases["runtime"]),
        )
    finally:
        for database in databases.values():
            database.close()


def upgrade_schemas(settings: Settings) -> list[str]:
    """Bring both databases to the newest schema; return their addresses, without passwords."""
    with open_stores(settings, upgrade=True) as stores:
        return [stores.historical.database.safe_url, stores.runtime.database.safe_url]


def check_schemas(settings: Settings) -> list[str]:
    """Require both schemas to be exactly those of this version; return their addresses.

    Raises
    ------
    StoreError
        Naming the database and the first difference.
    """
    with open_stores(settings) as stores:
        schema.check(stores.historical.database, "historical")
        schema.check(stores.runtime.database, "runtime")
        return [stores.historical.database.safe_url, stores.runtime.database.safe_url]
