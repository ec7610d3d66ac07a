"""A meta-portfolio's book, traded: what its members hold, through the same risk and venue."""

import json
import shutil
from datetime import date

import numpy as np
import pytest
import sqlalchemy as sa
import yaml

from adapters.sample import sample_sp500
from persistence.artifacts import RunFolder
from persistence.tables import runtime as tables
from prometheus_nt.config import NodeConfig, load_config
from prometheus_nt.domain.errors import ConfigError, DataError, MetaFailure
from prometheus_nt.domain.runs import Mode, RunIdentity
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.meta_portfolio import MetaRequest, make_meta_portfolio
from prometheus_nt.jobs.panels import node_panel
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.jobs.wiring import wire_backtest
from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

FREE = """
execution:
  quotes: {half_spread_bps: 0, impact_coefficient: 0}
  fees: {per_share_usd: 0, minimum_usd: 0, cap_fraction: 0}
  financing: {borrow_fee_annual: 0, debit_rate_annual: 0, credit_rate_annual: 0}
  planner: {no_trade_band: 0, min_notional_usd: 0, cash_buffer: 0}
"""

NODE = """
sessions: {start: 2004-01-02, end: 2004-12-31}
data: {dataset: sample_sp500}
without: [profiles, regime, fragility]
sleeves:
  - {family: US_CORE_LONG_EQ, horizon: 5, capital_usd: 100000000}
  - {family: US_CORE_LONG_EQ, horizon: 63, capital_usd: 100000000}
  - family: US_LONG_SHORT_EQ
    horizon: 21
    capital_usd: 100000000
    engines: {portfolio: {max_names: 4, max_names_short: 4, max_weight: 0.2, max_weight_short: 0.2},
              risk: {max_abs_weight_per_name: 0.2, max_sector_weight: null}}
engines:
  universe: {min_price: null, min_dollar_volume: null}
  portfolio: {max_names: 6, max_weight: 0.15}
  risk: {max_abs_weight_per_name: 0.15}
"""

FAST, SLOW, HEDGED = "US_CORE_LONG_EQ_H5", "US_CORE_LONG_EQ_H63", "US_LONG_SHORT_EQ_H21"
ALL = (FAST, SLOW, HEDGED)
WEIGHED, LAST = date(2004, 6, 30), date(2004, 12, 31)


def settings_of(home):
    return Settings(home, f"sqlite:///{home}/historical.db", f"sqlite:///{home}/runtime.db")


def homes_of(costs):
    @pytest.fixture(scope="module")
    def made_once(tmp_path_factory):
        home = tmp_path_factory.mktemp("book") / "home"
        home.mkdir()
        (home / "node.yaml").write_text(NODE + costs)
        with open_stores(settings_of(home), upgrade=True) as stores:
            ingest(sample_sp500(), stores.historical)
            run_backtest(load_config([home / "node.yaml"]), stores)
        return home

    return made_once


without_costs, with_costs = homes_of(FREE), homes_of("")


@pytest.fixture
def stores(without_costs, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(without_costs, home, symlinks=True)
    with open_stores(settings_of(home)) as opened:
        yield opened


def meta_of(stores, *runs, as_of=WEIGHED, **params):
    params = MetaAllocationParams(**{"max_asset": 0.5, "method": "equal"} | params)
    made = make_meta_portfolio(stores, MetaRequest(runs or ALL, None, as_of, params))
    assert made.verdict == "PASS", made.codes
    return made


def book_of(stores, *metas, costs=FREE, start=WEIGHED, end=LAST, **sleeve):
    """Return the node of a sleeve that follows meta-portfolios."""
    one = {"family": "META_BOOK", "horizon": 1, "metas": list(metas), "capital_usd": 1e8}
    content = {
        "sessions": {"start": start, "end": end},
        "data": {"dataset": "sample_sp500"},
        "engines": {"risk": {"max_sector_weight": None, "max_abs_weight_per_name": 0.5}},
        "sleeves": [one | sleeve],
    }
    return NodeConfig.model_validate(content | (yaml.safe_load(costs) or {}))


def equity_of(stores, run_id):
    table = RunFolder(stores.settings.runs_dir, run_id).read_table("equity.parquet")
    return dict(
        zip(table["session"].astype("datetime64[D]").tolist(), table["equity"], strict=True)
    )


def returns_of(stores, run_id, sessions):
    equity = equity_of(stores, run_id)
    levels = np.array([equity[session] for session in sessions])
    return levels[1:] / levels[:-1] - 1.0


def run_id_of(stores, sleeve):
    return stores.runtime.find_run(sleeve)["run_id"]


def sessions_of(stores, run_id, after):
    return [session for session in equity_of(stores, run_id) if session >= after]


def test_the_book_earns_the_weighted_sum_of_what_its_members_earn(stores):
    made = meta_of(stores)

    (run,) = run_backtest(book_of(stores, made.meta_id), stores)

    # Decided on 30 June, bought at the close of 1 July: from then on the two are one book.
    sessions = sessions_of(stores, run.run_id, WEIGHED)
    book = returns_of(stores, run.run_id, sessions)
    earned = {one["name"]: returns_of(stores, one["member_id"], sessions) for one in made.members}
    assert (len(book), set(earned)) == (128, set(ALL))
    # What is decided at a close is filled at the next one: by then members have grown apart.
    grown = {name: (1.0 + r[:-1]) / (1.0 + book[:-1]) for name, r in earned.items()}
    expected = sum(grown[name] * r[1:] / 3.0 for name, r in earned.items())
    assert np.abs(expected).max() > 0.005
    assert book[1:] == pytest.approx(expected, abs=7e-5)
    whole = sum(r[1:] / 3.0 for r in earned.values())
    assert np.prod(1.0 + book[1:]) == pytest.approx(np.prod(1.0 + whole), abs=1e-3)


def test_costs_are_all_that_comes_between_the_book_and_its_members(with_costs):
    with open_stores(settings_of(with_costs)) as stores:
        made = meta_of(stores)

        (run,) = run_backtest(book_of(stores, made.meta_id, costs=""), stores)

        sessions = sessions_of(stores, run.run_id, date(2004, 7, 1))
        book = returns_of(stores, run.run_id, sessions)
        whole = sum(returns_of(stores, one["member_id"], sessions) / 3.0 for one in made.members)
        runs = [run.run_id, *(one["member_id"] for one in made.members)]
        paid = sum(paid_by(stores, name) for name in runs)
    apart = abs(np.prod(1.0 + book) - np.prod(1.0 + whole))
    assert 0.0 < apart <= paid + 1e-3
    assert np.corrcoef(book, whole)[0, 1] > 0.999


def paid_by(stores, run_id):
    """Return what a run paid for its fills and its shorts, as a fraction of its capital."""
    folder = RunFolder(stores.settings.runs_dir, run_id)
    metrics = folder.read_json("statistics.json")
    return metrics["cost_total_usd"] / folder.read_json("manifest.json")["starting_capital"]


def orders_of(stores, run_id):
    query = sa.select(tables.orders).where(tables.orders.c.run_id == run_id)
    with stores.runtime.database.reader() as connection:
        rows = connection.execute(query.order_by(tables.orders.c.order_id)).mappings().all()
    return [(row["timestamp"].date(), row["instrument_id"], row["quantity"]) for row in rows]


def test_it_holds_cash_until_the_weights_are_known(stores):
    made = meta_of(stores)

    (run,) = run_backtest(book_of(stores, made.meta_id, start=date(2004, 6, 1)), stores)

    orders = orders_of(stores, run.run_id)
    assert orders and min(day for day, _, _ in orders) >= WEIGHED
    notes = RunFolder(stores.settings.runs_dir, run.run_id).read_json("manifest.json")["notes"]
    assert any(made.meta_id in note and "cash" in note for note in notes)


def test_nothing_that_a_member_decided_later_moves_an_order(stores):
    made = meta_of(stores)
    (before,) = run_backtest(book_of(stores, made.meta_id), stores)
    day, table = date(2004, 9, 30), tables.target_portfolios
    late = sa.update(table).where(table.c.as_of_date > day, table.c.strategy_id != "META_BOOK")
    with stores.runtime.database.writer() as connection:
        connection.execute(late.values(target_positions={"weights": {"XOM.US": 0.5}}))

    (after,) = run_backtest(book_of(stores, made.meta_id), stores)

    assert after.run_id != before.run_id
    ours, theirs = (orders_of(stores, run.run_id) for run in (before, after))
    assert [one for one in ours if one[0] <= day] == [one for one in theirs if one[0] <= day]
    assert ours != theirs


def test_new_weights_hold_from_their_own_day_on(stores):
    first = meta_of(stores, FAST, SLOW)
    second = meta_of(stores, SLOW, HEDGED, as_of=date(2004, 9, 15))

    (run,) = run_backtest(book_of(stores, second.meta_id, first.meta_id), stores)
    (alone,) = run_backtest(book_of(stores, first.meta_id, variant="ALONE"), stores)

    both, one = (orders_of(stores, made.run_id) for made in (run, alone))
    day = date(2004, 9, 14)
    assert [row for row in both if row[0] <= day] == [row for row in one if row[0] <= day]
    assert both != one
    assert min(row["quantity"] for row in held_of(stores, run.run_id)) < 0
    assert min(row["quantity"] for row in held_of(stores, alone.run_id)) > 0


def held_of(stores, run_id):
    table = tables.positions_snapshots
    with stores.runtime.database.reader() as connection:
        rows = connection.execute(sa.select(table).where(table.c.run_id == run_id)).mappings()
        return [dict(row) for row in rows if row["quantity"]]


def test_a_meta_portfolio_of_meta_portfolios_is_traded_at_the_product_of_the_weights(stores):
    inner = meta_of(stores, FAST, SLOW)
    outer = meta_of(stores, inner.meta_id, HEDGED)
    top = meta_of(stores, outer.meta_id, FAST)

    (run,) = run_backtest(book_of(stores, top.meta_id), stores)

    sessions = sessions_of(stores, run.run_id, date(2004, 7, 1))
    book = returns_of(stores, run.run_id, sessions)
    shares = {FAST: 0.5 + 0.125, SLOW: 0.125, HEDGED: 0.25}
    whole = sum(
        share * returns_of(stores, run_id_of(stores, name), sessions)
        for name, share in shares.items()
    )
    assert np.prod(1.0 + book) == pytest.approx(np.prod(1.0 + whole), abs=1e-3)
    assert np.abs(book - whole).max() < 3e-4


def test_a_traded_book_is_a_member_like_any_other(stores):
    made = meta_of(stores, FAST, SLOW)
    (run,) = run_backtest(book_of(stores, made.meta_id), stores)

    above = meta_of(stores, run.run_id, HEDGED, as_of=LAST)

    assert {one["name"] for one in above.members} == {"META_BOOK_H1", HEDGED}
    targets = json.loads((above.report.parent / "meta_targets.json").read_text())["targets"]
    for row in targets:
        assert sum(one["weight"] for one in row["contributors"]) == pytest.approx(row["net"], 1e-9)


def test_the_same_book_twice_is_one_run(stores):
    made = meta_of(stores)
    (first,) = run_backtest(book_of(stores, made.meta_id), stores)

    (cached,) = run_backtest(book_of(stores, made.meta_id), stores)
    (again,) = run_backtest(book_of(stores, made.meta_id), stores, force=True)

    assert (first.cached, cached.cached, again.cached) == (False, True, False)
    assert first.run_id == cached.run_id == again.run_id
    assert again.order_list_hash == first.order_list_hash


def of_what_failed(stores):
    params = MetaAllocationParams(max_asset=0.01)
    made = make_meta_portfolio(stores, MetaRequest(ALL, None, WEIGHED, params))
    return book_of(stores, made.meta_id)


def of_what_was_altered(stores):
    made = meta_of(stores)
    weights = made.report.parent / "meta_weights.json"
    weights.write_text(weights.read_text().replace("0.33", "0.34"))
    return book_of(stores, made.meta_id)


def of_what_is_not_there(stores):
    return book_of(stores, "META-0000000000000000")


def of_a_run(stores):
    return book_of(stores, run_id_of(stores, FAST))


def beyond_a_record(stores):
    return book_of(stores, meta_of(stores).meta_id, end=date(2005, 1, 31))


def before_all_weights(stores):
    made = meta_of(stores)
    return book_of(stores, made.meta_id, start=date(2004, 2, 2), end=date(2004, 4, 1))


def two_of_one_day(stores):
    return book_of(stores, meta_of(stores).meta_id, meta_of(stores, FAST, SLOW).meta_id)


def of_other_data(stores):
    made = meta_of(stores)
    runs = tables.backtest_runs
    with stores.runtime.database.writer() as connection:
        connection.execute(sa.update(runs).values(dataset_id="other"))
    return book_of(stores, made.meta_id)


def without_what_a_member_holds(stores):
    node = book_of(stores, meta_of(stores).meta_id)
    return node.model_copy(update={"instruments": ("AAPL.US", "XOM.US")})


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (of_what_failed, MetaFailure, "META_CHILD_FAILED"),
        (of_what_was_altered, MetaFailure, "META_ALTERED_ARTIFACTS"),
        (of_what_is_not_there, MetaFailure, "META_MISSING_ARTIFACTS"),
        (of_a_run, MetaFailure, "META_MISSING_RUN"),
        (beyond_a_record, DataError, "has a record until 2004-12-31"),
        (before_all_weights, DataError, "a book of cash is no backtest"),
        (two_of_one_day, ConfigError, "two are of 2004-06-30"),
        (of_other_data, ConfigError, "was run on US_EQ other"),
        (without_what_a_member_holds, MetaFailure, "META_NOT_CONSERVED"),
    ],
)
def test_a_book_that_cannot_be_followed_is_refused(stores, fault, error, said):
    config = fault(stores)

    with pytest.raises(error, match=said):
        run_backtest(config, stores)


def test_only_a_backtest_can_follow_records(stores):
    config = book_of(stores, meta_of(stores).meta_id)
    panel = node_panel(config, stores)
    identity = RunIdentity("META_BOOK", "META_BOOK_H1", Mode.BACKTEST, "c", "h", "d", 0)

    with pytest.raises(ConfigError, match="which only a backtest can"):
        wire_backtest(config, config.sleeves[0], panel, identity)
