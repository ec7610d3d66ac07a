"""A node that asks the broker for its bars trades what it trades with bars that come beside it."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from adapters.ib.pacing import HistoryBudget
from adapters.ib_gateway.faults import read_rule
from adapters.ib_gateway.market import Stage
from persistence.health import HealthStore
from persistence.tables.historical import bars
from persistence.tables.trading import alerts
from prometheus_nt.config import IbConfig, load_config
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, TradingHalted
from prometheus_nt.jobs import ib_collect
from prometheus_nt.jobs.data import SourceSpec, ingest_named, origin_of
from prometheus_nt.jobs.gateway import GatewayRequest, build_gateway
from prometheus_nt.jobs.ib_collect import IbCollector
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_request import PaperRequest
from prometheus_nt.jobs.readiness import IngestionState, ingestion_status
from prometheus_nt.jobs.rehearse import QUICK
from prometheus_nt.jobs.simulated_market import simulated_market
from prometheus_nt.jobs.stores import open_stores

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
ACCOUNT, DATASET = "DU1234567", "mine"
NAMES = ("AAPL.US", "GOOG.US", "IBM.US", "MSFT.US")
START, END = date(2006, 1, 3), date(2006, 1, 11)
MADE = SourceSpec("ib", dataset=DATASET, symbols=NAMES, start=date(2004, 9, 1))


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """A gateway wants a pause between equal questions, which here come in the same minute."""
    monkeypatch.setattr(ib_collect, "HistoryBudget", partial(HistoryBudget, apart_seconds=0.0))


class Evening:
    """A market, and a node whose dataset the broker filled until the session before `START`."""

    def __init__(self, stores, market, gateway):
        self.stores, self.market, self.gateway = stores, market, gateway
        self.asked = []
        gateway_emit = gateway.emit

        def emit(hook, said, **about):
            if hook == "history":
                symbol = gateway.book.stock(about["column"]).symbol
                self.asked.append((self.session, self.stage, symbol))
            gateway_emit(hook, said, **about)

        gateway.emit = emit

    @property
    def session(self):
        return self.gateway.clock.session

    @property
    def stage(self):
        return self.gateway.clock.stage

    def node(self, *assignments):
        own = ["mode=paper", "venue=ib", f"data.dataset={DATASET}", "data.benchmark=null"]
        own.append("without=[regime,fragility]")
        soon = "day.daemon.jobs.ingest_prices.delay_minutes=5"
        config = load_config([CONFIG], [*own, soon, *assignments])
        sleeve = config.sleeves[0].model_copy(update={"horizon": 5})
        at = IbConfig(
            account=ACCOUNT,
            port=self.market.port,
            also_ports=(self.market.port,),
            patience=QUICK,
        )
        return config.model_copy(update={"sleeves": (sleeve,), "ib": at})

    def trade(self, config, stop=None, until=END):
        asked = PaperRequest(start=START, until=until)
        (run,) = run_paper(config, self.stores, asked, stop or self.market, None, self.market.now)
        return run

    def collector(self, start_timeout_seconds=None, **settings):
        stores = replace(self.stores, settings=replace(self.stores.settings, **settings))
        node = self.node("data.collect=ib")
        at = node.ib.model_copy(update={"start_timeout_seconds": start_timeout_seconds})
        return IbCollector(node.model_copy(update={"ib": at}), stores, self.market.now)

    def advance(self, session, stage):
        while (self.session, self.stage) != (session, stage):
            self.market.wait(0.0)

    def strike(self, text):
        self.market._in_loop(lambda: self._struck(text))

    def _struck(self, text):
        self.gateway.faults.add(read_rule(text))
        self.market._server._flush()

    def orders(self):
        return [
            (o.reference, o.column, o.side, o.quantity, o.filled, o.value, o.status)
            for o in self.gateway.book.orders.values()
        ]

    def stored(self):
        columns = [each for each in bars.columns if each.name != "revision"]
        with self.stores.historical.database.reader() as connection:
            return sorted(map(tuple, connection.execute(sa.select(*columns))))

    def stored_of(self, session):
        panel = panel_of(self.stores, DATASET)
        rows = [day.item() for day in panel.sessions]
        if session not in rows:
            return set()
        closes = panel.close[rows.index(session)]
        return {name for name, close in zip(panel.instruments, closes, strict=True) if close > 0}

    def alerts(self):
        query = sa.select(alerts).where(alerts.c.rule == "data_late")
        with self.stores.runtime.database.reader() as connection:
            return connection.execute(query).mappings().all()


@contextmanager
def evening(settings):
    with open_stores(settings) as stores:
        request = GatewayRequest("sample_ohlcv", START, END, fast=True)
        gateway = build_gateway(stores, request)
        with simulated_market(gateway) as market:
            at = {"ACCOUNT": ACCOUNT, "PORT": str(market.port), "ALSO_PORTS": str(market.port)}
            variables = {f"PROMETHEUS_IB_{name}": value for name, value in at.items()}
            settings = replace(settings, ib=variables, ib_requests_per_ten_minutes=9999)
            ingest_named(settings, MADE)
            yield Evening(replace(stores, settings=settings), market, gateway)


@pytest.fixture
def opened(sample_home, tmp_path):
    with evening(sample_home(tmp_path / "home")) as found:
        yield found


class WithWork:
    """A market, and what somebody does at each of its stages while the node waits."""

    def __init__(self, market, work):
        self._market, self._work = market, work

    def is_set(self):
        return self._market.is_set()

    def wait(self, timeout):
        ended = self._market.wait(timeout)
        self._work()
        return ended


def test_a_node_that_collects_its_bars_trades_as_one_whose_bars_come_beside_it(
    sample_home, tmp_path
):
    with evening(sample_home(tmp_path / "collects")) as own:
        collected = own.trade(own.node("data.collect=ib"))
    with evening(sample_home(tmp_path / "beside")) as other:

        def ingest_beside():
            if other.stage is Stage.CLOSED:
                ingest_named(other.stores.settings, MADE)

        beside = other.trade(other.node(), WithWork(other.market, ingest_beside))

    assert collected == beside
    assert collected.sessions == 7
    assert collected.fills > 4
    assert own.orders() == other.orders()
    assert own.stored() == other.stored()
    sessions = MarketCalendar.of("US_EQ").between(START, END).tolist()
    # Trades and adjusted trades of each name, in the evening of each session.
    symbols = [name.removesuffix(".US") for name in NAMES for _ in range(2)]
    assert own.asked == [(day, Stage.CLOSED, each) for day in sessions for each in symbols]
    assert own.alerts() == []


def test_names_that_stay_away_are_told_at_the_deadline_and_nothing_is_decided_before(opened):
    lacking = date(2006, 1, 9)
    seen = []

    def work():
        if (opened.session, opened.stage) == (lacking, Stage.CLOSED):
            opened.strike("zero_price:symbol=IBM,times=99")
        if opened.session > lacking:
            seen.append((opened.stage, opened.gateway.book.placed, opened.alerts()))
        if (opened.session, opened.stage) == (date(2006, 1, 10), Stage.CLOSED):
            opened.market._in_loop(opened.gateway.faults.rules.clear)

    run = opened.trade(opened.node("data.collect=ib"), WithWork(opened.market, work))

    stages, placed, told = zip(*seen, strict=True)
    assert stages[:3] == (Stage.NIGHT, Stage.OPEN, Stage.CLOSED)
    assert placed[0] == placed[1] == placed[2]
    assert [len(each) for each in told[:3]] == [0, 1, 1]
    (alert,) = opened.alerts()
    assert (
        "of 2006-01-09 180 minutes after its close for 1 of 4 instruments: IBM.US;"
        in (alert["message"])
    )
    assert alert["details"]["missing"] == ["IBM.US"]
    assert alert["resolved_at"] is not None
    # The late session is in the books, and the node goes on from there.
    assert (run.last, run.sessions) == (END, 7)


def test_nobody_is_asked_before_the_bars_may_be_final(opened):
    opened.advance(START, Stage.CLOSED)
    late = opened.node("data.collect=ib", "day.daemon.jobs.ingest_prices.delay_minutes=15")
    collector = IbCollector(late, opened.stores, opened.market.now)

    collector.bring(START, Event(), lambda: None)
    asked = list(opened.asked)
    opened.market.wait(0.0)
    collector.bring(START, Event(), lambda: None)

    assert asked == []
    assert opened.stored_of(START) == set(NAMES)


def test_a_session_that_trades_is_not_stored_with_the_one_that_was_missed(opened):
    opened.strike("open_bar")
    opened.advance(date(2006, 1, 4), Stage.OPEN)

    opened.collector().bring(START, Event(), lambda: None)

    assert opened.stored_of(START) == set(NAMES)
    assert opened.stored_of(date(2006, 1, 4)) == set()
    status = ingestion_status(opened.stores.historical, DATASET, START)
    assert status.status is IngestionState.COMPLETE


def test_a_second_look_waits_for_its_time_and_asks_only_for_who_is_missing(opened):
    opened.advance(START, Stage.CLOSED)
    opened.strike("zero_price:symbol=IBM,times=9")
    collector = opened.collector()

    for _ in range(2):
        collector.bring(START, Event(), lambda: None)
    first = len(opened.asked)
    opened.market._in_loop(opened.gateway.faults.rules.clear)
    opened.market.wait(0.0)
    collector.bring(START, Event(), lambda: None)

    assert first == 2 * len(NAMES)
    again = Counter(symbol for _, _, symbol in opened.asked[first:])
    # Google's history has no finding that a new reading could settle.
    assert (again["IBM"], again["GOOG"]) == (2, 0)
    assert opened.stored_of(START) == set(NAMES)


def test_a_node_that_is_stopped_while_it_waits_for_its_turn_keeps_what_came(opened):
    opened.advance(START, Stage.CLOSED)
    collector = opened.collector(ib_requests_per_ten_minutes=3)

    class Ended:
        def is_set(self):
            return len(opened.asked) == 3

    collector.bring(START, Ended(), lambda: None)

    assert opened.stored_of(START) == {"AAPL.US"}


def test_a_node_that_must_halt_meanwhile_does(opened, monkeypatch):
    monkeypatch.setattr(ib_collect, "CHORE_SECONDS", 0.0)
    opened.advance(START, Stage.CLOSED)
    collector = opened.collector(ib_requests_per_ten_minutes=1)

    def chore():
        raise TradingHalted("somebody pulled the brake")

    with pytest.raises(TradingHalted, match="brake"):
        collector.bring(START, Event(), chore)


def test_a_gateway_that_is_gone_stops_nobody(opened):
    opened.advance(START, Stage.CLOSED)
    collector = opened.collector(start_timeout_seconds=0.2)
    opened.strike("refuse:seconds=60")

    collector.bring(START, Event(), lambda: None)

    assert opened.stored_of(START) == set()
    status = ingestion_status(opened.stores.historical, DATASET, START)
    assert status.status is IngestionState.PENDING


def test_bars_of_another_source_are_not_mixed_with_the_brokers(opened):
    node = opened.node("data.collect=ib", "data.dataset=sample_ohlcv")

    with pytest.raises(ConfigError, match=r"data\.collect: .*nothing is known of the source"):
        run_paper(node, opened.stores, PaperRequest(start=START), opened.market)
    origin = origin_of(SourceSpec("sample"))
    HealthStore(opened.stores.historical.database).remember_origin("sample_ohlcv", origin)
    with pytest.raises(ConfigError, match=r"data\.collect: ib, .* is made of sample; sources do"):
        run_paper(node, opened.stores, PaperRequest(start=START), opened.market)
