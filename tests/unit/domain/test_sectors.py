from datetime import date

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.domain.panel import PANEL_FIELDS, MarketPanel
from prometheus_nt.domain.sectors import SectorHistory

SESSIONS = np.array(["2024-01-08", "2024-01-09", "2024-01-10"], dtype="datetime64[D]")
FIRST, SECOND, THIRD = (session.astype(object) for session in SESSIONS)


@pytest.fixture
def history():
    """B moves from Tech to Autos on the second session; C is learnt of on the third."""
    return SectorHistory.of(
        {
            FIRST: ("Tech", "Tech", None),
            SECOND: ("Tech", "Autos", None),
            THIRD: ("Tech", "Autos", "Banks"),
        }
    )


@pytest.fixture
def panel(history):
    arrays = {name: np.ones((3, 3)) for name in PANEL_FIELDS}
    return MarketPanel(
        sessions=SESSIONS,
        instruments=("A", "B", "C"),
        fingerprint="f",
        sector_history=history,
        **arrays,
    )


def test_a_view_knows_the_sectors_of_its_end(panel):
    assert panel.sectors == ("Tech", "Autos", "Banks")
    assert panel.until(FIRST).sectors == ("Tech", "Tech", None)
    assert panel.until(SECOND).last(1).sectors == ("Tech", "Autos", None)
    assert panel.until(SECOND).sector_history.names == ("Tech", "Autos")


def test_a_row_of_the_whole_history_knows_the_sectors_of_its_session(panel):
    assert panel.sectors_at(0) == ("Tech", "Tech", None)
    assert panel.sectors_at(-1) == ("Tech", "Autos", "Banks")
    assert panel.sector_spans() == [(0, 1), (1, 2), (2, 3)]
    assert panel.last(2).sector_spans() == [(0, 1), (1, 2)]


def test_what_is_learnt_later_renumbers_nothing(history):
    codes = [history.until(session).codes_at(session).tolist() for session in (FIRST, SECOND)]

    assert codes == [[0, 0, -1], [0, 1, -1]]
    assert history.codes_at(THIRD).tolist() == [0, 1, 2]


def test_selected_instruments_keep_their_own_sectors(panel):
    chosen = panel.select(("C", "B"))

    assert chosen.sectors == ("Banks", "Autos")
    assert chosen.until(FIRST).sectors == (None, "Tech")


def test_a_panel_whose_sectors_carry_no_date_is_one_span(panel):
    arrays = {name: np.ones((3, 3)) for name in PANEL_FIELDS}
    static = MarketPanel(SESSIONS, ("A", "B", "C"), fingerprint="f", sectors=("X",) * 3, **arrays)

    assert static.sector_spans() == [(0, 3)]
    assert static.sectors_at(0) == ("X", "X", "X")


def test_a_history_that_begins_after_the_panel_is_refused(history):
    arrays = {name: np.ones((1, 3)) for name in PANEL_FIELDS}
    early = np.array(["2024-01-05"], dtype="datetime64[D]")

    with pytest.raises(DataError, match="begins at 2024-01-08, asked for 2024-01-05"):
        MarketPanel(early, ("A", "B", "C"), fingerprint="f", sector_history=history, **arrays)


def test_eras_out_of_order_and_codes_without_a_name_are_refused(history):
    with pytest.raises(DataError, match="since must ascend"):
        SectorHistory(history.since[::-1].copy(), history.codes, history.names)
    with pytest.raises(DataError, match="a code above its 1 names"):
        SectorHistory(history.since, history.codes, ("Tech",))
    with pytest.raises(DataError, match="3 rows of codes for 1 eras"):
        SectorHistory(history.since[:1].copy(), history.codes, history.names)


def test_an_era_is_asked_for_by_any_day_within_it(history):
    assert history.at(date(2024, 6, 1)) is history.at(THIRD)
