from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError, LookAheadError
from prometheus_nt.domain.panel import PANEL_FIELDS, SESSIONS_AHEAD, MarketPanel

CLOSE = np.arange(1.0, 13.0).reshape(6, 2)


@pytest.fixture
def panel(panel_of):
    return panel_of(CLOSE, sectors=("TECH", None))


@pytest.fixture
def running_sum():
    calls = []

    def total(panel, scale=1.0):
        calls.append(len(panel))
        return scale * np.cumsum(panel.close, axis=0)

    total.calls = calls
    return total


def _day(number: int) -> date:
    return date(2020, 1, number)


@pytest.mark.parametrize("name", PANEL_FIELDS)
def test_a_view_shares_the_memory_of_its_panel(panel, name):
    whole = getattr(panel, name)

    assert np.shares_memory(getattr(panel.until(_day(4)), name), whole)
    assert np.shares_memory(getattr(panel.last(2), name), whole)


@pytest.mark.parametrize("name", [*PANEL_FIELDS, "sessions"])
def test_nothing_in_a_panel_or_a_view_can_be_written(panel, name):
    for view in (panel, panel.until(_day(4)), panel.last(2), panel.select(("B",))):
        array = getattr(view, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[0]


def test_a_view_ends_at_the_session_asked_for(panel):
    view = panel.until(_day(4))

    assert view.as_of == _day(4)
    assert len(view) == 4
    assert view.close.tolist() == CLOSE[:4].tolist()
    assert (view.instruments, view.sectors, view.fingerprint) == (
        ("A", "B"),
        ("TECH", None),
        "test",
    )


def test_a_panel_may_be_asked_for_its_own_last_session(panel):
    assert panel.until(panel.as_of).close.tolist() == CLOSE.tolist()


def test_a_later_session_than_the_panel_knows_is_look_ahead(panel):
    with pytest.raises(LookAheadError, match="2020-01-07 of a panel that ends at 2020-01-06"):
        panel.until(_day(7))


def test_a_view_cannot_be_widened_back_to_the_future(panel):
    view = panel.until(_day(3))

    with pytest.raises(LookAheadError, match="ends at 2020-01-03"):
        view.until(_day(4))
    assert len(view.last(100)) == 3


def test_a_day_that_is_no_session_of_the_panel_is_refused(panel_of):
    panel = panel_of([1.0, 2.0, 3.0])
    weekend = MarketPanel(
        sessions=np.array(["2020-01-03", "2020-01-06", "2020-01-07"], dtype="datetime64[D]"),
        instruments=panel.instruments,
        fingerprint="gap",
        **{name: getattr(panel, name) for name in PANEL_FIELDS},
    )

    for day in (date(2020, 1, 4), date(2020, 1, 2), date(1999, 1, 1)):
        with pytest.raises(DataError, match=f"{day} is not a session of this panel"):
            weekend.until(day)


def test_the_last_rows_are_the_newest(panel):
    assert panel.last(2).close.tolist() == CLOSE[-2:].tolist()
    assert panel.last(2).as_of == panel.as_of


def test_asking_for_more_rows_than_there_are_gives_all(panel):
    assert panel.last(100).close.tolist() == CLOSE.tolist()


def test_views_of_views_cut_what_is_left(panel):
    view = panel.until(_day(5)).last(3).until(_day(4)).last(1)

    assert view.as_of == _day(4)
    assert view.close.tolist() == [CLOSE[3].tolist()]
    assert np.shares_memory(view.close, panel.close)


def test_an_empty_panel_has_no_as_of(panel):
    with pytest.raises(DataError, match="empty panel"):
        _ = panel.last(0).as_of


def test_a_derived_array_is_computed_once_for_every_view(panel, running_sum):
    for day in (6, 2, 5):
        panel.until(_day(day)).derived(running_sum)
    panel.last(2).derived(running_sum)

    assert running_sum.calls == [6]


def test_a_derived_array_is_computed_once_per_argument(panel, running_sum):
    ones, twos = panel.derived(running_sum, 1.0), panel.derived(running_sum, 2.0)
    panel.until(_day(3)).derived(running_sum, 2.0)

    assert running_sum.calls == [6, 6]
    assert (2.0 * ones).tolist() == twos.tolist()


def test_a_derived_array_is_cut_like_its_view(panel, running_sum):
    expected = np.cumsum(CLOSE, axis=0)

    assert panel.until(_day(4)).derived(running_sum).tolist() == expected[:4].tolist()
    assert panel.last(2).derived(running_sum).tolist() == expected[4:].tolist()
    middle = panel.until(_day(5)).last(3).until(_day(4))
    assert middle.derived(running_sum).tolist() == expected[2:4].tolist()


def test_a_derived_array_is_read_only(panel, running_sum):
    derived = panel.until(_day(4)).derived(running_sum)

    with pytest.raises(ValueError, match="read-only"):
        derived[0] = 0.0


def test_a_derived_array_needs_a_row_per_session(panel):
    def too_short(panel):
        return panel.close[1:]

    with pytest.raises(DataError, match="too_short: expected 6 rows, found 5"):
        panel.derived(too_short)


def test_a_selection_has_the_instruments_in_the_order_asked_for(panel):
    chosen = panel.select(("B", "A"))

    assert chosen.instruments == ("B", "A")
    assert chosen.close.tolist() == CLOSE[:, ::-1].tolist()
    assert chosen.sectors == (None, "TECH")


def test_a_selection_is_another_panel_to_whoever_compares_fingerprints(panel):
    prints = {panel.select(names).fingerprint for names in (("A",), ("B",), ("B", "A"))}

    assert len(prints | {panel.fingerprint}) == 4
    assert panel.select(("B",)).fingerprint == panel.select(("B",)).fingerprint


def test_selecting_everything_gives_the_panel_itself(panel):
    assert panel.select(("A", "B")) is panel


def test_a_selection_derives_its_own_arrays(panel, running_sum):
    view = panel.until(_day(4)).select(("B",))

    assert view.derived(running_sum).tolist() == np.cumsum(CLOSE[:4, 1:], axis=0).tolist()
    assert running_sum.calls == [4]


def test_an_instrument_that_is_not_there_cannot_be_selected(panel):
    with pytest.raises(DataError, match="not in the panel: X, Y"):
        panel.select(("A", "X", "Y"))


@pytest.mark.parametrize("name", PANEL_FIELDS)
def test_an_array_of_another_shape_is_refused_by_name(panel_of, name):
    with pytest.raises(DataError, match=rf"panel.{name}: expected shape \(2, 1\), found \(3, 1\)"):
        _with(panel_of([1.0, 2.0]), **{name: np.ones((3, 1))})


@pytest.mark.parametrize("sectors", [("TECH",), ("TECH", None, "TECH")])
def test_sectors_are_known_for_every_instrument_or_for_none(panel_of, sectors):
    with pytest.raises(DataError, match=rf"panel.sectors: expected 2, found {len(sectors)}"):
        panel_of(CLOSE, sectors=sectors)

    assert panel_of(CLOSE, sectors=()).sectors == ()


@pytest.mark.parametrize("days", [["2020-01-02", "2020-01-01"], ["2020-01-02", "2020-01-02"]])
def test_sessions_must_ascend_without_duplicates(panel_of, days):
    with pytest.raises(DataError, match=r"panel.sessions: must ascend without duplicates"):
        _with(panel_of([1.0, 2.0]), sessions=np.array(days, dtype="datetime64[D]"))


def _with(panel: MarketPanel, **changes) -> MarketPanel:
    fields = {name: getattr(panel, name) for name in ("sessions", "instruments", *PANEL_FIELDS)}
    return MarketPanel(fingerprint="changed", **(fields | changes))


def test_what_was_derived_is_listed_cut_to_the_view(panel, running_sum):
    view = panel.until(_day(4))
    view.derived(running_sum, 2.0)

    (found,) = view.derivations().items()

    assert found[0] == (running_sum, 2.0)
    assert np.array_equal(found[1], 2.0 * np.cumsum(CLOSE, axis=0)[:4])
    assert len(panel.derivations()[running_sum, 2.0]) == len(panel)


def test_the_newest_row_is_computed_a_few_sessions_at_a_time(panel_of):
    panel, asked = panel_of(np.arange(2 * SESSIONS_AHEAD + 1.0)), []

    def doubled(whole, rows, factor):
        asked.append(rows.tolist())
        return factor * whole.close[rows]

    newest = [panel.until(day).newest(doubled, 2.0) for day in panel.sessions.astype(object)]

    assert [row.tolist() for row in newest] == (2.0 * panel.close).tolist()
    everyone = list(range(len(panel)))
    assert asked == [
        everyone[start : start + SESSIONS_AHEAD] for start in everyone[::SESSIONS_AHEAD]
    ]


def test_the_newest_row_of_an_earlier_view_is_its_own(panel):
    def closes(whole, rows):
        return whole.close[rows]

    later, earlier = (panel.until(_day(day)).last(2).newest(closes) for day in (6, 2))

    assert later.tolist() == CLOSE[5].tolist()
    assert earlier.tolist() == CLOSE[1].tolist()


def test_whoever_changes_a_newest_row_changes_nobody_elses(panel):
    def closes(whole, rows):
        return whole.close[rows]

    panel.newest(closes)[:] = 0.0

    assert panel.newest(closes).tolist() == CLOSE[5].tolist()


def test_the_newest_row_needs_a_row_per_session(panel):
    def too_short(whole, rows):
        return whole.close[rows[1:]]

    with pytest.raises(DataError, match="too_short: expected 6 rows, found 5"):
        panel.newest(too_short)
