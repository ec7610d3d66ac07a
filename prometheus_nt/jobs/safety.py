"""Stop trading, wind it down, and let it go on: the kill switch of each sleeve and of all.

1. `halt` pulls the brake of this machine, then moves the switch in the database, which every
   process asks before orders leave; it also raises an alert.
2. `flatten` lets closing orders alone leave until nothing is held; then the sleeve is halted.
3. Only `arm`, with a reason and the name of what is armed typed once more, lets trading go on.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from persistence import kill_switch
from persistence.alerts import Alert, raise_alert, resolve
from persistence.kill_switch import Brake
from prometheus_nt.domain.errors import ConfigError
from prometheus_nt.domain.safety import (
    ALL,
    HaltCause,
    SwitchState,
    TradingState,
    current,
    worst,
)
from prometheus_nt.jobs.stores import Stores

RULE = "kill_switch"
"""The rule of the alert that is open while a switch is not armed."""

log = logging.getLogger(__name__)


def switch_state(stores: Stores, scope: str = ALL) -> SwitchState:
    """Return what holds for a sleeve now: its own switch, that of all, or a brake.

    Raises
    ------
    StoreError
        If the database does not answer.
    TradingHalted
        If the record of a switch was tampered with.
    """
    found = [current(name, _history(stores, name)) for name in _scopes(scope)]
    return worst([*found, *brakes(stores, scope)])


def switch_states(stores: Stores) -> list[SwitchState]:
    """Return how every switch that was ever moved stands, that of all sleeves first."""
    with stores.runtime.database.reader() as connection:
        moved = kill_switch.scopes(connection)
    own = sorted({*moved, *_braked(stores)} - {ALL})
    return [
        worst([current(name, _history(stores, name)), *_brake(stores, name)])
        for name in (ALL, *own)
    ]


def halt(
    stores: Stores,
    scope: str,
    reason: str,
    by: str,
    cause: HaltCause = HaltCause.OPERATOR,
) -> SwitchState:
    """Let nothing leave a sleeve, or any sleeve if `scope` is `ALL`, until it is armed again.

    Raises
    ------
    ConfigError
        If no reason is given.
    StoreError
        If the database does not answer; the brake of this machine is pulled all the same.
    """
    _require_said(reason, "halt")
    _require_name(scope)
    asked = SwitchState(scope, TradingState.HALTED, cause, reason, by, datetime.now(UTC))
    with suppress(OSError):
        # A full disk must not keep the database from hearing of it.
        Brake(stores.settings.home, scope).pull(asked)
    log.error("scope=%s halted cause=%s by=%s: %s", scope, cause, by, reason)
    return _move(stores, asked)


def flatten(stores: Stores, sleeve_id: str, reason: str, by: str) -> SwitchState:
    """Let a sleeve close what it holds, and nothing else.

    Raises
    ------
    ConfigError
        If no reason is given, or all sleeves are halted: then not even closing orders may leave.
    """
    _require_said(reason, "flatten")
    _require_name(sleeve_id)
    above = [current(ALL, _history(stores, ALL)), *_brake(stores, ALL)]
    if worst(above).state is TradingState.HALTED:
        raise ConfigError(f"{worst(above)}; arm it first: prometheus arm --all --reason ...")
    asked = SwitchState(sleeve_id, TradingState.FLATTENING, HaltCause.OPERATOR, reason, by)
    done = _move(stores, asked)
    Brake(stores.settings.home, sleeve_id).release()
    return done


def arm(stores: Stores, scope: str, reason: str, by: str, confirmation: str) -> SwitchState:
    """Let a sleeve trade again, or all sleeves that are not halted themselves.

    Raises
    ------
    ConfigError
        If no reason is given, the confirmation is not the scope's name, or it is armed already.
    """
    _require_said(reason, "arm")
    _require_name(scope)
    if confirmation != scope:
        raise ConfigError(
            f"{scope} stays as it is: expected its name typed as confirmation, found "
            f"{confirmation!r}"
        )
    own = current(scope, _history(stores, scope))
    if worst([own, *_brake(stores, scope)]).state is TradingState.ARMED:
        raise ConfigError(f"{scope} is armed already; `prometheus halt --list` shows every switch")
    done = _move(stores, SwitchState(scope, TradingState.ARMED, None, reason, by))
    Brake(stores.settings.home, scope).release()
    return done


def halts_of_broker(stores: Stores, scope: str) -> Callable[[Any], None]:
    """Return what an adapter may call with each reason it stops for; its text is kept."""

    def on_halt(found: Any) -> None:
        halt(stores, scope, str(found), "broker adapter", HaltCause.BROKER)

    return on_halt


def brakes(stores: Stores, scope: str) -> list[SwitchState]:
    """Return what the brake files of this machine say of a sleeve; empty if there is none."""
    return [found for name in _scopes(scope) for found in _brake(stores, name)]


def moves(stores: Stores, scope: str) -> dict[str, list[SwitchState]]:
    """Return how the switches that a sleeve obeys were moved, oldest first."""
    return {name: _history(stores, name) for name in _scopes(scope)}


def _move(stores: Stores, asked: SwitchState) -> SwitchState:
    with stores.runtime.database.durable_writer() as connection:
        done = kill_switch.move(connection, asked)
        if asked.state is TradingState.ARMED:
            resolve(connection, RULE, asked.scope)
            return done
        now = datetime.now(UTC)
        raise_alert(connection, Alert(RULE, "CRITICAL", asked.scope, str(done), {}, now))
    return done


def _history(stores: Stores, scope: str) -> list[SwitchState]:
    with stores.runtime.database.reader() as connection:
        return kill_switch.history(connection, scope)


def _brake(stores: Stores, scope: str) -> list[SwitchState]:
    found = Brake(stores.settings.home, scope).read()
    return [] if found is None else [found]


def _braked(stores: Stores) -> set[str]:
    return {path.stem for path in (stores.settings.home / "safety").glob("*.halt")}


def _scopes(scope: str) -> tuple[str, ...]:
    return (ALL,) if scope == ALL else (ALL, scope)


def require_known_sleeve(stores: Stores, sleeve_id: str) -> None:
    """Raise `ConfigError` for a sleeve that has never begun a run: its switch would stop nobody."""
    known = stores.runtime.sleeves()
    if sleeve_id in known:
        return
    close = get_close_matches(sleeve_id, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known) or 'none'}"
    raise ConfigError(
        f"{sleeve_id}: no sleeve of this name has begun a run, so nothing would stop; {hint}; to "
        "keep one that is about to begin from trading, halt it with --force; everything: --all"
    )


def _require_said(reason: str, verb: str) -> None:
    if not reason.strip():
        raise ConfigError(f"--reason: say why you {verb}; whoever reads it next has only that")


def _require_name(scope: str) -> None:
    if not scope.replace("_", "").isalnum():
        raise ConfigError(f"{scope!r} is no sleeve's id; `prometheus show runs` lists them")
