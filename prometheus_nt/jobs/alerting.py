"""Rules that watch the stores, and the channels that carry what they find to people.

1. A rule reads the stores and returns what is wrong now: subjects with a message.
2. What is wrong is raised, once however often it is found; what has ended is resolved (`check`).
3. Alerts are carried to each channel until it has taken them (`deliver`): at least once.
"""

import json
import logging
import smtplib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from persistence import watch
from persistence.alerts import Alert, Severity, raise_alert, resolve
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.market import RegimeLabel
from prometheus_nt.domain.record import Params
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5.0
TRIES = 3
CARRIED_FOR = timedelta(days=1)
"""An alert that no channel took within a day is news no more."""

MAIL = "expected smtp://user:password@host:port/?from=a@b&to=c@d in PROMETHEUS_ALERT_MAIL"


class AlertParams(Params):
    """When a rule speaks.

    data_late_hours : a day has waited this long for its data
    run_stuck_hours : a run or a day says that it works and has not been heard of
    failed_days : failures of this many days are told
    max_drawdown : of a book on paper or live, a fraction of its peak
    max_breaker_share : of a universe, names whose stability class is BREAKER
    silent_job_seconds : a job's heartbeat is older; two of a worker's own bounds
    """

    data_late_hours: float = Field(6.0, gt=0)
    run_stuck_hours: float = Field(2.0, gt=0)
    failed_days: float = Field(7.0, gt=0)
    max_drawdown: float = Field(0.10, gt=0, lt=1)
    max_breaker_share: float = Field(0.20, gt=0, le=1)
    silent_job_seconds: float = Field(120.0, gt=0)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a subject now."""

    subject: str
    severity: Severity
    message: str
    details: Mapping[str, Any]


Rule = Callable[[Stores, AlertParams, datetime], Iterator[Trouble]]


def check(stores: Stores, params: AlertParams, now: datetime) -> list[Alert]:
    """Raise an alert for everything that is wrong now, and resolve what is not any more.

    Returns
    -------
    list of Alert
        What is wrong, in the order of the rules.
    """
    found = [
        Alert(name, each.severity, each.subject, each.message, each.details, now)
        for name, rule in RULES.items()
        for each in rule(stores, params, now)
    ]
    wrong = {(alert.rule, alert.subject) for alert in found}
    with stores.runtime.database.writer() as connection:
        for alert in found:
            raise_alert(connection, alert)
        for row in watch.unresolved_of(connection, tuple(RULES)):
            if (row["rule"], row["subject"]) not in wrong:
                resolve(connection, row["rule"], row["subject"])
    return found


def deliver(settings: Settings, stores: Stores, now: datetime) -> int:
    """Carry new alerts to every channel of the settings; return how many were taken.

    A channel that does not take them is tried again at the next call; the others are not held up.
    """
    taken = 0
    for channel, send in _channels(settings).items():
        for row in watch.undelivered(stores.runtime.database, channel, now - CARRIED_FOR):
            try:
                send(row)
            except (smtplib.SMTPException, OSError) as refused:
                # The address is a secret, and these errors like to quote it.
                log.warning("alerts: %s does not take them: %s", channel, type(refused).__name__)
                break
            watch.note_delivery(stores.runtime.database, row["alert_id"], channel, now)
            taken += 1
    return taken


def _late_data(stores: Stores, params: AlertParams, now: datetime) -> Iterator[Trouble]:
    limit = now - timedelta(hours=params.data_late_hours)
    for day in watch.open_days(stores.runtime.database):
        if day["phase"] == "WAITING_FOR_DATA" and day["created_at"] < limit:
            hours = (now - day["created_at"]) / timedelta(hours=1)
            yield Trouble(
                day["run_id"],
                "WARNING",
                f"{day['strategy_id']} has waited {hours:.0f} hours for the data of "
                f"{day['as_of_date']}; `prometheus data status` says what is missing",
                {"as_of_date": day["as_of_date"].isoformat()},
            )


def _stuck_runs(stores: Stores, params: AlertParams, now: datetime) -> Iterator[Trouble]:
    limit = now - timedelta(hours=params.run_stuck_hours)
    for day in watch.open_days(stores.runtime.database):
        if day["phase"] != "WAITING_FOR_DATA" and day["updated_at"] < limit:
            yield Trouble(
                day["run_id"],
                "WARNING",
                f"the day {day['as_of_date']} of {day['strategy_id']} stands in {day['phase']}; "
                "`prometheus day advance --all` goes on",
                {"phase": day["phase"]},
            )
    for run in watch.unfinished_runs(stores.runtime.database, limit):
        yield Trouble(
            run["run_id"],
            "WARNING",
            f"the backtest {run['run_id']} began {run['created_at']:%Y-%m-%d %H:%M} and never "
            "ended; run it again, it was probably killed",
            {},
        )


def _failed_runs(stores: Stores, params: AlertParams, now: datetime) -> Iterator[Trouble]:
    since = now - timedelta(days=params.failed_days)
    for day in watch.failed_days(stores.runtime.database, since):
        error = day["error"] or {}
        yield Trouble(
            day["run_id"],
            "CRITICAL",
            f"the day {day['as_of_date']} of {day['strategy_id']} failed in "
            f"{day['failed_phase']}: {error.get('message', 'no reason was recorded')}",
            {"phase": day["failed_phase"]},
        )


def _limit_breaches(stores: Stores, _params: AlertParams, _now: datetime) -> Iterator[Trouble]:
    for book in watch.traded_books(stores.runtime.database):
        limit = (book["config_json"].get("gate") or {}).get("max_gross")
        # The account's exposures are in USD.
        gross = book["gross_exposure"] / book["equity"] if book["equity"] > 0.0 else float("inf")
        if limit is not None and gross > limit:
            yield Trouble(
                book["run_id"],
                "CRITICAL",
                f"{book['sleeve_id']} has a gross exposure of {gross:.1%} of equity at "
                f"{book['as_of_date']}, above the gate's limit of {limit:.1%}",
                {"gross_exposure": gross, "limit": limit},
            )


def _drawdowns(stores: Stores, params: AlertParams, _now: datetime) -> Iterator[Trouble]:
    for book in watch.traded_books(stores.runtime.database):
        if -book["drawdown"] > params.max_drawdown:
            yield Trouble(
                book["run_id"],
                "CRITICAL",
                f"{book['sleeve_id']} is {-book['drawdown']:.1%} below its peak at "
                f"{book['as_of_date']}",
                {"drawdown": book["drawdown"], "limit": params.max_drawdown},
            )


def _regime_flips(stores: Stores, _params: AlertParams, _now: datetime) -> Iterator[Trouble]:
    newest = watch.newest_day(stores.runtime.database)
    if newest is None:
        return
    for change in watch.regime_changes(stores.runtime.database, newest):
        label = change["to_regime_label"]
        yield Trouble(
            f"{change['region']}:{change['as_of_date']}",
            "CRITICAL" if label == RegimeLabel.CRISIS.value else "INFO",
            f"the regime of {change['region']} went from {change['from_regime_label']} to {label} "
            f"at {change['as_of_date']}",
            {"from": change["from_regime_label"], "to": label},
        )


def _breakers(stores: Stores, params: AlertParams, _now: datetime) -> Iterator[Trouble]:
    newest = watch.newest_day(stores.runtime.database)
    if newest is None:
        return
    counts: dict[str, dict[str | None, int]] = {}
    for row in watch.class_counts(stores.runtime.database, newest):
        counts.setdefault(row["run_id"], {})[row["soft_target_class"]] = row["names"]
    for run_id, by_class in counts.items():
        broken, names = by_class.get("BREAKER", 0), sum(by_class.values())
        if broken > params.max_breaker_share * names:
            yield Trouble(
                run_id,
                "WARNING",
                f"{broken} of {names} names are of the class BREAKER at {newest}",
                {"breakers": broken, "names": names},
            )


def _dead_jobs(stores: Stores, params: AlertParams, now: datetime) -> Iterator[Trouble]:
    since = now - timedelta(seconds=params.silent_job_seconds)
    for job in watch.silent_jobs(stores.runtime.database, since):
        yield Trouble(
            job["job_id"],
            "CRITICAL",
            f"the {job['kind']} job {job['job_id']} is not heard of since {job['heartbeat_at']}; "
            "a running `prometheus worker` takes it over",
            {"worker": job["worker"]},
        )


def _failed_jobs(stores: Stores, params: AlertParams, now: datetime) -> Iterator[Trouble]:
    since = now - timedelta(days=params.failed_days)
    for job in watch.failed_jobs(stores.runtime.database, since):
        yield Trouble(
            job["job_id"],
            "WARNING",
            f"the {job['kind']} job {job['job_id']} failed: {job['message'] or 'no reason given'}",
            {},
        )


RULES: dict[str, Rule] = {
    "data_waiting": _late_data,
    "run_stuck": _stuck_runs,
    "run_failed": _failed_runs,
    "limit_breach": _limit_breaches,
    "drawdown": _drawdowns,
    "regime_flip": _regime_flips,
    "breaker_count": _breakers,
    "job_dead": _dead_jobs,
    "job_failed": _failed_jobs,
}
"""Rules by name; whoever reconciles, and the broker's link, raise alerts of their own."""

Send = Callable[[Mapping[str, Any]], None]


def _channels(settings: Settings) -> dict[str, Send]:
    channels: dict[str, Send] = {}
    if settings.alert_webhook:
        channels["webhook"] = _webhook(settings.alert_webhook)
    if settings.alert_mail:
        channels["mail"] = _mail(settings.alert_mail)
    return channels


def _webhook(address: str) -> Send:
    retrying = Retrying(
        retry=retry_if_exception_type(ConnectionError),
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=0.2, max=2.0),
        reraise=True,
    )

    def post(row: Mapping[str, Any]) -> None:
        # A server without a webhook need not hold the client.
        import httpx

        try:
            answer = httpx.post(address, json=_told(row), timeout=TIMEOUT_SECONDS)
            answer.raise_for_status()
        except httpx.HTTPError as refused:
            raise ConnectionError(type(refused).__name__) from refused

    return lambda row: retrying(post, row)


def _mail(address: str) -> Send:
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or {"from", "to"} - set(query):
        raise ConfigError(f"alerts by mail: {MAIL}")

    def send(row: Mapping[str, Any]) -> None:
        kind = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
        with kind(parts.hostname or "", parts.port or 0, timeout=TIMEOUT_SECONDS) as server:
            if parts.username:
                if parts.scheme == "smtp":
                    server.starttls()
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(_letter(row, query["from"][0], query["to"]))

    return send


def _letter(row: Mapping[str, Any], sender: str, to: list[str]) -> EmailMessage:
    letter = EmailMessage()
    letter["Subject"] = f"[{row['severity']}] {row['rule']}: {row['subject']}"[:200]
    letter["From"], letter["To"] = sender, ", ".join(to)
    letter.set_content(f"{row['message']}\n\n{json.dumps(_told(row), indent=2)}\n")
    return letter


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("alert_id", "rule", "severity", "subject", "message")},
        "first_at": row["first_at"].astimezone(UTC).isoformat(),
        "details": row["details"],
    }
