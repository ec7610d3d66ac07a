"""Every rule by which a meta-portfolio fails, asked again of its files as somebody left them."""

import json
import shutil
from datetime import date

import numpy as np
import pytest

from adapters.sample import sample_sp500
from persistence.artifacts import RunFolder
from prometheus_nt.cli import main
from prometheus_nt.config import load_config
from prometheus_nt.domain.record import content_hash
from prometheus_nt.jobs.backtest import run_backtest
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.meta_audit import audit_meta
from prometheus_nt.jobs.meta_portfolio import MetaRequest, make_meta_portfolio
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.meta.allocation import MetaAllocationParams
from prometheus_nt.reporting.meta_markdown import SECTIONS
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

NODE = """
sessions: {start: 2004-01-02, end: 2004-06-30}
data: {dataset: sample_sp500}
without: [profiles, regime, fragility]
sleeves:
  - {family: US_CORE_LONG_EQ, horizon: 5}
  - {family: US_CORE_LONG_EQ, horizon: 63}
engines:
  universe: {min_price: null, min_dollar_volume: null}
  portfolio: {max_names: 8, max_weight: 0.15}
  risk: {max_abs_weight_per_name: 0.15}
execution: {quotes: {impact_coefficient: 0}}
"""
RUNS = ("US_CORE_LONG_EQ_H5", "US_CORE_LONG_EQ_H63")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    home = tmp_path_factory.mktemp("audit") / "home"
    home.mkdir()
    (home / "node.yaml").write_text(NODE)
    settings = Settings(home, f"sqlite:///{home}/historical.db", f"sqlite:///{home}/runtime.db")
    with open_stores(settings, upgrade=True) as stores:
        ingest(sample_sp500(), stores.historical)
        run_backtest(load_config([home / "node.yaml"]), stores)
        made = {
            limit: make_meta_portfolio(
                stores,
                MetaRequest(RUNS, None, date(2004, 6, 30), MetaAllocationParams(max_asset=limit)),
            )
            for limit in (0.5, 0.01)
        }
    return home, {limit: one.meta_id for limit, one in made.items()}


@pytest.fixture
def folder(made_once, tmp_path):
    home, ids = made_once
    shutil.copytree(home, tmp_path / "home", symlinks=True)
    return RunFolder(tmp_path / "home" / "meta", ids[0.5])


def resealed(folder):
    """Write the hashes of the files as they are, as if the meta-portfolio had been made so."""
    document = folder.read_json("completeness.json")
    for name, told in document["files"].items():
        if folder.hash_of(name):
            told["sha256"] = folder.hash_of(name)
    document.pop("seal")
    folder.write_json("completeness.json", document | {"seal": content_hash([document])})


def codes_of(folder):
    return {one.code for one in audit_meta(folder)}


def weights_are(folder, change):
    document = folder.read_json("meta_weights.json")
    change(document["members"])
    folder.write_json("meta_weights.json", document)


def targets_are(folder, change):
    document = folder.read_json("meta_targets.json")
    change(document["targets"])
    folder.write_json("meta_targets.json", document)


def returns_are(folder, change):
    table = folder.read_table("meta_returns.parquet")
    folder.write_table("meta_returns.parquet", change(table))


def removed(name):
    def change(folder):
        (folder.path / name).unlink()

    change.__name__ = f"without {name}"
    return change


def sign_test_unparsable(folder):
    (folder.path / "directional_sign_test.json").write_text("{")


def sign_test_without_a_verdict(folder):
    folder.write_json("directional_sign_test.json", {"warnings": 0})


def sign_test_with_errors(folder):
    told = folder.read_json("directional_sign_test.json")
    folder.write_json("directional_sign_test.json", told | {"errors": 2})


def streams_that_lost_their_sign(folder):
    table = folder.read_table("synthetic_returns.parquet")
    name = next(column for column in table if column != "session")
    folder.write_table("synthetic_returns.parquet", table | {name: -table[name]})


def no_weights(folder):
    weights_are(folder, lambda members: members.clear())


def one_weight(folder):
    weights_are(folder, lambda rows: [row.update(weight=float(at)) for at, row in enumerate(rows)])


def weights_that_do_not_sum(folder):
    weights_are(folder, lambda rows: rows[0].update(weight=rows[0]["weight"] + 2e-9))


def weights_of_another_member(folder):
    weights_are(folder, lambda rows: rows[0].update(member_id="ANOTHER"))


def returns_without_a_session(folder):
    returns_are(folder, lambda table: {name: column[:0] for name, column in table.items()})


def returns_that_cannot_be_correlated(folder):
    name = folder.read_json("meta_weights.json")["members"][0]["member_id"]
    returns_are(folder, lambda table: table | {name: np.zeros(len(table["session"]))})


def empty_book(folder):
    targets_are(folder, lambda rows: rows.clear())


def book_that_lost_a_position(folder):
    targets_are(folder, lambda rows: rows.pop())


def position_that_nobody_contributed(folder):
    targets_are(folder, lambda rows: rows[-1]["contributors"].pop())


def position_that_is_too_large(folder):
    whole = folder.read_json("completeness.json")
    whole["params"]["max_asset"] = 0.02
    folder.write_json("completeness.json", whole)


def report_that_was_cut_off(folder):
    path = folder.path / "meta_portfolio_report.md"
    path.write_text(path.read_text().partition("## Weights")[0])


def report_with_an_empty_section(folder):
    path = folder.path / "meta_portfolio_report.md"
    before, _, rest = path.read_text().partition("## Completeness\n")
    path.write_text(f"{before}## Completeness\n\n## {rest.partition('## ')[2]}")


def report_without_a_verdict(folder):
    path = folder.path / "meta_portfolio_report.md"
    path.write_text(path.read_text().replace("**PASS**", "fine"))


MISSING = "META_MISSING_ARTIFACTS"
FAULTS = [
    (removed("directional_sign_test.json"), {MISSING, "META_SIGN_TEST_MISSING"}),
    (sign_test_unparsable, {"META_SIGN_TEST_PARSE"}),
    (sign_test_without_a_verdict, {"META_SIGN_TEST_PARSE"}),
    (sign_test_with_errors, {"META_SIGN_TEST_FAIL"}),
    (streams_that_lost_their_sign, {"META_SIGN_TEST_FAIL"}),
    (removed("meta_weights.json"), {MISSING}),
    (removed("meta_returns.parquet"), {MISSING}),
    (removed("meta_targets.json"), {MISSING}),
    (removed("meta_portfolio_report.html"), {MISSING}),
    (removed("meta_portfolio_report.md"), {MISSING}),
    (removed("completeness.json"), {MISSING}),
    (no_weights, {"META_EMPTY_WEIGHTS"}),
    (one_weight, {"META_SINGLE_WEIGHT"}),
    (weights_that_do_not_sum, {"META_BAD_WEIGHT_SUM"}),
    (weights_of_another_member, {"META_WEIGHT_COLUMN_MISMATCH"}),
    (returns_without_a_session, {"META_EMPTY_RETURNS"}),
    (returns_that_cannot_be_correlated, {"META_SINGLE_MATCH"}),
    (empty_book, {"META_EMPTY_FLATTENED"}),
    (book_that_lost_a_position, {"META_NOT_CONSERVED"}),
    (position_that_nobody_contributed, {"META_NOT_CONSERVED"}),
    (position_that_is_too_large, {"META_CONCENTRATION"}),
    (report_that_was_cut_off, {"META_REPORT_INCOMPLETE"}),
    (report_with_an_empty_section, {"META_REPORT_INCOMPLETE"}),
    (report_without_a_verdict, {"META_REPORT_INCOMPLETE"}),
]


def test_what_nobody_touched_passes(folder):
    assert audit_meta(folder) == ()


@pytest.mark.parametrize(("fault", "codes"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_each_rule_fails_of_files_that_were_made_so(folder, fault, codes):
    fault(folder)
    if folder.hash_of("completeness.json"):
        resealed(folder)

    assert codes_of(folder) == codes


@pytest.mark.parametrize("fault", [sign_test_with_errors, one_weight, empty_book])
def test_files_that_were_altered_are_found_by_their_hashes_as_well(folder, fault):
    fault(folder)

    assert "META_ALTERED_ARTIFACTS" in codes_of(folder)


def test_a_meta_portfolio_that_failed_fails_again_with_its_codes(folder, made_once):
    failed = RunFolder(folder.path.parent, made_once[1][0.01])

    assert codes_of(failed) >= {"META_CONCENTRATION", MISSING}
    report = (failed.path / "meta_portfolio_report.md").read_text()
    assert "**FAIL**" in report and "META_CONCENTRATION" in report


def test_the_report_tells_every_section_and_the_runs(folder):
    text = (folder.path / "meta_portfolio_report.md").read_text()

    assert [f"## {name}" in text for name in SECTIONS] == [True] * len(SECTIONS)
    assert "**PASS**: every gate passed" in text
    members = folder.read_json("meta_weights.json")["members"]
    assert all(one["member_id"] in text for one in members)
    assert text.count("HEALTHY") == 2


def test_the_command_lists_what_fails_and_ends_with_code_1(folder, monkeypatch, capsys):
    monkeypatch.setenv("PROMETHEUS_HOME", str(folder.path.parent.parent))

    def run(meta_id):
        monkeypatch.setattr("sys.argv", ["prometheus", "check", "meta", meta_id, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr().out

    assert run(folder.path.name) == (0, "[]\n")
    one_weight(folder)
    code, out = run(folder.path.name)
    assert code == 1
    assert "META_SINGLE_WEIGHT" in {row["code"] for row in json.loads(out)}
    assert run("META-../../runs")[0] == 1
