"""No table is a promise: each has somebody who fills it, or is said to be empty."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import persistence.tables
from persistence.tables.columns import RUNTIME
from persistence.tables.historical import HISTORICAL
from prometheus_nt.jobs.known import FACT_LISTINGS, WITHOUT_SOURCE

PAGE = Path("docs/tables.md")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
EMPTY = {"filings", "earnings_calls", "macro_events"}
CALLS = re.compile(r"\b(?:upsert|insert|update|delete|_add\w*|_merge)\(")


def _rows():
    return {table: parts for table, *parts in ROW.findall(PAGE.read_text(encoding="utf-8"))}


def _modules(cell):
    return re.findall(r"`(\w+)`", cell)


def _source(module):
    return Path("persistence", f"{module}.py").read_text(encoding="utf-8")


def _speaks_of(module, table):
    return re.search(rf"(?<![\w-]){table}(?![\w-])", _source(module)) is not None


def test_the_page_names_every_table_of_the_schema_and_no_other():
    for module in iter_modules(persistence.tables.__path__):
        import_module(f"persistence.tables.{module.name}")

    assert set(_rows()) == {*HISTORICAL.tables, *RUNTIME.tables}


@pytest.mark.parametrize("table", sorted(_rows()))
def test_who_fills_and_who_reads_a_table_speak_of_it(table):
    _, fills, reads = _rows()[table]

    assert _modules(reads)
    for module in (*_modules(fills), *_modules(reads)):
        assert _speaks_of(module, table), (table, module)


def test_whoever_fills_a_table_writes():
    for table, (_, fills, _) in _rows().items():
        # The mirror's rows are written by the store and the recorder, table by table.
        yielding = {"run_rows", "live_mirror"}
        for module in set(_modules(fills)) - yielding:
            assert CALLS.search(_source(module)), (table, module)


def test_only_tables_without_a_source_have_nobody_and_listing_them_says_so():
    assert {table for table, (_, fills, _) in _rows().items() if fills == "-"} == EMPTY
    for table in EMPTY:
        name = table.replace("_", "-")
        assert name in FACT_LISTINGS and "no source" in WITHOUT_SOURCE[name]
        assert f"`show {name}` says so" in _rows()[table][0]
