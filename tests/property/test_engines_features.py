"""No derived value and no scan knows what comes after its session."""

import numpy as np
import pytest

from prometheus_nt.engines.features import TABLES, correlation_panel, derive_table
from prometheus_nt.engines.scanner import FIELDS, ScannerParams, SortParams, scan_panel
from prometheus_nt.jobs.check.differences import first_difference
from prometheus_nt.jobs.check.futures import FUTURES, cuts_of

ROWS = (120, 219, 258)
NUMBERS = [name for name, spec in FIELDS.items() if spec.kind == "number"]


@pytest.fixture(scope="module")
def cuts(synthetic_panel):
    panel = synthetic_panel(11, sessions=290)
    return list(cuts_of(panel, ROWS, [tuple(FUTURES)], seed=4))


def _until(panel, cut):
    return panel.until(cut.as_of)


@pytest.mark.parametrize("name", TABLES)
def test_no_derived_value_changes_with_what_comes_later(cuts, name):
    for cut in cuts:
        honest = derive_table(cut.honest, name)
        for future, history in cut.changed.items():
            changed = derive_table(history, name)

            assert changed.keys == honest.keys
            for column, values in honest.columns.items():
                before = changed.columns[column][: cut.row + 1]
                np.testing.assert_array_equal(before, values[: cut.row + 1], err_msg=future)


def test_every_table_has_values_before_the_last_cut(cuts):
    for name in TABLES:
        table = derive_table(cuts[-1].honest, name)
        known = sum(np.isfinite(v[: ROWS[-1]]).sum() for v in table.columns.values())
        assert known > 100, name


def test_no_correlation_changes_with_what_comes_later(cuts):
    for cut in cuts:
        honest = correlation_panel(_until(cut.honest, cut), 63)
        for history in cut.changed.values():
            assert first_difference(honest, correlation_panel(_until(history, cut), 63)) is None


@pytest.mark.parametrize("field", NUMBERS)
def test_no_scan_changes_with_what_comes_later(cuts, field):
    asked = {"field": field, "operator": ">=", "value": 0.0}
    params = ScannerParams(scanner_id="X", filters=[asked], sort=SortParams(field=field), limit=9)

    for cut in cuts:
        honest = scan_panel(_until(cut.honest, cut), params)
        for history in cut.changed.values():
            assert first_difference(honest, scan_panel(_until(history, cut), params)) is None


def test_the_order_of_the_instruments_does_not_matter(synthetic_panel):
    panel = synthetic_panel(3, sessions=290)
    turned = panel.select(panel.instruments[::-1])

    for name in TABLES:
        ours, theirs = derive_table(panel, name), derive_table(turned, name)
        place = {key: at for at, key in enumerate(zip(*theirs.keys.values(), strict=True))}
        order = [place[key] for key in zip(*ours.keys.values(), strict=True)]
        for column, values in ours.columns.items():
            np.testing.assert_array_equal(values, theirs.columns[column][:, order], err_msg=name)
