"""Halts, preview, wind-down and reconciliation of a paper node at the simulated broker."""

from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.ib.journal import journalled
from adapters.ib_gateway.faults import read_rule
from prometheus_nt.cli import app
from prometheus_nt.config import IbConfig, load_config
from prometheus_nt.domain.errors import ConfigError, TradingHalted, VenueError
from prometheus_nt.domain.safety import HaltCause, TradingState
from prometheus_nt.jobs.gateway import GatewayRequest, build_gateway
from prometheus_nt.jobs.ib_nodes import node_of_sleeve, remember_node
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.preview import flatten_preview, preview
from prometheus_nt.jobs.reconcile import reconcile
from prometheus_nt.jobs.rehearse import QUICK
from prometheus_nt.jobs.safety import arm, flatten, halt, switch_state
from prometheus_nt.jobs.simulated_market import simulated_market

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
SLEEVE, ACCOUNT = "US_CORE_LONG_EQ_H5", "DU1234567"
START, DECIDED, END = date(2006, 1, 3), date(2006, 1, 9), date(2006, 1, 20)
"""At the close of `DECIDED` the sleeve orders for the next open."""


class Traded:
    """A market, and the node that trades there."""

    def __init__(self, stores, market, gateway):
        self.stores, self.market, self.gateway = stores, market, gateway
        config = load_config([CONFIG], ["mode=paper", "venue=ib"])
        sleeve = config.sleeves[0].model_copy(update={"horizon": 5})
        at = IbConfig(account=ACCOUNT, port=market.port, also_ports=(market.port,), patience=QUICK)
        self.node = config.model_copy(update={"sleeves": (sleeve,), "ib": at})

    def until(self, session, acknowledge=None, tell=None):
        """Run the node until a session is traded and its orders are sent."""
        asked = PaperRequest(start=START, until=session, acknowledge=acknowledge)
        (run,) = run_paper(self.node, self.stores, asked, self.market, tell, self.market.now)
        return run

    @property
    def book(self):
        return self.gateway.book

    def held(self):
        return {
            f"{self.book.stock(column).symbol}.US": item.shares
            for column, item in self.book.account.held().items()
        }

    def working(self):
        return [order for order in self.book.orders.values() if order.is_open]

    def strike(self, text):
        """Have a fault strike now."""
        self.market._in_loop(lambda: self._struck(text))

    def _struck(self, text):
        self.gateway.faults.add(read_rule(text))
        self.market._server._flush()

    def transfer(self, symbol, shares):
        """Have shares arrive that nobody traded."""
        column = next(c for c in self.book.account.held() if self.book.stock(c).symbol == symbol)
        self.market._in_loop(lambda: self.book.account.trade(column, shares, 0.0, 0.0))

    def pass_stages(self, count):
        for _ in range(count):
            self.market.wait(0.0)

    def switch(self):
        return switch_state(self.stores, SLEEVE)

    def reconciled(self, **options):
        return reconcile(self.stores, SLEEVE, "anna", now=self.market.now, **options)


@pytest.fixture
def traded(stores):
    with opened(stores) as found:
        yield found


@contextmanager
def opened(stores):
    gateway = build_gateway(stores, GatewayRequest("sample_ohlcv", START, END, fast=True))
    with simulated_market(gateway) as market:
        yield Traded(stores, market, gateway)


def test_the_record_and_the_broker_agree_while_orders_work_there(traded):
    traded.until(DECIDED)
    assert traded.working()

    found = traded.reconciled()

    assert found.breaks == ()
    assert found.as_of == DECIDED
    assert found.positions == len(traded.held()) > 0
    assert found.open_orders == len(traded.working())
    assert found.notes == ()
    assert found.switch.state is TradingState.ARMED


def test_what_the_node_has_heard_since_its_record_counts(traded):
    traded.until(DECIDED)
    traded.pass_stages(2)
    before = traded.reconciled(pull=False)
    traded.until(DECIDED)

    found = traded.reconciled()

    # While the node is away, nobody hears what fills.
    assert {each.kind for each in before.breaks} == {"position", "open order"}
    assert found.breaks == ()
    assert found.open_orders == 0
    assert "cash is not compared" in found.notes[0]


def test_shares_that_nobody_traded_are_a_break_and_halt(traded):
    traded.until(DECIDED)
    name, shares = next(iter(traded.held().items()))
    traded.transfer(name.removesuffix(".US"), 7)

    kept = traded.reconciled(pull=False)
    found = traded.reconciled()

    (only,) = found.breaks
    assert (only.kind, only.subject) == ("position", name)
    assert (only.recorded, only.at_venue, only.difference) == (shares, shares + 7, 7)
    assert kept.switch.state is TradingState.ARMED
    assert (found.switch.state, found.switch.cause) == (
        TradingState.HALTED,
        HaltCause.RECONCILE_BREAK,
    )


def test_an_order_of_somebody_else_is_a_break(traded):
    traded.until(DECIDED)
    traded.strike("foreign_order")

    (only,) = traded.reconciled().breaks

    assert (only.kind, only.recorded, only.at_venue) == ("open order", None, "open")


def test_a_sleeve_that_no_node_of_this_home_traded_cannot_be_reconciled(traded):
    with pytest.raises(ConfigError, match="has traded nothing"):
        traded.reconciled()


def test_a_gateway_that_is_gone_is_an_error_and_no_break(stores):
    with opened(stores) as traded:
        traded.until(START)
        now = traded.market.now()
    home = stores.settings.home
    node = node_of_sleeve(home, "paper", SLEEVE)
    hurried = node.params.model_copy(update={"start_timeout_seconds": 0.2})
    remember_node(home, hurried, node.sleeves, node.cash_tolerance)

    with pytest.raises(VenueError):
        reconcile(stores, SLEEVE, "anna", now=lambda: now)

    assert switch_state(stores, SLEEVE).state is TradingState.ARMED


def test_a_preview_shows_what_was_sent_and_sends_nothing(traded):
    traded.until(DECIDED)
    placed = traded.book.placed

    (shown,) = preview(traded.node, traded.stores, now=traded.market.now)

    assert shown.as_of == DECIDED
    assert {(row.instrument, row.side, row.shares) for row in shown.rows} == {
        (
            f"{traded.book.stock(order.column).symbol}.US",
            "BUY" if order.side > 0 else "SELL",
            order.quantity,
        )
        for order in traded.working()
    }
    assert traded.book.placed == placed


def test_a_preview_needs_no_broker_before_the_first_session(traded):
    (shown,) = preview(traded.node, traded.stores, START, traded.market.now)

    assert shown.rows == ()
    assert traded.book.placed == 0


def test_a_preview_that_would_have_to_guess_a_fill_says_so(traded):
    traded.until(DECIDED)
    traded.pass_stages(3)

    with pytest.raises(VenueError, match="has not heard what became of it at the open"):
        preview(traded.node, traded.stores, now=traded.market.now)


def test_a_sleeve_is_wound_down_at_the_broker_and_then_halted(traded):
    traded.until(DECIDED)
    waiting, held = traded.working(), traded.held()
    shown = flatten_preview(traded.stores, SLEEVE)

    flatten(traded.stores, SLEEVE, "get out", "anna")
    run = traded.until(END)

    assert {row.instrument: row.shares for row in shown.rows} == held
    assert [order.status for order in waiting] == ["Cancelled"] * len(waiting)
    assert (run.positions, traded.held(), traded.working()) == (0, {}, [])
    assert (traded.switch().state, traded.switch().cause) == (
        TradingState.HALTED,
        HaltCause.OPERATOR,
    )
    closing = [order for order in traded.book.orders.values() if order not in waiting][-len(held) :]
    assert {f"{traded.book.stock(order.column).symbol}.US" for order in closing} == set(held)
    journal = next((traded.stores.settings.home / "ib").glob("*/orders.journal"))
    intents = [row["ref"] for row in journalled(journal) if row["kind"] == "intent"]
    assert {order.reference for order in traded.book.orders.values()} == set(intents)


def test_a_halt_cancels_what_works_at_the_broker_before_the_open(traded):
    traded.until(DECIDED)
    waiting, held = traded.working(), traded.held()
    halt(traded.stores, SLEEVE, "looks wrong", "anna")

    run = traded.until(END)

    assert [order.status for order in waiting] == ["Cancelled"] * len(waiting)
    assert traded.held() == held
    assert (run.last, traded.book.placed) == (END, len(traded.book.orders))


def test_what_the_broker_halts_for_needs_arming_after_it_was_acknowledged(traded):
    traded.until(DECIDED)
    waiting = traded.working()
    traded.strike("foreign_order")

    for _ in range(2):
        with pytest.raises(TradingHalted, match=r"UNKNOWN_ORDER.*arm what was halted"):
            traded.until(END)

    assert traded.switch().cause is HaltCause.BROKER
    assert "UNKNOWN_ORDER" in traded.switch().reason
    assert [order.status for order in waiting] == ["Cancelled"] * len(waiting)


def test_an_order_that_works_twice_at_the_broker_halts_the_node_and_every_start_after(traded):
    traded.until(DECIDED)
    sent = {order.perm_id for order in traded.working()}
    held, placed = traded.held(), traded.book.placed
    traded.strike("twin_order")

    for _ in range(2):
        with pytest.raises(TradingHalted, match=r"DUPLICATE_ORDER .*permanent ids"):
            traded.until(END)

    twins = [order for order in traded.book.orders.values() if order.perm_id not in sent]
    [twin] = [order for order in twins if order.order_id == 0]
    assert traded.switch().cause is HaltCause.BROKER
    assert "DUPLICATE_ORDER" in traded.switch().reason
    assert {traded.book.orders[perm_id].status for perm_id in sent} == {"Cancelled"}
    assert (twin.is_open, traded.held(), traded.book.placed) == (True, held, placed)


def test_an_acknowledged_halt_sends_nothing_until_it_is_armed(traded):
    traded.until(DECIDED)
    name, _ = next(iter(traded.held().items()))
    traded.transfer(name.removesuffix(".US"), 7)
    with pytest.raises(TradingHalted, match="POSITION_BREAK"):
        traded.until(DECIDED)
    traded.transfer(name.removesuffix(".US"), -7)
    placed = traded.book.placed

    traded.until(date(2006, 1, 13), acknowledge="anna")

    assert (traded.book.placed, traded.switch().cause) == (placed, HaltCause.BROKER)
    arm(traded.stores, SLEEVE, "the transfer is back", "anna", SLEEVE)
    traded.until(END)
    assert traded.book.placed > placed


def test_reconcile_and_flatten_find_the_node_by_the_name_of_the_sleeve(traded, monkeypatch):
    traded.until(DECIDED)
    settings = traded.stores.settings
    monkeypatch.setenv("PROMETHEUS_HOME", str(settings.home))
    monkeypatch.setenv("PROMETHEUS_HISTORICAL_URL", traded.stores.historical.database.safe_url)
    monkeypatch.setenv("PROMETHEUS_RUNTIME_URL", traded.stores.runtime.database.safe_url)

    compared = CliRunner().invoke(app, ["reconcile", SLEEVE])
    closed = CliRunner().invoke(app, ["flatten", SLEEVE, "--reason", "out", "--yes"])

    assert compared.exit_code == 0, compared.output
    assert "0 breaks" in compared.output
    assert closed.exit_code == 0, closed.output
    assert traded.switch().state is TradingState.FLATTENING


@pytest.mark.parametrize("fault", ["cancel_pending", "cancel_races_fill", "fill_after_cancel"])
def test_an_order_that_fills_although_it_was_withdrawn_is_in_the_books(traded, fault):
    traded.until(DECIDED)
    traded.strike(fault)
    halt(traded.stores, SLEEVE, "looks wrong", "anna")

    run = traded.until(END)

    assert [hit.fault for hit in traded.market.struck] == [fault]
    assert run.last == END
    assert run.fills == len(traded.book.fills)
    assert traded.reconciled().breaks == ()
