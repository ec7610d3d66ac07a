"""What trades, and the switches that stop it, over HTTP."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from persistence.broker_reports import BrokerReport, keep
from persistence.database import upsert
from persistence.tables import runtime as tables
from persistence.tables import trading
from prometheus_nt.monitoring.access import Access
from tests.integration.monitoring.conftest import running
from tests.integration.monitoring.world import SESSIONS, World, at, fill, put

pytestmark = pytest.mark.integration

KNOWN = "bob:operate:operator-token-0123456789, eve:trade:trader-token-0123456789"
PAPER = World(mode="PAPER")
RUN, SLEEVE = PAPER.run_id("FAST"), PAPER.sleeve("FAST")


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def trade(database, world=PAPER, equity=120.0):
    """Let both sleeves of a world trade: FAST has an account, an open order and a process."""
    fill(database, world)
    run = {"run_id": world.run_id("FAST"), "mode": world.mode}
    account = {"event_id": world.label, "as_of_date": SESSIONS[-1], "timestamp": at(SESSIONS[-1])}
    account |= {"cash": equity - 48.0, "equity": equity, "positions": 2, "drawdown": -0.05}
    account |= {"gross_exposure": 72.0, "net_exposure": 48.0}
    put(database, trading.account_states, [run | account])
    order = {"order_id": "waits", "timestamp": at(SESSIONS[-1]), "instrument_id": "C.US"}
    order |= {"side": "BUY", "order_type": "MARKET", "quantity": 7.0, "status": "SUBMITTED"}
    put(database, tables.orders, [run | order])
    state = sa.update(tables.backtest_runs).values(status="RUNNING")
    with database.writer() as connection:
        connection.execute(state)
    hold(database, timedelta(minutes=5))


def hold(database, time_left):
    now = datetime.now(UTC)
    lease = (RUN, "node-1", "here", now, now + time_left)
    with database.writer() as connection:
        upsert(connection, trading.trading_leases, trading.trading_leases.columns.keys(), [lease])


def test_nothing_trades(client, database):
    fill(database, World())

    found = read(client, "/api/desk")

    assert found["runs"] == []
    assert (found["kill_switch"]["scope"], found["kill_switch"]["state"]) == ("ALL", "ARMED")
    # A backtest is no run that trades.
    for path in (World().run_id("FAST"), "x"):
        answer = client.get(f"/api/desk/{path}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "DataError")
        assert client.post(f"/api/desk/{path}/halt", json={"reason": "x"}).status_code == 404


def test_a_sleeve_that_trades_is_seen_with_its_account_and_its_process(client, database):
    trade(database)

    fast, slow = read(client, "/api/desk")["runs"]

    assert (fast["run_id"], fast["sleeve_id"], fast["mode"]) == (RUN, SLEEVE, "PAPER")
    assert (fast["state"], fast["owner"], fast["session"]) == ("RUNNING", "node-1", "2024-02-02")
    assert (fast["equity"], fast["cash"], fast["positions"]) == (120.0, 72.0, 2)
    assert (fast["drawdown"], fast["gross_exposure"], fast["net_exposure"]) == (-0.05, 0.6, 0.4)
    assert (fast["open_orders"], slow["open_orders"]) == (1, 0)
    assert (slow["state"], slow["equity"], slow["owner"]) == ("STOPPED", None, None)


def test_a_process_that_let_its_lease_end_trades_no_more(client, database):
    trade(database)

    hold(database, timedelta(minutes=-1))

    assert read(client, "/api/desk")["runs"][0]["state"] == "STOPPED"


def test_what_is_held_stands_beside_what_is_wanted(client, database):
    trade(database)

    found = read(client, f"/api/desk/{RUN}")

    # 30 % of 120 at 20 a share are 1.8 shares; B is not wanted, so that one is bought back.
    a, b = found["positions"]
    assert (a["instrument_id"], a["shares"], a["price"], a["target_weight"]) == (
        *("A.US", 3.0, 20.0),
        0.3,
    )
    assert (a["target_shares"], a["difference"]) == pytest.approx((1.8, -1.2))
    assert (b["market_value"], b["target_shares"], b["difference"]) == (-12.0, 0.0, 1.0)
    assert [order["order_id"] for order in found["open_orders"]] == ["waits"]
    assert found["open_orders"][0]["quantity"] == 7.0
    assert (found["book_session"], found["target_session"]) == ("2024-02-02", "2024-02-02")
    before = read(client, f"/api/desk/{RUN}", as_of="2023-12-01")
    assert before["positions"] == [] and before["run"]["equity"] is None
    assert set(before["unknown"]) >= {"run.equity", "book_session", "target_session"}


def hear(database, shares, books, **told):
    report = BrokerReport(
        **{
            "account_id": "IB-DU1",
            "at": at(SESSIONS[-1], hour=22),
            "as_of": SESSIONS[-1],
            "runs": (RUN,),
            "shares": shares,
            "books": books,
            "cash": 70.5,
        }
        | told
    )
    with database.writer() as connection:
        keep(connection, report)


def test_what_the_broker_holds_stands_beside_the_book_with_its_time(client, database):
    trade(database)
    unheard = read(client, f"/api/desk/{RUN}")

    # The account has two of a stock that nobody ordered, and one of ours less.
    hear(database, {"A.US": 2, "B.US": -1, "D.US": 2}, {"A.US": 3, "B.US": -1})

    found = read(client, f"/api/desk/{RUN}")
    lines = {row["instrument_id"]: row for row in found["positions"]}
    assert {name: row["broker_shares"] for name, row in lines.items()} == {
        "A.US": 2.0,
        "B.US": -1.0,
        "D.US": 2.0,
    }
    assert {name: row["broker_difference"] for name, row in lines.items()} == {
        "A.US": -1.0,
        "B.US": 0.0,
        "D.US": 2.0,
    }
    assert found["broker"] == {
        "account_id": "IB-DU1",
        "at": "2024-02-02T22:00:00Z",
        "session": "2024-02-02",
        "runs": [RUN],
        "cash": 70.5,
        "breaks": 2,
    }
    fast, slow = read(client, "/api/desk")["runs"]
    assert (fast["broker_at"], fast["broker_breaks"]) == ("2024-02-02T22:00:00Z", 2)
    assert (slow["broker_at"], slow["broker_breaks"]) == (None, None)
    assert unheard["broker"] is None and "reconcile" in unheard["unknown"]["broker"]
    assert {row["broker_shares"] for row in unheard["positions"]} == {None}


def test_what_the_broker_says_later_is_not_known_before(client, database):
    trade(database)
    hear(database, {"A.US": 1}, {"A.US": 1}, as_of=SESSIONS[1], at=at(SESSIONS[1]))
    hear(database, {"A.US": 3}, {"A.US": 3})

    before = read(client, f"/api/desk/{RUN}", as_of=str(SESSIONS[2]))

    assert before["broker"]["session"] == str(SESSIONS[1])
    assert before["broker"]["breaks"] == 0


def test_a_sleeve_is_halted_and_armed_by_its_name(client, database):
    trade(database)

    halted = client.post(f"/api/desk/{RUN}/halt", json={"reason": "prices look wrong"}).json()

    assert halted["moved"]["state"] == "HALTED" and halted["moved"]["by"] == "local"
    fast, slow = read(client, "/api/desk")["runs"]
    assert (fast["state"], slow["state"]) == ("HALTED", "STOPPED")
    assert fast["switch"]["reason"] == "prices look wrong"
    wrong = client.post(f"/api/desk/{RUN}/arm", json={"reason": "fine", "confirm": "x"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "ConfigError")
    armed = client.post(f"/api/desk/{RUN}/arm", json={"reason": "fine", "confirm": SLEEVE})
    assert armed.json()["holds"]["state"] == "ARMED"
    assert read(client, "/api/desk")["runs"][0]["state"] == "RUNNING"


def test_a_sleeve_is_flattened_by_its_name_alone(client, database):
    trade(database)

    wrong = client.post(f"/api/desk/{RUN}/flatten", json={"reason": "over", "confirm": "y"})
    done = client.post(f"/api/desk/{RUN}/flatten", json={"reason": "over", "confirm": SLEEVE})

    assert wrong.status_code == 400 and SLEEVE in wrong.json()["error"]["message"]
    assert done.json()["moved"]["state"] == "FLATTENING"
    assert read(client, f"/api/desk/{RUN}")["run"]["state"] == "FLATTENING"
    every = client.post("/api/desk/ALL/flatten", json={"reason": "over", "confirm": "ALL"})
    assert every.status_code == 400


def test_all_sleeves_are_halted_at_once_and_each_says_so(client, database):
    trade(database)

    client.post("/api/desk/ALL/halt", json={"reason": "the feed lies"})

    found = read(client, "/api/desk")
    assert found["kill_switch"]["state"] == "HALTED"
    assert [row["state"] for row in found["runs"]] == ["HALTED", "HALTED"]
    assert [row["switch"]["scope"] for row in found["runs"]] == ["ALL", "ALL"]


def test_a_switch_whose_record_was_changed_is_shown_as_halted(client, database, settings):
    trade(database)
    client.post(f"/api/desk/{RUN}/halt", json={"reason": "stop"})
    (settings.home / "safety" / f"{SLEEVE}.halt").unlink()
    with database.writer() as connection:
        connection.execute(
            sa.text("UPDATE events SET payload = replace(payload, 'HALTED', 'ARMED')")
        )

    fast = read(client, "/api/desk")["runs"][0]

    assert (fast["state"], fast["switch"]["cause"]) == ("HALTED", "RECORD")


@pytest.mark.parametrize("action", ["halt", "flatten", "arm"])
def test_switches_are_moved_by_who_may_trade_and_with_a_reason(settings, database, action):
    trade(database)
    path, full = f"/api/desk/{RUN}/{action}", {"reason": "said", "confirm": SLEEVE}
    body = {"reason": "said"} if action == "halt" else full

    with running(settings, Access.of_tokens("127.0.0.1", 0, KNOWN)) as client:
        operator = {"Authorization": "Bearer operator-token-0123456789"}
        trader = {"Authorization": "Bearer trader-token-0123456789"}
        refused = client.post(path, json=body, headers=operator)
        empty = client.post(path, json=body | {"reason": " "}, headers=trader)
        halted = client.post(f"/api/desk/{RUN}/halt", json={"reason": "x"}, headers=trader)
        done = client.post(path, json=body, headers=trader)

    assert (refused.status_code, empty.status_code) == (403, 422)
    assert halted.json()["moved"]["by"] == "eve"
    assert done.status_code == 200 and done.json()["moved"]["reason"] == "said"
