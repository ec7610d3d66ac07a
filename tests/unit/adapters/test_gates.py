from datetime import UTC, date, datetime

import numpy as np
import pytest

from adapters.gates import Case, QualityParams, check_prices
from adapters.source import Action, ActionType, PriceTable, Severity
from prometheus_nt.domain.calendar import MarketCalendar

CALENDAR = MarketCalendar.of("US_EQ")
NOW = datetime(2024, 6, 1, tzinfo=UTC)
SESSIONS = CALENDAR.between(date(2024, 1, 2), date(2024, 1, 31))


def bars(**changes):
    """Return 21 quiet sessions; a change is {position: value} of one column."""
    count = len(SESSIONS)
    close = 100.0 + np.arange(count) * 0.1
    columns = {
        "dates": SESSIONS.copy(),
        "open": close - 0.05,
        "high": close + 0.5,
        "low": close - 0.5,
        "close": close.copy(),
        "adjusted_close": close.copy(),
        "volume": np.full(count, 1000.0),
    }
    for name, edits in changes.items():
        for position, value in edits.items():
            columns[name][position] = value
    lines = np.arange(2, count + 2)
    return PriceTable("A.US", **columns, source_file="a.csv", source_rows=lines)


def check(table, actions=(), now=NOW, **thresholds):
    params = QualityParams(**thresholds)
    kept, issues = check_prices(Case("d", table, actions, CALENDAR, now, params))
    return (
        np.flatnonzero(~kept).tolist(),
        [(issue.rule, issue.source_row) for issue in issues],
        issues,
    )


def test_quiet_bars_pass_without_a_finding():
    dropped, findings, _ = check(bars())

    assert (dropped, findings) == ([], [])


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("close", np.nan, "missing_price"),
        ("open", np.inf, "missing_price"),
        ("low", 0.0, "price_not_positive"),
        ("close", -5.0, "price_not_positive"),
        ("adjusted_close", -1.0, "price_not_positive"),
        ("volume", -1.0, "negative_volume"),
        ("high", 90.0, "high_below_low"),
        ("close", 1000.0, "outside_range"),
    ],
)
def test_a_bad_number_names_file_row_column_value_and_remedy(column, value, rule):
    dropped, findings, issues = check(bars(**{column: {4: value}}))

    assert findings[0] == (rule, 6)
    assert dropped == ([] if rule == "outside_range" else [4])
    issue = issues[0]
    assert (issue.source_file, issue.trade_date) == ("a.csv", SESSIONS[4].astype(object))
    for part in ("a.csv", "row 6", repr(issue.source_column), str(issue.value), "; "):
        assert part in issue.message


def test_an_unknown_volume_is_no_fault():
    assert check(bars(volume={3: np.nan}, adjusted_close={3: np.nan}))[:2] == ([], [])


def test_days_without_trading_are_quarantined():
    dropped, findings, issues = check(bars(dates={4: "2024-01-06"}))

    assert dropped == [4]
    assert findings == [("not_a_session", 6)]
    assert "not a US_EQ session" in issues[0].message


def test_a_session_that_has_not_closed_is_quarantined():
    before_close = datetime(2024, 1, 31, 20, 0, tzinfo=UTC)

    dropped, findings, _ = check(bars(), now=before_close)

    assert dropped == [20]
    assert findings == [("future_date", 22)]


def test_days_before_the_calendar_are_quarantined():
    assert check(bars(dates={0: "1975-01-06"}))[1] == [("before_calendar", 2)]


def test_of_equal_rows_the_first_is_kept():
    table = bars().take(np.array([0, 1, 2, 2, 3]))

    dropped, findings, issues = check(table)

    assert dropped == [3]
    assert findings == [("repeated_row", 4)]
    assert issues[0].severity is Severity.WARNING


def test_of_conflicting_rows_none_is_kept():
    table = bars().take(np.array([0, 1, 2, 2, 3]))
    table.close[3] += 0.01

    dropped, findings, _ = check(table)

    assert dropped == [2, 3]
    assert findings == [("conflicting_rows", 4), ("conflicting_rows", 4)]


def test_unsorted_rows_are_kept_and_sorted():
    table = bars().take(np.arange(21)[::-1])
    kept, issues = check_prices(Case("d", table, (), CALENDAR, NOW))

    assert kept.all()
    assert [(issue.rule, issue.source_row) for issue in issues] == [("unsorted_dates", 21)]
    assert (table.in_order(kept).dates == SESSIONS).all()


def test_a_single_impossible_price_costs_its_own_row_only():
    table = bars(close={5: 10_000.0}, adjusted_close={5: 10_000.0}, high={5: 10_001.0})

    dropped, findings, issues = check(table)

    assert dropped == [5]
    assert findings == [("impossible_return", 7)]
    assert "+9860%" in issues[0].message


def test_a_price_level_that_jumps_and_stays_is_quarantined_whole():
    edits = {row: 0.5 for row in range(10, 21)}

    dropped, findings, issues = check(bars(**{name: edits for name in _PRICES}))

    assert dropped == list(range(10, 21))
    assert findings[0] == ("impossible_return", 12)
    assert "11 rows" in issues[0].message


def test_a_split_in_the_adjusted_close_explains_a_jump():
    table = bars(**{name: {row: 1.0 for row in range(10, 21)} for name in _PRICES})
    table.adjusted_close[:10] /= 100
    split = Action("A.US", SESSIONS[10].astype(object), ActionType.SPLIT, 100.0, "x")

    dropped, findings, _ = check(table, [split])

    assert (dropped, findings) == ([], [])


def test_a_large_move_without_an_action_is_kept_with_a_warning():
    table = bars(**{name: {row: 50.0 for row in range(10, 21)} for name in _PRICES})

    dropped, findings, issues = check(table)

    assert dropped == []
    assert findings == [("large_return", 12)]
    assert "-50%" in issues[0].value


def test_a_split_on_a_missing_session_explains_the_next_bar():
    table = bars(**{name: {row: 50.0 for row in range(10, 21)} for name in _PRICES})
    table = table.take(np.delete(np.arange(21), 10))
    split = Action("A.US", SESSIONS[10].astype(object), ActionType.SPLIT, 2.0, "x")

    assert check(table, [split])[1] == []


def test_an_instrument_without_a_good_row_says_so():
    table = bars(close={row: -1.0 for row in range(21)})

    dropped, findings, issues = check(table)

    assert len(dropped) == 21
    assert findings[-1] == ("no_good_row", None)
    assert "no row of 21 is usable" in issues[-1].message


_PRICES = ("open", "high", "low", "close", "adjusted_close")


def level(change, start=10, stop=21):
    """Return edits that move every price from row `start` on by a simple return."""
    rows = range(start, stop)
    return {name: {row: 100.9 * (1 + change) for row in rows} for name in _PRICES}


@pytest.mark.parametrize(
    ("change", "dropped", "rule"),
    [
        (5.01, True, "impossible_return"),
        (4.99, False, "large_return"),
        (-0.991, True, "impossible_return"),
        (-0.98, False, "large_return"),
        (0.39, False, None),
    ],
)
def test_an_impossible_day_is_rejected_and_a_large_one_flagged(change, dropped, rule):
    lost, findings, issues = check(bars(**level(change)))

    assert bool(lost) is dropped
    assert {name for name, _ in findings} == ({rule} if rule else set())
    if rule:
        assert f"{change:+.0%}" in issues[0].value + issues[0].message


def test_a_jump_is_toxic_only_if_neither_the_adjusted_close_nor_an_action_explains_it():
    moved = level(9.0)
    lazy = bars(**moved)
    reverse = Action("A.US", SESSIONS[10].astype(object), ActionType.SPLIT, 0.1, "x")
    adjusted = bars(**{name: moved[name] for name in ("open", "high", "low", "close")})

    assert check(lazy, [reverse])[:2] == ([], [])
    assert check(adjusted)[:2] == ([], [("unlisted_action", 12)])
    assert check(lazy)[0] == list(range(10, 21))


def test_an_adjusted_close_that_jumps_alone_is_flagged():
    table = bars(adjusted_close={row: 300.0 for row in range(10, 21)})

    dropped, findings, issues = check(table)

    assert (dropped, findings) == ([], [("large_return", 12)])
    assert issues[0].source_column == "adjusted_close"


def test_a_stalled_close_is_one_warning_with_its_length_and_volume():
    flat, wide = {row: 100.5 for row in range(5, 17)}, {row: 110.0 for row in range(21)}
    narrow = {row: 90.0 for row in range(21)}
    table = bars(close=flat, high=wide, low=narrow, volume={row: 0.0 for row in range(5, 10)})

    _, findings, issues = check(table, stall_warned_after=10)

    assert findings == [("stalled_price", 18)]
    assert issues[0].value == "100.5 (unchanged for 11 sessions, 7 of them with volume)"
    assert check(table, stall_warned_after=11)[1] == []


def test_a_close_that_nobody_renews_is_quarantined_only_if_asked_for():
    table = bars(close={row: 100.5 for row in range(5, 17)})
    table.volume[:], table.low[:] = np.nan, 90.0

    kept, warned, _ = check(table, stall_warned_after=3)
    dropped, findings, issues = check(table, stall_warned_after=3, stall_rejected_after=8)

    assert (kept, warned) == ([], [("stalled_price", 11)])
    assert dropped == [14, 15, 16]
    assert [name for name, _ in findings] == ["stalled_price", *["stale_quote"] * 3]
    assert "volume unknown" in issues[0].value
    assert issues[1].value == "100.5"


def test_a_volume_spike_is_ten_standard_deviations_above_the_sessions_before():
    ordinary = {row: 1000.0 + 10 * (-1) ** row for row in range(20)}
    deviation = float(np.std([1010.0, 990.0] * 10, ddof=1))

    above, _, issues = check(bars(volume=ordinary | {20: 1000.0 + 10.1 * deviation}))
    below = check(bars(volume=ordinary | {20: 1000.0 + 9.9 * deviation}))[1]

    assert (above, below) == ([], [])
    assert [(issue.rule, issue.source_row) for issue in issues] == [("volume_spike", 22)]
    assert "10.1 sigma" in issues[0].value


@pytest.mark.parametrize(("volume", "spikes"), [(2000.0, 0), (2001.0, 1)])
def test_after_constant_volumes_a_spike_is_more_than_twice_their_mean(volume, spikes):
    assert len(check(bars(volume={20: volume}))[1]) == spikes


def test_a_split_is_no_volume_spike():
    table = bars(**{name: {20: 102.0 / 4} for name in ("open", "high", "low", "close")})
    table.volume[20] = 4000.0
    split = Action("A.US", SESSIONS[20].astype(object), ActionType.SPLIT, 4.0, "x")

    assert check(table, [split])[1] == []


@pytest.mark.parametrize("sigma", [2.0, 4.0, 4.3, 10.0])
def test_spikes_are_those_of_a_plain_loop_over_every_session(sigma):
    days = CALENDAR.between(date(2020, 1, 2), date(2022, 12, 30))
    volume = np.random.default_rng(5).lognormal(10, 1.2, len(days))
    volume[100:140], volume[141:170], volume[300] = 500.0, 500.0, np.nan
    close = 100 + np.arange(len(days)) * 0.01
    prices = {name: close.copy() for name in _PRICES}
    lines = np.arange(len(days))
    table = PriceTable("A.US", days, **prices, volume=volume, source_file="a", source_rows=lines)

    found = [line for rule, line in check(table, spike_sigma=sigma)[1] if rule == "volume_spike"]

    expected = []
    for row in range(20, len(days)):
        window = volume[row - 20 : row]
        if np.isnan(window).any() or np.isnan(volume[row]):
            continue
        mean, deviation = window.mean(), window.std(ddof=1)
        limit = mean + sigma * deviation if deviation > 0 else 2 * mean
        if volume[row] > limit:
            expected.append(row)
    assert found == expected
    assert len(expected) > 2
