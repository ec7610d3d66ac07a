from dataclasses import dataclass
from datetime import date
from itertools import permutations

import pytest
from nautilus_trader.cache.cache import Cache
from nautilus_trader.common.actor import Actor
from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.portfolio.portfolio import Portfolio

from prometheus_nt.bus import AsOfJoin, Published, data_type, publish, stream_item, subscribe, topic
from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.record import record_hash
from prometheus_nt.domain.runs import Absent

MONDAY, TUESDAY = date(2024, 1, 8), date(2024, 1, 9)


@dataclass(frozen=True)
class Risk:
    as_of: date
    value: int = 0


@dataclass(frozen=True)
class RiskReport:
    as_of: date
    value: int = 0


@dataclass(frozen=True)
class Prices:
    as_of: date


class Listener(Actor):
    """A real actor that keeps what it hears."""

    def __init__(self, *record_types: type) -> None:
        super().__init__()
        self.record_types = record_types
        self.heard = []

    def on_start(self) -> None:
        subscribe(self, *self.record_types)

    def on_data(self, data: Published) -> None:
        self.heard.append(data)


@pytest.fixture
def listener_to():
    clock, cache = TestClock(), Cache()
    clock.set_time(1_700_000_000_000_000_000)
    bus = MessageBus(TraderId("TEST-001"), clock)
    portfolio = Portfolio(bus, cache, clock)

    def start(*record_types):
        listener = Listener(*record_types)
        listener.register_base(portfolio, bus, cache, clock)
        listener.start()
        return listener

    return start


def _item(record, ts_ns=0):
    return Published(record, ts_ns)


def test_a_record_type_whose_name_begins_like_another_has_its_own_topic(listener_to):
    risk, report = listener_to(Risk), listener_to(RiskReport)

    publish(risk, RiskReport(MONDAY))
    publish(risk, Risk(MONDAY))
    publish(risk, Risk(TUESDAY))

    assert topic(Risk) != topic(RiskReport)
    assert [item.record for item in risk.heard] == [Risk(MONDAY), Risk(TUESDAY)]
    assert [item.record for item in report.heard] == [RiskReport(MONDAY)]


def test_one_component_can_listen_to_several_types(listener_to):
    listener = listener_to(Risk, Prices)

    for record in (Prices(MONDAY), RiskReport(MONDAY), Risk(MONDAY)):
        publish(listener, record)

    assert [item.record for item in listener.heard] == [Prices(MONDAY), Risk(MONDAY)]


def test_a_published_record_is_stamped_with_the_clock_of_its_component(listener_to):
    listener = listener_to(Risk)

    publish(listener, Risk(MONDAY))

    assert listener.heard[0].ts_event == listener.heard[0].ts_init == 1_700_000_000_000_000_000


def test_a_published_record_knows_what_it_was_made_from(listener_to):
    listener = listener_to(RiskReport)
    inputs = (_item(Prices(MONDAY)), _item(Risk(MONDAY)))

    publish(listener, RiskReport(MONDAY), engine="risk", params_hash="abc", inputs=inputs)

    lineage = listener.heard[0].lineage()
    assert (lineage.engine, lineage.params_hash) == ("risk", "abc")
    assert lineage.input_hashes == (record_hash(Prices(MONDAY)), record_hash(Risk(MONDAY)))
    assert listener.heard[0].record_hash == record_hash(RiskReport(MONDAY))


def test_an_element_of_a_data_stream_has_the_topic_and_time_of_its_record():
    item = stream_item(Risk(MONDAY), 42)

    assert item.data_type == data_type(Risk)
    assert (item.ts_event, item.ts_init) == (42, 42)
    assert item.data.record == Risk(MONDAY)


@pytest.mark.parametrize("order", list(permutations((Risk, RiskReport, Prices))))
def test_a_join_pairs_by_as_of_in_any_order_of_arrival(order):
    join = AsOfJoin(Prices, Risk, RiskReport)

    for session in (MONDAY, TUESDAY):
        answers = [join.add(_item(record_type(session))) for record_type in order]

        assert answers[:-1] == [None, None]
        assert [item.record for item in answers[-1]] == [
            Prices(session),
            Risk(session),
            RiskReport(session),
        ]


def test_a_join_of_one_type_fires_at_once():
    item = _item(Risk(MONDAY))

    assert AsOfJoin(Risk).add(item) == (item,)


def test_a_newer_session_discards_what_is_left_of_the_older_one():
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Prices(MONDAY)))

    assert join.add(_item(Risk(TUESDAY))) is None
    assert [item.record for item in join.add(_item(Prices(TUESDAY)))] == [
        Prices(TUESDAY),
        Risk(TUESDAY),
    ]


def test_a_late_record_is_an_error():
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Prices(TUESDAY)))

    with pytest.raises(DataError, match="Risk of 2024-01-08 arrived after records of 2024-01-09"):
        join.add(_item(Risk(MONDAY)))


def test_a_record_said_twice_replaces_itself():
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Risk(MONDAY, 1)))
    join.add(_item(Risk(MONDAY, 2)))

    assert join.add(_item(Prices(MONDAY)))[1].record == Risk(MONDAY, 2)


@pytest.mark.parametrize("record_type", [Prices, Risk])
def test_a_record_of_a_completed_session_is_an_error(record_type):
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Prices(MONDAY)))
    join.add(_item(Risk(MONDAY)))

    name = record_type.__name__
    with pytest.raises(
        DataError, match=f"{name} of 2024-01-08 arrived after records of 2024-01-08"
    ):
        join.add(_item(record_type(MONDAY)))


@pytest.mark.parametrize("record_type", [Prices, Risk])
def test_a_record_older_than_a_completed_session_is_an_error(record_type):
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Prices(TUESDAY)))
    join.add(_item(Risk(TUESDAY)))

    name = record_type.__name__
    with pytest.raises(
        DataError, match=f"{name} of 2024-01-08 arrived after records of 2024-01-09"
    ):
        join.add(_item(record_type(MONDAY)))


def test_a_join_of_one_type_refuses_a_session_said_twice():
    join = AsOfJoin(Risk)
    join.add(_item(Risk(MONDAY)))

    with pytest.raises(DataError, match="Risk of 2024-01-08 arrived after records of 2024-01-08"):
        join.add(_item(Risk(MONDAY)))
    assert join.add(_item(Risk(TUESDAY))) is not None


def test_a_refused_record_does_not_disturb_the_session_that_is_being_joined():
    join = AsOfJoin(Prices, Risk)
    join.add(_item(Prices(TUESDAY)))
    with pytest.raises(DataError):
        join.add(_item(Prices(MONDAY)))

    assert [item.record for item in join.add(_item(Risk(TUESDAY)))] == [
        Prices(TUESDAY),
        Risk(TUESDAY),
    ]


def test_an_absent_record_completes_a_join_in_its_place():
    join = AsOfJoin(Prices, Risk)
    absent = Published(Absent(MONDAY, "Risk", "warming up"), 0)
    prices = Published(Prices(MONDAY), 0)

    assert join.add(absent) is None
    assert join.add(prices) == (prices, absent)


def test_an_absent_record_of_another_type_is_nobody_s_business():
    join = AsOfJoin(Prices)

    assert join.add(Published(Absent(TUESDAY, "Risk", "warming up"), 0)) is None
    assert join.add(Published(Prices(MONDAY), 0)) is not None
