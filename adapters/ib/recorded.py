"""What the journal of a node knows of its orders, read while the node may be writing it."""

from pathlib import Path

from adapters.ib.broker import Outcome, outcome_of
from adapters.ib.desk import recall
from adapters.ib.journal import journalled
from adapters.ib.orders import OwnOrders


class RecordedOrders:
    """The orders of one journal, as they stood when it was read; nobody is asked.

    Parameters
    ----------
    path : Path
        A file that is not there yet has no orders.
    account : str
    client_id : int
    """

    def __init__(self, path: Path, account: str, client_id: int) -> None:
        self._records = journalled(path)
        self._orders = OwnOrders(account)
        recall(self._orders, self._records, client_id)

    def outcome(self, ref: str) -> Outcome | None:
        """Return what is known of an order, or None if it was never written."""
        return outcome_of(self._orders.by_ref.get(ref))

    def noted(self, kind: str) -> list[dict[str, object]]:
        """Return the facts of a kind, oldest first."""
        return [record for record in self._records if record["kind"] == kind]
