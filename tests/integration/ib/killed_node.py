"""A paper node at a simulated gateway of another process; it is killed by the test.

The market moves on by the control port whenever the node waits.
"""

import json
import socket
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prometheus_nt.config import IbConfig, load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs import ib_venue
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.rehearse import QUICK
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

CONFIG = Path(__file__).parents[3] / "configs/us_core_long_eq_ohlcv.yaml"
ACCOUNT = "DU1234567"


def node(horizon: int = 5):
    # What these engines take of every start is most of its time, and they change no order here.
    config = load_config([CONFIG], ["mode=paper", "without=[regime,fragility]"])
    sleeve = config.sleeves[0].model_copy(update={"horizon": horizon})
    return config.model_copy(update={"sleeves": (sleeve,)})


class RemoteMarket:
    """The clock of a market that another process replays."""

    def __init__(self, port: int) -> None:
        self._calendar = MarketCalendar.of("US_EQ")
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._lines = self._socket.makefile("r")

    def _ask(self, command: str) -> dict:
        self._socket.sendall(f"{command}\n".encode())
        return json.loads(self._lines.readline())

    def now(self) -> datetime:
        status = self._ask("status")
        session = date.fromisoformat(status["session"])
        opens = datetime.fromtimestamp(self._calendar.open_ns(session) / 1e9, UTC)
        closes = self._calendar.close_time(session)
        return {
            "night": opens - timedelta(hours=5),
            "open": opens,
            "closed": closes + timedelta(minutes=10),
        }[status["stage"]]

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        self._ask("advance")
        return False


def main(
    home: str, historical: str, runtime: str, port: str, control: str, start: str, end: str
) -> None:
    # Between two orders is where a kill may land.
    ib_venue.BATCH = 1
    market = RemoteMarket(int(control))
    at = IbConfig(account=ACCOUNT, port=int(port), also_ports=(int(port),), patience=QUICK)
    config = node().model_copy(update={"venue": "ib", "ib": at})
    request = PaperRequest(start=date.fromisoformat(start), until=date.fromisoformat(end))
    with open_stores(Settings(Path(home), historical, runtime)) as stores:
        run_paper(config, stores, request, market, None, market.now)
