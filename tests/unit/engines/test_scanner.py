"""Filters, unknowns, ranks and reasons of scanners, on a market made by hand."""

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import DataError
from prometheus_nt.engines.scanner import FIELDS, ScannerParams, scan_panel
from prometheus_nt.engines.universe import UniverseParams, select_universe

NAN = np.nan


def scanner(*filters, **settings):
    asked = [dict(zip(("field", "operator", "value"), item, strict=True)) for item in filters]
    return ScannerParams.model_validate({"scanner_id": "TEST", "filters": asked} | settings)


def names(scan):
    return [name for name, chosen in zip(scan.instruments, scan.included, strict=True) if chosen]


@pytest.fixture
def panel(panel_of):
    """Closes 10, 20, 30, 40 at the end; the last has no bar there, the third no volume."""
    close = np.tile([10.0, 20.0, 30.0, 40.0], (80, 1))
    close[:40, 0] = 8.0
    close[-1, 3] = NAN
    volume = np.full_like(close, 1e6)
    volume[:, 2] = NAN
    return panel_of(close, volume=volume, sectors=("A", "B", None, "A"))


def test_every_operator_compares_with_its_bound(panel):
    bounds = {">=": ["I001", "I002"], ">": ["I002"], "<=": ["I000", "I001"], "<": ["I000"]}

    for operator, expected in bounds.items():
        assert names(scan_panel(panel, scanner(("price", operator, 20.0)))) == expected


def test_quantities_are_those_of_the_day(panel):
    momentum = {"field": "momentum", "operator": ">", "value": 0.2, "lookback": 60}
    params = ScannerParams(scanner_id="X", filters=[momentum])

    scan = scan_panel(panel, params)

    assert names(scan) == ["I000"]
    np.testing.assert_allclose(scan.values[1], [0.25, 0.0, 0.0, 0.0])
    assert scan.filters == ("trading", "momentum(60) > 0.2")


def test_what_is_unknown_passes_no_filter(panel):
    for operator in (">=", "<="):
        scan = scan_panel(panel, scanner(("dollar_volume", operator, 1.5e7)))
        assert "I002" not in names(scan)
        assert np.isnan(scan.values[1][2])
    for operator in ("in", "not in"):
        assert "I002" not in names(scan_panel(panel, scanner(("sector", operator, ["A"]))))


def test_nobody_passes_without_a_bar_unless_a_gap_is_allowed(panel):
    anything = ("price", ">", 0.0)

    assert "I003" not in names(scan_panel(panel, scanner(anything)))
    assert "I003" in names(scan_panel(panel, scanner(anything, max_gap=2)))


def test_sectors_symbols_and_instruments_are_listed_in_or_out(panel):
    assert names(scan_panel(panel, scanner(("sector", "in", ["A", "B"])))) == ["I000", "I001"]
    assert names(scan_panel(panel, scanner(("sector", "not in", ["A"])))) == ["I001"]
    listed = names(scan_panel(panel, scanner(("instrument", "not in", ["I000", "I001"]))))
    assert listed == ["I002"]
    quoted = type(panel)(
        **{name: getattr(panel, name).copy() for name in ("open", "high", "low", "close")},
        **{name: getattr(panel, name).copy() for name in ("volume", "split", "dividend")},
        sessions=panel.sessions.copy(),
        instruments=("AA.US", "BRK.B.US", "CC.US", "DD.US"),
        fingerprint="quoted",
    )
    assert names(scan_panel(quoted, scanner(("symbol", "in", ["BRK.B"])))) == ["BRK.B.US"]


def test_membership_is_that_of_the_day_and_must_be_kept(panel):
    member = scanner(("member", "==", True))
    membership = np.zeros(panel.close.shape, dtype=bool)
    membership[:-1, 0] = membership[-1:, 1] = True
    arrays = ("open", "high", "low", "close", "volume", "split", "dividend")
    kept = type(panel)(
        **{name: getattr(panel, name).copy() for name in arrays},
        sessions=panel.sessions.copy(),
        instruments=panel.instruments,
        fingerprint="member",
        membership=membership,
    )

    assert names(scan_panel(kept, member)) == ["I001"]
    assert names(scan_panel(kept, scanner(("member", "==", False)))) == ["I000", "I002"]
    with pytest.raises(DataError, match="field member: the panel does not keep"):
        scan_panel(panel, member)


def test_the_best_are_kept_and_the_rest_are_ranked(panel):
    settings = {"sort": {"field": "price"}, "limit": 2}

    best = scan_panel(panel, scanner(("price", ">", 0.0), **settings))
    settings["sort"]["ascending"] = True
    worst = scan_panel(panel, scanner(("price", ">", 0.0), **settings))

    assert names(best) == ["I001", "I002"]
    assert best.rank.tolist() == [2, 1, 0, -1]
    assert names(worst) == ["I000", "I001"]
    np.testing.assert_array_equal(best.score, [10.0, 20.0, 30.0, NAN])


def test_an_unknown_score_ranks_last_and_equal_ones_keep_their_order(panel):
    params = scanner(("price", ">", 0.0), sort={"field": "dollar_volume"}, limit=3)

    assert scan_panel(panel, params).rank.tolist() == [1, 0, 2, -1]
    flat = scanner(("price", ">", 0.0), sort={"field": "history"}, limit=1)
    assert names(scan_panel(panel, flat)) == ["I000"]


def test_failures_are_counted_by_filter(panel):
    scan = scan_panel(panel, scanner(("price", ">=", 20.0), ("dollar_volume", ">=", 1e6)))

    assert scan.failures() == {
        "trading": 1,
        "price >= 20": 2,
        "dollar_volume(63) >= 1e+06": 1,
    }
    assert scan.passed.shape == (3, 4)


def test_a_scanner_and_a_universe_mean_the_same_by_the_same_bound(
    panel_of, random_close, stability_of, scores_of
):
    panel = panel_of(random_close(8, 120, 12))
    zeros = np.zeros(12)
    bounds = {"min_price": 48.0, "min_dollar_volume": 4.9e7, "min_history_sessions": 100}
    universe = select_universe(
        panel,
        stability_of(panel, zeros),
        scores_of(panel, zeros),
        UniverseParams(liquidity_lookback=21, max_gap=1, **bounds),
    )
    volume = {"field": "dollar_volume", "operator": ">=", "value": 4.9e7, "lookback": 21}
    params = scanner(("price", ">=", 48.0), ("history", ">=", 100))
    params = params.model_copy(
        update={
            "filters": (*params.filters, ScannerParams(scanner_id="V", filters=[volume]).filters[0])
        }
    )

    scan = scan_panel(panel, params)

    assert 0 < scan.included.sum() < 12
    np.testing.assert_array_equal(scan.included, universe.included)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_can_be_asked_of_a_new_market(panel_of, field):
    kind = FIELDS[field].kind
    asked = {"number": (">=", 0.0), "text": ("in", ["A"]), "flag": ("==", True)}[kind]
    panel = panel_of(np.full((1, 2), 10.0))
    params = scanner((field, *asked))

    if field == "member":
        with pytest.raises(DataError):
            scan_panel(panel, params)
        return
    assert scan_panel(panel, params).passed.shape == (2, 2)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"field": "pricee"}, "unknown field; did you mean 'price'?"),
        ({"field": "zzz"}, "unknown field; known: price, history"),
        ({"operator": "in"}, "price is a number: operator must be one of >=, >, <=, <"),
        ({"value": "ten"}, "expected a number, true or false, or a list of names"),
        ({"value": NAN}, "expected a number, true or false, or a list of names"),
        ({"value": True}, "price is a number: value must be a number"),
        ({"value": ["A"]}, "price is a number: value must be a number"),
        ({"lookback": 5}, "price has no lookback"),
        ({"field": "dollar_volume", "skip": 5}, "dollar_volume skips no sessions"),
        ({"field": "momentum", "skip": 252}, "skip: must be below the lookback of 252"),
        ({"field": "sector", "operator": "in", "value": []}, "must not be empty"),
        ({"field": "member", "operator": "==", "value": 1}, "value must be true or false"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(asked, problem):
    good = {"field": "price", "operator": ">=", "value": 5}

    with pytest.raises(ValidationError) as refused:
        ScannerParams(scanner_id="X", filters=[good | asked])

    assert problem in str(refused.value)


def test_a_scanner_that_makes_no_sense_is_refused():
    good = {"field": "price", "operator": ">=", "value": 5}

    for settings, problem in (
        ({"limit": 5}, "limit: of whom"),
        ({"sort": {"field": "sector"}}, "sort by a number"),
        ({"scanner_id": "a b"}, "scanner_id"),
        ({"filters": []}, "filters"),
    ):
        with pytest.raises(ValidationError, match=problem):
            ScannerParams.model_validate({"scanner_id": "X", "filters": [good]} | settings)
