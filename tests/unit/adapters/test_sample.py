import sys
from datetime import date

import numpy as np
import pytest

from adapters.sample import COMPANIES, sample_ohlcv, sample_sp500
from adapters.source import ActionType
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def sp500():
    return sample_sp500()


@pytest.fixture(scope="module")
def ohlcv():
    return sample_ohlcv()


def splits(source, instrument_id):
    actions = source.actions(instrument_id)
    return {a.ex_date: a.value for a in actions if a.action_type is ActionType.SPLIT}


def dividends(source, instrument_id):
    actions = source.actions(instrument_id)
    return {a.ex_date: a.value for a in actions if a.action_type is ActionType.DIVIDEND}


def test_twenty_companies_and_their_index_cover_every_session(sp500):
    instruments = sp500.instruments()
    sessions = MarketCalendar.of("US_EQ").between(date(1990, 1, 2), date(2022, 12, 28))

    assert len(instruments) == 21
    assert [i.instrument_id for i in instruments if i.asset_class == "INDEX"] == ["SPX.INDX"]
    for instrument in instruments:
        assert (sp500.read(instrument.instrument_id).dates == sessions).all()


def test_synthetic_bars_have_one_price_and_no_volume(sp500):
    table = sp500.read("AAPL.US")

    for name in ("open", "high", "low", "adjusted_close"):
        assert (getattr(table, name) == table.close).all()
    assert np.isnan(table.volume).all()
    assert sp500.info.synthetic_bars
    assert sp500.actions("AAPL.US") == ()


def test_every_company_has_a_name_and_a_sector(sp500, ohlcv):
    for instrument in (*sp500.instruments(), *ohlcv.instruments()):
        known = COMPANIES.get(instrument.symbol)
        assert known is None or known == (instrument.name, instrument.sector)
        assert instrument.sector or instrument.asset_class == "INDEX"


def test_both_samples_admit_their_survivorship(sp500, ohlcv):
    assert "Survivorship-biased" in sp500.info.survivorship
    assert "Survivorship-biased" in ohlcv.info.survivorship


def test_splits_are_those_on_record(ohlcv):
    assert splits(ohlcv, "AAPL.US") == {date(2000, 6, 21): 2.0, date(2005, 2, 28): 2.0}
    assert splits(ohlcv, "MSFT.US") == {date(2003, 2, 18): 2.0}
    assert [splits(ohlcv, name) for name in ("IBM.US", "GOOG.US", "FB.US")] == [{}, {}, {}]


def test_dividends_are_those_on_record(ohlcv):
    apple, ibm, microsoft = (dividends(ohlcv, f"{s}.US") for s in ("AAPL", "IBM", "MSFT"))

    assert apple == pytest.approx(
        {date(2012, 8, 9): 2.65, date(2012, 11, 7): 2.65, date(2013, 2, 7): 2.65}, abs=1e-3
    )
    assert microsoft[date(2004, 11, 15)] == pytest.approx(3.08, abs=1e-3)
    assert microsoft[date(2003, 2, 19)] == pytest.approx(0.08, abs=1e-3)
    assert ibm[date(2012, 11, 7)] == pytest.approx(0.85, abs=1e-3)
    assert (len(ibm), len(microsoft)) == (52, 37)


def test_volume_is_shares_as_traded(ohlcv):
    table = ohlcv.read("MSFT.US")
    split = int(np.searchsorted(table.dates, np.datetime64("2003-02-18")))
    before, after = table.volume[split - 60 : split], table.volume[split : split + 60]

    # Twice the shares change hands for the same money; volumes put on one basis would not jump.
    assert np.median(after) / np.median(before) == pytest.approx(1.6, abs=0.1)


def test_an_unknown_instrument_names_those_that_exist(ohlcv):
    with pytest.raises(DataError, match=r"AAPL\.US"):
        ohlcv.read("XYZ.US")


def test_without_the_extra_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh_sampledata.stocks", None)

    with pytest.raises(ConfigError, match=r"pip install 'prometheus-nt\[sample\]'"):
        sample_ohlcv().instruments()
