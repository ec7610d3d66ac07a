import re
from datetime import UTC, datetime, time

import pytest

from adapters.ib.config import (
    LIVE_KEY_VARIABLE,
    Backoff,
    LinkParams,
    QuietWindow,
    link_params,
    masked,
    require_live_key,
    require_managed,
)
from prometheus_nt.domain.errors import ConfigError

PAPER, LIVE = "DU1234567", "U7654321"


def test_the_usual_paper_and_live_settings_agree():
    assert LinkParams(account=PAPER).port == 4002
    assert LinkParams(account="DF11", port=7497).mode == "paper"
    assert LinkParams(mode="live", account=LIVE, port=4001).account == LIVE
    assert LinkParams(mode="live", account="F22", port=7496).mode == "live"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"account": PAPER, "port": 4001}, "4001 is the port of the other kind of account"),
        ({"account": PAPER, "port": 7496}, "expected 4002 or 7497"),
        ({"account": PAPER, "port": 5000}, "add the port to ib.also_ports"),
        ({"account": LIVE, "port": 4002}, "is no paper account; expected DU or DF"),
        ({"account": "DU12x", "port": 4002}, "is no paper account"),
        ({"account": PAPER, "mode": "live", "port": 4001}, "is no live account; expected U or F"),
        ({"account": LIVE, "mode": "live", "port": 4002}, "port of the other kind of account"),
        ({"account": PAPER, "host": "10.0.0.7"}, "10.0.0.7 is another machine"),
        ({"account": PAPER, "host": "gateway.example"}, "add it to ib.also_hosts"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        LinkParams(**settings)


def test_the_port_of_the_other_kind_is_refused_even_if_it_is_added():
    with pytest.raises(ConfigError, match="other kind"):
        LinkParams(account=PAPER, port=4001, also_ports=(4001,))


def test_another_port_or_machine_can_be_allowed():
    params = LinkParams(
        account=PAPER, host="10.0.0.7", also_hosts=("10.0.0.7",), port=5000, also_ports=(5000,)
    )

    assert (params.host, params.port) == ("10.0.0.7", 5000)
    assert LinkParams(account=PAPER, host="::1").host == "::1"


@pytest.mark.parametrize(
    "environment", [{}, {LIVE_KEY_VARIABLE: "yes"}, {LIVE_KEY_VARIABLE: PAPER}]
)
def test_live_needs_the_account_again_in_the_environment(environment):
    live = LinkParams(mode="live", account=LIVE, port=4001)

    with pytest.raises(ConfigError, match=LIVE_KEY_VARIABLE) as refused:
        require_live_key(live, environment)

    assert LIVE not in str(refused.value)


def test_the_second_key_opens_live_and_paper_needs_none():
    require_live_key(LinkParams(mode="live", account=LIVE, port=4001), {LIVE_KEY_VARIABLE: LIVE})
    require_live_key(LinkParams(account=PAPER), {})


def test_the_gateway_must_manage_the_account():
    require_managed(LinkParams(account=PAPER), ("DU1", PAPER))
    with pytest.raises(ConfigError, match=r"it manages DU\.\.\.999"):
        require_managed(LinkParams(account=PAPER), ("DU9999999",))
    with pytest.raises(ConfigError, match="it manages none"):
        require_managed(LinkParams(account=PAPER), ())


def test_an_account_is_shown_by_its_ends():
    assert masked(PAPER) == "DU...567"
    assert masked("DU1") == "DU1"


def test_waits_double_up_to_the_most_and_jitter_only_shortens_them():
    backoff = Backoff(first_seconds=0.5, most_seconds=30.0, jitter=0.2)

    assert [backoff.seconds(n, 0.0) for n in (1, 2, 3, 7, 8, 5000)] == [0.5, 1, 2, 30, 30, 30]
    assert backoff.seconds(1, 0.5) == pytest.approx(0.45)


def test_a_quiet_window_runs_over_midnight_on_the_gateways_clock():
    window = QuietWindow(start=time(23, 40), minutes=40)
    params = LinkParams(account=PAPER, quiet=(window,))

    # New York is five hours behind UTC in January and four in July.
    assert params.is_quiet(datetime(2024, 1, 3, 4, 40, tzinfo=UTC))
    assert params.is_quiet(datetime(2024, 1, 3, 5, 19, tzinfo=UTC))
    assert not params.is_quiet(datetime(2024, 1, 3, 5, 20, tzinfo=UTC))
    assert not params.is_quiet(datetime(2024, 1, 3, 4, 39, tzinfo=UTC))
    assert params.is_quiet(datetime(2024, 7, 3, 3, 40, tzinfo=UTC))


def test_a_time_zone_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no time zone"):
        LinkParams(account=PAPER, time_zone="US/Nowhere")


def test_an_account_that_is_given_needs_no_environment():
    assert link_params({}, account="DU1234567").account == "DU1234567"
