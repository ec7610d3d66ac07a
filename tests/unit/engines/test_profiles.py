from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from prometheus_nt.domain.errors import InsufficientHistory
from prometheus_nt.domain.facts import Facts
from prometheus_nt.domain.profiles import FEATURES, FLAGS
from prometheus_nt.domain.record import record_hash
from prometheus_nt.engines.profiles import LOOKBACK, ProfileParams, build_profiles

NAN = np.nan
PARAMS = ProfileParams()
QUARTERS = ("2019-03-31", "2019-06-30", "2019-09-30", "2019-12-31")


def facts_of(*rows):
    """Facts of (column, item, period_end, known_at, value), put in order."""
    rows = sorted(rows, key=lambda row: row[3])
    items = tuple(dict.fromkeys(row[1] for row in rows))
    return Facts(
        items=items,
        column=np.array([row[0] for row in rows]),
        item=np.array([items.index(row[1]) for row in rows]),
        period_end=np.array([row[2] for row in rows], dtype="datetime64[D]"),
        known_at=np.array([row[3] for row in rows], dtype="datetime64[D]"),
        value=np.array([row[4] for row in rows], dtype=np.float64),
    )


@pytest.fixture
def market(panel_of):
    """Return a panel of two quiet instruments from 2020-01-01 on, with these facts."""

    def build(*rows, sessions=LOOKBACK, names=2):
        return replace(
            panel_of(np.full((sessions, names), 10.0)), facts=facts_of(*rows), _wall=None
        )

    return build


def revenue(*values, column=0, item="revenue_quarterly"):
    return [
        (column, item, end, "2020-01-20", value)
        for end, value in zip(QUARTERS, values, strict=True)
    ]


def on(panel, session):
    return build_profiles(panel.until(date.fromisoformat(session)), PARAMS)


def test_price_features_follow_their_definitions(panel_of):
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.01, LOOKBACK)))

    profiles = build_profiles(panel_of(np.concatenate(([1.0], close))), PARAMS)

    returns = np.diff(np.log(close))
    drawdown = 1.0 - (close / np.maximum.accumulate(close)).min()
    assert profiles.features["vol_63d"][0] == pytest.approx(returns.std(ddof=1))
    assert profiles.features["dd_63d"][0] == pytest.approx(drawdown)
    assert profiles.features["trend_63d"][0] == pytest.approx(close[-1] / close[0] - 1.0)


def test_a_stale_or_short_history_has_no_price_features(panel_of):
    close = np.full((LOOKBACK, 3), 10.0)
    close[-PARAMS.max_gap :, 1] = NAN
    close[:-40, 2] = NAN

    profiles = build_profiles(panel_of(close), PARAMS)

    for name in ("vol_63d", "dd_63d", "trend_63d"):
        assert np.isnan(profiles.features[name]).tolist() == [False, True, True]
    assert profiles.weak_profile.tolist() == [0, -1, -1]


def test_without_facts_everything_but_prices_is_unknown(panel_of):
    profiles = build_profiles(panel_of(np.full((LOOKBACK, 2), 10.0)), PARAMS)

    assert tuple(profiles.features) == FEATURES
    assert tuple(profiles.risk_flags) == FLAGS
    for name in FEATURES[3:]:
        assert np.isnan(profiles.features[name]).all()
    assert np.isnan(profiles.risk_flags["leverage_flag"]).all()
    assert np.isnan(profiles.risk_flags["news_recency_flag"]).all()


def test_four_quarters_in_a_row_make_the_trailing_twelve_months(market):
    panel = market(*revenue(1.0, 2.0, 3.0, 4.0))

    assert build_profiles(panel, PARAMS).features["revenue_ttm"][0] == 10.0
    assert np.isnan(build_profiles(panel, PARAMS).features["revenue_ttm"][1])


def test_a_missing_quarter_makes_the_trailing_twelve_months_unknown(market):
    known = revenue(1.0, 2.0, 3.0, 4.0)
    earlier = (0, "revenue_quarterly", "2018-12-31", "2020-01-20", 7.0)

    panel = market(earlier, known[0], known[1], known[3])

    assert np.isnan(build_profiles(panel, PARAMS).features["revenue_ttm"][0])


def test_a_quarter_that_arrives_late_fills_the_gap_from_then_on(market):
    known = revenue(1.0, 2.0, 3.0, 4.0)
    late = (0, "revenue_quarterly", QUARTERS[1], "2020-03-10", 2.0)
    panel = market(known[0], late, known[2], known[3], sessions=90)

    assert np.isnan(on(panel, "2020-03-09").features["revenue_ttm"][0])
    assert on(panel, "2020-03-10").features["revenue_ttm"][0] == 10.0


def test_a_restatement_counts_from_its_own_day_and_not_before(market):
    restated = (0, "revenue_quarterly", QUARTERS[0], "2020-03-10", 101.0)
    panel = market(*revenue(1.0, 2.0, 3.0, 4.0), restated, sessions=90)
    first_version = market(*revenue(1.0, 2.0, 3.0, 4.0), sessions=90)

    assert on(panel, "2020-03-09").features["revenue_ttm"][0] == 10.0
    assert on(panel, "2020-03-10").features["revenue_ttm"][0] == 110.0
    assert record_hash(on(panel, "2020-03-09")) == record_hash(on(first_version, "2020-03-09"))


def test_an_annual_figure_never_stands_in_for_quarters(market):
    annual = (0, "revenue_annual", "2019-12-31", "2020-01-20", 999.0)
    unmarked = (0, "revenue", "2019-12-31", "2020-01-20", 999.0)
    quarters = revenue(1.0, 2.0, 3.0, 4.0, column=1)

    ttm = build_profiles(market(annual, unmarked, *quarters), PARAMS).features["revenue_ttm"]

    assert np.isnan(ttm[0])
    assert ttm[1] == 10.0


def test_fiscal_quarters_of_thirteen_weeks_follow_each_other(market):
    ends = ("2019-02-02", "2019-05-04", "2019-08-03", "2019-11-02")
    rows = [(0, "revenue_quarterly", end, "2020-01-20", 1.0) for end in ends]
    across = ("2019-03-30", "2019-06-29", "2019-09-28", "2020-01-03")
    rows += [(1, "revenue_quarterly", end, "2020-01-20", 1.0) for end in across]

    assert build_profiles(market(*rows), PARAMS).features["revenue_ttm"].tolist() == [4.0, 4.0]


def test_margins_and_leverage_divide_figures_of_one_period(market):
    rows = revenue(25.0, 25.0, 25.0, 25.0)
    rows += revenue(5.0, 5.0, 5.0, 5.0, item="net_income_quarterly")
    rows += [(0, "total_liabilities", "2019-12-31", "2020-01-20", 30.0)]
    rows += [(0, "equity", "2019-12-31", "2020-01-20", 20.0)]
    rows += [(1, "total_liabilities", "2019-12-31", "2020-01-20", 30.0)]
    rows += [(1, "equity", "2019-09-30", "2020-01-20", 20.0)]

    features = build_profiles(market(*rows), PARAMS).features

    assert features["net_margin"][0] == pytest.approx(0.2)
    assert features["leverage"][0] == pytest.approx(1.5)
    assert np.isnan(features["gross_margin"][0])
    assert np.isnan(features["leverage"][1]), "a balance of another quarter-end does not compare"


def test_negative_equity_has_no_leverage_rather_than_none_to_speak_of(market):
    rows = [(0, "total_liabilities", "2019-12-31", "2020-01-20", 30.0)]
    rows += [(0, "equity", "2019-12-31", "2020-01-20", -5.0)]

    profiles = build_profiles(market(*rows), PARAMS)

    assert np.isnan(profiles.features["leverage"][0])
    assert np.isnan(profiles.risk_flags["leverage_flag"][0])
    assert profiles.features["equity"][0] == -5.0


def test_the_newest_balance_counts_and_old_ones_expire(market):
    rows = [(0, "cash", "2019-09-30", "2020-01-02", 3.0), (0, "cash", "2019-06-30", NEW, 2.0)]
    rows += [(1, "cash", "2018-12-31", "2020-01-20", 1.0)]

    cash = build_profiles(market(*rows), PARAMS).features["cash"]

    assert cash[0] == 3.0, "an older balance that arrives later is not the newest"
    assert np.isnan(cash[1])


NEW = "2020-01-20"


def test_a_period_that_has_not_ended_is_no_fact(market):
    estimate = (0, "cash", "2020-06-30", "2020-01-20", 99.0)

    assert np.isnan(build_profiles(market(estimate), PARAMS).features["cash"][0])


def test_news_count_from_the_newest_day_with_an_article(market):
    rows = [(0, "news_articles", "2020-02-20", "2020-02-20", 4.0)]
    rows += [(0, "news_articles", "2020-02-28", "2020-02-28", 0.0)]

    profiles = build_profiles(market(*rows, sessions=LOOKBACK), PARAMS)

    assert profiles.as_of == date(2020, 3, 3)
    assert profiles.features["news_articles"][0] == 4.0
    assert profiles.features["days_since_news"][0] == 12.0
    assert profiles.risk_flags["news_recency_flag"][0] == pytest.approx(1.0 - 12.0 / 30.0)
    assert np.isnan(profiles.risk_flags["news_recency_flag"][1])


def test_the_verdict_shares_the_weight_among_known_flags(market, panel_of):
    rows = [(0, "total_liabilities", "2019-12-31", NEW, 30.0), (0, "equity", "2019-12-31", NEW, 5)]
    swing = np.where(np.arange(LOOKBACK) % 2, 10.0, 13.0)
    panel = replace(panel_of(np.column_stack([swing, swing])), facts=facts_of(*rows), _wall=None)
    halves = ProfileParams(vol_weight=0.0, drawdown_reference=0.6, weak_threshold=0.5)

    profiles = build_profiles(panel, halves)

    drawdown = (3.0 / 13.0) / 0.6
    assert profiles.risk_flags["dd_flag"] == pytest.approx([drawdown, drawdown])
    assert profiles.risk_flags["leverage_flag"][0] == 1.0
    assert (2.0 * drawdown + 1.0 * 1.0) / 3.0 >= 0.5 > drawdown
    assert profiles.weak_profile.tolist() == [1, 0]


def test_the_snapshot_names_its_content(market):
    first, same = market(*revenue(1.0, 2.0, 3.0, 4.0)), market(*revenue(1.0, 2.0, 3.0, 4.0))
    other = market(*revenue(1.0, 2.0, 3.0, 5.0))

    ids = [build_profiles(panel, PARAMS).snapshot_id for panel in (first, same, other)]

    assert ids[0] == ids[1] != ids[2]


def test_too_short_a_panel_is_insufficient_history(panel_of):
    with pytest.raises(InsufficientHistory, match="needs 63 sessions, has 62"):
        build_profiles(panel_of(np.full(62, 10.0)), PARAMS)


@pytest.mark.parametrize(
    "settings",
    [{"vol_weight": 0, "drawdown_weight": 0, "leverage_weight": 0}, {"min_observations": 63}],
)
def test_contradictory_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        ProfileParams(**settings)
