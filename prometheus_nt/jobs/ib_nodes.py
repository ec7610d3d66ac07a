"""Where the nodes of this home trade at the broker, for whoever asks beside them.

A node leaves the settings of its connection beside its journal; they hold no password.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.ib.config import LinkParams
from adapters.ib.recorded import RecordedOrders

NODE_FILE, JOURNAL_FILE = "node.json", "orders.journal"


@dataclass(frozen=True)
class IbNode:
    """A node's connection and its sleeves.

    Attributes
    ----------
    folder : where its journal is
    cash_tolerance : of the capital of all sleeves
    """

    folder: Path
    params: LinkParams
    sleeves: tuple[str, ...]
    cash_tolerance: float

    def orders(self) -> RecordedOrders:
        """Return what the node's journal knows by now."""
        file = self.folder / JOURNAL_FILE
        return RecordedOrders(file, self.params.account, self.params.client_id)


def node_folder(home: Path, params: LinkParams) -> Path:
    """Return the folder of an account and a client id."""
    return home / "ib" / f"{params.account}-{params.client_id}"


def remember_node(
    home: Path, params: LinkParams, sleeves: Sequence[str], cash_tolerance: float
) -> None:
    """Leave what `node_of_sleeve` finds."""
    said = {
        "params": params.model_dump(mode="json"),
        "sleeves": list(sleeves),
        "cash_tolerance": cash_tolerance,
    }
    file = node_folder(home, params) / NODE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(said, indent=1), encoding="utf-8")


def node_of_sleeve(home: Path, mode: str, sleeve_id: str) -> IbNode | None:
    """Return the node that traded a sleeve last, paper or live; None if none did from here."""
    files = sorted((home / "ib").glob(f"*/{NODE_FILE}"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        said = json.loads(file.read_text(encoding="utf-8"))
        params = LinkParams.model_validate(said["params"])
        if params.mode == mode and sleeve_id in said["sleeves"]:
            return IbNode(file.parent, params, tuple(said["sleeves"]), said["cash_tolerance"])
    return None
