import numpy as np
import pytest

from prometheus_nt.engines.period_ratios import FIGURES, StatementColumns, period_ratios

DAY = 86_400_000_000_000


def columns(*rows):
    """Rows of (issuer, kind, frequency, period_end, stated, known, figures); times in days."""
    names = [name for names in FIGURES.values() for name in names]
    issuer, kind, frequency, period_end, stated, known, figures = zip(*rows, strict=True)
    return StatementColumns(
        np.array(issuer),
        np.array(kind),
        np.array(frequency),
        np.array(period_end, dtype="datetime64[D]"),
        np.array(stated) * DAY,
        np.array(known) * DAY,
        {name: np.array([row.get(name, np.nan) for row in figures]) for name in names},
    )


INCOME = {"revenue": 200.0, "gross_profit": 80.0, "operating_income": 40.0, "net_income": 20.0}
INCOME |= {"pretax_income": 25.0, "income_tax": 5.0, "interest_expense": 8.0}
BALANCE = {"equity": 100.0, "total_liabilities": 150.0, "total_debt": 60.0, "cash": 20.0}
BALANCE |= {"shares_outstanding": 10.0}


def of(ratios, event):
    return {name: float(values[event]) for name, values in ratios.values.items()}


def test_every_ratio_by_hand():
    before = {"revenue": 160.0, "net_income": 12.0}
    ratios = period_ratios(
        columns(
            ("A", "IS", "ANNUAL", "2022-12-31", 1, 1, before),
            ("A", "BS", "ANNUAL", "2022-12-31", 1, 1, {"shares_outstanding": 8.0}),
            ("A", "IS", "ANNUAL", "2023-12-31", 9, 9, INCOME),
            ("A", "BS", "ANNUAL", "2023-12-31", 9, 9, BALANCE),
        )
    )

    assert len(ratios.row) == 2
    expected = {
        "roe": 0.2,
        "roic": 40.0 * 0.8 / 140.0,
        "gross_margin": 0.4,
        "op_margin": 0.2,
        "net_margin": 0.1,
        "leverage": 1.5,
        "interest_coverage": 5.0,
        "revenue_growth": 0.25,
        "eps_growth": 2.0 / 1.5 - 1.0,
    }
    assert of(ratios, 1) == pytest.approx(expected)
    assert str(ratios.period_start[1]) == "2023-01-01"


def test_an_event_knows_what_was_published_by_then():
    ratios = period_ratios(
        columns(
            ("A", "IS", "QUARTERLY", "2023-12-31", 5, 5, {"net_income": 10.0}),
            ("A", "BS", "QUARTERLY", "2023-12-31", 8, 8, {"equity": 50.0}),
            ("A", "IS", "QUARTERLY", "2023-12-31", 20, 20, {"net_income": 5.0}),
        )
    )

    np.testing.assert_allclose(ratios.values["roe"], [np.nan, 0.2, 0.1])
    assert {str(start) for start in ratios.period_start} == {"2023-10-01"}


def test_a_year_is_not_compared_with_a_quarter_nor_with_another_issuer():
    ratios = period_ratios(
        columns(
            ("A", "IS", "ANNUAL", "2022-12-31", 1, 1, {"revenue": 100.0}),
            ("A", "IS", "QUARTERLY", "2023-12-31", 2, 2, {"revenue": 30.0}),
            ("B", "IS", "ANNUAL", "2023-12-31", 2, 2, {"revenue": 300.0}),
            ("A", "IS", "ANNUAL", "2023-12-30", 2, 2, {"revenue": 110.0}),
        )
    )

    growth = ratios.values["revenue_growth"]
    assert growth[np.isfinite(growth)].tolist() == pytest.approx([0.1])


def test_what_does_not_divide_is_unknown():
    ratios = period_ratios(
        columns(
            ("A", "IS", "ANNUAL", "2023-12-31", 1, 1, INCOME | {"interest_expense": 0.0}),
            ("A", "BS", "ANNUAL", "2023-12-31", 1, 1, BALANCE | {"equity": -10.0}),
        )
    )

    found = of(ratios, 0)
    unknown = {name for name, value in found.items() if np.isnan(value)}
    assert unknown == {"roe", "leverage", "interest_coverage", "revenue_growth", "eps_growth"}


def test_earnings_per_share_are_not_compared_across_a_split():
    halved = {"shares_outstanding": 20.0}
    ratios = period_ratios(
        columns(
            ("A", "IS", "ANNUAL", "2022-12-31", 1, 1, {"net_income": 10.0}),
            ("A", "BS", "ANNUAL", "2022-12-31", 1, 1, {"shares_outstanding": 10.0}),
            ("A", "IS", "ANNUAL", "2023-12-31", 2, 2, {"net_income": 10.0}),
            ("A", "BS", "ANNUAL", "2023-12-31", 2, 2, halved),
        )
    )

    assert np.isnan(ratios.values["eps_growth"]).all()


def test_a_changed_first_report_does_not_unsay_the_restatement():
    ratios = period_ratios(
        columns(
            ("A", "IS", "ANNUAL", "2023-12-31", 1, 1, {"revenue": 10.0, "net_income": 1.0}),
            ("A", "IS", "ANNUAL", "2023-12-31", 5, 5, {"revenue": 10.0, "net_income": 2.0}),
            ("A", "IS", "ANNUAL", "2023-12-31", 1, 9, {"revenue": 10.0, "net_income": 3.0}),
        )
    )

    assert ratios.values["net_margin"].tolist() == [0.1, 0.2]
