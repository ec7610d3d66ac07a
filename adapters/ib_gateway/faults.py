"""Faults: what goes wrong, at which occurrence of what, how often; or at a moment of a script.

A rule is written `name:argument=value,...`. Arguments that every rule knows:

- `nth` (1): the occurrence of what the fault waits for at which it begins;
- `times`: how many occurrences it then meets, 0 is all of them;
- `symbol`, `client`: only what is about that stock, or that client;
- `on`: another event to wait for, one of `HOOKS`.
"""

import difflib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import Field

from adapters.ib_gateway.actions import Action, Later
from adapters.ib_gateway.fault import HOOKS, Fault, Strike, Struck
from adapters.ib_gateway.fault_table import FAULTS, WALK
from adapters.ib_gateway.market import Stage
from adapters.ib_gateway.orders import Order
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import Params

if TYPE_CHECKING:
    from adapters.ib_gateway.data import DataDesk
    from adapters.ib_gateway.gateway import Gateway
    from adapters.ib_gateway.requests import Request
    from adapters.ib_gateway.session import Session

COMMON = ("nth", "times", "symbol", "client", "on")


@dataclass
class Rule:
    """A fault with its arguments, and how often it has struck."""

    name: str
    args: Mapping[str, Any]
    nth: int = 1
    times: int = 1
    symbol: str | None = None
    client: int | None = None
    on: str | None = None
    seen: int = 0

    @property
    def fault(self) -> Fault:
        return FAULTS[self.name]

    @property
    def hooks(self) -> tuple[str, ...]:
        return self.fault.hooks if self.on is None else (self.on,)

    def strikes(self) -> bool:
        """Count an occurrence; return whether the fault meets it."""
        self.seen += 1
        past = self.seen - self.nth
        return past >= 0 and (self.times == 0 or past < self.times)


def read_rule(text: str) -> Rule:
    """Return the rule that `name:argument=value,...` says.

    Raises
    ------
    ConfigError
        If the fault or an argument is not known, or a value cannot be read.
    """
    name, _, rest = text.strip().partition(":")
    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, 1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else "`prometheus gateway --list-faults` lists them"
        )
        raise ConfigError(f"fault {text!r}: unknown fault {name!r}; {hint}")
    fault = FAULTS[name]
    given = dict(_pair(text, item) for item in rest.split(",") if item)
    unknown = sorted(set(given) - set(fault.args) - set(COMMON))
    if unknown:
        known = ", ".join((*fault.args, *COMMON))
        raise ConfigError(f"fault {text!r}: unknown argument {unknown[0]!r}; known: {known}")
    rule = Rule(name, {}, times=0 if fault.lasting else 1)
    args = {
        key: _typed(text, key, given[key], fault.args[key]) for key in fault.args if key in given
    }
    client = _typed(text, "client", given["client"], 0) if "client" in given else None
    if given.get("on", HOOKS[0]) not in HOOKS:
        raise ConfigError(f"fault {text!r}: on: expected one of {', '.join(HOOKS)}")
    return Rule(
        name,
        args,
        nth=_typed(text, "nth", given.get("nth", "1"), 1),
        times=_typed(text, "times", given.get("times", str(rule.times)), 1),
        symbol=given.get("symbol"),
        client=client,
        on=given.get("on"),
    )


def _pair(text: str, item: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not separator:
        raise ConfigError(f"fault {text!r}: expected argument=value, found {item!r}")
    return key.strip(), value.strip()


def _typed(text: str, key: str, value: str, like: Any) -> Any:
    try:
        return type(like)(value)
    except ValueError:
        kind = type(like).__name__
        raise ConfigError(f"fault {text!r}: {key}: expected {kind}, found {value!r}") from None


class ScriptMoment(Params):
    """When a fault of a script begins: all that is given must have come.

    session : session on whose `stage` it begins.
    orders : orders that the gateway has taken by then.
    seconds : wall seconds since the start.
    """

    session: date | None = None
    stage: str = Field("open", pattern="^(night|open|closed)$")
    orders: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, ge=0)


class ScriptEntry(Params):
    """One line of a script: a moment and a rule."""

    at: ScriptMoment
    fault: str


class Script(Params):
    """Faults by their moments."""

    faults: tuple[ScriptEntry, ...]


def random_rules(seed: int, count: int) -> list[Rule]:
    """Return a seeded choice of faults after which a good client still ends right."""
    rng = random.Random(seed)
    chosen = [rng.choice(WALK) for _ in range(count)]
    return [
        read_rule(f"{text}{',' if ':' in text else ':'}nth={rng.randint(1, 6)}") for text in chosen
    ]


class Faults:
    """All faults of a gateway, and where each stands.

    Parameters
    ----------
    rules : faults that wait from the start
    script : faults that begin at their moments

    Attributes
    ----------
    struck : list of Struck
        What has happened so far, oldest first.
    """

    def __init__(self, rules: Sequence[Rule] = (), script: Sequence[ScriptEntry] = ()) -> None:
        self.rules = list(rules)
        self._script = [(entry.at, read_rule(entry.fault)) for entry in script]
        self.stopped: set[int] = set()
        self.struck: list[Struck] = []

    def attach(self, gateway: "Gateway") -> None:
        """Begin: faults that hold from the start take hold."""
        self._gateway = gateway
        timed = [item for item in self._script if item[0].seconds is not None]
        for at, rule in timed:
            assert at.seconds is not None
            gateway.outbox.append(Later(at.seconds, lambda rule=rule: self._begin(rule)))  # type: ignore[misc]
        self._script = [item for item in self._script if item not in timed]

    def add(self, rule: Rule) -> None:
        """Begin a fault now."""
        self._gateway.outbox += self._begin(rule)

    def changed(self, hook: str, said: list[Action], about: Mapping[str, Any]) -> list[Action]:
        """Return what is said at an event after every fault that strikes there."""
        if hook == "ack":
            self._gateway.outbox += self._play(lambda at: at.orders is not None)
        for rule in self._striking(hook, about):
            said = rule.fault.effect(Strike(self._gateway, rule, said, about))
        return said

    def on_stage(self) -> None:
        """Strike what waits for a stage, and play what the script has for it."""
        gateway = self._gateway
        gateway.outbox += self._play(lambda at: at.session is not None)
        gateway.outbox += self.changed("stage", [], {})

    def intake(self, order: Order) -> bool:
        """Return whether an order reaches the book; may raise `Refused`."""
        results = [self._result(rule, order) for rule in self._about(order, "intake")]
        return all(results)

    def parts(self, order: Order) -> list[int]:
        """Return the shares of the fills that an order gets now."""
        if order.perm_id in self.stopped:
            return []
        for rule in self._about(order, "parts"):
            parts: list[int] = self._result(rule, order)
            return parts
        return [order.remaining]

    def keeps(self, order: Order) -> bool:
        """Return whether a cancel is not carried out."""
        return any([self._result(rule, order) for rule in self._about(order, "keeps")])

    def admits(self, session: "Session", request: "Request") -> bool:
        """Return whether a request is answered now."""
        about = {"client_id": session.client_id, "session": session, "request": request}
        striking = self._striking("request", about)
        return all([rule.fault.effect(self._strike(rule, about)) for rule in striking])

    def handshake(self) -> str:
        """Return what happens to a new connection: `hang`, `duplicate`, or nothing."""
        for rule in self._striking("handshake", {}):
            found: str = rule.fault.effect(self._strike(rule, {}))
            return found
        return ""

    def holding(self, name: str) -> Rule | None:
        """Return the rule of a fault that holds from the start, None if it is not asked for."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def accounts(self, account: str) -> str:
        """Return the accounts that clients are told."""
        rule = self.holding("wrong_accounts")
        return account if rule is None else str(rule.args.get("accounts", "DU9999999"))

    @property
    def paces(self) -> bool:
        """Whether the gateway delays messages that come too fast instead of refusing them."""
        return self.holding("silent_pacing") is not None

    def quoted(self, bid: float, ask: float) -> tuple[float, float]:
        """Return the quote that clients see."""
        return (ask, bid) if self.holding("crossed_quotes") else (bid, ask)

    def prepare(self, desk: "DataDesk") -> None:
        """Set the limits of a new client's market data."""
        desk.delayed_only = self.holding("delayed_only") is not None
        limit = self.holding("line_limit")
        if limit is not None:
            desk.most_lines = limit.args.get("lines", 1)

    def _play(self, kind: Callable[[ScriptMoment], bool]) -> list[Action]:
        due = [item for item in self._script if kind(item[0]) and self._has_come(item[0])]
        self._script = [item for item in self._script if item not in due]
        return [action for _, rule in due for action in self._begin(rule)]

    def _has_come(self, at: ScriptMoment) -> bool:
        gateway = self._gateway
        if at.session is not None:
            wanted = (at.session, Stage[at.stage.upper()])
            if (gateway.clock.session, gateway.clock.stage) < wanted:
                return False
        return at.orders is None or gateway.book.placed >= at.orders

    def _begin(self, rule: Rule) -> list[Action]:
        if not rule.fault.at_once or rule.on is not None:
            self.rules.append(rule)
            return []
        self._note(rule, None)
        said: list[Action] = rule.fault.effect(self._strike(rule, {}))
        return said

    def _strike(self, rule: Rule, about: Mapping[str, Any]) -> Strike:
        return Strike(self._gateway, rule, [], about)

    def _result(self, rule: Rule, order: Order) -> Any:
        return rule.fault.effect(self._strike(rule, {"order": order}))

    def _about(self, order: Order, hook: str) -> list[Rule]:
        return self._striking(hook, {"order": order})

    def _striking(self, hook: str, about: Mapping[str, Any]) -> list[Rule]:
        waiting = [
            rule for rule in self.rules if hook in rule.hooks and self._concerns(rule, about)
        ]
        striking = [rule for rule in waiting if rule.strikes()]
        for rule in striking:
            self._note(rule, self._column(about))
        return striking

    def _note(self, rule: Rule, column: int | None) -> None:
        symbol = "" if column is None else self._gateway.book.stock(column).symbol
        self.struck.append(Struck(self._gateway.clock.session, rule.name, symbol))

    def _column(self, about: Mapping[str, Any]) -> int | None:
        order = about.get("order")
        return about.get("column") if order is None else order.column

    def _concerns(self, rule: Rule, about: Mapping[str, Any]) -> bool:
        order = about.get("order")
        column = self._column(about)
        client = about.get("client_id") if order is None else order.client_id
        if rule.symbol is not None and (
            column is None or self._gateway.book.stock(column).symbol != rule.symbol
        ):
            return False
        return rule.client is None or rule.client == client
