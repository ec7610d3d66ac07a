"""A client without a socket: requests in, what the gateway wants said out."""

from typing import Any

from adapters.ib_gateway.actions import Action, Later, Send
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.requests import REQUESTS, encode

PLAIN_ORDER = {
    "symbol": "AAPL",
    "secType": "STK",
    "exchange": "SMART",
    "currency": "USD",
    "conId": "0",
    "action": "BUY",
    "totalQuantity": 100,
    "orderType": "MKT",
    "tif": "DAY",
    "transmit": "1",
    "parentId": "0",
}


class Driver:
    """Client 1 of a gateway; what waits for later waits until `later` is called."""

    def __init__(self, gateway: Gateway, client_id: int = 1, version: int = 187) -> None:
        self.gateway, self.client_id, self.version = gateway, client_id, version
        self.waiting: list[Later] = []
        self.actions: list[Action] = []
        assert gateway.connect(client_id, version)
        self.collect()
        self.actions.clear()

    def request(self, name: str, **values: Any) -> list[Send]:
        fields = dict.fromkeys(REQUESTS[name].field_names(), "")
        payload = encode(name, fields | values, self.version)
        self.gateway.receive(self.client_id, payload)
        return self.collect()

    def place(self, order_id: int, **values: Any) -> list[Send]:
        return self.request("placeOrder", **(PLAIN_ORDER | {"orderId": order_id} | values))

    def advance(self, stage: Any = None) -> list[Send]:
        if stage is None:
            self.gateway.advance()
        else:
            self.gateway.advance_to(stage)
        return self.collect()

    def later(self) -> list[Send]:
        """Do what was to come later, and return what is said then."""
        due, self.waiting = self.waiting, []
        for item in due:
            self.gateway.outbox += item.actions()
        return self.collect()

    def collect(self) -> list[Send]:
        found: list[Send] = []
        while queued := self.gateway.drain():
            for action in queued:
                self.actions.append(action)
                if isinstance(action, Later):
                    self.waiting.append(action)
                elif isinstance(action, Send) and action.client_id == self.client_id:
                    found.append(action)
        return found


def names(said: list[Send]) -> list[str]:
    return [item.name for item in said]


def codes(said: list[Send]) -> list[int]:
    return [item.values["code"] for item in said if item.name == "error"]


def statuses(said: list[Send]) -> list[str]:
    return [item.values["status"] for item in said if item.name == "orderStatus"]
