import subprocess
import sys

import numpy as np
import pytest

from prometheus_nt.domain.calendar import MARKETS, MarketCalendar, build_calendar
from prometheus_nt.jobs import calendars

ASKS = """
import sys
from prometheus_nt.jobs.calendars import build_calendars_elsewhere
from prometheus_nt.domain.calendar import MarketCalendar
build_calendars_elsewhere()
calendar = MarketCalendar.of("US_EQ")
assert calendar is MarketCalendar.of("US_EQ")
assert not calendar.sessions.flags.writeable
print(len(calendar.sessions), "pandas" in sys.modules, "exchange_calendars" in sys.modules)
"""


@pytest.fixture(autouse=True)
def anew():
    calendars._all_built_elsewhere.cache_clear()
    yield
    calendars._all_built_elsewhere.cache_clear()


def same(one: MarketCalendar, other: MarketCalendar) -> bool:
    pairs = zip(vars(one).items(), vars(other).values(), strict=True)
    return all(np.array_equal(mine, theirs) for (_, mine), theirs in pairs)


def test_a_process_that_has_them_built_elsewhere_never_imports_what_builds_them():
    told = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True)

    assert told.stdout.split() == [str(len(MarketCalendar.of("US_EQ").sessions)), "False", "False"]


@pytest.mark.parametrize("market_id", MARKETS)
def test_a_calendar_from_elsewhere_is_the_same(market_id):
    assert same(calendars._built_elsewhere(market_id), build_calendar(market_id))


def test_where_the_other_process_fails_this_one_builds_it(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    assert same(calendars._built_elsewhere("US_EQ"), MarketCalendar.of("US_EQ"))
