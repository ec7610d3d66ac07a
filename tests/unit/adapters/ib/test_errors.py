import pytest

from adapters.ib.errors import (
    BrokerRefusal,
    ErrorKind,
    LinkDown,
    NoAnswer,
    of_order,
    of_request,
    of_system,
)


@pytest.mark.parametrize("code", [399, 404, 2109, 2161, 10349, 10167])
def test_a_notice_about_a_live_order_is_information(code):
    assert of_order(code) is ErrorKind.INFORMATION


@pytest.mark.parametrize(
    "code",
    [
        *(103, 109, 110, 111, 135, 136, 200, 201, 203, 321, 325, 383, 388, 434, 435, 437, 460),
        *(10002, 10020, 10058, 10243, 10289, 10293),
    ],
)
def test_a_refusal_of_an_order_rejects_it(code):
    assert of_order(code) is ErrorKind.REJECT


def test_an_unknown_code_of_an_order_rejects_and_elsewhere_it_does_not_alarm():
    assert of_order(54321) is ErrorKind.REJECT
    assert of_request(54321) is ErrorKind.DATA
    assert of_system(54321) is ErrorKind.INFORMATION


def test_cancels_and_modifications_have_their_own_kinds():
    assert of_order(202) is ErrorKind.CANCEL
    assert {of_order(code) for code in (10147, 10148, 161)} == {ErrorKind.CANCEL_REJECT}
    assert {of_order(code) for code in (104, 105, 329)} == {ErrorKind.MODIFY_REJECT}


def test_one_code_means_two_things_for_an_order_and_for_a_question():
    assert (of_order(200), of_request(200)) == (ErrorKind.REJECT, ErrorKind.NO_DATA)
    assert (of_order(321), of_request(321)) == (ErrorKind.REJECT, ErrorKind.DATA)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1100, ErrorKind.LINK_LOST),
        (2110, ErrorKind.LINK_LOST),
        (1101, ErrorKind.RESTORED_DATA_LOST),
        (1102, ErrorKind.RESTORED),
        (100, ErrorKind.PACING),
        (326, ErrorKind.CLIENT_ID),
        (2103, ErrorKind.FARM_BAD),
        (2104, ErrorKind.FARM_OK),
        (10197, ErrorKind.SESSION),
        (2107, ErrorKind.INFORMATION),
    ],
)
def test_what_the_gateway_says_of_itself(code, kind):
    assert of_system(code) is kind


@pytest.mark.parametrize("code", [162, 165, 321, 354, 366, 10090, 10089, 10168])
def test_data_errors_fail_their_request(code):
    assert of_request(code) is ErrorKind.DATA


def test_errors_say_what_was_asked_and_what_to_do():
    assert "wait until it is up" in str(LinkDown("order 7", "CUT", "1100 lost"))
    assert str(BrokerRefusal("history AAPL", 162, "no hay datos")).startswith("ib: history AAPL")
    assert BrokerRefusal("contract X", 200, "").kind is ErrorKind.NO_DATA
    assert "no answer within 2 seconds" in str(NoAnswer("positions", 2.0))
