import re

import numpy as np

from prometheus_nt.reporting.comparison import render_comparison


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

    page = render_comparison(runs, "Two sleeves", [])

    long, short = cells(page, "costs")
    assert long[:4] == ("LONG", "$2.00", "$3.00", "$5.00")
    assert long[-1] == "$0.00"
    assert short[-1] == "−$4.00"  # noqa: RUF001 - the page's minus sign


def test_every_sleeve_is_broken_down_by_regime(make_series):
    runs = [make_series(sleeve_id="A"), make_series(sleeve_id="B")]

    page = render_comparison(runs, "Two sleeves", [])

    assert [row[:3] for row in cells(page, "regimes")] == [
        ("A", "CARRY", "150"),
        ("A", "CRISIS", "150"),
        ("B", "CARRY", "150"),
        ("B", "CRISIS", "150"),
    ]


def test_a_run_without_regimes_says_so(make_series):
    page = render_comparison([make_series(regimes=None)] * 2, "Two sleeves", [])

    assert "Not available: no run recorded a regime." in page


def test_what_comes_from_outside_is_escaped(make_series):
    bad = "<script>alert(1)</script>"

    page = render_comparison([make_series(sleeve_id=bad)] * 2, bad, [bad])

    assert bad not in page


def test_the_sharpe_ratio_has_its_interval(make_series):
    page = render_comparison([make_series()] * 2, "Two sleeves", [])

    (row, _) = cells(page, "sleeves")
    assert re.fullmatch(r".?\d+\.\d\d to .?\d+\.\d\d", row[4])
