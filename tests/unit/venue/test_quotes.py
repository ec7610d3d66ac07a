from math import log, sqrt

import numpy as np
import pytest

from prometheus_nt.domain.errors import DataError
from prometheus_nt.venue.params import QuoteParams
from prometheus_nt.venue.quotes import ImpactModel

SESSIONS = 30
COLUMNS = np.array([0, 1])


@pytest.fixture
def swinging(panel_of):
    """Panel whose close alternates by 10 %, with a million (A) and four million (B) a session."""
    close = np.where(np.arange(SESSIONS) % 2 == 0, 100.0, 110.0)[:, None] * np.ones(2)
    return panel_of(close, volume=np.array([1e6, 4e6]) / close)


def _impact(panel, value, coefficient=0.5, row=SESSIONS - 1, columns=COLUMNS):
    model = ImpactModel(panel, QuoteParams(impact_coefficient=coefficient))
    return model.fraction(row, columns, np.array(value, dtype=np.float64))


def test_impact_is_volatility_times_the_root_of_participation(swinging):
    impact = _impact(swinging, [40_000.0, 40_000.0])

    # 21 returns of +-ln 1.1, eleven of one sign: their deviation is ln 1.1 * sqrt(22 / 21).
    sigma = log(1.1) * sqrt(22 / 21)
    # 4 % and 1 % of the usual value have the roots 0.2 and 0.1.
    assert impact == pytest.approx([0.5 * sigma * 0.2, 0.5 * sigma * 0.1], rel=1e-12)


def test_four_times_the_order_moves_the_price_twice_as_far(swinging):
    once, fourfold = _impact(swinging, [10_000.0, 0.0]), _impact(swinging, [40_000.0, 0.0])

    assert fourfold[0] == pytest.approx(2.0 * once[0])


def test_the_coefficient_scales_impact(swinging):
    half, whole = _impact(swinging, [1e4, 1e4], 0.5), _impact(swinging, [1e4, 1e4], 1.0)

    assert whole == pytest.approx(2.0 * half)


def test_an_instrument_without_an_order_has_no_impact(swinging):
    assert _impact(swinging, [0.0, 0.0]).tolist() == [0.0, 0.0]


def test_columns_choose_their_own_instruments(swinging):
    both = _impact(swinging, [4e4, 4e4])

    swapped = _impact(swinging, [4e4, 4e4], columns=np.array([1, 0]))

    assert swapped.tolist() == both[::-1].tolist()
    assert _impact(swinging, [], columns=np.array([], dtype=np.int64)).tolist() == []


def test_a_coefficient_of_zero_needs_no_volume(panel_of):
    panel = panel_of(np.full((SESSIONS, 2), 10.0), volume=np.full((SESSIONS, 2), np.nan))

    assert _impact(panel, [1e4, 1e4], coefficient=0.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("volume", [np.nan, 0.0])
def test_impact_of_unknown_volume_is_an_error_with_a_remedy(swinging, panel_of, volume):
    unknown = np.column_stack([swinging.volume[:, 0], np.full(SESSIONS, volume)])
    panel = panel_of(swinging.close, volume=unknown)

    with pytest.raises(
        DataError, match=r"B: no volume or volatility at 2020-01-30.*impact_coefficient to 0"
    ):
        _impact(panel, [1e4, 1e4])
    assert _impact(panel, [1e4, 0.0])[0] > 0.0


def test_impact_of_unknown_volatility_is_an_error(swinging):
    with pytest.raises(DataError, match="A: no volume or volatility at 2020-01-05"):
        _impact(swinging, [1e4, 1e4], row=4)


def test_impact_knows_nothing_after_its_row(swinging, panel_of):
    close, volume = swinging.close.copy(), swinging.volume.copy()
    close[25:] *= np.array([1.7, 0.4])
    volume[25:] = 7.0
    changed = panel_of(close, volume=volume)

    assert _impact(changed, [1e4, 1e4], row=24) == pytest.approx(
        _impact(swinging, [1e4, 1e4], row=24), rel=1e-12
    )
    assert _impact(changed, [1e4, 1e4], row=25)[0] > _impact(swinging, [1e4, 1e4], row=25)[0]
