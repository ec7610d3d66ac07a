"""Proposals on either engine: who may move, one change at a time, all of it or nothing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Barrier

import pytest
import sqlalchemy as sa

from persistence import proposals as module
from persistence.proposals import Draft, ProposalStore
from persistence.tables import governance as tables
from prometheus_nt.domain.errors import ProposalRefused, StoreError
from prometheus_nt.meta.proposals import settings_hash

DRAFT = Draft(
    strategy_id="US_CORE_LONG_EQ",
    market_id="US_EQ",
    key="engines.portfolio.max_names",
    current=10,
    proposed=4,
    run_id="US_CORE_LONG_EQ_H21-1",
    confidence=0.9,
    improvement=0.2,
    gain=0.01,
    calmer=None,
    rationale="fewer names earn more",
    base_hash=settings_hash({}),
    by="ann",
    screen={"sleeves": []},
    node={"market": "US_EQ"},
    arms={"BASE": ("run-a", {"sharpe": 1.0}), "CHANGED": ("run-b", {"sharpe": 1.2})},
)
OTHER = replace(DRAFT, key="gate.max_position_weight", current=0.6, proposed=0.5)


@pytest.fixture
def store(database):
    return ProposalStore(database)


def _approved(store, draft=DRAFT):
    proposal_id = store.propose(draft)
    store.approve(proposal_id, "bob")
    return proposal_id


def _rows(store, table):
    with store.database.reader() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_a_proposal_is_read_back_with_the_experiment_that_screened_it(store):
    proposal_id = store.propose(DRAFT)

    found = store.find("latest")
    assert (found.proposal_id, found.status) == (proposal_id, "PENDING")
    assert (found.current, found.proposed, found.node) == (10, 4, {"market": "US_EQ"})
    assert found.notes["proposed"]["by"] == "ann"
    (experiment,) = _rows(store, tables.experiments)
    assert experiment["spec"]["proposal_id"] == proposal_id
    arms = {row["arm"]: row["run_id"] for row in _rows(store, tables.experiment_results)}
    assert arms == {"BASE": "run-a", "CHANGED": "run-b"}


def test_the_same_change_is_open_once_and_may_come_back_when_it_was_rejected(store):
    proposal_id = store.propose(DRAFT)

    with pytest.raises(ProposalRefused, match=f"{proposal_id} is PENDING"):
        store.require_new(DRAFT.strategy_id, DRAFT.key, DRAFT.proposed)
    with pytest.raises(ProposalRefused, match="proposed by somebody else"):
        store.propose(DRAFT)
    assert len(_rows(store, tables.experiments)) == 1

    store.reject(proposal_id, "bob", "too few names")
    again = store.propose(DRAFT)

    assert store.find(proposal_id).notes["rejected"] == {
        **store.find(proposal_id).notes["rejected"],
        "by": "bob",
        "why": "too few names",
    }
    assert store.find(again).status == "PENDING"


def test_apply_changes_settings_log_and_proposal_together(store):
    proposal_id = _approved(store)

    active = store.apply(proposal_id, "bob")

    assert active == store.active("US_CORE_LONG_EQ")
    assert (active.version, active.settings) == (1, {"engines": {"portfolio": {"max_names": 4}}})
    (change,) = _rows(store, tables.config_change_log)
    assert (change["previous_value"], change["new_value"]) == (None, {"value": 4})
    assert (change["applied_by"], change["is_reverted"]) == ("bob", False)
    assert store.find(proposal_id).status == "APPLIED"
    origin = store.origins("US_CORE_LONG_EQ")["engines.portfolio.max_names"]
    assert (origin["value"], origin["proposal_id"], origin["version"]) == (4, proposal_id, 1)


@pytest.mark.parametrize("broken", ["_write_change", "_set"])
def test_nothing_remains_of_an_apply_that_fails_at_a_later_write(store, monkeypatch, broken):
    proposal_id = _approved(store)

    def fail(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(module, broken, fail)
    with pytest.raises(StoreError, match="disk is full"):
        store.apply(proposal_id, "bob")
    monkeypatch.undo()

    assert store.active("US_CORE_LONG_EQ").version == 0
    assert _rows(store, tables.strategy_configs) == []
    assert _rows(store, tables.config_change_log) == []
    assert store.find(proposal_id).status == "APPROVED"
    assert store.apply(proposal_id, "bob").version == 1


def test_a_reverted_change_leaves_the_settings_as_they_were(store):
    first = _approved(store)
    after_first = store.apply(first, "bob")
    second = _approved(store, replace(DRAFT, current=4, proposed=3, base_hash=after_first.digest))
    store.apply(second, "bob")

    with pytest.raises(ProposalRefused, match="revert the later change first"):
        store.revert(first, "bob")
    one_back = store.revert(second, "cid", "it lost money")
    none_left = store.revert(first, "cid")

    assert one_back.settings == after_first.settings
    assert (none_left.settings, none_left.version) == ({}, 4)
    assert store.origins("US_CORE_LONG_EQ") == {}
    reasons = {row["proposal_id"]: row for row in _rows(store, tables.config_change_log)}
    assert reasons[second]["reversion_reason"] == "it lost money"
    assert all(row["is_reverted"] and row["reverted_at"] for row in reasons.values())
    assert store.find(first).reverted_at is not None


def test_only_legal_moves_are_made(store):
    proposal_id = store.propose(DRAFT)

    for move in (
        lambda: store.apply(proposal_id, "bob"),
        lambda: store.revert(proposal_id, "bob"),
    ):
        with pytest.raises(ProposalRefused, match="is PENDING"):
            move()
    store.approve(proposal_id, "bob")
    with pytest.raises(ProposalRefused, match="is APPROVED"):
        store.approve(proposal_id, "bob")
    store.apply(proposal_id, "bob")
    for move in (
        lambda: store.approve(proposal_id, "bob"),
        lambda: store.reject(proposal_id, "bob", "late"),
        lambda: store.apply(proposal_id, "bob"),
    ):
        with pytest.raises(ProposalRefused, match="is APPLIED"):
            move()
    with pytest.raises(StoreError, match="no such proposal"):
        store.approve("PROP-unknown", "bob")


def _race(*moves):
    barrier = Barrier(len(moves))

    def run(move):
        barrier.wait()
        try:
            return move()
        except ProposalRefused as refused:
            return str(refused)

    with ThreadPoolExecutor(len(moves)) as pool:
        return list(pool.map(run, moves))


def test_of_two_who_apply_the_same_proposal_at_once_one_is_told_that_it_is_done(store):
    proposal_id = _approved(store)

    ended = _race(
        lambda: store.apply(proposal_id, "ann").version,
        lambda: store.apply(proposal_id, "bob").version,
    )

    refused = [one for one in ended if one != 1]
    assert ended.count(1) == 1
    assert "is APPLIED" in refused[0]
    assert len(_rows(store, tables.config_change_log)) == 1


def test_of_two_proposals_applied_at_once_one_is_told_to_be_tried_again(store):
    first, second = _approved(store), _approved(store, OTHER)

    ended = _race(
        lambda: store.apply(first, "ann").version, lambda: store.apply(second, "bob").version
    )

    refused = [one for one in ended if one != 1]
    assert ended.count(1) == 1
    assert "another change is active since (version 1)" in refused[0]
    assert store.active("US_CORE_LONG_EQ").version == 1
    assert len(_rows(store, tables.config_change_log)) == 1


def test_what_became_of_a_change_is_written_into_the_log(store):
    proposal_id = _approved(store)
    store.apply(proposal_id, "bob", datetime(2005, 1, 3, 12, tzinfo=UTC))

    store.evaluated(
        proposal_id,
        (date(2005, 1, 4), date(2005, 6, 30)),
        {"sharpe_before": 0.5, "sharpe_after": None},
    )

    (change,) = _rows(store, tables.config_change_log)
    assert change["evaluation_start_date"] == date(2005, 1, 4)
    assert (change["sharpe_before"], change["sharpe_after"]) == (0.5, None)
    assert change["applied_at"] == datetime(2005, 1, 3, 12, tzinfo=UTC)
