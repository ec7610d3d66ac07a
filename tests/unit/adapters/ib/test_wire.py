from datetime import UTC, datetime

import pytest

from adapters.ib.wire import moment_of
from prometheus_nt.domain.errors import SourceError

OPENED = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("20240102 09:30:00 America/New_York", "UTC"),
        ("20240102 09:30:00 US/Eastern", "Asia/Tokyo"),
        ("20240102-14:30:00", "America/New_York"),
        ("20240102 09:30:00", "America/New_York"),
        ("20240102  09:30:00", "America/New_York"),
        ("20240102 23:30:00", "Asia/Tokyo"),
    ],
)
def test_every_form_of_a_time_is_the_same_moment(text, home):
    assert moment_of(text, home) == OPENED


@pytest.mark.parametrize("text", ["", "yesterday", "20240102 09:30:00 Nowhere/Town", "20240102"])
def test_a_time_in_no_known_form_is_an_error_and_no_guess(text):
    with pytest.raises(SourceError, match="none of the three forms"):
        moment_of(text, "UTC")
