from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ib_gateway.messages import encode
from adapters.ib_gateway.requests import REQUESTS, Unsupported, decode
from adapters.ib_gateway.requests import encode as encode_request
from adapters.ib_gateway.wire import (
    UNSET_DOUBLE,
    Frames,
    Layout,
    WireError,
    agreed_version,
    fields_of,
    frame,
    integer,
    number,
    payload_of,
    text_of,
)


def test_a_frame_is_its_length_and_its_payload():
    assert frame(b"9\x001\x007\x00") == b"\x00\x00\x00\x069\x001\x007\x00"


@given(payloads=st.lists(st.binary(max_size=40)), cuts=st.lists(st.integers(0, 200)))
def test_frames_are_found_however_the_stream_is_cut(payloads, cuts):
    stream = b"".join(map(frame, payloads))
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})

    frames = Frames()
    found = [
        payload for start, stop in pairwise(edges) for payload in frames.feed(stream[start:stop])
    ]

    assert found == payloads


def test_a_length_beyond_reason_is_an_error():
    with pytest.raises(WireError, match="2147483647 bytes"):
        list(Frames().feed(b"\x7f\xff\xff\xff"))


def test_a_payload_that_does_not_end_its_last_field_is_an_error():
    with pytest.raises(WireError, match="NUL"):
        fields_of(b"71\x002")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (7, "7"),
        (12.5, "12.5"),
        (Decimal("1E+2"), "100"),
        (None, ""),
        (float("nan"), ""),
        (UNSET_DOUBLE, "1.7976931348623157E308"),
    ],
)
def test_values_are_written_as_the_protocol_writes_them(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize(
    "text", ["", "1.7976931348623157E308", "1.7976931348623157e+308", "Infinity"]
)
def test_unset_numbers_are_none_however_they_are_written(text):
    assert number(text) is None


def test_unset_integers_have_the_value_the_reader_chooses():
    assert (integer(""), integer("2147483647", -1), integer("12")) == (0, -1, 12)
    with pytest.raises(WireError, match="expected an integer"):
        integer("x")


@pytest.mark.parametrize(
    ("name", "values", "version", "payload"),
    [
        ("nextValidId", {"orderId": 8}, 178, b"9\x001\x008\x00"),
        ("managedAccounts", {"accounts": "DU1,DU2"}, 178, b"15\x001\x00DU1,DU2\x00"),
        (
            "error",
            {"code": 2104, "errorText": "ok"},
            165,
            b"4\x002\x00-1\x002104\x00ok\x00",
        ),
        (
            "error",
            {"code": 201, "errorText": "\u00e9", "reqId": 7},
            166,
            b"4\x002\x007\x00201\x00\\xe9\x00\x00",
        ),
        (
            "orderStatus",
            {
                "orderId": 7,
                "status": "Filled",
                "filled": 100,
                "remaining": 0,
                "avgPrice": 12.5,
                "permId": 99,
                "lastPrice": 12.5,
                "clientId": 3,
            },
            178,
            b"3\x007\x00Filled\x00100\x000\x0012.5\x0099\x000\x0012.5\x003\x00\x000.0\x00",
        ),
        (
            "commissionReport",
            {"execId": "e.01", "commission": 1.0, "currency": "USD", "realized": UNSET_DOUBLE},
            178,
            b"59\x001\x00e.01\x001.0\x00USD\x001.7976931348623157E308\x00"
            b"1.7976931348623157E308\x00\x00",
        ),
        (
            "historicalDataUpdate",
            {
                "reqId": 4,
                "count": 3,
                "date": "20240102",
                "open": 1.0,
                "high": 4.0,
                "low": 0.5,
                "close": 2.0,
                "wap": 1.5,
                "volume": 900,
            },
            178,
            # Open, close, high, low: the one message in this order.
            b"90\x004\x003\x0020240102\x001.0\x002.0\x004.0\x000.5\x001.5\x00900\x00",
        ),
        ("completedOrdersEnd", {}, 178, b"102\x00"),
    ],
)
def test_messages_are_the_bytes_of_the_protocol(name, values, version, payload):
    assert encode(name, values, version) == payload


def test_a_field_without_a_value_is_named():
    with pytest.raises(WireError, match="message 9: no value for field orderId"):
        encode("nextValidId", {}, 178)


def test_layouts_read_what_they_write():
    layout = Layout(77, "'2' a >=160( b ) ?a( c ) items*( d <160( e ) )")
    values = {"a": "x", "b": "y", "c": "z", "items": [{"d": "1", "e": "2"}, {"d": "3", "e": "4"}]}

    for version, bare in ((159, {"b"}), (160, set())):
        payload = layout.encode(values, version)
        found = layout.decode(fields_of(payload)[1:], version)
        kept = ("d", "e") if version < 160 else ("d",)
        items = [{name: item[name] for name in kept} for item in values["items"]]
        expected = {k: v for k, v in values.items() if k not in bare} | {"items": items}
        assert found == expected


def test_a_message_too_long_or_too_short_is_an_error():
    layout = Layout(9, "'1' a b")

    with pytest.raises(WireError, match="1 fields too many"):
        layout.decode(["1", "x", "y", "z"], 178)
    with pytest.raises(WireError, match="ends before field b"):
        layout.decode(["1", "x"], 178)


@pytest.mark.parametrize("version", [157, 158, 160, 166, 169, 170, 176, 177, 183, 184, 187])
@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_every_request_is_read_as_it_is_written(name, version):
    values = {field: f"v{at}" for at, field in enumerate(REQUESTS[name].field_names())}
    for field in ("scaleIncrement", "deltaNeutral"):
        values |= {field: "0"} if field in values else {}

    payload = encode_request(name, values, version)
    found = decode(fields_of(payload), version)

    assert found is not None
    assert found.name == name
    assert {field: values[field] for field in found.values if field in values} == {
        field: value for field, value in found.values.items() if field in values
    }


@pytest.mark.parametrize(
    ("fields", "req_id", "code"),
    [
        (["9999"], -1, 505),
        (["10", "5", "12", "0"], 12, 10092),
        (["88", "12", "0"], 12, 162),
        (["18", "1", "1"], -1, 321),
        (["3", "12", "0"], 12, 320),
    ],
)
def test_what_is_not_simulated_is_refused_with_a_gateways_code(fields, req_id, code):
    with pytest.raises(Unsupported) as refusal:
        decode(fields, 187)

    assert (refusal.value.req_id, refusal.value.code) == (req_id, code)


@pytest.mark.parametrize(
    ("offer", "cap", "version"),
    [
        ("v157..178", 187, 178),
        ("v100..187", 187, 187),
        ("v100..225", 187, 187),
        ("v100..187", 178, 178),
        ("v100..187 +PACEAPI", 187, 187),
        ("v188..225", 187, None),
        ("v100..150", 187, None),
    ],
)
def test_the_version_is_the_newest_that_both_sides_speak(offer, cap, version):
    assert agreed_version(offer, cap, 157) == version


def test_an_offer_that_cannot_be_read_is_an_error():
    with pytest.raises(WireError, match="handshake"):
        agreed_version("hello", 187, 157)


def test_payloads_are_fields_that_each_end():
    assert payload_of(["62", "1"]) == b"62\x001\x00"
