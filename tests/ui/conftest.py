"""Chromium on the desk of a real server; an error in its console or a foreign host fails a test.

The browser is the one on PATH. Without it the tests are skipped with the reason, which
PROMETHEUS_REQUIRE_BROWSER=1 turns into a failure.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from persistence.database import Database
from prometheus_nt.jobs.stores import upgrade_schemas
from prometheus_nt.settings import Settings

WHERE = "chromium"
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return Debian's Chromium without a window.

    Its event loop runs as long as it does: other tests of the process that need one come after it.
    """
    path = shutil.which(WHERE)
    if path is None:
        why = f"{WHERE} is not on PATH; `apt-get install chromium` brings it"
        if os.environ.get("PROMETHEUS_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def walk(page: Page) -> dict[str, list[str]]:
    """Open every panel; return those that failed, with what they say."""
    failed = {}
    for panel in page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))"):
        page.click(f"nav a[href='{panel}']")
        page.wait_for_selector(f"nav a[href='{panel}'][aria-current=page]")
        page.wait_for_selector("main .head")
        page.wait_for_selector("main > .waiting", state="detached")
        if found := page.query_selector_all("main .failed"):
            failed[panel] = [one.inner_text() for one in found]
        beyond = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        if beyond > 0:
            failed[panel] = [*failed.get(panel, ()), f"{beyond} px wider than the page"]
    return failed


class Visitor:
    """Somebody who looks at desks. wrong : what went wrong; hosts : who was asked for anything."""

    def __init__(self, context: BrowserContext) -> None:
        self._context = context
        self.wrong: list[str] = []
        self.hosts: set[str] = set()
        context.on("page", self._listen)

    @contextmanager
    def at(self, address: str) -> Iterator[Page]:
        """Yield the desk of the server at an address; leave before the server does."""
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{address}/#/overview")
        page.wait_for_selector("nav a")
        yield page
        page.close()

    def forgive(self, words: str) -> None:
        """Forget the errors that hold some words; there must be one."""
        kept = [one for one in self.wrong if words not in one]
        assert len(kept) < len(self.wrong), self.wrong
        self.wrong = kept

    def _listen(self, page: Page) -> None:
        page.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda asked: self.hosts.add(urlsplit(asked.url).netloc))


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Visitor]:
    """Return a visitor on whose desk nothing went wrong, and who asked one host alone."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        visitor = Visitor(context)
        yield visitor
    assert visitor.wrong == []
    assert len(visitor.hosts - {""}) <= 1, visitor.hosts


@pytest.fixture
def settings(tmp_path) -> Settings:
    """Return the settings of a home that holds nothing."""
    home = tmp_path / "home"
    home.mkdir()
    settings = Settings.from_environment({"PROMETHEUS_HOME": str(home)})
    upgrade_schemas(settings)
    return settings


@pytest.fixture
def on_postgres(tmp_path, request: pytest.FixtureRequest) -> Settings:
    """Return settings of a home whose both stores are one database of a PostgreSQL server."""
    url = request.getfixturevalue("postgres_url")("migrated")
    return Settings(home=tmp_path / "home", historical_url=url, runtime_url=url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Return the runtime database of the home."""
    database = Database.open(settings.runtime_url)
    yield database
    database.close()
