from datetime import date

import numpy as np

from persistence.rows import RunContext, risk_report_row
from persistence.tables.runtime import portfolio_risk_reports
from prometheus_nt.domain.books import (
    RiskContributions,
    RiskReport,
    StressLoss,
    TailRisk,
    TargetPortfolio,
)

RUN = RunContext("R", "BACKTEST", "S", "S_H5", "P", "US_EQ", "US")


def _target(**known):
    unknown = dict.fromkeys(
        ("volatility", "var_95", "expected_shortfall_95", "beta", "max_drawdown", "contributions")
    )
    report = {
        "gross_exposure": 0.9,
        "net_exposure": 0.3,
        "cash_weight": 0.7,
        "names": 12,
        "herfindahl": 0.1,
        "top_ten_share": 0.95,
        "largest_weight": 0.2,
        "sessions_to_liquidate": None,
        "exposures_by_sector": {"OIL": -0.1},
        "gross_by_sector": {"OIL": 0.3},
        "exposures_by_factor": {"market": 0.4},
        "tails": (),
        "stress": (),
        **unknown,
    }
    return TargetPortfolio(
        date(2024, 1, 2), "P", (), np.zeros(0), (), RiskReport(**{**report, **known})
    )


def _named(target):
    row = risk_report_row(RUN, target, "m", 1e6)
    return dict(zip(portfolio_risk_reports.columns.keys(), row, strict=True))


def test_the_risk_report_fills_the_columns_of_its_table():
    component = np.arange(12) - 5.5
    names = tuple(f"N{number:02d}" for number in range(12))
    row = _named(
        _target(
            contributions=RiskContributions(names, component, component),
            tails=(TailRisk("historical", 10, 0.99, -0.1, -0.2),),
            stress=(StressLoss("covid", -0.3, 0.5),),
        )
    )

    assert (row["portfolio_value"], row["cash"], row["leverage"]) == (1e6, 7e5, 0.9)
    assert row["scenario_pnl"] == {"covid": {"pnl": -0.3, "covered": 0.5}}
    assert row["exposures_by_factor"] == {"market": 0.4}
    metrics = row["risk_metrics"]
    assert metrics["gross_by_sector"] == {"OIL": 0.3}
    assert metrics["tails"] == [
        {
            "method": "historical",
            "sessions": 10,
            "level": 0.99,
            "value_at_risk": -0.1,
            "expected_shortfall": -0.2,
        }
    ]
    # Ten of twelve, the largest first: those of +-0.5 are left out.
    assert list(metrics["component_risk"].values()) == [
        *(-5.5, 5.5, -4.5, 4.5, -3.5, 3.5, -2.5, 2.5, -1.5, 1.5),
    ]


def test_what_is_unknown_is_null_or_empty_and_never_zero():
    metrics = _named(_target())["risk_metrics"]

    assert metrics["expected_volatility"] is metrics["sessions_to_liquidate"] is None
    assert (metrics["tails"], metrics["component_risk"]) == ([], {})


def test_a_risk_report_says_which_book_it_is_of():
    assert _named(_target())["risk_metrics"]["basis"] == "target"
    assert _named(_target(basis="held"))["risk_metrics"]["basis"] == "held"
