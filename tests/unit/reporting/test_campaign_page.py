import numpy as np
import pytest

from prometheus_nt.meta.folds import chosen_by_training, walk_forward
from prometheus_nt.meta.selection import SelectionRules, Tried, select
from prometheus_nt.reporting.campaign_page import SelectionView, WalkForward, render_selection

RULES = SelectionRules(paths=200, blocks=8)


@pytest.fixture
def view_of():
    def make(bps=0.0, failed=(), trials=12, walked=False, tried=None, rules=RULES):
        rng = np.random.default_rng(8)
        returns = rng.normal(0.0, 0.01, (600, trials))
        returns[:, :1] += bps / 1e4
        names = tuple(f"S_V{number}" for number in range(trials))
        folds = walk_forward(600, train=200, test=100)
        chosen, stitched = chosen_by_training(returns, folds) if walked else ([], None)
        walk = WalkForward(folds=folds, chosen=tuple(names[at] for at in chosen), returns=stitched)
        return SelectionView(
            title="S",
            scope="campaign <one>",
            selection=select(names, returns, tried or Tried(failed=len(failed)), rules),
            sessions=np.busday_offset("2015-01-05", np.arange(600)),
            tested=np.arange(600),
            names=names,
            returns=returns,
            settings={name: {"seed": number} for number, name in enumerate(names)},
            failed=failed,
            walk_forward=walk if walked else None,
            notes=("Survivorship: <unknown>",),
        )

    return make


def test_a_page_on_which_nobody_is_selected_says_so_first_and_why(view_of):
    page = render_selection(view_of())

    head = page[page.index("<header>") : page.index("</header>")]
    assert "None selected: the first, S_V" in head
    assert "luck alone is expected to reach a ratio of" in head
    assert "<b>yes</b>" not in page


def test_a_page_with_a_winner_marks_it_and_only_it(view_of):
    page = render_selection(view_of(bps=40.0))

    assert "1 selected of 12" in page
    assert page.count("<b>yes</b>") == 1
    assert "nothing stands against it" in page


def test_the_banner_counts_everything_that_was_tried(view_of):
    page = render_selection(view_of(tried=Tried(overlapping=1234, ever=5678)))

    head = page[page.index("<header>") : page.index("</header>")]
    assert "1,234" in head
    assert "5,678 since ever" in head
    for name in ("Effective", "Hurdle of luck", "Overfitting", "Best is luck", "y needed"):
        assert name in head


def test_failed_trials_are_listed_and_what_comes_from_outside_is_escaped(view_of):
    page = render_selection(view_of(failed=(("S_VBAD", "DataError: <no prices>"),)))

    assert "DataError: &lt;no prices&gt;" in page
    assert "campaign &lt;one&gt;" in page
    assert "Survivorship: &lt;unknown&gt;" in page
    assert "none failed" in render_selection(view_of())


def test_what_could_not_be_computed_says_because_of_what(view_of):
    page = render_selection(view_of(trials=1))

    assert "not computed, because at least two distinct trials" in page


def test_the_folds_show_who_was_chosen_and_what_came_of_all_of_it(view_of):
    view = view_of(walked=True)

    page = render_selection(view)

    total = np.prod(1.0 + view.walk_forward.returns) - 1.0
    assert f"{abs(total):.2%}" in page
    assert f"{view.sessions[200]} to {view.sessions[299]}" in page
    assert "the campaign has no folds" in render_selection(view_of())


def test_growth_measured_against_a_benchmark_is_never_taken_for_the_books(view_of):
    against = RULES.model_copy(update={"against": "benchmark"})

    alone, compared = render_selection(view_of()), render_selection(view_of(rules=against))

    assert "By Sharpe ratio, on returns after all costs, out of sample" in alone
    assert "of the difference from the benchmark" not in alone
    assert "By Sharpe ratio, on returns after all costs less those of the benchmark" in compared
    assert compared.count("of the difference from the benchmark") == 3
