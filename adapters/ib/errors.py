"""What the broker's error codes mean; texts are localised, so nothing is decided on them.

One code can mean two things: 200 refuses an order, and it also says that a question about a
contract has no answer. So there is a function for each of the three: an error with an order's id,
with a request's id, and with none.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from prometheus_nt.domain.errors import DataError, VenueError


class ErrorKind(StrEnum):
    """What an error calls for.

    INFORMATION : nothing; an order stays as it is
    REJECT : an order that was not accepted never will be; a change to an accepted one is refused
    MODIFY_REJECT : the change is refused, the order stays as it was
    CANCEL : an order is being cancelled; its status has the last word
    CANCEL_REJECT : the cancel is refused; ask for the order's true state
    LINK_LOST, RESTORED, RESTORED_DATA_LOST : the gateway's own link to the broker
    PACING : we send too fast; what was lost is unknown
    DATA : a request fails
    NO_DATA : a request has no answer: unknown contract, nothing stored
    SESSION : another session has the market data
    FARM_BAD, FARM_OK : health of a data farm
    CLIENT_ID : our client id is in use
    FATAL : a person must act before anything works
    """

    INFORMATION = "INFORMATION"
    REJECT = "REJECT"
    MODIFY_REJECT = "MODIFY_REJECT"
    CANCEL = "CANCEL"
    CANCEL_REJECT = "CANCEL_REJECT"
    LINK_LOST = "LINK_LOST"
    RESTORED = "RESTORED"
    RESTORED_DATA_LOST = "RESTORED_DATA_LOST"
    PACING = "PACING"
    DATA = "DATA"
    NO_DATA = "NO_DATA"
    SESSION = "SESSION"
    FARM_BAD = "FARM_BAD"
    FARM_OK = "FARM_OK"
    CLIENT_ID = "CLIENT_ID"
    FATAL = "FATAL"


def _table(*rows: tuple[ErrorKind, Iterable[int]]) -> Mapping[int, ErrorKind]:
    return {code: kind for kind, codes in rows for code in codes}


ORDER_ERRORS = _table(
    (ErrorKind.INFORMATION, (399, 404, 492, 10167, 10349)),
    (ErrorKind.CANCEL, (202,)),
    (ErrorKind.CANCEL_REJECT, (161, 10147, 10148)),
    (ErrorKind.MODIFY_REJECT, (104, 105, 329)),
    (ErrorKind.PACING, (100,)),
)
"""Code of an error that carries an order's id -> its kind; what is not here rejects."""

REQUEST_ERRORS = _table(
    (ErrorKind.INFORMATION, (10167, 10349)),
    (ErrorKind.NO_DATA, (200,)),
    (ErrorKind.PACING, (100, 101, 322, 10190)),
    (ErrorKind.SESSION, (10197,)),
)
"""Code of an error that carries a request's id -> its kind; what is not here fails the request."""

SYSTEM_ERRORS = _table(
    (ErrorKind.LINK_LOST, (1100, 1300, 2110)),
    (ErrorKind.RESTORED_DATA_LOST, (1101,)),
    (ErrorKind.RESTORED, (1102,)),
    (ErrorKind.PACING, (100,)),
    (ErrorKind.SESSION, (10197,)),
    (ErrorKind.FARM_BAD, (2103, 2105, 2157)),
    (ErrorKind.FARM_OK, (2104, 2106, 2158)),
    (ErrorKind.CLIENT_ID, (326,)),
    (ErrorKind.FATAL, (502, 503, 504, 505, 506, 507, 508, 509, 10141, 10285)),
)
"""Code of an error without an id -> its kind; what is not here informs."""

MESSAGES = range(2100, 2200)
"""Codes by which the gateway only tells something."""


def of_order(code: int) -> ErrorKind:
    """Return what a code means that carries an order's id; an unknown one rejects."""
    return _found(ORDER_ERRORS, code, ErrorKind.REJECT)


def of_request(code: int) -> ErrorKind:
    """Return what a code means that carries a request's id; an unknown one fails it."""
    return _found(REQUEST_ERRORS, code, ErrorKind.DATA)


def of_system(code: int) -> ErrorKind:
    """Return what a code means that carries no id; an unknown one informs."""
    return _found(SYSTEM_ERRORS, code, ErrorKind.INFORMATION)


def _found(table: Mapping[int, ErrorKind], code: int, otherwise: ErrorKind) -> ErrorKind:
    return table.get(code, ErrorKind.INFORMATION if code in MESSAGES else otherwise)


class LinkDown(VenueError):
    """There is no link to the broker now; nothing was sent."""

    def __init__(self, what: str, state: str, reason: str) -> None:
        super().__init__(
            f"ib: {what}: the link is {state} ({reason}); nothing was sent; wait until it is up"
        )
        self.what, self.state, self.reason = what, state, reason


class BrokerRefusal(DataError):
    """The broker refused a request; carries its code and its text, which may be localised."""

    def __init__(self, what: str, code: int, text: str) -> None:
        super().__init__(f"ib: {what}: error {code}: {text}")
        self.what, self.code, self.text = what, code, text

    @property
    def kind(self) -> ErrorKind:
        return of_request(self.code)


class NoAnswer(DataError):
    """A request was sent and not answered in time: the answer is unknown, not empty."""

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"ib: {what}: no answer within {seconds:g} seconds; ask again")
        self.what, self.seconds = what, seconds
