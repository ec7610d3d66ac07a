"""Which run a sleeve trades session by session: the one that is open, or a new one if none is.

A run that trades is open until it is finished, and a sleeve has one of a mode: a second one beside
it, of other settings or from another day, would buy a second book. So it is refused, with what
differs and what to do (`run_to_trade`), and again in the transaction that begins it (`begin`).
"""

from collections.abc import Iterator, Mapping
from datetime import date
from textwrap import shorten
from typing import Any

from prometheus_nt.config import NodeConfig
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.panel import MarketPanel
from prometheus_nt.domain.runs import Mode, TradingIdentity
from prometheus_nt.jobs.identity import code_hash
from prometheus_nt.jobs.stores import Stores
from strategies.catalog import SleeveParams, family

MOST_NAMED = 8
"""Settings that a refusal names."""

MOST_SHOWN = 60
"""Characters of a value."""

NOT_SET = "not set"


def run_to_trade(
    config: NodeConfig,
    sleeve: SleeveParams,
    stores: Stores,
    panel: MarketPanel,
    start: date | None,
    usual: date,
) -> TradingIdentity:
    """Return the run that a sleeve trades by this configuration.

    Parameters
    ----------
    start : date or None
        When the run begins; None goes on with the open one, or begins at `usual`.

    Raises
    ------
    ConfigError
        If another run of the sleeve is open, or this one was finished.
    DataError
        If the dataset does not reach the start.
    """
    standing = stores.runtime.open_runs(sleeve.sleeve_id, _mode(config).value)
    same = [run for run in standing if run["config_hash"] == config.trading_hash(sleeve)]
    for run in standing:
        if run not in same:
            raise ConfigError(_changed(config, sleeve, run))
    if start is None:
        start = same[0]["start_date"] if same else usual
    identity = trading_identity(config, sleeve, panel, first_session(config, panel, start))
    for run in same:
        if run["run_id"] != identity.run_id:
            raise ConfigError(_beside(run, identity))
    _require_unfinished(stores, identity)
    return identity


def open_run_start(config: NodeConfig, sleeve: SleeveParams, stores: Stores) -> date | None:
    """Return when the open run of this configuration began, or None if there is none."""
    standing = stores.runtime.open_runs(sleeve.sleeve_id, _mode(config).value)
    wanted = config.trading_hash(sleeve)
    return next((run["start_date"] for run in standing if run["config_hash"] == wanted), None)


def trading_identity(
    config: NodeConfig, sleeve: SleeveParams, panel: MarketPanel, started: date
) -> TradingIdentity:
    """Return what names the run of a sleeve that began on a session."""
    return TradingIdentity(
        strategy_id=family(sleeve).strategy_id,
        sleeve_id=sleeve.sleeve_id,
        mode=_mode(config),
        code_hash=code_hash(),
        config_hash=config.trading_hash(sleeve),
        data_fingerprint=panel.fingerprint,
        seed=config.seed,
        started=started,
    )


def first_session(config: NodeConfig, panel: MarketPanel, asked: date) -> date:
    """Return the first session from a day on.

    Raises
    ------
    DataError
        If it neither is in the panel nor follows on it.
    """
    calendar = MarketCalendar.of(config.market)
    started = asked if calendar.is_session(asked) else calendar.next_session(asked)
    begins = panel.sessions[0].astype(object)
    if started < begins or started > calendar.next_session(panel.as_of):
        raise DataError(
            f"--from: {started} does not follow on dataset {config.data.dataset!r}, which has "
            f"{begins} to {panel.as_of}; ingest what is missing, or begin on another day"
        )
    return started


def begin(
    config: NodeConfig, sleeve: SleeveParams, stores: Stores, identity: TradingIdentity
) -> None:
    """Record that the run trades.

    Raises
    ------
    ConfigError
        If another run of the sleeve was begun meanwhile.
    """
    facts = run_facts(config, sleeve, identity, identity.started)
    for run in stores.runtime.begin_trading(identity, facts):
        same = run["config_hash"] == identity.config_hash
        raise ConfigError(_beside(run, identity) if same else _changed(config, sleeve, run))


def run_facts(
    config: NodeConfig, sleeve: SleeveParams, identity: TradingIdentity, last: date
) -> dict[str, Any]:
    """Return what is recorded of a run besides its identity, when it has come to a session."""
    return {
        "portfolio_id": sleeve.portfolio_id,
        "market_id": config.market,
        "start_date": identity.started,
        "end_date": last,
        "universe_id": config.engines_of(sleeve).universe.universe_id,
        "dataset_id": config.data.dataset,
        "config_json": config.resolved(sleeve),
    }


def changed_settings(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings in which two resolved configurations differ, each with both values."""
    before, after = dict(_leaves(was)), dict(_leaves(now))
    return [
        f"{name} was {_shown(before.get(name, NOT_SET))} and is {_shown(after.get(name, NOT_SET))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, NOT_SET) != after.get(name, NOT_SET)
    ]


def _shown(value: Any) -> str:
    return shorten(str(value), MOST_SHOWN, placeholder=" ...")


def _mode(config: NodeConfig) -> Mode:
    return Mode[config.mode.upper()]


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _changed(config: NodeConfig, sleeve: SleeveParams, run: Mapping[str, Any]) -> str:
    was = {name: value for name, value in run["config_json"].items() if name != "sessions"}
    now = {name: each for name, each in config.resolved(sleeve).items() if name != "sessions"}
    found = changed_settings(was, now) or ["how this version reads its settings"]
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return (
        f"{_open(run)} and trades by other settings: {'; '.join(found[:MOST_NAMED])}{more}. "
        "A second run beside it would buy a second book. Put the settings back to go on with it "
        "(what was applied by a proposal: `prometheus meta revert`, or --no-applied), end it for "
        f"good with `prometheus finish {run['run_id']}`, or give the changed sleeve an id of its "
        "own"
    )


def _beside(run: Mapping[str, Any], identity: TradingIdentity) -> str:
    return (
        f"{_open(run)}; a second run beside it from {identity.started} would buy a second book. "
        "Leave --from out to go on with it, or end it for good with "
        f"`prometheus finish {run['run_id']}`"
    )


def _open(run: Mapping[str, Any]) -> str:
    return (
        f"{run['sleeve_id']}: its {run['mode']} run {run['run_id']}, begun on {run['start_date']}, "
        f"is open ({run['status']}, last session {run['end_date']})"
    )


def _require_unfinished(stores: Stores, identity: TradingIdentity) -> None:
    run = stores.runtime.run(identity.run_id)
    if run is not None and run["status"] == "FINISHED":
        raise ConfigError(
            f"{identity.sleeve_id}: run {identity.run_id}, begun on {identity.started} by these "
            f"settings, was finished after {run['end_date']} and trades no more; begin a new one "
            "on another session with --from"
        )
