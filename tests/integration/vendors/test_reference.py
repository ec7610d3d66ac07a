"""From a vendor's fundamentals, news, members and holidays to what an engine may know."""

from datetime import date

import pytest

from persistence.database import Database
from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from prometheus_nt.jobs.data import SourceSpec, ingest_named
from prometheus_nt.jobs.reference import ReferenceSpec, ingest_reference_named
from prometheus_nt.settings import Settings

pytestmark = pytest.mark.integration

KEY = "s3cr3t k&y"
SPEC = ReferenceSpec("eodhd", "vendor", indexes=("GSPC",), news_from=date(2024, 1, 1))


@pytest.fixture
def settings(database, vendor, tmp_path):
    url = database._url.render_as_string(hide_password=False)
    return Settings(tmp_path / "home", url, url, eodhd_key=KEY, eodhd_url=vendor.url)


@pytest.fixture
def filled(settings):
    ingest_named(settings, SourceSpec("eodhd", dataset="vendor", index="GSPC"))
    return ingest_reference_named(settings, SPEC)


def test_accounts_news_members_and_holidays_are_stored_once(settings, filled):
    again = ingest_reference_named(settings, SPEC)

    assert filled.issues == ()
    assert filled.written["statements"] == 6
    assert filled.written["news"] == 2, "the article, and whom it is about"
    assert filled.written["membership"] >= 3
    assert filled.written["holidays"] == 1
    assert set(again.written.values()) == {0}


def test_a_quarter_is_known_from_the_day_it_was_filed(settings, filled, tmp_path):
    database = Database.open(settings.historical_url)

    panel = load_panel(HistoricalStore(database), "vendor", tmp_path / "cache", "GSPC")

    before = panel.until(date(2024, 2, 8)).facts
    after = panel.until(date(2024, 2, 12)).facts
    revenue = after.items.index("revenue_quarterly")
    assert not (before.item == revenue).any()
    assert after.value[after.item == revenue].tolist() == [1000.0] * 3
    database.close()


def test_who_left_the_index_is_no_member_from_then_on(settings, filled, tmp_path):
    database = Database.open(settings.historical_url)

    panel = load_panel(HistoricalStore(database), "vendor", tmp_path / "cache", "GSPC")

    column = panel.instruments.index("DEAD.US")
    inside = panel.membership[:, column]
    assert inside[0]
    assert not inside[-1]
    database.close()
