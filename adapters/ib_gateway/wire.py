r"""The text protocol of the broker's gateway: frames, fields, and layouts of messages.

A frame is four bytes of length and a payload; a payload is fields that each end with a NUL, the
first of them the message's number. A `Layout` names the fields of one message in order, in a
notation of six tokens:

- `orderId` is a field; `'8'` is a literal, such as the version that old messages still carry;
- `>=158( duration )` and `<177( faProfile )` depend on the version of the connection;
- `?hedgeType( hedgeParam )` is there if the field before it is set, or if a named rule says so;
- `tags*( tag value )` is a count and that many groups.

One layout both writes and reads its message, so that neither can drift from the other.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from prometheus_nt.domain.errors import DataError

MOST_BYTES = 0xFFFFFF
"""Of a payload; the official client refuses longer ones too."""

UNSET_INT = 2**31 - 1
UNSET_DOUBLE_TEXT = "1.7976931348623157E308"
UNSET_DOUBLE = float(UNSET_DOUBLE_TEXT)

ESCAPED = frozenset({"longName", "errorText", "advancedJson"})
"""Fields whose text may leave ASCII; the clients undo the escapes of these alone."""

Values = dict[str, Any]


class WireError(DataError):
    """A frame or a message is not what the protocol says."""


def names(text: str) -> tuple[str, ...]:
    """Return the words of a text: long lists of field names read better without their quotes."""
    return tuple(text.split())


def frame(payload: bytes) -> bytes:
    """Return a payload with its length before it."""
    return struct.pack(">I", len(payload)) + payload


class Frames:
    """Cuts a stream of bytes into payloads."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that `data` completes.

        Raises
        ------
        WireError
            If a length is beyond `MOST_BYTES`: the stream is not at the start of a frame.
        """
        self._bytes += data
        while len(self._bytes) >= 4:
            (size,) = struct.unpack(">I", self._bytes[:4])
            if size > MOST_BYTES:
                raise WireError(f"frame: {size} bytes announced, expected at most {MOST_BYTES}")
            if len(self._bytes) < 4 + size:
                return
            payload, self._bytes = self._bytes[4 : 4 + size], self._bytes[4 + size :]
            yield payload


def fields_of(payload: bytes) -> list[str]:
    """Return the fields of a payload as text.

    Raises
    ------
    WireError
        If the last field is not ended.
    """
    if not payload.endswith(b"\0"):
        raise WireError(f"message: expected a NUL at the end, found {payload[-8:]!r}")
    return payload[:-1].decode("utf-8", "backslashreplace").split("\0")


def payload_of(fields: Sequence[str]) -> bytes:
    """Return fields as a payload."""
    return "".join(f"{field}\0" for field in fields).encode("ascii", "backslashreplace")


def text_of(value: Any) -> str:
    """Return a value as the wire writes it; None and NaN are empty, which clients read as unset."""
    match value:
        case None:
            return ""
        case bool():
            return str(int(value))
        case float() if math.isnan(value):
            return ""
        case float() if value == UNSET_DOUBLE:
            return UNSET_DOUBLE_TEXT
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def escaped(text: str) -> str:
    r"""Return text in ASCII, the rest as `\u00e9`: the form of names since version 153."""
    return text.encode("unicode_escape").decode("ascii")


def integer(text: str, unset: int = 0) -> int:
    """Return a field as an integer; an empty or unset one is `unset`.

    Raises
    ------
    WireError
        If it is not a number.
    """
    if text in ("", str(UNSET_INT), str(2**63 - 1)):
        return unset
    try:
        return int(text)
    except ValueError:
        raise WireError(f"field: expected an integer, found {text!r}") from None


def number(text: str) -> float | None:
    """Return a field as a finite number; None if it is empty or unset.

    Raises
    ------
    WireError
        If it is not a number.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise WireError(f"field: expected a number, found {text!r}") from None
    if math.isnan(value):
        raise WireError(f"field: expected a number, found {text!r}")
    return None if math.isinf(value) or value >= UNSET_DOUBLE else value


Rule = Callable[[Mapping[str, Any]], bool]


def _is_set(values: Mapping[str, Any], name: str) -> bool:
    return text_of(values.get(name)) not in ("", "0")


RULES: Mapping[str, Rule] = {
    "combo": lambda values: values.get("secType") == "BAG",
    "scaled": lambda values: (number(text_of(values.get("scaleIncrement"))) or 0.0) > 0,
    "pegBench": lambda values: values.get("orderType") in ("PEG BENCH", "PEGBENCH"),
    "atIbkrAts": lambda values: values.get("exchange") == "IBKRATS",
    "pegBest": lambda values: values.get("orderType") in ("PEG BEST", "PEGBEST"),
    "offsets": lambda values: (
        values.get("orderType") in ("PEG MID", "PEGMID")
        or text_of(values.get("competeOffset")).startswith("Infinit")
    ),
}
"""Named conditions of groups; any other name asks whether that field is set."""


@dataclass(frozen=True)
class _Node:
    """A token of a layout: a field, a literal or a group."""

    kind: str
    name: str
    inside: "tuple[_Node, ...]" = ()
    low: int = 0
    high: int = 10**9


_TOKEN = re.compile(r"'[^']*'|(?:>=|<)\d+\(|\?\w+\(|\w+\*\(|\)|\w+")


def _parsed(text: str) -> tuple[_Node, ...]:
    tokens = iter(_TOKEN.findall(text))
    return tuple(_nodes(tokens))


def _nodes(tokens: Iterator[str]) -> Iterator[_Node]:
    for token in tokens:
        if token == ")":
            return
        yield _node(token, tokens)


def _node(token: str, tokens: Iterator[str]) -> _Node:
    if not token.endswith("("):
        return _Node("literal", token[1:-1]) if token[0] == "'" else _Node("field", token)
    inside = tuple(_nodes(tokens))
    if token.startswith(">="):
        return _Node("gate", "", inside, low=int(token[2:-1]))
    if token.startswith("<"):
        return _Node("gate", "", inside, high=int(token[1:-1]))
    if token.startswith("?"):
        return _Node("when", token[1:-1], inside)
    return _Node("each", token[:-2], inside)


class Layout:
    """The fields of one message, in order.

    Parameters
    ----------
    number : int
        Of the message.
    text : str
        In the notation of the module.
    defaults : mapping
        Values of fields that a caller need not give.
    """

    def __init__(self, number: int, text: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.number = number
        self._nodes = _parsed(text)
        self._defaults = dict(defaults or {})

    def field_names(self) -> list[str]:
        """Return the names of every field outside repeated groups, at any version."""
        return list(_named(self._nodes))

    def encode(self, values: Mapping[str, Any], version: int) -> bytes:
        """Return the payload of a message for a connection of `version`.

        Raises
        ------
        WireError
            Naming the field that has neither a value nor a default.
        """
        known = self._defaults | dict(values)
        fields = [str(self.number)]
        self._write(self._nodes, known, version, fields)
        return payload_of(fields)

    def decode(self, fields: Sequence[str], version: int) -> Values:
        """Return the values of a message from its fields, without its number.

        Raises
        ------
        WireError
            If a field is missing or one is left over.
        """
        rest = iter(fields)
        values: Values = {}
        self._read(self._nodes, rest, version, values)
        left = list(rest)
        if left:
            raise WireError(f"message {self.number}: {len(left)} fields too many: {left[:5]}")
        return values

    def _write(
        self,
        nodes: Sequence[_Node],
        values: Mapping[str, Any],
        version: int,
        fields: list[str],
    ) -> None:
        for node in nodes:
            match node.kind:
                case "literal":
                    fields.append(node.name)
                case "field":
                    fields.append(self._text(node.name, values))
                case "each":
                    items = values.get(node.name) or ()
                    fields.append(str(len(items)))
                    for item in items:
                        self._write(node.inside, item, version, fields)
                case _ if _applies(node, values, version):
                    self._write(node.inside, values, version, fields)

    def _text(self, name: str, values: Mapping[str, Any]) -> str:
        if name not in values:
            raise WireError(f"message {self.number}: no value for field {name}")
        text = text_of(values[name])
        return escaped(text) if name in ESCAPED else text

    def _read(
        self, nodes: Sequence[_Node], rest: Iterator[str], version: int, values: Values
    ) -> None:
        for node in nodes:
            match node.kind:
                case "literal":
                    self._next(rest, node.name)
                case "field":
                    values[node.name] = self._next(rest, node.name)
                case "each":
                    count = integer(self._next(rest, node.name))
                    values[node.name] = [
                        self._group(node.inside, rest, version) for _ in range(count)
                    ]
                case _ if _applies(node, values, version):
                    self._read(node.inside, rest, version, values)

    def _group(self, nodes: Sequence[_Node], rest: Iterator[str], version: int) -> Values:
        item: Values = {}
        self._read(nodes, rest, version, item)
        return item

    def _next(self, rest: Iterator[str], name: str) -> str:
        found = next(rest, None)
        if found is None:
            raise WireError(f"message {self.number}: ends before field {name}")
        return found


def _named(nodes: Sequence[_Node]) -> Iterator[str]:
    for node in nodes:
        if node.kind == "field":
            yield node.name
        elif node.kind != "each":
            yield from _named(node.inside)


def _applies(node: _Node, values: Mapping[str, Any], version: int) -> bool:
    if node.kind == "gate":
        return node.low <= version < node.high
    rule = RULES.get(node.name)
    return rule(values) if rule is not None else _is_set(values, node.name)


@lru_cache(maxsize=64)
def agreed_version(offer: str, cap: int, lowest: int) -> int | None:
    """Return the version of a connection whose client offers `v157..178`; None if there is none.

    Raises
    ------
    WireError
        If the offer cannot be read.
    """
    found = re.match(r"v(\d+)(?:\.\.(\d+))?(?: |$)", offer)
    if found is None:
        raise WireError(f"handshake: expected v<min>..<max>, found {offer[:40]!r}")
    least = int(found[1])
    most = min(int(found[2] or found[1]), cap)
    return most if most >= max(least, lowest) else None
