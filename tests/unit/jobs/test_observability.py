"""Lines of JSON: one event a line, the run it is about, never a secret."""

import json
import logging

import pytest

from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.jobs.observability import LOGGED, about_run, start_logging, stop_logging
from prometheus_nt.settings import Settings

ENVIRONMENT = {
    "PROMETHEUS_RUNTIME_URL": "postgresql://someone:pass%40word@host/db",
    "EODHD_API_KEY": "the-key",
}
log = logging.getLogger("prometheus_nt.jobs.test")


@pytest.fixture
def settings(tmp_path):
    yield Settings.from_environment({"PROMETHEUS_HOME": str(tmp_path), **ENVIRONMENT})
    stop_logging()
    for name in LOGGED:
        logging.getLogger(name).setLevel(logging.NOTSET)


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_event_is_one_line_that_names_its_run(settings):
    path = start_logging(settings, "json")

    with about_run("R-1"):
        log.info("run=%s fills=%s completed", "R-1", 40)
    log.warning("two\nlines")

    first, second = _lines(path)
    assert path.parent == settings.home / "logs"
    assert first["message"] == "run=R-1 fills=40 completed"
    assert (first["level"], first["run_id"]) == ("INFO", "R-1")
    assert first["logger"] == "prometheus_nt.jobs.test"
    assert "run_id" not in second and second["message"] == "two\nlines"


def test_no_password_or_key_is_written_even_within_an_error(settings):
    path = start_logging(settings, "json")

    try:
        int("pass@word")
    except ValueError:
        log.exception("key=%s refused", "the-key")

    text = path.read_text(encoding="utf-8")
    assert "the-key" not in text and "pass@word" not in text
    (line,) = _lines(path)
    assert line["message"] == "key=*** refused"
    assert "invalid literal for int() with base 10: '***'" in line["error"]


def test_starting_twice_writes_each_event_once(settings):
    start_logging(settings, "json")
    path = start_logging(settings, "json")

    log.info("once")

    assert len(_lines(path)) == 1


def test_an_unknown_form_is_refused(settings):
    with pytest.raises(ConfigError, match="expected json, found 'xml'"):
        start_logging(settings, "xml")
