"""`prometheus gateway`: the broker's gateway, simulated over a dataset."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import print_json, print_rows, say


def gateway(
    dataset: Annotated[str, typer.Option(help="Dataset to replay.")] = "sample_ohlcv",
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First session that can be traded."),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last session.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes any that is free.")] = 0,
    version_cap: Annotated[
        int, typer.Option(min=157, max=187, help="Newest version of the protocol to agree to.")
    ] = 187,
    account: Annotated[str, typer.Option(help="Paper account: DU and digits.")] = "DU1234567",
    cash: Annotated[float, typer.Option(min=0, help="Cash to begin with, USD.")] = 1_000_000.0,
    fast: Annotated[
        bool, typer.Option(help="Sessions move on by command on the control port.")
    ] = False,
    seconds_per_session: Annotated[
        float | None, typer.Option(min=0.01, help="A session takes so many seconds.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="name:argument=value,... ; may be given more than once."),
    ] = None,
    script: Annotated[Path | None, typer.Option(help="YAML file of faults by moment.")] = None,
    random_faults: Annotated[
        int | None, typer.Option("--random-faults", help="Seed of a random choice of faults.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many faults by chance.")] = 5,
    state: Annotated[
        Path | None, typer.Option(help="Folder in which orders outlive this process.")
    ] = None,
    read_only: Annotated[
        bool, typer.Option(help="Refuse every order, as the setting does.")
    ] = False,
    run_for: Annotated[
        float | None, typer.Option("--for", min=0, help="End after so many seconds.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="End after so many seconds without a client.")
    ] = None,
    list_faults: Annotated[bool, typer.Option(help="List every fault and end.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Speak the protocol of Interactive Brokers' gateway on loopback and replay a dataset.

    The market runs at the speed of life unless --fast or --seconds-per-session is given. Prints
    the port once it listens. The control port takes lines of text: status, advance, fault, stop.
    Only stocks and paper accounts are simulated; what is not is refused with a gateway's error,
    and docs/gateway.md lists it.

    Example: [cyan]prometheus gateway --from 2012-01-03 --to 2012-03-30 --fast --for 600[/]
    """
    from prometheus_nt.domain.errors import ConfigError
    from prometheus_nt.jobs.gateway import (
        GatewayRequest,
        faults_listing,
        run_gateway,
    )

    if list_faults:
        columns, rows = faults_listing()
        print_rows(columns, rows, as_json)
        return
    if start is None or end is None:
        raise ConfigError("gateway: give the sessions to replay: --from and --to")
    request = GatewayRequest(
        dataset_id=dataset,
        start=start.date(),
        end=end.date(),
        port=port,
        version_cap=version_cap,
        account=account,
        cash_usd=cash,
        fast=fast,
        seconds_per_session=seconds_per_session,
        run_seconds=run_for,
        idle_seconds=idle,
        faults=tuple(fault or ()),
        script=script,
        random_faults=None if random_faults is None else (random_faults, count),
        state=state,
        read_only=read_only,
    )

    def announce(facts: dict[str, Any]) -> None:
        if as_json:
            print_json(facts)
            # Whoever reads a pipe waits for the port.
            sys.stdout.flush()
        else:
            typer.echo(f"listening on 127.0.0.1:{facts['port']}, control {facts['control_port']}")
            say(f"account {facts['account']}, after the close of {facts['session']}")
        for rule in facts["faults"]:
            say(f"fault: {rule}")

    say(f"ended: {run_gateway(read_settings(), request, announce)}")
