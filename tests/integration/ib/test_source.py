import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import pytest

from adapters.ib.errors import LinkDown
from adapters.ib.pacing import HistoryBudget
from adapters.ib.provider import UnresolvedContracts
from adapters.ib.source import IbSource, LinkThread, link_thread
from adapters.ib_gateway.account import Account
from adapters.ib_gateway.book import Terms
from adapters.ib_gateway.contracts import Contracts, Stock, contract_id
from adapters.ib_gateway.faults import Faults
from adapters.ib_gateway.gateway import Gateway
from adapters.ib_gateway.market import Clock, Stage
from adapters.ib_gateway.server import Server
from adapters.source import ActionType
from prometheus_nt.cli import main
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.instruments import BrokerContract
from prometheus_nt.jobs.gateway import prices_of
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings
from tests.integration.conftest import random_market
from tests.integration.ib.session import inject, params_for
from tests.integration.ib_gateway.clients import RunningServer
from tests.integration.ib_gateway.market import ACCOUNT, commission, fill_price, new_gateway

pytestmark = pytest.mark.integration

FIRST = date(2024, 1, 2)
WANTED = {
    f"{symbol}.US": BrokerContract(symbol, "STK", "SMART", None, "USD", None)
    for symbol in ("AAPL", "IBM", "KO")
}


@pytest.fixture
def running():
    """A gateway in a thread of its own, after the last session of its market."""
    server = Server(new_gateway())
    with RunningServer(server) as running:
        running.advance(Stage.CLOSED, 8)
        yield running


@pytest.fixture
def thread(running):
    with link_thread(params_for(running.port), 10_000) as thread:
        # A gateway wants a pause between equal questions; no test waits for it.
        thread.history.budget.apart_seconds = 0.0
        yield thread


def source_of(thread, **changed) -> IbSource:
    terms = {"wanted": WANTED, "dataset_id": "ib", "market_id": "US_EQ", "first": FIRST}
    return IbSource(thread, **(terms | changed))


def test_instruments_have_the_brokers_names_and_exchanges(thread):
    apple, *_ = source_of(thread).instruments()

    assert (apple.instrument_id, apple.symbol, apple.name) == ("AAPL.US", "AAPL", "AAPL Inc.")
    assert (apple.exchange, apple.currency) == ("XNAS", "USD")


def test_symbols_that_the_broker_does_not_know_are_named_and_refused_or_left_out(thread):
    names = WANTED | {
        f"{symbol}.US": BrokerContract(symbol, "STK", "SMART", None, "USD", None)
        for symbol in ("NOPE", "NADA")
    }

    with pytest.raises(UnresolvedContracts, match=r"NADA\.US: .*; NOPE\.US"):
        source_of(thread, wanted=names).instruments()
    forgiving = source_of(thread, wanted=names, forgiving=True)
    assert [each.symbol for each in forgiving.instruments()] == ["AAPL", "IBM", "KO"]
    assert [issue.instrument_id for issue in forgiving.refused()] == ["NOPE.US", "NADA.US"]


def test_bars_are_in_todays_shares(thread):
    table = source_of(thread).read("IBM.US")

    assert len(table) == 10
    assert table.open[0] == 100.0 and table.volume[0] == 2_000_000.0
    assert np.isnan(table.adjusted_close).all()


def test_a_dividend_is_found_from_the_adjusted_trades_and_a_split_is_none(thread):
    source = source_of(thread)
    source.read("KO.US")

    [paid] = source.actions("KO.US")

    assert (paid.ex_date, paid.action_type) == (date(2024, 1, 11), ActionType.DIVIDEND)
    assert paid.value == pytest.approx(0.5, abs=0.001)
    assert source.actions("IBM.US") == []


def test_a_part_holds_what_was_asked_for_and_nothing_before_the_beginning(thread):
    source = source_of(thread, first=None)

    part = source_of(thread, first=date(2024, 1, 4), last=date(2024, 1, 8)).read("AAPL.US")

    assert part.dates.tolist() == [date(2024, 1, day) for day in (4, 5, 8)]
    before = source_of(thread, first=None, last=date(2023, 12, 29))
    assert len(before.read("AAPL.US")) == 0 and not before.actions("AAPL.US")
    assert len(source.read("AAPL.US")) == 10
    assert source.begins("AAPL.US") == FIRST


def test_several_threads_may_read_at_once(thread):
    source, read = source_of(thread), {}
    source.instruments()
    workers = [
        threading.Thread(target=lambda n=name: read.update({n: len(source.read(n))}))
        for name in WANTED
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert read == {"AAPL.US": 10, "IBM.US": 10, "KO.US": 9}


def test_no_symbols_are_a_mistake(thread):
    with pytest.raises(ConfigError, match="for example --symbols"):
        source_of(thread, wanted={})


def test_connections_that_share_a_budget_count_together(running):
    budget = HistoryBudget(lambda: 0.0, most=3, apart_seconds=0.0)

    for name in ("AAPL.US", "IBM.US"):
        thread = LinkThread(params_for(running.port), budget)
        try:
            thread.start()
            source_of(thread).begins(name)
        finally:
            thread.close()

    assert budget.wait("KO", "head") == 0.0
    budget.take("KO", "head")
    assert budget.wait("KO", "head") == 600.0


def test_who_waits_for_an_answer_is_told_when_it_is_given_up(running):
    budget = HistoryBudget(lambda: 0.0, most=1)
    budget.take("before", "head")
    thread = LinkThread(params_for(running.port), budget)
    try:
        thread.start()
        asking = ThreadPoolExecutor(1).submit(source_of(thread).begins, "AAPL.US")
        thread.give_up()

        with pytest.raises(LinkDown, match="given up"):
            asking.result()
        with pytest.raises(LinkDown, match="given up"):
            source_of(thread).begins("IBM.US")
    finally:
        thread.close()


def test_a_thread_that_cannot_connect_leaves_none_behind(running):
    before = set(threading.enumerate())

    with (
        pytest.raises(ConfigError, match="does not manage"),
        link_thread(params_for(running.port, account="DU7")),
    ):
        raise AssertionError("unreachable")

    assert set(threading.enumerate()) == before


@pytest.fixture
def environment(running, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("PROMETHEUS_IB_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("PROMETHEUS_IB_PORT", str(running.port))
    monkeypatch.setenv("PROMETHEUS_IB_ALSO_PORTS", str(running.port))
    return running


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    sys.argv = ["prometheus", *arguments]
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


INGEST = ("data", "ingest", "ib", "--dataset", "mine", "--start", "2024-01-02")


def test_a_dataset_is_filled_over_the_command_line_and_a_second_time_nothing_is_new(
    environment, capsys
):
    code, out, err = run(capsys, *INGEST, "--symbols", "AAPL,IBM,KO", "--json")

    assert code == 0, err
    [report] = json.loads(out)
    assert report["loaded"] == ["AAPL.US", "IBM.US", "KO.US"]
    assert report["rows_read"] == 29
    code, out, _ = run(capsys, *INGEST, "--symbols", "AAPL,IBM,KO", "--json")
    assert json.loads(out)[0]["rows_written"] == 0


def test_an_unknown_symbol_ends_an_ingest_with_its_name(environment, capsys):
    code, _, err = run(capsys, *INGEST, "--symbols", "AAPL,NOPE")

    assert code != 0
    assert "NOPE.US" in err and "AAPL.US" not in err


def test_reading_outlives_a_lost_link(running, thread):
    source = source_of(thread)
    source.instruments()
    inject_soon(running, "close:on=history")

    assert [len(source.read(name)) for name in WANTED] == [10, 10, 9]
    assert [server_side.name for server_side in running.server.gateway.faults.rules] == ["close"]


@pytest.fixture
def long_history(tmp_path, monkeypatch):
    """A gateway in the middle of a longer market with splits, dividends, gaps and a halt."""
    panel = random_market()
    prices = prices_of(panel, "US_EQ")
    names = [name.removesuffix(".US") for name in panel.instruments]
    listed = [Stock(contract_id(name, "STK", "USD"), name, "USD", "NASDAQ", name) for name in names]
    gateway = Gateway(
        Terms(Contracts(listed), fill_price, commission),
        Clock(prices, first=231, last=len(panel) - 1, settle_seconds=600.0),
        Account(ACCOUNT, 1e6),
        Faults(),
    )
    with RunningServer(Server(gateway)) as running:
        monkeypatch.setattr(sys, "argv", [])
        monkeypatch.setenv("PROMETHEUS_HOME", str(tmp_path / "var"))
        monkeypatch.setenv("PROMETHEUS_IB_ACCOUNT", ACCOUNT)
        monkeypatch.setenv("PROMETHEUS_IB_PORT", str(running.port))
        monkeypatch.setenv("PROMETHEUS_IB_ALSO_PORTS", str(running.port))
        monkeypatch.setenv("PROMETHEUS_IB_REQUESTS_PER_10_MINUTES", "9999")
        yield running, panel


def test_a_history_that_grew_is_what_a_new_ingest_reads_over_splits_and_dividends(
    long_history, capsys
):
    running, market = long_history
    # N01 split before the first ingest; N02 splits between the two; N03 pays dividends.
    command = ("data", "ingest", "ib", "--symbols", "N01,N02,N03", "--dataset")
    code, _, err = run(capsys, *command, "grown")
    assert code == 0, err
    running.advance(Stage.CLOSED, 40)

    run(capsys, *command, "grown")
    run(capsys, *command, "fresh")

    with open_stores(Settings.from_environment()) as stores:
        grown, fresh = (panel_of(stores, name) for name in ("grown", "fresh"))
    assert grown.sessions[-1] == market.sessions[270]
    for name in ("open", "high", "low", "close", "volume", "dividend", "split"):
        np.testing.assert_array_equal(getattr(grown, name), getattr(fresh, name), name)
    column = market.instruments.index("N02.US")
    later = market.split[:271, column][::-1].cumprod()[::-1] / market.split[:271, column]
    known = np.isfinite(market.close[:271, column])
    expected = (market.close[:271, column] / later)[known]
    found = fresh.close[:, fresh.instruments.index("N02.US")]
    np.testing.assert_allclose(found[np.isfinite(found)], expected, rtol=1e-6)


def test_an_ingest_that_goes_on_asks_only_for_what_is_missing(long_history, capsys):
    running, market = long_history
    ends = market.sessions[230].astype(object)
    command = ("data", "ingest", "ib", "--dataset", "mine", "--end", str(ends), "--json")
    asked = Counted(running)
    code, _, err = run(capsys, *command, "--symbols", "N01,N03")
    assert code == 0, err
    first = asked.bars()

    code, out, _ = run(capsys, *command, "--symbols", "N01,N02,N03")

    # Trades and adjusted trades of N02 alone.
    [report] = json.loads(out)
    assert report["loaded"] == ["N01.US", "N02.US", "N03.US"]
    assert asked.bars() - first == 2 * np.isfinite(market.close[:231, 2]).sum()
    with open_stores(Settings.from_environment()) as stores:
        paid = panel_of(stores, "mine").dividend
    assert np.count_nonzero(paid) == np.count_nonzero(market.dividend[:231, 3])

    run(capsys, *command, "--symbols", "N03", "--full")
    assert asked.bars() - first == 2 * np.isfinite(market.close[:231, 2:4]).sum()


def test_dividends_are_those_that_were_paid(long_history, capsys):
    running, market = long_history
    running.advance(Stage.CLOSED, 40)

    code, _, err = run(capsys, "data", "ingest", "ib", "--symbols", "N03", "--dataset", "paid")

    assert code == 0, err
    with open_stores(Settings.from_environment()) as stores:
        found = panel_of(stores, "paid").dividend[:, 0]
    column = market.instruments.index("N03.US")
    paid = market.dividend[:271, column]
    assert np.count_nonzero(found) == np.count_nonzero(paid)
    np.testing.assert_allclose(found[found > 0], paid[paid > 0], rtol=0.01)


class Counted:
    """Counts the bars of history that a gateway has sent."""

    def __init__(self, running: RunningServer) -> None:
        self._sent = 0
        gateway, usual = running.server.gateway, running.server.gateway.emit

        def emit(hook, said, **about):
            if hook == "history":
                self._sent += sum(len(each.values.get("bars", ())) for each in said)
            usual(hook, said, **about)

        gateway.emit = emit

    def bars(self) -> int:
        return self._sent


def inject_soon(running: RunningServer, rule: str) -> None:
    running.loop.call_soon_threadsafe(inject, running.server, rule)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ACCOUNT", "", "no paper account"),
        ("PORT", "4001", "the other kind of account"),
        ("PORT", "many", "PROMETHEUS_IB_PORT"),
        ("HOST", "10.0.0.7", "another machine"),
        ("MODE", "live", "no live account"),
        ("CLIENT_ID", "0", "PROMETHEUS_IB_CLIENT_ID"),
        ("INGEST_CLIENT_ID", "no", "PROMETHEUS_IB_INGEST_CLIENT_ID"),
    ],
)
def test_settings_of_the_environment_are_checked_before_anything_is_asked(
    environment, capsys, monkeypatch, name, value, said
):
    if name != "CLIENT_ID":
        monkeypatch.setenv(f"PROMETHEUS_IB_{name}", value)
        code, _, err = run(capsys, *INGEST, "--symbols", "AAPL")
        assert code != 0 and said in err.replace("\n", " "), err


def test_without_an_account_the_message_says_what_to_set(environment, capsys, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_IB_ACCOUNT")

    code, _, err = run(capsys, *INGEST, "--symbols", "AAPL")

    assert code != 0 and "PROMETHEUS_IB_ACCOUNT" in err


def test_the_broker_has_no_lists(environment, capsys):
    code, _, err = run(capsys, *INGEST, "--index", "GSPC")
    assert code != 0 and "name the --symbols" in err
