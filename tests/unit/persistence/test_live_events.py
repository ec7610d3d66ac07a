"""What the record is checked by stays the same text, whoever makes it faster."""

from datetime import UTC, date, datetime
from hashlib import blake2b

import pytest

from persistence.blocks import Block, JsonText
from persistence.events import canonical, texts
from persistence.live_mirror import digest

AT = datetime(2024, 3, 1, 14, 30, 0, 25, tzinfo=UTC)
COLUMNS = {
    "side": ["BUY", 'S"E%sLLü\n'],
    "at": [AT, AT],
    "quantity": [7, None],
    "price": [-0.0, 1e-17],
    "session": [date(2024, 3, 1), None],
    "is_open": [True, False],
    "weights": [{"b": 1, "a": date(2024, 3, 1)}, {}],
}


def test_payloads_of_columns_have_the_text_that_each_has_alone():
    rows = zip(*COLUMNS.values(), strict=True)

    alone = [canonical(dict(zip(COLUMNS, row, strict=True))) for row in rows]

    assert texts(COLUMNS) == alone
    assert [canonical(text) for text in texts(COLUMNS)] == alone


def test_a_payload_with_a_number_that_is_none_is_refused_in_columns_too():
    with pytest.raises(ValueError, match="Out of range float values"):
        texts({"price": [1.0, float("nan")]})


@pytest.mark.parametrize("form", [list, Block])
def test_a_digest_is_that_of_the_rows_as_python_writes_them(form):
    rows = [
        ("a", JsonText('{"x": 1}'), AT, date(2024, 3, 1), 1, 1.5, None, {"k": AT}),
        ("it's", JsonText("{}"), AT, date(2024, 3, 2), True, -0.0, "b", None),
    ]
    told = rows if form is list else Block([list(column) for column in zip(*rows, strict=True)])

    assert digest(told) == blake2b(repr(rows).encode(), digest_size=8).hexdigest()
