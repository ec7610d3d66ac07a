import re

import numpy as np

from prometheus_nt.reporting.comparison import FamilyQuality, render_comparison


def cells(page, anchor):
    """Return the rows of the section's table, as tuples of text."""
    section = page.split(f'<section id="{anchor}"')[1].split("</section>")[0]
    lines = re.findall(r"<tr>(.*?)</tr>", section.split("<tbody>")[1], re.DOTALL)
    return [tuple(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)) for line in lines]


def test_each_sleeve_has_its_costs_by_kind(make_series):
    shorted = {"borrow_fees": np.concatenate(([-4.0], np.zeros(299)))}
    runs = [
        make_series(sleeve_id="LONG"),
        make_series(sleeve_id="SHORT", other_cash_flows=shorted),
    ]

    page = render_comparison(runs, [], "Two sleeves", [])

    long, short = cells(page, "costs")
    assert long[:4] == ("LONG", "$2.00", "$3.00", "$5.00")
    assert long[-1] == "$0.00"
    assert short[-1] == "−$4.00"  # noqa: RUF001 - the page's minus sign


def test_every_sleeve_is_broken_down_by_regime(make_series):
    runs = [make_series(sleeve_id="A"), make_series(sleeve_id="B")]

    page = render_comparison(runs, [], "Two sleeves", [])

    assert [row[:3] for row in cells(page, "regimes")] == [
        ("A", "CARRY", "150"),
        ("A", "CRISIS", "150"),
        ("B", "CARRY", "150"),
        ("B", "CRISIS", "150"),
    ]


def test_a_run_without_regimes_says_so(make_series):
    page = render_comparison([make_series(regimes=None)] * 2, [], "Two sleeves", [])

    assert "Not available: no run recorded a regime." in page


def test_what_comes_from_outside_is_escaped(make_series):
    bad = "<script>alert(1)</script>"

    page = render_comparison([make_series(sleeve_id=bad)] * 2, [], bad, [bad])

    assert bad not in page


def test_the_sharpe_ratio_has_its_interval(make_series):
    page = render_comparison([make_series()] * 2, [], "Two sleeves", [])

    (row, _) = cells(page, "sleeves")
    assert re.fullmatch(r".?\d+\.\d\d to .?\d+\.\d\d", row[4])


def test_a_family_has_a_line_and_its_interval_at_every_horizon(make_series):
    alpha = [
        FamilyQuality("A", "low_volatility", 5, 40, 0.01, -0.02, 0.04, 0.25),
        FamilyQuality("A", "low_volatility", 21, 39, 0.05, 0.01, 0.09, 0.25),
        FamilyQuality("A", "momentum", 5, 40, None, None, None, None),
    ]

    page = render_comparison([make_series()] * 2, alpha, "Two sleeves", [])

    first, second = cells(page, "alpha")
    assert first == (
        "A",
        "low volatility",
        "40",
        "+0.010 (−0.020 to +0.040)",  # noqa: RUF001 - the page's minus sign
        "<b>+0.050 (+0.010 to +0.090)</b>",
        "25.0%",
    )
    assert second == ("A", "momentum", "40", "n/a", "n/a", "n/a")


def test_runs_that_stored_no_scores_say_so(make_series):
    page = render_comparison([make_series()] * 2, [], "Two sleeves", [])

    assert "Not available: no run stored its scores" in page
