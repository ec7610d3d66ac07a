"""What a fault is, and what it may know when it strikes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from adapters.ib_gateway.actions import Action
from adapters.ib_gateway.wire import names

if TYPE_CHECKING:
    from adapters.ib_gateway.faults import Rule
    from adapters.ib_gateway.gateway import Gateway

HOOKS = names(
    "greet ack modify work fill cancel end refusal whatif positions account summary open_orders "
    "completed executions contract history quote_request quote quote_end stream real_time grow "
    "head time answer stage intake parts keeps request handshake"
)
"""The events at which a fault may strike."""


@dataclass(frozen=True)
class Fault:
    """One way to go wrong.

    Attributes
    ----------
    about : str
        One sentence.
    hooks : tuple of str
        What it waits for; empty if it holds from the start.
    effect : function of a `Strike`
        What it does; what it returns depends on the hook.
    args : mapping of its arguments to their defaults
    lasting : bool
        Whether it meets every occurrence unless `times` says otherwise.
    at_once : bool
        Whether a script's moment is all it needs: it does not wait for an event.
    by_hand : bool
        Whether it is somebody at a terminal, and nothing is broken.
    """

    about: str
    hooks: tuple[str, ...]
    effect: Callable[["Strike"], Any]
    args: Mapping[str, Any] = field(default_factory=dict)
    lasting: bool = False
    at_once: bool = False
    by_hand: bool = False


@dataclass(frozen=True)
class Struck:
    """That a fault has struck: in which session, and about which stock; empty if about none."""

    session: date
    fault: str
    symbol: str


@dataclass(frozen=True)
class Strike:
    """A fault at work: on what, and in which gateway."""

    gateway: "Gateway"
    rule: "Rule"
    said: list[Action]
    about: Mapping[str, Any]

    def arg(self, name: str) -> Any:
        """Return an argument of the rule, or its default."""
        return self.rule.args.get(name, self.rule.fault.args[name])

    @property
    def clients(self) -> list[int]:
        """The client that the event is about; every connected one if it is about none."""
        order = self.about.get("order")
        client = self.about.get("client_id") if order is None else order.client_id
        return sorted(self.gateway.sessions) if client is None else [client]
