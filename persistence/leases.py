"""Who may trade a run: one owner at a time, for a while at a time.

A lease ends by itself, so that a machine that died holds nobody up. Within one place, the folder of
a spool that a process holds exclusively, whoever held the lease before is gone, and it is taken
over at once. Every write of the owner asks for the lease again in its own transaction: one who
slept past the end of it can write nothing any more.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from persistence.database import Statement, upsert
from persistence.tables.trading import trading_leases as leases
from prometheus_nt.domain.errors import PhaseError, TradingHalted

LEASE = timedelta(minutes=5)

_RENEW = Statement(
    sa.update(leases)
    .where(leases.c.run_id == sa.bindparam("of"), leases.c.owner == sa.bindparam("mine"))
    .values(lease_until=sa.bindparam("lease_until"))
)


@dataclass(frozen=True)
class Lease:
    """The right to trade a run, of one process.

    owner : a name that no other process has.
    place : host and folder; of its processes only one can hold the spool of the run.
    """

    run_id: str
    owner: str
    place: str

    def take(self, connection: Connection) -> None:
        """Take the lease.

        Raises
        ------
        PhaseError
            If a process of another place holds it.
        """
        now = datetime.now(UTC)
        query = sa.select(leases).where(leases.c.run_id == self.run_id).with_for_update()
        held = connection.execute(query).mappings().first()
        if held is not None and held["place"] != self.place and held["lease_until"] > now:
            raise PhaseError(
                f"{self.run_id}: {held['owner']} at {held['place']} trades it until "
                f"{held['lease_until']:%Y-%m-%d %H:%M:%S} UTC; stop it, or wait until then"
            )
        row = (self.run_id, self.owner, self.place, now, now + LEASE)
        upsert(connection, leases, leases.columns.keys(), [row])

    def renew(self, connection: Connection) -> None:
        """Prolong the lease in the caller's transaction.

        Raises
        ------
        TradingHalted
            If somebody else has taken it.
        """
        mine = {"of": self.run_id, "mine": self.owner, "lease_until": datetime.now(UTC) + LEASE}
        if _RENEW.change(connection, mine) != 1:
            raise TradingHalted(
                f"{self.run_id}: the lease of {self.owner} was taken over; this process stops and "
                "positions stay"
            )

    def give_back(self, connection: Connection) -> None:
        """End the lease now."""
        mine = (leases.c.run_id == self.run_id) & (leases.c.owner == self.owner)
        connection.execute(sa.delete(leases).where(mine))
