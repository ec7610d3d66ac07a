"""What a node at the broker writes and says holds none of what its environment hides."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from persistence.tables.runtime import RUNTIME
from prometheus_nt.domain.errors import StoreError, TradingHalted
from prometheus_nt.jobs.observability import start_logging, stop_logging
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings
from tests.integration.ib.test_safety_at_the_broker import DECIDED, END, opened

pytestmark = pytest.mark.integration

MARK = "s3cr3t"
PASSWORD = "s3cr3t-password"
HIDDEN = {
    "EODHD_API_KEY": "s3cr3t-vendor-key",
    "PROMETHEUS_API_TOKENS": "ann:trade:s3cr3t-token-of-ann",
    "PROMETHEUS_ALERT_MAIL": "smtp://desk:s3cr3t-mail@127.0.0.1:9/?from=a@b.example&to=c@d.example",
    "PROMETHEUS_ALERT_WEBHOOK": "http://127.0.0.1:9/s3cr3t-hook",
    "PROMETHEUS_LIVE_KEY": "s3cr3t-live-key",
}


@pytest.fixture
def settings(sample_history, postgres_url, tmp_path):
    # The server of the tests asks for no password, so any will do.
    url = make_url(postgres_url("migrated")).set(password=PASSWORD)
    where = {
        "PROMETHEUS_HOME": str(tmp_path / "home"),
        "PROMETHEUS_HISTORICAL_URL": f"sqlite:///{sample_history}",
        "PROMETHEUS_RUNTIME_URL": url.render_as_string(hide_password=False),
    }
    return Settings.from_environment(HIDDEN | where)


def traded_and_halted(stores):
    """Trade, meet shares that nobody bought, be refused; return what was said of it."""
    with opened(stores) as node:
        node.until(DECIDED)
        node.pass_stages(2)
        node.until(DECIDED)
        node.transfer(next(iter(node.held())).removesuffix(".US"), 7)
        found = node.reconciled()
        with pytest.raises(TradingHalted) as refused:
            node.until(END)
    return [*map(str, found.breaks), str(refused.value), repr(refused.value)]


def test_no_secret_is_in_a_log_a_row_a_file_or_an_error(settings, caplog, capsys):
    caplog.set_level("DEBUG")
    path = start_logging(settings, "json")
    try:
        with open_stores(settings) as stores:
            said = [repr(stores), repr(settings), *traded_and_halted(stores)]
            with stores.runtime.database.reader() as connection:
                rows = {
                    name: str(connection.execute(sa.select(table)).all())
                    for name, table in RUNTIME.tables.items()
                }
        nowhere = make_url(settings.runtime_url).set(query={"host": "/nowhere"})
        gone = replace(settings, runtime_url=nowhere.render_as_string(hide_password=False))
        with (
            open_stores(gone) as stores,
            pytest.raises(StoreError) as unreachable,
            stores.runtime.database.reader(),
        ):
            pass
    finally:
        stop_logging()

    files = [each.read_bytes() for each in settings.home.rglob("*") if each.is_file()]
    texts = [caplog.text, *capsys.readouterr(), str(unreachable.value), *said, *rows.values()]
    assert len(rows["fills"]) > 1_000 and len(rows["alerts"]) > 100
    assert path.stat().st_size > 0 and len(files) > 5
    assert not [text for text in texts if MARK in text]
    assert not [content for content in files if MARK.encode() in content]
