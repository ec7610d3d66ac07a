"""Meta-portfolios of real runs, and of real runs to whose files something was done."""

import json
import shutil
from contextlib import contextmanager
from datetime import date
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from adapters.sample import sample_sp500
from persistence.artifacts import RunFolder
from persistence.tables import runtime as tables
from persistence.tables.historical import dataset_revisions
from prometheus_nt.cli import main
from prometheus_nt.config import load_config
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.meta_portfolio import (
    MetaRequest,
    audit_signs,
    make_meta_portfolio,
    meta_params,
)
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2004-01-02, end: 2004-12-31}
data: {dataset: sample_sp500}
without: [profiles, regime, fragility]
sleeves:
  - {family: US_CORE_LONG_EQ, horizon: 5}
  - {family: US_CORE_LONG_EQ, horizon: 63}
  - family: US_LONG_SHORT_EQ
    horizon: 21
    engines: {portfolio: {max_names: 4, max_names_short: 4, max_weight: 0.2, max_weight_short: 0.2},
              risk: {max_abs_weight_per_name: 0.2, max_sector_weight: null}}
engines:
  universe: {min_price: null, min_dollar_volume: null}
  portfolio: {max_names: 8, max_weight: 0.15}
  risk: {max_abs_weight_per_name: 0.15}
execution: {quotes: {impact_coefficient: 0}}
"""

FAST, SLOW, HEDGED = "US_CORE_LONG_EQ_H5", "US_CORE_LONG_EQ_H63", "US_LONG_SHORT_EQ_H21"
ALL = (FAST, SLOW, HEDGED)
LAST = date(2004, 12, 31)


def settings_of(home):
    return Settings(home, f"sqlite:///{home}/historical.db", f"sqlite:///{home}/runtime.db")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """Return a home in which three sleeves were run."""
    home = tmp_path_factory.mktemp("meta") / "home"
    home.mkdir()
    (home / "node.yaml").write_text(NODE)
    with open_stores(settings_of(home), upgrade=True) as stores:
        ingest(sample_sp500(), stores.historical)
        run_backtest(load_config([home / "node.yaml"]), stores)
    return home


@pytest.fixture
def home(made_once, tmp_path):
    copied = tmp_path / "home"
    shutil.copytree(made_once, copied, symlinks=True)
    return copied


@pytest.fixture
def stores(home):
    with open_stores(settings_of(home)) as opened:
        yield opened


@pytest.fixture
def make(stores):
    """Return a function that makes a meta-portfolio of runs, by default all three."""

    def make(*runs, as_of=None, config=None, **params):
        settings = MetaAllocationParams(**{"max_asset": 0.5} | params)
        names = runs if runs or config else ALL
        return make_meta_portfolio(stores, MetaRequest(names, config, as_of, settings))

    return make


def read(made, name):
    return json.loads((made.report.parent / name).read_text())


def run_id_of(stores, sleeve):
    return stores.runtime.find_run(sleeve)["run_id"]


def recorded_again(stores, sleeve, name, change):
    """Change a file of a run, and what is recorded of it: as if the run had made it so."""
    run_id = run_id_of(stores, sleeve)
    folder = RunFolder(stores.settings.runs_dir, run_id)
    if name.endswith(".json"):
        written = folder.write_json(name, folder.read_json(name) | change)
    else:
        written = folder.write_table(name, change(folder.read_table(name)))
    row = tables.artifacts.c
    changed = sa.update(tables.artifacts).where(row.run_id == run_id, row.name == name)
    with stores.runtime.database.writer() as connection:
        connection.execute(changed.values(sha256=written.sha256, bytes=written.bytes))


def cut_to(rows):
    return lambda table: {name: column[:rows] for name, column in table.items()}


def with_equity(values):
    return lambda table: table | {"equity": values(table["equity"])}


def in_database(stores, statement):
    with stores.runtime.database.writer() as connection:
        connection.execute(statement)


def targets_are(stores, weights, sleeve=None):
    table = tables.target_portfolios
    statement = sa.update(table).values(target_positions={"weights": weights})
    if sleeve is not None:
        statement = statement.where(table.c.run_id == run_id_of(stores, sleeve))
    in_database(stores, statement)


def test_three_sleeves_become_one_book(make, stores):
    made = make()

    assert (made.verdict, made.codes, made.as_of) == ("PASS", (), "2004-12-31")
    names = {path.name for path in made.report.parent.iterdir()}
    assert names >= {
        "meta_returns.parquet",
        "meta_weights.json",
        "meta_targets.json",
        "directional_sign_test.json",
        "completeness.json",
        "meta_portfolio_report.html",
    }
    weights = read(made, "meta_weights.json")
    assert sum(one["weight"] for one in weights["members"]) == pytest.approx(1.0, abs=1e-9)
    assert all(0.05 <= one["weight"] <= 0.5 for one in weights["members"])
    assert read(made, "directional_sign_test.json")["errors"] == 0
    assert read(made, "directional_sign_test.json")["n_short"] == 4
    page = made.report.read_text()
    assert "PASS: every gate passed" in page
    assert all(run_id_of(stores, sleeve) in page for sleeve in ALL)


def test_the_book_is_the_sum_of_what_the_sleeves_decided(make, stores):
    made = make(method="equal")

    expected, gross = {}, {}
    for sleeve in ALL:
        _, book = stores.runtime.latest_target(run_id_of(stores, sleeve))
        for name, weight in book.items():
            expected[name] = expected.get(name, 0.0) + weight / 3.0
            gross[name] = gross.get(name, 0.0) + abs(weight) / 3.0
    rows = {row["instrument_id"]: row for row in read(made, "meta_targets.json")["targets"]}
    held = {name: weight for name, weight in gross.items() if weight}
    assert {name: row["gross"] for name, row in rows.items()} == pytest.approx(held, abs=1e-12)
    for name, row in rows.items():
        assert row["net"] == pytest.approx(expected[name], abs=1e-12)
        parts = [one["weight"] for one in row["contributors"]]
        assert sum(parts) == pytest.approx(row["net"], abs=1e-12)
        assert sum(map(abs, parts)) == pytest.approx(row["gross"], abs=1e-12)


def test_the_matrix_is_what_the_sleeves_earned(make, stores):
    made = make()

    table = pq.read_table(made.report.parent / "meta_returns.parquet").to_pydict()
    assert len(table["session"]) == 252
    for sleeve in ALL:
        run_id = run_id_of(stores, sleeve)
        equity = RunFolder(stores.settings.runs_dir, run_id).read_table("equity.parquet")["equity"]
        levels = [1_000_000.0, *equity]
        earned = [after / before - 1.0 for before, after in pairwise(levels)]
        assert table[run_id] == pytest.approx(earned, abs=1e-15)


def test_making_it_again_writes_nothing_new(make):
    first = make()
    before = {path: path.stat().st_mtime_ns for path in first.report.parent.iterdir()}

    again = make()

    assert (first.cached, again.cached) == (False, True)
    assert again.meta_id == first.meta_id
    assert {path: path.stat().st_mtime_ns for path in first.report.parent.iterdir()} == before


def test_a_result_that_was_altered_is_made_again(make):
    made = make()
    targets = made.report.parent / "meta_targets.json"
    before = targets.read_bytes()
    targets.write_bytes(before.replace(b'"LONG"', b'"SHORT"'))

    again = make()

    assert not again.cached
    assert targets.read_bytes() == before


def test_the_newest_runs_of_a_node_are_the_same_as_those_runs_by_name(make, home):
    assert make(config=home / "node.yaml").meta_id == make().meta_id


def test_nothing_after_the_day_asked_for_moves_weights_or_targets(make, stores):
    day = date(2004, 9, 15)
    before = make(as_of=day)
    rng = np.random.default_rng(0)

    def noise(equity):
        return np.concatenate((equity[:177], rng.uniform(5e5, 5e6, len(equity) - 177)))

    for sleeve in ALL:
        recorded_again(stores, sleeve, "equity.parquet", with_equity(noise))
    later = tables.target_portfolios
    in_database(
        stores,
        sa.update(later).where(later.c.as_of_date > day).values(target_positions={"weights": {}}),
    )
    after = make(as_of=day)

    assert after.meta_id != before.meta_id
    assert after.as_of == before.as_of == "2004-09-15"
    for name in ("meta_weights.json", "meta_targets.json"):
        ours, theirs = read(before, name), read(after, name)
        assert ours.pop("meta_id") != theirs.pop("meta_id")
        assert ours == theirs
    returns = [one.report.parent / "meta_returns.parquet" for one in (before, after)]
    assert returns[0].read_bytes() == returns[1].read_bytes()
    assert "out of sample" in before.report.read_text()


def test_a_day_without_trading_is_the_session_before(make):
    assert make(as_of=date(2004, 9, 19)).as_of == "2004-09-17"


def missing_run(stores, make):
    return make(FAST, "NOPE")


def sleeve_that_never_ran(stores, make):
    node = stores.settings.home / "other.yaml"
    node.write_text(NODE.replace("max_names: 8", "max_names: 7"))
    return make(config=node)


def run_that_failed(stores, make):
    stores.runtime.end_run(run_id_of(stores, FAST), "FAILED")
    return make()


def file_that_is_gone(stores, make):
    (stores.settings.runs_dir / run_id_of(stores, FAST) / "equity.parquet").unlink()
    return make()


def file_that_was_altered(stores, make):
    folder = RunFolder(stores.settings.runs_dir, run_id_of(stores, FAST))
    table = folder.read_table("equity.parquet")
    folder.write_table("equity.parquet", table | {"equity": table["equity"] * 1.01})
    return make()


def empty_stream(stores, make):
    recorded_again(stores, FAST, "equity.parquet", cut_to(0))
    return make()


def before_the_first_session(stores, make):
    return make(as_of=date(2003, 12, 31))


def ruined_sleeve(stores, make):
    recorded_again(
        stores, FAST, "equity.parquet", with_equity(lambda e: np.where(e == e[100], -1.0, e))
    )
    return make()


def sleeve_that_ends_early(stores, make):
    recorded_again(stores, FAST, "equity.parquet", cut_to(250))
    return make(as_of=LAST)


def single_sleeve(stores, make):
    return make(FAST)


def one_run_twice(stores, make):
    return make(FAST, run_id_of(stores, FAST), SLOW)


def infeasible_bounds(stores, make):
    return make(max_weight=0.3)


def short_history(stores, make):
    return make(as_of=date(2004, 3, 1))


def idle_sleeves(stores, make):
    for sleeve in (FAST, SLOW):
        recorded_again(
            stores, sleeve, "equity.parquet", with_equity(lambda e: np.full(len(e), 1e6))
        )
    return make()


def idle_sleeve(stores, make):
    recorded_again(stores, FAST, "equity.parquet", with_equity(lambda e: np.full(len(e), 1e6)))
    return make()


def losing_sleeves(stores, make):
    for sleeve in ALL:
        recorded_again(stores, sleeve, "equity.parquet", with_equity(lambda e: e[::-1] * 0.1))
    return make(method="max_ratio")


def other_dataset(stores, make):
    row = tables.backtest_runs
    run_id = run_id_of(stores, FAST)
    in_database(stores, sa.update(row).where(row.c.run_id == run_id).values(dataset_id="other"))
    return make()


def no_target(stores, make):
    in_database(stores, sa.delete(tables.target_portfolios))
    return make()


def empty_targets(stores, make):
    targets_are(stores, {})
    return make()


def one_name_alone(stores, make):
    targets_are(stores, {"AAPL.US": 0.9})
    return make()


def unknown_instrument(stores, make):
    targets_are(stores, {"NOPE.US": 0.1, "AAPL.US": 0.1}, FAST)
    return make()


def unknown_weight(stores, make):
    targets_are(stores, {"AAPL.US": float("nan")}, FAST)
    return make()


def revision_that_is_gone(stores, make):
    for sleeve in ALL:
        recorded_again(stores, sleeve, "manifest.json", {"data_revision": 99})
    return make()


def nested_after_the_day(stores, make):
    inner = make(FAST, SLOW)
    return make(inner.meta_id, HEDGED, as_of=date(2004, 9, 15))


def nested_that_failed(stores, make):
    inner = make(FAST, SLOW, max_asset=0.01)
    return make(inner.meta_id, HEDGED)


def nested_that_is_not_there(stores, make):
    return make("META-0000000000000000", HEDGED)


def nested_by_a_path(stores, make):
    return make("META-../../runs", HEDGED)


def nested_that_was_altered(stores, make):
    inner = make(FAST, SLOW)
    weights = inner.report.parent / "meta_weights.json"
    weights.write_text(weights.read_text().replace("0.5", "0.6"))
    return make(inner.meta_id, HEDGED)


def nested_verdict_that_was_altered(stores, make):
    inner = make(FAST, SLOW, max_asset=0.01)
    verdict = inner.report.parent / "completeness.json"
    verdict.write_text(verdict.read_text().replace('"FAIL"', '"PASS"'))
    return make(inner.meta_id, HEDGED)


def nested_in_itself(stores, make):
    inner = make(FAST, SLOW)
    folder = RunFolder(inner.report.parent.parent, inner.meta_id)
    weights, whole = folder.read_json("meta_weights.json"), folder.read_json("completeness.json")
    weights["members"][0]["member_id"] = inner.meta_id
    written = folder.write_json("meta_weights.json", weights)
    whole["files"]["meta_weights.json"]["sha256"] = written.sha256
    del whole["seal"]
    folder.write_json("completeness.json", whole | {"seal": content_hash([whole])})
    return make(inner.meta_id, HEDGED)


def four_levels(stores, make):
    inner = make(FAST, SLOW)
    for _ in range(2):
        inner = make(inner.meta_id, HEDGED)
        assert inner.verdict == "PASS"
    return make(inner.meta_id, HEDGED)


FAULTS = [
    (missing_run, {"META_MISSING_RUN"}),
    (sleeve_that_never_ran, {"META_MISSING_RUN"}),
    (run_that_failed, {"META_RUN_NOT_COMPLETED"}),
    (file_that_is_gone, {"META_MISSING_ARTIFACTS"}),
    (file_that_was_altered, {"META_ALTERED_ARTIFACTS"}),
    (empty_stream, {"META_EMPTY_RETURNS"}),
    (before_the_first_session, {"META_EMPTY_RETURNS"}),
    (ruined_sleeve, {"META_UNKNOWN_RETURNS"}),
    (sleeve_that_ends_early, {"META_STALE_SLEEVE"}),
    (single_sleeve, {"META_SINGLE_SLEEVE"}),
    (one_run_twice, {"META_DUPLICATE_SLEEVE"}),
    (infeasible_bounds, {"META_INFEASIBLE_BOUNDS"}),
    (short_history, {"META_SHORT_HISTORY"}),
    (idle_sleeves, {"META_SINGLE_MATCH"}),
    (idle_sleeve, {"META_SOLVER_FAILED"}),
    (losing_sleeves, {"META_SOLVER_FAILED"}),
    (other_dataset, {"META_PARITY"}),
    (no_target, {"META_NO_TARGET"}),
    (empty_targets, {"META_EMPTY_FLATTENED"}),
    (one_name_alone, {"META_CONCENTRATION"}),
    (unknown_instrument, {"SIGNTEST_MISSING_PHYSICAL_COL", "META_SIGN_TEST_FAIL"}),
    (unknown_weight, {"META_NOT_CONSERVED"}),
    (revision_that_is_gone, {"META_STAGE_FAILED"}),
    (nested_after_the_day, {"META_LOOK_AHEAD"}),
    (nested_that_failed, {"META_CHILD_FAILED"}),
    (nested_that_is_not_there, {"META_MISSING_ARTIFACTS"}),
    (nested_by_a_path, {"META_MISSING_RUN"}),
    (nested_that_was_altered, {"META_ALTERED_ARTIFACTS"}),
    (nested_verdict_that_was_altered, {"META_ALTERED_ARTIFACTS"}),
    (nested_in_itself, {"META_CYCLE"}),
    (four_levels, {"META_TOO_DEEP"}),
]


@pytest.mark.parametrize(("fault", "codes"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_each_fault_fails_with_its_code_and_a_written_report(stores, make, fault, codes):
    made = fault(stores, make)

    assert made.verdict == "FAIL"
    assert set(made.codes) == codes
    page, document = made.report.read_text(), read(made, "completeness.json")
    assert "FAIL: " in page and "nothing may be traded" in page
    assert all(code in page for code in codes)
    assert (document["verdict"], set(document["codes"])) == ("FAIL", codes)
    left = {path.name for path in made.report.parent.iterdir()}
    assert not left & {"meta_weights.json", "meta_targets.json"}


def test_all_that_is_wrong_is_told_at_once(stores, make):
    stores.runtime.end_run(run_id_of(stores, FAST), "FAILED")

    made = make(FAST, "NOPE", HEDGED, max_weight=0.2)

    assert set(made.codes) == {
        "META_INFEASIBLE_BOUNDS",
        "META_RUN_NOT_COMPLETED",
        "META_MISSING_RUN",
    }


def test_what_a_stage_could_not_finish_is_tried_again(stores, make):
    first = revision_that_is_gone(stores, make)

    assert not make().cached
    assert make().meta_id == first.meta_id


def test_a_book_does_not_outlive_the_failure_to_make_it_again(stores, make):
    made = make()
    folder = made.report.parent
    made.report.write_text("altered")
    with stores.historical.database.writer() as connection:
        connection.execute(sa.delete(dataset_revisions))

    again = make()

    assert (again.meta_id, again.codes) == (made.meta_id, ("META_STAGE_FAILED",))
    left = {path.name for path in folder.iterdir()}
    assert not left & {"meta_weights.json", "meta_targets.json"}


def test_a_failure_that_follows_from_the_members_is_not_made_again(stores, make):
    assert [single_sleeve(stores, make).cached for _ in range(2)] == [False, True]


def test_one_sleeve_that_is_meant_passes(make):
    made = make(FAST, single=True)

    assert made.verdict == "PASS"
    assert read(made, "meta_weights.json")["members"][0]["weight"] == 1.0


def test_losing_a_fifth_of_the_sessions_is_told_and_passes(stores, make):
    def late(table):
        return {name: column[60:] for name, column in table.items()}

    recorded_again(stores, FAST, "equity.parquet", late)

    made = make()

    assert made.verdict == "PASS"
    assert "META_DROPPED_SESSIONS" in {one["code"] for one in made.findings}


def test_a_meta_portfolio_of_a_meta_portfolio_holds_the_product_of_the_weights(make, stores):
    inner = make(FAST, SLOW, method="equal")

    outer = make(inner.meta_id, HEDGED, FAST, method="equal")

    assert outer.verdict == "PASS"
    shares = {}
    for row in read(outer, "meta_targets.json")["targets"]:
        for one in row["contributors"]:
            _, book = stores.runtime.latest_target(one["run_id"])
            share = one["weight"] / book[row["instrument_id"]]
            shares.setdefault(one["sleeve_id"], set()).add(round(share, 12))
    third = 1.0 / 3.0
    assert {name: list(found) for name, found in shares.items()} == {
        FAST: [pytest.approx(third + third / 2.0)],
        SLOW: [pytest.approx(third / 2.0)],
        HEDGED: [pytest.approx(third)],
    }
    assert "Nesting:" in outer.report.read_text()


@contextmanager
def streams_of(made):
    """Yield the synthetic returns of a meta-portfolio, and write back what became of them."""
    folder = RunFolder(made.report.parent.parent, made.meta_id)
    table = folder.read_table("synthetic_returns.parquet")
    table = {name: column.copy() for name, column in table.items()}
    yield table
    folder.write_table("synthetic_returns.parquet", table)


def un_inverted(table, atom, returns):
    table[atom] = returns


def double_inverted(table, atom, returns):
    table[atom] = -table[atom]


def shifted(table, atom, returns):
    table[atom] = np.roll(table[atom], 1)


def hole(table, atom, returns):
    table[atom][5] = np.nan


def missing_row(table, atom, returns):
    table.update({name: np.delete(column, 7) for name, column in table.items()})


def renamed(table, atom, returns):
    table["another"] = table.pop(atom)


MUTATIONS = [
    (un_inverted, {"SIGNTEST_SHORT_NOT_INVERTED"}),
    (double_inverted, {"SIGNTEST_SHORT_NOT_INVERTED"}),
    (shifted, {"SIGNTEST_SHORT_NOT_INVERTED"}),
    (hole, {"SIGNTEST_NAN_MISMATCH"}),
    (missing_row, {"SIGNTEST_INDEX_MISMATCH"}),
    (renamed, {"SIGNTEST_MISSING_ATOM_COL", "SIGNTEST_UNKNOWN_COL"}),
]


@pytest.mark.parametrize(("mutation", "codes"), MUTATIONS)
def test_every_way_to_lose_a_sign_in_the_files_is_found(make, mutation, codes):
    made = make()
    folder = RunFolder(made.report.parent.parent, made.meta_id)
    atoms, raw = folder.read_table("atoms.parquet"), folder.read_table("returns_matrix.parquet")
    short = next(at for at, sign in enumerate(atoms["direction"]) if sign < 0)
    assert audit_signs(folder).passed

    with streams_of(made) as table:
        mutation(table, atoms["atom_id"][short], raw[atoms["instrument_id"][short]])

    assert {one.code for one in audit_signs(folder).findings} == codes


def test_a_day_of_150_percent_that_is_not_capped_is_found_in_the_files(make):
    made = make()
    folder = RunFolder(made.report.parent.parent, made.meta_id)
    atoms, raw = folder.read_table("atoms.parquet"), folder.read_table("returns_matrix.parquet")
    short = next(at for at, sign in enumerate(atoms["direction"]) if sign < 0)
    atom, name = atoms["atom_id"][short], atoms["instrument_id"][short]
    jumped = {column: values.copy() for column, values in raw.items()}
    jumped[name][9] = 1.5
    folder.write_table("returns_matrix.parquet", jumped)

    found = {}
    for loss in (-1.0, -1.5):
        with streams_of(made) as table:
            for other in range(len(atoms["atom_id"])):
                if atoms["instrument_id"][other] == name:
                    table[atoms["atom_id"][other]][9] = 1.5 if other != short else loss
        found[loss] = [(one.code, one.subject) for one in audit_signs(folder).findings]

    assert found == {-1.0: [], -1.5: [("SIGNTEST_SHORT_NOT_CAPPED", atom)]}


def test_the_command_says_what_came_out_and_fails_with_code_1(home, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_HOME", str(home))

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["prometheus", "meta-portfolio", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr()

    passed, shown = run("--config", str(home / "node.yaml"), "--json")
    failed, told = run("--run", FAST)
    refused, complaint = run("--run", FAST, "--method", "best", "--min-weight", "2")

    assert (passed, json.loads(shown.out)["verdict"]) == (0, "PASS")
    assert failed == 1 and "META_SINGLE_SLEEVE" in told.out and "FAIL as of" in told.out
    assert refused == 1 and complaint.err.count("meta-portfolio: m") == 2


def test_settings_out_of_range_are_told_line_by_line():
    with pytest.raises(ConfigError, match=r"meta-portfolio: max_asset: .*greater than 0"):
        meta_params(max_asset=0.0)
