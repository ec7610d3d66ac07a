"""Every panel in every state of a store, on both engines, in both themes, and on a phone."""

import re
from pathlib import Path

import pytest

from persistence.database import Database
from tests.ui import states
from tests.ui.conftest import walk
from tests.ui.test_desk import address, served

pytestmark = pytest.mark.integration

CSS = Path(__file__).parents[2] / "prometheus_nt/monitoring/static/css/desk.css"
PHONE = {"width": 390, "height": 844}
READABLE = 4.5
"""Contrast of words with what is behind them: level AA of the WCAG."""

SEEN = {
    states.recorded: {"live_desk": "US_CORE_FAST", "overview": "ONE"},
    states.running: {
        "live_desk": "RUNNING",
        "jobs": "half way",
        "backtests": "RUNNING",
        "live_system": "SIGNALS_DONE",
        "meta_experiments": "RUNNING",
        "ant_hill": "SIGNALS_DONE",
    },
    states.failed: {
        "live_desk": "1 differ",
        "jobs": "FAILED",
        "backtests": "FAILED",
        "live_system": "FAILED",
        "overview": "a run failed",
    },
    states.full: {"backtests": "1 to 100", "jobs": "1 to ", "meta_experiments": "1,000"},
}
"""State -> panel -> words that it then shows."""


def filled(settings, fill):
    database = Database.open(settings.runtime_url)
    fill(database)
    database.close()
    return served(settings)


def shown(page, seen):
    """Wait until each panel shows its words."""
    for panel, words in seen.items():
        page.click(f"nav a[href='#/{panel}']")
        page.locator("main :is(td, span):visible").filter(has_text=words).first.wait_for()


@pytest.mark.parametrize("fill", SEEN, ids=lambda fill: fill.__name__)
def test_every_panel_can_be_read_in_every_state(visitor, settings, fill):
    with filled(settings, fill) as client, visitor.at(address(client)) as page:
        failed = walk(page)

        assert failed == {}
        shown(page, SEEN[fill])


def test_every_panel_of_a_full_store_on_postgresql(visitor, on_postgres):
    with filled(on_postgres, states.full) as client, visitor.at(address(client)) as page:
        failed = walk(page)

        assert failed == {}
        shown(page, SEEN[states.full])


def test_every_panel_fits_a_phone_in_daylight(visitor, settings):
    with filled(settings, states.recorded) as client, visitor.at(address(client)) as page:
        page.set_viewport_size(PHONE)
        page.click("#theme")
        failed = walk(page)

        assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
        assert failed == {}


def test_a_book_is_read_beside_what_the_broker_holds(visitor, settings):
    with filled(settings, states.failed) as client, visitor.at(address(client)) as page:
        page.click("nav a[href='#/live_desk']")
        page.click("main tbody tr:has-text('differ')")

        page.wait_for_selector("text=IB-DU1 was compared")
        line = page.locator("section[aria-label='Book, target and broker'] tr:has-text('A.US')")
        assert [text.strip() for text in line.locator("td").all_inner_texts()][6:8] == ["2", "-1"]


def test_the_desk_is_worked_with_keys_alone(visitor, settings):
    with served(settings) as client, visitor.at(address(client)) as page:
        page.keyboard.press("2")
        page.wait_for_selector("nav a[href='#/regime_stab'][aria-current=page]")
        page.keyboard.press("t")
        theme = page.evaluate("() => document.documentElement.dataset.theme")
        page.keyboard.press("?")
        page.wait_for_selector("dialog >> text=Keys")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        page.reload()
        page.wait_for_selector("nav a")
        page.keyboard.press("Tab")

        assert theme == "light"
        assert page.evaluate("() => document.activeElement.className") == "skip"


def test_words_stand_out_from_what_is_behind_them_in_both_themes():
    dark, light = (
        colours(block) for block in re.findall(r":root[^{]*\{([^}]*)\}", CSS.read_text())
    )
    faint = [
        (theme["page"], name, ground)
        for theme in (dark, dark | light)
        for name in ("ink", "muted", "accent", "good", "warn", "bad", "info")
        for ground in ("page", "card", "raised")
        if contrast(theme[name], theme[ground]) < READABLE
    ]

    assert faint == []
    for theme in (dark, light):
        assert contrast(theme["accent"], theme["accent-ink"]) >= READABLE


def colours(block):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def contrast(one, other):
    """Return the contrast of two colours as the WCAG defines it, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
