"""What a user meets at the command line, above all when something is wrong."""

import json
import subprocess
import sys
from datetime import date
from importlib.metadata import version

import pytest
import typer
from typer.testing import CliRunner

from persistence.database import Database
from persistence.trials import TrialLedger
from prometheus_nt.cli import app
from prometheus_nt.console import print_rows
from prometheus_nt.domain.runs import Mode, RunIdentity

pytestmark = pytest.mark.integration

GOOD = "Date,Open,High,Low,Close,Volume\n" + "".join(
    f"2012-03-{day:02d},10,11,9,10,1000\n" for day in (1, 2, 5, 6, 7, 8, 9)
)


def _commands(group, *names):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, *names, name)
        else:
            yield [*names, name]


@pytest.mark.parametrize("command", list(_commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself_with_an_example(command):
    shown = CliRunner().invoke(app, [*command, "--help"])

    assert shown.exit_code == 0
    assert f"prometheus {' '.join(command)}" in " ".join(shown.output.split())


def test_the_package_runs_as_a_module():
    asked = [sys.executable, "-m", "prometheus_nt.cli", "--help"]

    shown = subprocess.run(asked, capture_output=True, text=True, check=True)

    assert "Usage:" in shown.stdout and "backtest" in shown.stdout


def test_help_waits_for_neither_nautilus_nor_the_engines():
    heavy = "{'nautilus_trader', 'pandas', 'scipy', 'prometheus_nt.config'} & set(sys.modules)"
    asked = [sys.executable, "-c", f"import sys, prometheus_nt.cli; print({heavy} or 'none')"]

    shown = subprocess.run(asked, capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "none"


def test_the_version_is_that_of_what_is_installed(prometheus):
    code, shown, _ = prometheus("--version")

    assert code == 0
    ours, theirs = version("prometheus_nt"), version("nautilus_trader")
    assert shown == f"prometheus_nt {ours} on nautilus_trader {theirs}\n"


def test_a_typo_in_the_configuration_names_file_field_and_remedy(prometheus, tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text("sesions: {start: 2010-01-04}\ndata: {dataset: x}\nsleeves: [{horizon: 21}]\n")

    code, _, errors = prometheus("backtest", path)

    assert code == 1
    assert "node.yaml: sesions: unknown field; did you mean 'sessions'?" in errors
    assert "Traceback" not in errors


def test_a_backtest_before_any_data_says_what_to_do(prometheus):
    code, _, errors = prometheus("backtest", "configs/us_core_long_eq.yaml")

    assert code == 1
    assert "prometheus db upgrade" in errors


def test_a_backtest_of_an_unknown_dataset_names_it(prometheus):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("backtest", "configs/us_core_long_eq.yaml")

    assert code == 1
    assert "sample_sp500" in errors


def test_bad_rows_are_named_kept_out_and_listed_while_good_ones_are_stored(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "GOOD.csv").write_text(GOOD)
    (folder / "BAD.csv").write_text(GOOD.replace("2012-03-06,10,11,9,10", "2012-03-06,10,8,9,-1"))
    (folder / "EMPTY.csv").write_text("")

    code, _, errors = prometheus("data", "ingest", "csv", folder, "--dataset", "mine")
    checked, findings, _ = prometheus("data", "check", "mine", "--json")
    _, listed, _ = prometheus("data", "list", "--json")

    assert code == 0
    assert "1 failed" in errors and "BAD.csv" in errors and "row 5" in errors
    assert checked == 1, "a quarantined row fails the check"
    report = json.loads(findings)
    by_rule = {(item["instrument_id"], item["severity"]) for item in report["findings"]}
    assert ("BAD.US", "ERROR") in by_rule
    health = {item["instrument_id"]: item["status"] for item in report["instruments"]}
    assert health == {"BAD.US": "OK", "EMPTY.US": "DROPPED", "GOOD.US": "OK"}
    (dataset,) = json.loads(listed)
    assert dataset["instruments"] == 3
    assert dataset["rows"] == 7 + 6


def test_a_mended_file_passes_the_check(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    broken = GOOD.replace("2012-03-06,10,11,9,10", "2012-03-06,10,8,9,-1")
    (folder / "MENDED.csv").write_text(broken)
    prometheus("data", "ingest", "csv", folder, "--dataset", "mine")
    before, _, _ = prometheus("data", "check", "mine")

    (folder / "MENDED.csv").write_text(GOOD)
    prometheus("data", "ingest", "csv", folder, "--dataset", "mine")
    after, _, _ = prometheus("data", "check", "mine")

    assert (before, after) == (1, 0)


def test_a_broken_file_is_found_mended_and_repaired_from_where_it_came(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "GOOD.csv").write_text(GOOD)
    (folder / "SHORT.csv").write_text("".join(GOOD.splitlines(keepends=True)[:-2]))
    prometheus("data", "ingest", "csv", folder, "--dataset", "mine")

    relaxed, table, _ = prometheus("data", "check", "mine")
    strict, _, reasons = prometheus("data", "check", "mine", "--strict")
    waiting, status, _ = prometheus("data", "status", "mine", "--as-of", "2012-03-09", "--json")
    listed, broken, _ = prometheus("data", "repair", "mine", "--dry-run", "--json")
    (folder / "SHORT.csv").write_text(GOOD)
    mended, _, summary = prometheus("data", "repair", "mine")
    after, _, _ = prometheus("data", "check", "mine", "--strict")
    ready, _, _ = prometheus("data", "status", "mine", "--as-of", "2012-03-09")

    assert (relaxed, strict, waiting, listed, mended, after, ready) == (0, 1, 1, 0, 0, 0, 0)
    assert "STALE" in table and "1 STALE" in reasons
    assert json.loads(status)["error_details"]["missing"] == ["SHORT.US"]
    (one,) = json.loads(broken)["repaired"]
    assert (one["before"]["instrument_id"], one["before"]["health"]) == ("SHORT.US", "STALE")
    assert "1 were broken, 0 still are; 2 rows written" in summary


def test_the_findings_of_one_rule_show_what_was_quarantined(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "BAD.csv").write_text(GOOD.replace("2012-03-06,10,11,9,10", "2012-03-06,10,8,9,-1"))
    prometheus("data", "ingest", "csv", folder, "--dataset", "mine")

    code, table, _ = prometheus("data", "check", "mine", "--rule", "price_not_positive")
    other, nothing, _ = prometheus("data", "check", "mine", "--rule", "stale", "--json")

    assert (code, other) == (1, 1)
    assert "-1.0" in table and "BAD.csv, row 5" in table
    assert json.loads(nothing)["findings"] == []


def test_a_threshold_of_the_gates_is_named_or_refused(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "FLAT.csv").write_text(GOOD)
    options = ("data", "ingest", "csv", folder, "--dataset", "mine", "--gate")

    wrong, _, message = prometheus(*options, "stall_after=3")
    code, report, _ = prometheus(*options, "stall_rejected_after=3", "--json")

    assert (wrong, code) == (1, 0)
    assert "stall_after" in message and "stall_rejected_after" in message
    assert json.loads(report)[0]["rows_quarantined"] == 3


def test_what_a_second_ingest_changed_is_listed_with_old_and_new(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "A.csv").write_text(GOOD)
    ingest = ("data", "ingest", "csv", folder, "--dataset", "mine", "--workers", "2")
    prometheus(*ingest)
    (folder / "A.csv").write_text(GOOD.replace("2012-03-06,10,11", "2012-03-06,10,12"))
    prometheus(*ingest)

    _, revisions, _ = prometheus("data", "revisions", "mine", "--json")
    code, document, _ = prometheus("data", "diff", "mine", "1", "--json")
    _, counted, hint = prometheus("data", "diff", "mine", "2", "1", "--limit", "1")
    unknown, _, complaint = prometheus("data", "diff", "mine", "one")

    assert [item["rows_changed"] for item in json.loads(revisions)] == [1, 7]
    assert code == 0
    assert json.loads(document)["changes"] == [
        {
            "instrument_id": "A.US",
            "date": "2012-03-06",
            "field": "high",
            "kind": "changed",
            "old": 11.0,
            "new": 12.0,
        }
    ]
    assert "A.US" in counted and "1 facts differ" in hint
    assert unknown == 1
    assert "expected a number, or a fingerprint of 16 hexadecimal digits" in complaint


def test_a_source_without_its_path_or_name_says_which(prometheus, tmp_path):
    no_path = prometheus("data", "ingest", "csv")
    no_name = prometheus("data", "ingest", "csv", tmp_path)
    unknown = prometheus("data", "ingest", "bloomberg")
    absent = prometheus("data", "ingest", "csv", tmp_path / "nowhere", "--dataset", "x")

    assert [code for code, _, _ in (no_path, no_name, unknown, absent)] == [1, 1, 1, 1]
    assert "a path is missing" in no_path[2]
    assert "--dataset NAME is missing" in no_name[2]
    assert "known sources: sample, csv, parquet" in unknown[2]
    assert "nowhere" in absent[2]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("csv", "prices", "--dataset", "x", "--end", "2015-01-02"), "ingest csv: --end would go"),
        (("csv", "prices", "--dataset", "x", "--index", "GSPC"), "ingest csv: --index would go"),
        (("sample", "prices"), "ingest sample: a path would go unheeded; leave it out"),
        (("sample", "--dataset", "x"), "ingest sample: --dataset would go unheeded"),
        (("yahoo", "--dataset", "x", "--full"), "ingest yahoo: --full would go unheeded"),
        (("eodhd", "--dataset", "x", "--split-adjusted"), "eodhd: --split-adjusted would go"),
    ],
)
def test_a_source_refuses_what_it_would_not_heed(prometheus, arguments, complaint):
    code, _, errors = prometheus("data", "ingest", *arguments)

    assert code == 1
    assert complaint in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("data", "check", "x", "--disagreement", "-1"), "data check: disagreement: Input should"),
        (("data", "check", "x", "--disagreement", "nan"), "greater than 0, found nan"),
        (("day", "status", "--region", "moon"), "--region: unknown region 'MOON'; known: US, EU"),
    ],
)
def test_a_value_out_of_bounds_says_what_is_expected(prometheus, arguments, complaint):
    prometheus("db", "upgrade")

    code, _, errors = prometheus(*arguments)

    assert code == 1
    assert complaint in errors


def test_an_interruption_says_what_becomes_of_the_work(prometheus, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("prometheus_nt.jobs.data.list_datasets", interrupted)

    code, output, errors = prometheus("data", "list")

    assert (code, output) == (130, "")
    assert "interrupted; what was finished is stored" in errors


def test_a_run_that_does_not_exist_is_an_error_with_a_hint(prometheus):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("report", "NO_SUCH_RUN")

    assert code == 1
    assert "NO_SUCH_RUN" in errors and "prometheus show runs" in errors


def test_an_unknown_listing_names_those_that_exist(prometheus):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("show", "dreams")

    assert code == 1
    assert "known: runs, orders, fills, positions, decisions, trials, risk-actions" in errors


def test_alpha_before_any_run_says_what_to_run(prometheus):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("show", "alpha", "--sleeve", "US_CORE_LONG_EQ_H21")

    assert code == 1
    assert "no completed run" in errors and "prometheus backtest CONFIG" in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("runs", "--run", "NO_RUN"), "no run matches 'NO_RUN'; `prometheus show runs`"),
        (("fills", "--sleeve", "NO_ONE"), "--portfolio-id or --sleeve: no run of 'NO_ONE'"),
        (("fills", "--strategy-id", "NO_ONE"), "--strategy-id: no run of 'NO_ONE'"),
        (("runs", "--mode", "dream"), "unknown mode 'DREAM'; known: BACKTEST, PAPER, LIVE"),
        (("fills", "--as-of", "2020-03-31"), "--as-of: 2020-03-31 cannot choose among fills"),
        (("fills", "--instrument-id", "A.US"), "--instrument-id: A.US cannot choose among fills"),
        (("fills", "--include-outcomes"), "--include-outcomes: fills have none; show decisions"),
        (("news", "--dataset", "x", "--run", "y"), "show news: they are of a dataset and no run"),
        (("prizes", "--dataset", "x"), "unknown listing 'prizes'; known: runs, orders"),
    ],
)
def test_a_filter_that_could_only_find_nothing_is_refused(prometheus, arguments, complaint):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("show", *arguments)

    assert code == 1
    assert complaint in errors


def test_listings_take_latest_and_the_beginning_of_a_run(prometheus):
    prometheus("data", "ingest", "sample", "--symbols", "AAPL,MSFT,SPX")
    window = ("--start", "2010-01-04", "--end", "2010-01-29")
    prometheus("backtest", "configs/us_core_long_eq.yaml", *window)

    _, every, _ = prometheus("show", "runs", "--json")
    _, latest, _ = prometheus("show", "runs", "--run", "latest", "--json")
    _, begun, _ = prometheus("show", "runs", "--run", "US_CORE_LONG_EQ_H5", "--json")
    _, sleeve, _ = prometheus("show", "runs", "--sleeve", "US_CORE_LONG_EQ_H21", "--json")

    runs = [run["sleeve_id"] for run in json.loads(every)]
    assert sorted(runs) == [f"US_CORE_LONG_EQ_H{horizon}" for horizon in (21, 5, 63)]
    assert [run["sleeve_id"] for run in json.loads(latest)] == runs[:1]
    assert [run["sleeve_id"] for run in json.loads(begun)] == ["US_CORE_LONG_EQ_H5"]
    assert [run["sleeve_id"] for run in json.loads(sleeve)] == ["US_CORE_LONG_EQ_H21"]


def test_numbers_stand_under_each_other_and_names_at_the_left(capsys):
    print_rows(("name", "count"), [("a", 12345), ("long", None), ("b", 7)], as_json=False)

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["name  count", "a     12345", "long", "b         7"]


@pytest.mark.parametrize("names", ["", "AAPL,,MSFT"])
def test_an_empty_symbol_is_refused_before_anything_is_read(prometheus, names):
    code, _, errors = prometheus("data", "ingest", "sample", "--symbols", names)

    assert code == 1
    assert f"--symbols: {names!r} has an empty name" in errors


@pytest.mark.parametrize("check", ["lookahead", "warmup"])
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give a configuration file, or --strategy FILE.py:FUNCTION"),
        (("node.yaml", "--strategy", "mine.py:weights"), "node.yaml would go unheeded"),
        (("--strategy", "mine.py:weights", "--set", "seed=1"), "--set seed=1 would go unheeded"),
        (("node.yaml", "--dataset", "mine"), "--set data.dataset=mine"),
    ],
)
def test_a_check_is_told_one_thing_to_check(prometheus, check, arguments, complaint):
    prometheus("db", "upgrade")

    code, _, errors = prometheus("check", check, *arguments)

    assert code == 1
    assert complaint in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--category", "banana"), "category: Input should be 'HISTORICAL'"),
        (("--category", "banana"), "found 'BANANA'"),
        (("--set", "block_length=abc"), "found 'abc'"),
        (("--set", "base_start=2010-99-01"), "--set 'base_start=2010-99-01': not a YAML value"),
        (("--set", "base_start"), "expected key=value"),
    ],
)
def test_a_wrong_scenario_setting_names_itself_and_what_was_found(prometheus, arguments, complaint):
    code, _, errors = prometheus("scenarios", "generate", "x", "--dataset", "mine", *arguments)

    assert code == 1
    assert complaint in errors


def test_more_paths_than_fit_in_memory_are_refused(prometheus):
    generate = ("scenarios", "generate", "x", "--dataset", "mine")

    code, _, errors = prometheus(*generate, "--paths", "100000000")

    assert code == 2
    assert "--paths" in errors and "100000" in errors


def test_the_resolved_configuration_shows_what_each_horizon_implies(prometheus):
    _, shown, _ = prometheus("config", "show", "configs/us_core_long_eq.yaml", "--json")

    resolved = json.loads(shown)
    assert {
        sleeve: values["engines"]["assessment"]["momentum_lookback"]
        for sleeve, values in resolved.items()
    } == {"US_CORE_LONG_EQ_H5": 63, "US_CORE_LONG_EQ_H21": 252, "US_CORE_LONG_EQ_H63": 252}
    assert len({values["config_hash"] for values in resolved.values()}) == 3


@pytest.mark.parametrize(
    ("start", "complaint"),
    [
        ("1985-01-02", "is not inside dataset"),
        ("1912-01-02", "sessions.start: 1912-01-02: the US_EQ calendar covers 1980-01-01 to"),
        ("2099-01-02", "sessions.start: 2099-01-02: the US_EQ calendar covers 1980-01-01 to"),
    ],
)
def test_sessions_outside_the_data_are_refused_with_what_there_is(prometheus, start, complaint):
    prometheus("data", "ingest", "sample", "--symbols", "AAPL,SPX")

    code, _, errors = prometheus(
        "backtest", "configs/us_core_long_eq.yaml", "--start", start, "--end", start
    )

    assert code == 1
    assert complaint in errors


def test_no_password_of_a_database_url_is_ever_shown(prometheus, monkeypatch):
    url = "postgresql://trader:hunter2@127.0.0.1:1/none"
    monkeypatch.setenv("PROMETHEUS_RUNTIME_URL", url)
    monkeypatch.setenv("PROMETHEUS_HISTORICAL_URL", url)

    code, shown, errors = prometheus("db", "check")

    assert code == 1
    assert "hunter2" not in shown + errors
    assert "trader" in errors


def test_a_scenario_set_is_generated_once_listed_and_shown(prometheus, tmp_path):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "AAA.csv").write_text(GOOD)
    prometheus("data", "ingest", "csv", tmp_path / "prices", "--dataset", "mine")
    generate = ("scenarios", "generate", "small", "--dataset", "mine", "--category", "historical")
    options = ("--horizon", "2", "--paths", "9", "--set", "min_sessions=3", "--json")

    first, again = (prometheus(*generate, *options) for _ in range(2))
    _, listed, _ = prometheus("scenarios", "list", "--json")
    _, shown, _ = prometheus("scenarios", "show", "small", "--json")
    code, _, errors = prometheus("scenarios", "show", "small", "--as-of", "2012-03-08")

    assert (first[0], again[0]) == (0, 0)
    assert json.loads(first[1])["sha256"] == json.loads(again[1])["sha256"]
    assert [item["name"] for item in json.loads(listed)] == ["small"]
    assert json.loads(shown)["worst"] == 0.0
    assert code == 1
    assert "prometheus scenarios list" in errors


def test_a_sector_cap_on_data_without_sectors_is_refused(prometheus, tmp_path):
    folder = tmp_path / "prices"
    folder.mkdir()
    (folder / "AAA.csv").write_text(GOOD)
    assert prometheus("data", "ingest", "csv", folder, "--dataset", "mine")[0] == 0

    settings = ("data.dataset=mine", "data.benchmark=null", "engines.risk.max_sector_weight=0.4")
    flags = [word for setting in settings for word in ("--set", setting)]
    days = ("--start", "2012-03-02", "--end", "2012-03-08")
    code, _, errors = prometheus("backtest", "configs/us_core_long_eq_ohlcv.yaml", *days, *flags)

    assert code == 1
    assert "max_sector_weight: dataset 'mine' knows no sector" in errors
    assert "set it to null" in errors


def test_a_trial_that_was_removed_or_rewritten_is_found(prometheus, tmp_path):
    database = Database.open(f"sqlite:///{tmp_path / 'home' / 'runtime.db'}")
    prometheus("db", "upgrade")
    identity = RunIdentity("F", "S", Mode.BACKTEST, "code", "config", "data", 0)
    window = {"market_id": "US_EQ", "start_date": date(2010, 1, 4), "end_date": date(2011, 1, 3)}
    TrialLedger(database).begin(identity, window)
    assert prometheus("check", "ledger")[0] == 0

    with database.writer() as connection:
        connection.exec_driver_sql("DELETE FROM trials")
        connection.exec_driver_sql("UPDATE events SET payload = replace(payload, '\"F\"', '\"G\"')")
    code, output, _ = prometheus("check", "ledger", "--json")

    assert code == 1
    assert "BROKEN" in output and "content is not what was sealed" in output
    assert "REMOVED" in output
    database.close()
