"""A sleeve has one open run: no edit of a file, no other start and no race makes it two books."""

from datetime import date
from pathlib import Path
from threading import Event

import pytest
import sqlalchemy as sa

from persistence.tables import runtime as tables
from persistence.tables.trading import alerts
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import AccountingError, ConfigError, StoreError
from prometheus_nt.jobs.panels import panel_of
from prometheus_nt.jobs.paper import run_paper
from prometheus_nt.jobs.paper_finish import finish_run
from prometheus_nt.jobs.paper_identity import begin, trading_identity
from prometheus_nt.jobs.paper_request import PaperRequest

pytestmark = pytest.mark.integration

CONFIG = Path("configs/us_core_long_eq_ohlcv.yaml")
START, UNTIL, LATER = date(2005, 2, 14), date(2005, 2, 16), date(2005, 2, 17)
WIDER = "engines.portfolio.max_weight=0.21"


def node(*assignments, horizons=(5,)):
    config = load_config([CONFIG], ["mode=paper", *assignments])
    (sleeve,) = config.sleeves
    named = {5: "US_CORE_LONG_EQ_H5", 21: "US_CORE_LONG_EQ_H21"}
    sleeves = tuple(
        sleeve.model_copy(update={"horizon": each, "sleeve_id": named[each]}) for each in horizons
    )
    return config.model_copy(update={"sleeves": sleeves})


def traded(config, stores, start=None, until=UNTIL, tell=None):
    return run_paper(config, stores, PaperRequest(True, start, until), Event(), tell)


def runs_of(stores):
    with stores.runtime.database.reader() as connection:
        found = connection.execute(sa.select(tables.backtest_runs)).mappings().all()
    return {run["run_id"]: run["status"] for run in found}


def folders(stores):
    return sorted(path.name for path in (stores.settings.home / "paper").iterdir())


def test_a_changed_setting_is_refused_and_named_and_leaves_nothing_behind(stores):
    (first,) = traded(node(), stores, START)
    before = runs_of(stores), folders(stores)

    with pytest.raises(ConfigError) as refused:
        traded(node(WIDER, "seed=7"), stores)

    said = str(refused.value)
    assert first.run_id in said
    assert "begun on 2005-02-14, is open (STOPPED, last session 2005-02-16)" in said
    assert "engines.portfolio.max_weight was 0.45 and is 0.21; seed was 0 and is 7. A" in said
    assert f"prometheus finish {first.run_id}" in said
    assert "prometheus meta revert" in said
    assert (runs_of(stores), folders(stores)) == before
    (again,) = traded(node(), stores, until=LATER)
    assert (again.run_id, again.new_sessions) == (first.run_id, 1)


def test_another_start_of_the_same_settings_is_refused_and_the_old_start_goes_on(stores):
    (first,) = traded(node(), stores, START)

    with pytest.raises(ConfigError, match="beside it from 2005-02-15 would buy a second book"):
        traded(node(), stores, date(2005, 2, 15))

    (again,) = traded(node(), stores, START, LATER)
    assert again.run_id == first.run_id
    assert runs_of(stores) == {first.run_id: "STOPPED"}


@pytest.mark.parametrize("status", ["RUNNING", "HALTED"])
def test_a_crashed_or_halted_run_is_as_open_as_a_stopped_one(stores, status):
    (first,) = traded(node(), stores, START)
    stores.runtime.set_status(first.run_id, status)

    with pytest.raises(ConfigError, match=f"is open \\({status}"):
        traded(node(WIDER), stores)

    assert runs_of(stores) == {first.run_id: status}


def test_a_node_that_trades_keeps_a_changed_one_out(stores):
    refused = []

    def meanwhile(_status):
        if not refused:
            with pytest.raises(ConfigError, match=r"is open \(RUNNING") as found:
                traded(node(WIDER), stores, START)
            refused.append(found)

    (first,) = traded(node(), stores, START, tell=meanwhile)

    assert refused
    assert first.new_sessions == 3
    assert runs_of(stores) == {first.run_id: "STOPPED"}


def test_who_passed_the_first_look_is_stopped_by_the_record_itself(stores):
    panel = panel_of(stores, "sample_ohlcv")
    for config, known in ((node(), {}), (node(WIDER), {"US_CORE_LONG_EQ_H5"})):
        (sleeve,) = config.sleeves
        identity = trading_identity(config, sleeve, panel, START)
        if not known:
            begin(config, sleeve, stores, identity)
            continue
        with pytest.raises(ConfigError, match="trades by other settings"):
            begin(config, sleeve, stores, identity)

    assert list(runs_of(stores).values()) == ["RUNNING"]


def test_one_changed_sleeve_keeps_its_whole_node_from_beginning(stores):
    (first,) = traded(node(), stores, START)
    both = node(WIDER, horizons=(21, 5))

    with pytest.raises(ConfigError, match="US_CORE_LONG_EQ_H5: its PAPER run"):
        traded(both, stores, START)

    assert runs_of(stores) == {first.run_id: "STOPPED"}
    with stores.runtime.database.reader() as connection:
        assert connection.execute(sa.select(alerts)).all() == []


def test_a_sleeve_of_another_name_is_nobody_s_second_book(stores):
    traded(node(), stores, START)

    (other,) = traded(node(WIDER, horizons=(21,)), stores, START)

    assert other.sleeve_id == "US_CORE_LONG_EQ_H21"
    assert len(runs_of(stores)) == 2


def test_a_finished_run_makes_room_and_never_trades_again(stores):
    (first,) = traded(node(), stores, START)

    done = finish_run(stores, first.run_id, "somebody")
    (second,) = traded(node(WIDER), stores, START)

    assert (done.run_id, done.positions, done.last) == (first.run_id, first.positions, UNTIL)
    assert done.cash == pytest.approx(first.cash)
    assert runs_of(stores) == {first.run_id: "FINISHED", second.run_id: "STOPPED"}
    finish_run(stores, second.run_id, "somebody")
    with pytest.raises(ConfigError, match=r"was finished after 2005-02-16 and trades no more"):
        traded(node(), stores, START)
    (third,) = traded(node(), stores, date(2005, 2, 15), LATER)
    assert third.run_id not in {first.run_id, second.run_id}


def test_finishing_closes_the_alert_of_a_halt(stores):
    (first,) = traded(node(), stores, START)
    with stores.runtime.database.writer() as connection:
        connection.exec_driver_sql("UPDATE fills SET quantity = quantity + 1")
    with pytest.raises(AccountingError):
        traded(node(), stores, until=LATER)
    assert runs_of(stores) == {first.run_id: "HALTED"}

    finish_run(stores, first.run_id, "somebody")

    with stores.runtime.database.reader() as connection:
        (alert,) = connection.execute(sa.select(alerts)).mappings().all()
    assert alert["rule"] == "trading_halted"
    assert alert["resolved_at"] is not None


def test_what_is_held_at_a_broker_cannot_be_left_behind(stores):
    (first,) = traded(node(), stores, START)
    run = stores.runtime.run(first.run_id)
    at_broker = run["config_json"] | {"venue": "ib"}
    with stores.runtime.database.writer() as connection:
        connection.execute(sa.update(tables.backtest_runs).values(config_json=at_broker))

    with pytest.raises(ConfigError, match=f"holds {first.positions} positions .* flatten"):
        finish_run(stores, first.run_id, "somebody")

    assert first.positions > 0
    assert runs_of(stores) == {first.run_id: "STOPPED"}


def test_a_run_that_trades_cannot_be_finished_by_another_process(stores):
    refused = []

    def meanwhile(status):
        if not refused:
            (run_id,) = runs_of(stores)
            with pytest.raises(StoreError, match="another process trades this run") as found:
                finish_run(stores, run_id, "somebody")
            refused.append((status, found))

    (first,) = traded(node(), stores, START, tell=meanwhile)

    assert refused
    assert runs_of(stores) == {first.run_id: "STOPPED"}


def test_a_backtest_and_a_finished_run_are_not_finished(stores):
    (first,) = traded(node(), stores, START)
    finish_run(stores, first.run_id, "somebody")

    with pytest.raises(ConfigError, match="was finished after 2005-02-16"):
        finish_run(stores, first.run_id, "somebody")
    with pytest.raises(StoreError, match="no run matches 'NOBODY'"):
        finish_run(stores, "NOBODY", "somebody")
