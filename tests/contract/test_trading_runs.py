"""Of the runs of a sleeve that trade, one is open, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from threading import Barrier

from persistence import events
from persistence.runtime import RuntimeStore
from prometheus_nt.domain.runs import Mode, TradingIdentity

SLEEVE = "US_CORE_LONG_EQ_H5"


def identity(settings, mode=Mode.PAPER, sleeve=SLEEVE):
    return TradingIdentity(
        "US_CORE_LONG_EQ", sleeve, mode, "code", settings, "data", 0, started=date(2024, 1, 2)
    )


def facts():
    return {
        "portfolio_id": "US_CORE_LONG_EQ",
        "market_id": "US_EQ",
        "start_date": date(2024, 1, 2),
        "end_date": date(2024, 1, 2),
        "universe_id": "CORE_EQ_US",
        "dataset_id": "demo",
        "config_json": {},
    }


def test_of_many_that_begin_at_once_one_is_recorded(database):
    store, together = RuntimeStore(database), Barrier(8)

    def begun(number):
        together.wait()
        return store.begin_trading(identity(f"settings-{number}"), facts())

    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(begun, range(8)))

    (run,) = store.open_runs(SLEEVE, "PAPER")
    assert beside.count([]) == 1
    assert {each["run_id"] for found in beside for each in found} == {run["run_id"]}


def test_a_run_goes_on_and_keeps_when_it_began(database):
    store = RuntimeStore(database)
    store.begin_trading(identity("settings"), facts())
    (begun,) = store.open_runs(SLEEVE, "PAPER")
    store.set_status(begun["run_id"], "STOPPED")

    beside = store.begin_trading(identity("settings"), facts())

    assert beside == []
    assert store.open_runs(SLEEVE, "PAPER") == [begun]
    assert begun["status"] == "RUNNING"


def test_another_mode_another_sleeve_and_a_finished_run_are_not_beside_it(database):
    store = RuntimeStore(database)
    store.begin_trading(identity("a"), facts())

    live = store.begin_trading(identity("b", Mode.LIVE), facts())
    other = store.begin_trading(identity("b", sleeve="US_CORE_LONG_EQ_H21"), facts())
    store.finish_trading(identity("a").run_id, "anna", "settings change")
    after = store.begin_trading(identity("c"), facts())

    assert live == other == after == []
    finished = store.run(identity("a").run_id)
    assert finished["status"] == "FINISHED"
    assert finished["completed_at"] is not None
    assert [run["config_hash"] for run in store.open_runs(SLEEVE, "PAPER")] == ["c"]
    with database.reader() as connection:
        (said,) = events.payloads(connection, identity("a").run_id, "FINISHED")
        assert events.verify(connection, identity("a").run_id) is None
    assert (said["by"], said["reason"]) == ("anna", "settings change")
    assert said["at"] == finished["completed_at"].isoformat()
