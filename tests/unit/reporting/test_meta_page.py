import re
from datetime import date

import numpy as np
import pytest

from prometheus_nt.meta.allocation import MetaAllocationParams, allocate
from prometheus_nt.meta.completeness import MadeOf, Member, MetaPortfolio, Sleeve
from prometheus_nt.meta.findings import error
from prometheus_nt.meta.flattening import flatten
from prometheus_nt.meta.sign_test import SignTest
from prometheus_nt.meta.streams import Stream, joined
from prometheus_nt.reporting.meta_page import render_meta_page

DAYS = np.busday_offset("2020-01-01", np.arange(120))
AS_OF = DAYS[99].astype(object)
PARAMS = MetaAllocationParams(method="equal", max_asset=1.0)


def section(page, anchor):
    return page.split(f'<section id="{anchor}"')[1].split("</section>")[0]


def cells(page, anchor):
    lines = re.findall(r"<tr>(.*?)</tr>", section(page, anchor).split("<tbody>")[1], re.DOTALL)
    return [tuple(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)) for line in lines]


@pytest.fixture
def made():
    """Return a function that makes a whole meta-portfolio of two sleeves."""

    def made(names=("S1", "S2"), sessions=120):
        rng = np.random.default_rng(4)
        data = MadeOf("US_EQ", "BACKTEST", "sample", 1, "friction")
        books = {"R1": {"A.US": 0.6}, "R2": {"A.US": -0.2, "B.US": -0.3}}
        records = {
            run_id: Stream(DAYS[:sessions], rng.normal(0.001, 0.01, sessions)) for run_id in books
        }
        sleeves = {
            run_id: Sleeve(run_id, name, "F", data, "c", records[run_id], AS_OF, books[run_id])
            for run_id, name in zip(books, names, strict=True)
        }
        matrix = joined({run_id: record.until(AS_OF) for run_id, record in records.items()})
        return MetaPortfolio(
            meta_id="META-1",
            as_of=AS_OF,
            params=PARAMS,
            members=tuple(
                Member(run_id, run_id, name, records[run_id])
                for run_id, name in zip(books, names, strict=True)
            ),
            sleeves=sleeves,
            metas={},
            findings=(),
            matrix=matrix,
            later=joined({run_id: record.after(AS_OF) for run_id, record in records.items()}),
            allocation=allocate(matrix.values, PARAMS),
            book=flatten("META-1", {"META-1": {"R1": 0.5, "R2": 0.5}}, books),
            sign_test=SignTest((), n_atoms=3, n_long=1, n_short=2, n_rows=100),
            volatility=0.125,
        )

    return made


def test_a_pass_shows_the_book_with_its_contributors(made):
    page = render_meta_page(made())

    assert "PASS: every gate passed" in page
    assert cells(page, "assets") == [
        ("A.US", "LONG", "20.00%", "40.00%", "S1 30.00%, S2 −10.00%"),  # noqa: RUF001
        ("B.US", "SHORT", "−15.00%", "15.00%", "S2 −15.00%"),  # noqa: RUF001
    ]
    assert "12.50%" in section(page, "assets")
    assert "Effective number of members: 2.00" in section(page, "weights")


def test_what_the_weights_have_seen_is_apart_from_what_they_have_not(made):
    page = render_meta_page(made())

    whole, first, second = cells(page, "performance")
    assert [row[0] for row in (whole, first, second)] == ["Meta-portfolio", "S1", "S2"]
    assert (whole[-1], cells(page, "later")[0][-1]) == ("100", "20")
    assert "in-sample" in page


def test_the_line_of_the_whole_is_that_of_constant_weights(made):
    meta = made()

    page = render_meta_page(meta)

    grown = np.prod(1.0 + meta.matrix.values.mean(axis=1)) - 1.0
    assert cells(page, "performance")[0][1] == f"{100 * grown:.2f}%".replace("-", "−")  # noqa: RUF001


def test_nothing_later_is_said_to_be_nothing(made):
    page = render_meta_page(made(sessions=100))

    assert "Not available: the members have no session in common there." in section(page, "later")


def test_two_runs_of_one_sleeve_are_told_apart_by_run(made):
    page = render_meta_page(made(names=("S", "S")))

    assert [row[0] for row in cells(page, "weights")] == ["R1", "R2"]


def test_a_failure_lists_its_codes_and_says_what_is_missing():
    failed = MetaPortfolio("META-2", None, PARAMS, (Member("X", "X", "X"),), {}, {}, ())
    failed = failed.found(
        error("META_MISSING_RUN", "X", "no run matches"), error("META_SINGLE_SLEEVE", "", "one")
    )

    page = render_meta_page(failed)

    assert "FAIL: 2 errors; nothing may be traded" in page
    assert [row[0] for row in cells(page, "findings")] == ["META_MISSING_RUN", "META_SINGLE_SLEEVE"]
    assert cells(page, "members")[0][2] == "missing"
    for anchor in ("weights", "performance", "later", "growth", "correlation", "assets", "signs"):
        assert "Not available:" in section(page, anchor)


def test_what_comes_from_outside_is_escaped(made):
    bad = "<script>alert(1)</script>"
    meta = made(names=(bad, "S2")).found(error("E", bad, bad))

    assert bad not in render_meta_page(meta)


def test_a_return_that_is_unknown_is_a_gap_and_not_a_zero(made):
    meta = made()
    meta.later.values[5:, 0] = np.nan

    page = render_meta_page(meta)

    assert "null" in page.split('id="figures">')[1].split("</script>")[0]
    assert meta.as_of == date(2020, 5, 19)
