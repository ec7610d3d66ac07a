from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa

from persistence.events import verify
from persistence.tables.operations import trials
from persistence.trials import STREAM, TrialLedger
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import Mode, RunIdentity

WINDOW = {"market_id": "US_EQ", "start_date": date(2010, 1, 4), "end_date": date(2012, 12, 31)}
LATER = {"market_id": "US_EQ", "start_date": date(2013, 1, 2), "end_date": date(2014, 12, 31)}


@pytest.fixture
def ledger(database):
    return TrialLedger(database)


def identity(number=0, **changed):
    one = RunIdentity("FAMILY", "SLEEVE", Mode.BACKTEST, "code", f"config{number}", "data", 7)
    return replace(one, **changed)


def returns(seed=0, count=300):
    return np.random.default_rng(seed).normal(0.001, 0.01, count)


def attempts(ledger, window=WINDOW):
    return ledger.attempts("FAMILY", window["start_date"], window["end_date"])


def test_a_trial_counts_from_its_first_moment_to_for_ever(ledger):
    ledger.begin(identity(1), WINDOW)
    assert attempts(ledger) == 1

    ledger.begin(identity(2), WINDOW)
    ledger.fail(identity(2), "DataError: no prices")
    ledger.begin(identity(3), WINDOW)
    ledger.complete(identity(3), returns())

    assert attempts(ledger) == 3


def test_only_trials_on_data_that_overlap_count(ledger):
    ledger.begin(identity(1), WINDOW)
    ledger.begin(identity(2), LATER)

    assert attempts(ledger) == attempts(ledger, LATER) == 1
    assert ledger.attempts("FAMILY", date(2012, 1, 1), date(2013, 6, 1)) == 2
    assert ledger.attempts("ANOTHER", date(2012, 1, 1), date(2013, 6, 1)) == 0


def test_the_same_result_under_new_code_is_no_new_trial_and_another_result_is(ledger):
    for code, seed in (("code", 0), ("newer", 0), ("newest", 1)):
        this = identity(1, code_hash=code)
        ledger.begin(this, WINDOW)
        ledger.complete(this, returns(seed))

    assert attempts(ledger) == 2


def test_another_result_of_the_same_trial_does_not_take_the_place_of_the_first(ledger):
    for seed in (0, 1, 0, 2):
        ledger.begin(identity(1), WINDOW)
        ledger.complete(identity(1), returns(seed))
        ledger.fail(identity(1), "DeterminismError: other orders")

    assert attempts(ledger) == 3
    assert ledger.missing() == []
    with ledger.database.reader() as connection:
        assert verify(connection, STREAM) is None
        rows = connection.execute(sa.select(trials.c.run_id, trials.c.returns_hash)).all()
    assert {run_id for run_id, _ in rows} == {identity(1).run_id}
    assert len({returned for _, returned in rows}) == 3


def test_writing_a_trial_again_writes_nothing(ledger):
    for _ in range(2):
        ledger.begin(identity(1), WINDOW)
        ledger.complete(identity(1), returns())

    with ledger.database.reader() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
    assert count == 2


def test_the_moments_of_a_trial_are_kept_and_those_it_lacks_are_unknown(ledger):
    ledger.begin(identity(1), WINDOW)
    ledger.complete(identity(1), returns())
    ledger.begin(identity(2), WINDOW)
    ledger.complete(identity(2), np.zeros(300))

    with ledger.database.reader() as connection:
        rows = connection.execute(sa.select(trials).order_by(trials.c.params_hash)).mappings()
        good, idle = list(rows)
    sample = returns()
    assert good["sharpe_per_session"] == pytest.approx(sample.mean() / sample.std(ddof=1))
    assert (good["status"], good["observations"], good["reason"]) == ("OK", 300, None)
    assert idle["sharpe_per_session"] is None
    assert "do not vary" in idle["reason"]


@pytest.mark.parametrize(
    "change",
    [
        {"family": "ANOTHER"},
        {"params_hash": "config2"},
        {"start_date": date(1990, 1, 2), "end_date": date(1990, 12, 31)},
        {"returns_hash": "0" * 16},
        {"returns_hash": None},
    ],
)
def test_a_trial_that_was_made_to_count_elsewhere_is_found(ledger, change):
    for number in (1, 2):
        ledger.begin(identity(number), WINDOW)
        ledger.complete(identity(number), returns(number))
    ledger.begin(identity(3), WINDOW)
    ledger.fail(identity(3), "no prices")
    assert ledger.altered() == []

    with ledger.database.writer() as connection:
        query = sa.select(trials.c.trial_id).where(trials.c.params_hash == "config1")
        changed = connection.execute(query).scalar_one()
        connection.execute(sa.update(trials).where(trials.c.trial_id == changed).values(**change))

    assert ledger.altered() == [changed]


def test_a_trial_that_was_removed_is_missed(ledger):
    ledger.begin(identity(1), WINDOW)
    ledger.begin(identity(2), WINDOW)
    with ledger.database.writer() as connection:
        gone = connection.execute(sa.select(trials.c.trial_id)).scalars().first()
        connection.execute(sa.delete(trials).where(trials.c.trial_id == gone))

    assert ledger.missing() == [gone]
    with ledger.database.reader() as connection:
        assert verify(connection, STREAM) is None


def test_every_look_at_a_hold_out_is_sealed_even_the_same_one_twice(ledger):
    told = {"family": "FAMILY", "start": "2018-01-02", "end": "2019-12-31", "sleeve_id": "S"}

    assert [ledger.look(told), ledger.look(told)] == [1, 2]

    assert ledger.looks("FAMILY", "2019-01-02", "2022-12-30") == 2
    assert ledger.looks("FAMILY", "2020-01-02", "2022-12-30") == 0
    assert ledger.looks("ANOTHER", "2018-01-02", "2019-12-31") == 0
    with ledger.database.reader() as connection:
        assert verify(connection, STREAM) is None


def test_the_ledger_knows_which_settings_a_family_tried(ledger):
    ledger.begin(identity(1), WINDOW)

    assert ledger.knows("FAMILY", "config1")
    assert not ledger.knows("FAMILY", "config2")
    assert not ledger.knows("ANOTHER", "config1")


def test_a_screen_is_a_trial_until_its_run_takes_its_place(ledger):
    ledger.screen(identity(1), WINDOW, returns(1))
    ledger.screen(identity(1), WINDOW, returns(1))
    ledger.screen(identity(2), WINDOW, returns(2))
    assert attempts(ledger) == 2

    ledger.begin(identity(1), WINDOW)
    ledger.complete(identity(1), returns(1) + 1e-12)
    ledger.screen(identity(1), WINDOW, returns(1))

    assert attempts(ledger) == 2
    with ledger.database.reader() as connection:
        query = sa.select(trials.c.run_id, trials.c.status, trials.c.returns_hash)
        found = {row[0]: tuple(row[1:]) for row in connection.execute(query)}
    assert found[identity(1).run_id] == ("OK", content_hash([returns(1) + 1e-12]))
    assert found[identity(2).run_id] == ("SCREENED", content_hash([returns(2)]))
    assert ledger.altered() == []
    assert ledger.missing() == []


def test_a_run_that_failed_after_its_screen_stays_counted_once(ledger):
    ledger.screen(identity(1), WINDOW, returns(1))
    ledger.begin(identity(1), WINDOW)

    ledger.fail(identity(1), "AccountingError: gone")

    assert attempts(ledger) == 1
    assert ledger.altered() == []
