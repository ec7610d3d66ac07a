import pytest

from prometheus_nt.reporting import formats


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (formats.percent, 0.12345, "12.35%"),
        (formats.percent, -0.12345, "\u221212.35%"),
        (formats.percent, 2.8268, "282.7%"),
        (formats.percent, 123.456, "12,346%"),
        (formats.percent, -0.00001, "0.00%"),
        (formats.brief_percent, 0.0449, "4.5%"),
        (formats.ratio, -1.005, "\u22121.00"),
        (formats.usd, 1234567.8, "$1,234,568"),
        (formats.usd, -12.345, "\u2212$12.35"),
        (formats.usd, -0.001, "$0.00"),
        (formats.price, 12.345, "$12.35"),
        (formats.price, 0.12345, "$0.1235"),
        (formats.whole, 1377, "1,377"),
        (formats.bps, -0.00123, "\u221212.3"),
    ],
)
def test_numbers_are_written_with_their_unit(write, value, text):
    assert write(value) == text


@pytest.mark.parametrize(
    "write",
    [
        formats.percent,
        formats.brief_percent,
        formats.ratio,
        formats.usd,
        formats.price,
        formats.whole,
        formats.bps,
    ],
)
def test_what_is_unknown_is_said_to_be_unknown(write):
    assert write(None) == write(float("nan")) == write(float("inf")) == "n/a"
