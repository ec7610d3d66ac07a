"""What the client makes of a vendor's failures, over a real connection."""

import logging
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote, quote_plus

import pytest

from adapters.eodhd import eodhd
from adapters.http import (
    AnswerTooLarge,
    BudgetSpent,
    Clock,
    KeyRefused,
    Limits,
    NotServed,
    Secret,
    Unanswered,
    VendorClient,
    VendorDown,
)
from prometheus_nt.domain.errors import ConfigError, PrometheusError

pytestmark = pytest.mark.integration

PATH = "eod/AAA.US"
KEY = "s3cr3t k&y"
BUDGET = "You exceeded your daily API requests limit. Please contact support"


def _status(code, body="", **headers):
    return lambda handler: handler.reply(body, code, **headers)


def _cut_off(handler):
    handler.reply('[{"date": "2024-01', Content_Length="5000")


def _hangs_up(handler):
    handler.close_connection = True


def _silent(handler):
    handler.server.released.wait()
    handler.close_connection = True


def _says(body):
    return lambda handler: handler.reply(body, Content_Type="text/html")


PASSING = {
    "server error": (_status(500, "oops"), "HTTP 500: 'oops'"),
    "bad gateway": (_status(502), "HTTP 502: ''"),
    "cut off": (_cut_off, "RemoteProtocolError"),
    "hung up": (_hangs_up, "RemoteProtocolError"),
    "silent": (_silent, "no answer within 1 s"),
    "half a document": (_says('[{"date": "2024-01-02", "open"'), "the answer is not JSON"),
    "an error page": (_says("<!DOCTYPE html><p>Sorry"), "not JSON: '<!DOCTYPE html><p>Sorry'"),
    "no number": (_says('[{"open": NaN}]'), "the answer is not JSON"),
    "deep nonsense": (_says("[" * 100_000), "the answer is not JSON"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_passes_is_asked_again_and_answered(vendor, client, fault):
    vendor.fail(PATH, PASSING[fault][0], PASSING[fault][0])

    answer = client.get_json(PATH)

    assert answer[0]["date"] == "2024-01-02"
    assert len(vendor.asked(PATH)) == 3


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_does_not_pass_is_one_error_with_endpoint_and_remedy(vendor, client, fault):
    fails, words = PASSING[fault]
    vendor.fail(PATH, *[fails] * 9)

    with pytest.raises(Unanswered) as raised:
        client.get_json(PATH, {"fmt": "json"})

    assert "EODHD /eod/AAA.US: " in str(raised.value)
    assert words in str(raised.value)
    assert "(asked 3 times); try again later" in str(raised.value)
    assert len(vendor.asked(PATH)) == 3


def test_waits_grow_and_differ_from_each_other(vendor, client, clock):
    vendor.fail(PATH, _status(503), _status(503))

    client.get_json(PATH)

    first, second = clock.naps
    assert 0.5 <= first <= 1.0
    assert 1.0 <= second <= 1.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (format_datetime(datetime(2024, 6, 3, tzinfo=UTC) + timedelta(seconds=40)), 40.0),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("86400", 300.0),
    ],
)
def test_a_vendor_that_asks_to_wait_is_obeyed_within_reason(vendor, client, clock, header, seconds):
    vendor.fail(PATH, _status(429, "slow down", Retry_After=header))

    assert client.get_json(PATH)

    assert sum(clock.naps) == pytest.approx(seconds, abs=0.01)


def test_a_vendor_that_asks_one_thread_to_wait_holds_all_of_them_back(vendor, clock):
    vendor.fail(PATH, _status(429, "slow down", Retry_After="7"))
    limits = Limits(attempts=1, requests_per_minute=60_000)
    with VendorClient(eodhd(KEY, vendor.url), limits, clock.clock) as client:
        with pytest.raises(Unanswered, match="HTTP 429: 'slow down'"):
            client.get_json(PATH)

        client.get_json("eod/DEAD.US")

    assert clock.naps == pytest.approx([7.0])


@pytest.mark.parametrize("header", ["soon", "-3", "nan", "inf"])
def test_a_meaningless_retry_after_falls_back_to_our_own_wait(vendor, client, clock, header):
    vendor.fail(PATH, _status(429, Retry_After=header))

    assert client.get_json(PATH)

    assert 0.5 <= clock.naps[0] <= 1.0


@pytest.mark.parametrize(
    "refuse", [_status(402, BUDGET), _status(403, BUDGET), _status(429, BUDGET), _says(BUDGET)]
)
def test_a_spent_budget_stops_at_once_and_says_when_to_go_on(vendor, client, refuse):
    vendor.fail(PATH, refuse)

    with pytest.raises(BudgetSpent, match=r"daily budget of calls is spent.*after it is renewed"):
        client.get_json(PATH)

    assert len(vendor.requests) == 1


def test_a_refused_key_names_the_variable_and_not_the_key(vendor, clock):
    with (
        VendorClient(eodhd("wrong-k3y", vendor.url), Limits(), clock.clock) as client,
        pytest.raises(KeyRefused, match="check EODHD_API_KEY, and whether your plan") as raised,
    ):
        client.get_json(PATH)

    # The vendor echoes the key in its refusal.
    assert "contact us about ***" in str(raised.value)
    assert len(vendor.requests) == 1


def test_what_does_not_exist_is_an_error_about_that_alone(vendor, client):
    with pytest.raises(NotServed, match=r"EODHD /eod/NOPE.US: HTTP 404.*check the spelling"):
        client.get_json("eod/NOPE.US")

    assert client.get_json(PATH)


def test_a_redirect_is_not_followed(vendor, client):
    vendor.fail(PATH, _status(302, Location="http://elsewhere.example/eod"))

    with pytest.raises(NotServed, match="the key is not sent there; correct PROMETHEUS_EODHD_URL"):
        client.get_json(PATH)

    assert len(vendor.requests) == 1


def test_an_endless_answer_is_cut(vendor, clock):
    limits = Limits(most_bytes=1000)

    with (
        VendorClient(eodhd(KEY, vendor.url), limits, clock.clock) as client,
        pytest.raises(AnswerTooLarge, match="longer than 1,000 bytes"),
    ):
        client.get_json(PATH)


def test_a_dripping_answer_runs_out_of_time(vendor):
    ticks = iter(range(0, 10_000, 100))
    clock = Clock(lambda: float(next(ticks)), lambda seconds: None, lambda: datetime.now(UTC))

    with (
        VendorClient(eodhd(KEY, vendor.url), Limits(total_seconds=50), clock) as client,
        pytest.raises(Unanswered, match="the answer took longer than 50 s"),
    ):
        client.get_json(PATH)


def test_a_vendor_that_answers_nothing_any_more_stops_the_job(vendor, client):
    vendor.fail("*", *[_status(503)] * 99)

    for name in ("AAA", "B&N"):
        with pytest.raises(Unanswered):
            client.get_json(f"eod/{name}.US")
    with pytest.raises(VendorDown, match=r"3 questions in a row.*when the vendor is back"):
        client.get_json("eod/DEAD.US")


def test_an_answer_between_failures_means_that_the_vendor_is_up(vendor, client):
    vendor.fail("bad", *[_status(503)] * 99)

    for _ in range(4):
        with pytest.raises(Unanswered):
            client.get_json("bad")
        client.get_json(PATH)


def _loud(action):
    try:
        action()
    except PrometheusError as error:
        chain = [error]
        while chain[-1] is not None:
            chain.append(chain[-1].__cause__ or chain[-1].__context__)
        chain.pop()
        told = ["".join(traceback.format_exception(error))]
        for link in chain:
            told += [repr(link), str(link), repr(vars(link)), repr(link.args)]
            request = getattr(link, "_request", None)
            told += [] if request is None else [repr(request), str(request.url)]
        return "\n".join(told)
    return ""


@pytest.mark.parametrize(
    "fault",
    [
        *(fault for fault, _ in PASSING.values()),
        _status(302, Location=f"http://elsewhere.example/?api_token={quote(KEY)}"),
        _status(400, f"bad token {KEY} {quote(KEY)} {quote_plus(KEY)}"),
        _status(403, f"bad token {KEY}"),
        _status(402, f"bad token {KEY}"),
        _status(429, f"bad token {KEY}", Retry_After="1", X_Echo=quote(KEY)),
    ],
)
def test_the_key_is_in_no_error_no_chain_of_errors_and_no_log(vendor, client, caplog, fault):
    caplog.set_level(logging.DEBUG)
    vendor.fail(PATH, *[fault] * 9)

    told = _loud(lambda: client.get_json(PATH, {"fmt": "json"}))

    assert "EODHD /eod/AAA.US" in told
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "send_request_headers" in logged
    for text in (told, logged, repr(client), repr(client.vendor)):
        for spelling in (KEY, quote(KEY, safe=""), quote_plus(KEY), "s3cr3t"):
            assert spelling not in text


def test_no_connection_is_an_error_without_the_key(clock):
    limits = Limits(attempts=2)
    with VendorClient(eodhd(KEY, "http://127.0.0.1:9"), limits, clock.clock) as client:
        told = _loud(lambda: client.get_json(PATH))

    assert "ConnectError" in told
    assert "s3cr3t" not in told


@pytest.mark.parametrize("key", [None, "", "  "])
def test_a_missing_key_names_its_variable(key):
    with pytest.raises(ConfigError, match="no API key; set the environment variable EODHD_API_KEY"):
        VendorClient(eodhd(key))


@pytest.mark.parametrize("url", ["http://mirror.example", "ftp://127.0.0.1", "nonsense", "//"])
def test_the_key_does_not_travel_unencrypted(url):
    with pytest.raises(ConfigError, match="PROMETHEUS_EODHD_URL: expected an https:// address"):
        VendorClient(eodhd(KEY, url))


def test_a_path_keeps_its_spelling_and_other_parameters_their_values(vendor, client):
    client.get_json("eod/B%26N.US", {"from": "2024-03-01"})

    assert vendor.requests == [("eod/B&N.US", {"from": "2024-03-01"})]


def test_a_secret_shows_itself_to_nobody_who_does_not_ask():
    secret = Secret("s3cr3t")

    assert "s3cr3t" not in f"{secret} {secret!r}"
    assert secret.reveal() == "s3cr3t"
