"""What trades now, on paper or live, and the switches that stop it.

A run's switch is its sleeve's. `ALL` instead of a run's id is the switch that every sleeve obeys.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from persistence.broker_reports import BrokerReport, newest
from persistence.desk_books import Held, held_at
from persistence.desk_live import (
    accounts_of,
    leases_of,
    open_orders_of,
    traded_run,
    traded_runs,
)
from persistence.desk_trades import wanted_at
from persistence.standing import Record
from prometheus_nt.domain.errors import ConfigError, DataError, TradingHalted
from prometheus_nt.domain.runs import Mode
from prometheus_nt.domain.safety import ALL, HaltCause, SwitchState, TradingState
from prometheus_nt.jobs import safety
from prometheus_nt.monitoring.access import Role
from prometheus_nt.monitoring.answers import Answer, AsOf, Name, Part
from prometheus_nt.monitoring.desk import Asking, Desk, OurDesk, needs
from prometheus_nt.monitoring.routes.common import only, reasons

router = APIRouter(prefix="/api/desk", tags=["desk"])

TRADE = [Depends(needs(Role.TRADE))]
MOST_ORDERS = 500
NO_ACCOUNT = "no close of this run has been recorded up to this session"
NOT_IN_ACCOUNT = "what was recorded of this run's last close does not tell"
NO_BOOK = "no book of this run has been recorded up to this session"
NO_LEASE = "no process has ever traded this run"
NO_TARGET = "the run had no target yet at this session"
NO_PRICE = "nothing is held of it, so the books have no price of it"
NO_EQUITY = "the book's equity is not known or not above 0"
NO_BROKER = (
    "no comparison of this run with its broker is recorded up to this session: at a broker every "
    "close ends with one, on the simulated exchange `prometheus reconcile` makes one"
)

Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
State = Literal["RUNNING", "STOPPED", "FLATTENING", "HALTED"]


class Switch(Part):
    """How a kill switch stands. scope : whose it is; ALL is every sleeve's.

    cause, reason, by, at : null if nobody ever moved it; cause is null while it is armed.
    """

    scope: str
    state: TradingState
    cause: HaltCause | None
    reason: str | None
    by: str | None
    at: datetime | None


class Trading(Part):
    """A run that trades. state : what its switch says; else RUNNING while a process trades it.

    session : of the newest account; money in USD and exposures as fractions of equity are of its
        close, null without one.
    broker_at, broker_breaks : when the broker was last heard, and of how many instruments it held
        something else than the books; null if it never was.
    owner, lease_until : which process trades it, and until when it may without saying so again.
    unknown : field -> why it is null.
    """

    run_id: str
    sleeve_id: str
    strategy_id: str
    market_id: str
    mode: Mode
    state: State
    status: str
    session: date | None
    equity: float | None
    cash: float | None
    drawdown: float | None
    gross_exposure: float | None
    net_exposure: float | None
    positions: int | None
    open_orders: int
    broker_at: datetime | None
    broker_breaks: int | None
    owner: str | None
    lease_until: datetime | None
    switch: Switch
    unknown: dict[str, str] = Field(default_factory=dict)


class TradingDesk(Answer):
    """The newest run of each sleeve that trades, and the switch that all of them obey."""

    kill_switch: Switch
    runs: list[Trading]


class Line(Part):
    """What a run holds and wants of an instrument.

    target_weight : of equity; null before the run had a target, 0 where it wants none.
    price : of a share at the last close; null where nothing is held, and with it `target_shares`
        and `difference`, which is how many shares are still to be traded: none of what is neither
        held nor wanted.
    broker_shares, broker_difference : of the broker's account when it was last compared, and what
        that was beyond our books then; null where it never was.
    unknown : field -> why it is null.
    """

    instrument_id: str
    shares: float
    market_value: float
    price: float | None
    target_weight: float | None
    target_shares: float | None
    difference: float | None
    broker_shares: float | None
    broker_difference: float | None
    unknown: dict[str, str]


class Heard(Part):
    """What a broker said of an account, whose books were compared with it, and when.

    session : the newest close of the books; null before their first.
    runs : that share the account: its shares are theirs together.
    breaks : instruments of which it held something else than the books. cash : USD.
    """

    account_id: str
    at: datetime
    session: date | None
    runs: list[str]
    cash: float
    breaks: int


class OpenOrder(Part):
    """An order that may still fill."""

    order_id: str
    timestamp: datetime
    instrument_id: str
    side: str
    order_type: str
    quantity: float
    filled_quantity: float
    status: str


class TradingDetail(Answer):
    """A run that trades, in full. book_session, target_session : of what is held, and wanted."""

    run: Trading
    book_session: date | None
    target_session: date | None
    broker: Heard | None
    positions: list[Line]
    open_orders: list[OpenOrder]


class _Call(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Reason


class HaltCall(_Call):
    """Stop a sleeve, or all."""


class ConfirmedCall(_Call):
    """What needs a name typed once more. confirm : the sleeve's id, or ALL."""

    confirm: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Moved(Answer):
    """A switch that was moved. holds : what holds for its sleeve now, which may be another's."""

    moved: Switch
    holds: Switch


@router.get("")
def trading_desk(desk: OurDesk) -> TradingDesk:
    """Return every sleeve that trades, with its account, its process and its switch."""
    runs = traded_runs(desk.stores.runtime.database)
    return TradingDesk(kill_switch=_switch(_holds(desk, ALL)), runs=_rows(desk, runs, None))


@router.get("/{run_id}")
def trading_run(desk: OurDesk, run_id: Name, as_of: AsOf = None) -> TradingDetail:
    """Return what a run that trades holds, wants, and still has in the market."""
    run = _run(desk, run_id)
    database = desk.stores.runtime.database
    row = _rows(desk, [run], as_of)[0]
    held, wanted = held_at(database, run, as_of), wanted_at(database, run, as_of)
    heard = _heard(desk, [run], as_of).get(run["run_id"])
    book = {
        "book_session": None if held is None else held.session,
        "target_session": None if wanted is None else wanted.session,
    }
    broker = None if heard is None else _said(heard)
    return TradingDetail(
        run=row,
        positions=_lines(held, None if wanted is None else wanted.weights, heard),
        open_orders=[
            OpenOrder(**only(order, OpenOrder))
            for order in open_orders_of(database, run["run_id"], MOST_ORDERS)
        ],
        broker=broker,
        unknown={f"run.{name}": why for name, why in row.unknown.items()}
        | reasons(book, NO_BOOK)
        | reasons({"broker": broker}, NO_BROKER),
        **book,
    )


@router.post("/{run_id}/halt", dependencies=TRADE)
def halt_run(desk: OurDesk, who: Asking, run_id: Name, call: HaltCall) -> Moved:
    """Let nothing leave a run's sleeve, or any sleeve (`ALL`), until it is armed again."""
    scope = _scope(desk, run_id)
    return _moved(desk, safety.halt(desk.stores, scope, call.reason, who.name))


@router.post("/{run_id}/flatten", dependencies=TRADE)
def flatten_run(desk: OurDesk, who: Asking, run_id: Name, call: ConfirmedCall) -> Moved:
    """Let a run's sleeve close what it holds, and nothing else."""
    scope = _scope(desk, run_id)
    if scope == ALL:
        raise ConfigError("ALL: only one sleeve is closed at a time; name its run")
    if call.confirm != scope:
        raise ConfigError(f"confirm: expected {scope!r}, the sleeve's id; found {call.confirm!r}")
    return _moved(desk, safety.flatten(desk.stores, scope, call.reason, who.name))


@router.post("/{run_id}/arm", dependencies=TRADE)
def arm_run(desk: OurDesk, who: Asking, run_id: Name, call: ConfirmedCall) -> Moved:
    """Let a run's sleeve trade again, or all that are not halted themselves (`ALL`)."""
    scope = _scope(desk, run_id)
    return _moved(desk, safety.arm(desk.stores, scope, call.reason, who.name, call.confirm))


def _run(desk: Desk, run_id: str) -> Record:
    run = traded_run(desk.stores.runtime.database, run_id)
    if run is None:
        raise DataError(f"{run_id}: no run on paper or live has this id; /api/desk lists them")
    return run


def _scope(desk: Desk, run_id: str) -> str:
    return ALL if run_id == ALL else str(_run(desk, run_id)["sleeve_id"])


def _holds(desk: Desk, scope: str) -> SwitchState:
    try:
        return safety.switch_state(desk.stores, scope)
    except TradingHalted as broken:
        # A record that was tampered with stops trading; the desk must still be seen.
        return SwitchState(scope, TradingState.HALTED, HaltCause.RECORD, str(broken), "record")


def _moved(desk: Desk, done: SwitchState) -> Moved:
    return Moved(moved=_switch(done), holds=_switch(_holds(desk, done.scope)))


def _switch(state: SwitchState) -> Switch:
    return Switch(
        scope=state.scope,
        state=state.state,
        cause=state.cause,
        reason=state.reason or None,
        by=state.by or None,
        at=state.at,
    )


def _rows(desk: Desk, runs: list[Record], as_of: date | None) -> list[Trading]:
    database = desk.stores.runtime.database
    run_ids = [run["run_id"] for run in runs]
    accounts, leases = accounts_of(database, run_ids, as_of), leases_of(database, run_ids)
    heard = _heard(desk, runs, as_of)
    return [
        _row(
            desk,
            run,
            accounts.get(run["run_id"], {}),
            leases.get(run["run_id"], {}),
            heard.get(run["run_id"]),
        )
        for run in runs
    ]


def _row(
    desk: Desk,
    run: Record,
    account: Record,
    lease: Record,
    heard: BrokerReport | None,
) -> Trading:
    switch = _holds(desk, run["sleeve_id"])
    waiting = open_orders_of(desk.stores.runtime.database, run["run_id"], MOST_ORDERS)
    facts = {name: account.get(name) for name in ("equity", "cash", "drawdown", "positions")}
    facts |= {
        name: _share(account.get(name), account.get("equity"))
        for name in ("gross_exposure", "net_exposure")
    }
    facts["session"] = account.get("as_of_date")
    holder = {name: lease.get(name) for name in ("owner", "lease_until")}
    broker = {
        "broker_at": None if heard is None else heard.at,
        "broker_breaks": None if heard is None else len(heard.breaks),
    }
    return Trading(
        **only(run, Trading),
        **facts,
        **holder,
        **broker,
        state=_state(switch.state, run["status"], lease.get("lease_until")),
        open_orders=len(waiting),
        switch=_switch(switch),
        unknown=reasons(facts, NO_ACCOUNT if not account else NOT_IN_ACCOUNT)
        | reasons(holder, NO_LEASE)
        | reasons(broker, NO_BROKER),
    )


def _heard(desk: Desk, runs: list[Record], as_of: date | None) -> dict[str, BrokerReport]:
    with desk.stores.runtime.database.reader() as connection:
        found = {run["run_id"]: newest(connection, run["run_id"], as_of) for run in runs}
    return {run_id: report for run_id, report in found.items() if report is not None}


def _said(heard: BrokerReport) -> Heard:
    return Heard(
        account_id=heard.account_id,
        at=heard.at,
        session=heard.as_of,
        runs=list(heard.runs),
        cash=heard.cash,
        breaks=len(heard.breaks),
    )


def _share(usd: float | None, equity: float | None) -> float | None:
    """Return money as a fraction of equity; None without equity."""
    return None if usd is None or not equity or equity < 0.0 else usd / equity


def _state(switch: TradingState, status: str, until: object) -> State:
    if switch is not TradingState.ARMED:
        return "HALTED" if switch is TradingState.HALTED else "FLATTENING"
    held = isinstance(until, datetime) and until > datetime.now(UTC)
    return "RUNNING" if held and status == "RUNNING" else "STOPPED"


def _lines(
    held: Held | None, weights: Mapping[str, float] | None, heard: BrokerReport | None
) -> list[Line]:
    rows = {} if held is None else {row["instrument_id"]: row for row in held.rows}
    equity = None if held is None else held.equity
    wanted = {name for name, weight in (weights or {}).items() if weight}
    theirs = set() if heard is None else heard.shares.keys() | heard.breaks.keys()
    return [
        _line(
            name,
            rows.get(name),
            None if weights is None else weights.get(name, 0.0),
            equity,
            heard,
        )
        for name in sorted(rows.keys() | wanted | theirs)
    ]


def _line(
    name: str,
    held: Record | None,
    weight: float | None,
    equity: float | None,
    heard: BrokerReport | None,
) -> Line:
    shares = 0.0 if held is None else held["quantity"]
    value = 0.0 if held is None else held["market_value"]
    price = value / shares if shares else None
    target = _target_shares(weight, equity, price)
    sizes = {"target_shares": target, "difference": None if target is None else target - shares}
    broker = {
        "broker_shares": None if heard is None else heard.shares.get(name, 0.0),
        "broker_difference": None if heard is None else heard.breaks.get(name, 0.0),
    }
    why = NO_TARGET if weight is None else NO_PRICE if price is None else NO_EQUITY
    return Line(
        instrument_id=name,
        shares=shares,
        market_value=value,
        price=price,
        target_weight=weight,
        **sizes,
        **broker,
        unknown=reasons({"target_weight": weight}, NO_TARGET)
        | reasons({"price": price}, NO_PRICE)
        | reasons(sizes, why)
        | reasons(broker, NO_BROKER),
    )


def _target_shares(weight: float | None, equity: float | None, price: float | None) -> float | None:
    """Return how many shares a weight is, None if that is not known; of no weight, none are."""
    if weight == 0.0:
        return 0.0
    return None if price is None or weight is None or not equity else weight * equity / price
