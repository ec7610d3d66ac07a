"""Write what a backtest leaves: its rows, its folder, its report, and what a reader must know.

`record_run` completes the run last of all: a completed run is not made again.
"""

from typing import Any

from persistence.artifacts import RunFolder
from persistence.mirror import Mirror
from persistence.run_rows import (
    artifact_rows,
    equity_rows,
    outcome_rows,
    run_rows,
    runner_decision,
)
from prometheus_nt.domain.record import content_hash
from prometheus_nt.domain.runs import RunIdentity
from prometheus_nt.jobs.backtest_market import RecordedMarket
from prometheus_nt.jobs.findings import record_findings
from prometheus_nt.jobs.identity import git_commit, package_versions, platform_name
from prometheus_nt.jobs.index import INDEX, run_index
from prometheus_nt.jobs.metadata import metadata_notes
from prometheus_nt.jobs.outcomes import evaluate_run
from prometheus_nt.jobs.report import load_run_series, write_report
from prometheus_nt.jobs.run_tables import write_run_tables
from prometheus_nt.jobs.stores import Stores
from prometheus_nt.jobs.wiring import BacktestNode
from prometheus_nt.reporting.metrics import compute_metrics


def record_run(
    node: BacktestNode,
    market: RecordedMarket,
    stores: Stores,
    identity: RunIdentity,
    manifest: dict[str, Any],
) -> None:
    """Write everything that a run leaves, and complete it.

    Parameters
    ----------
    manifest : dict
        As `run_manifest` makes it.
    """
    mirror, runtime = node.mirror, stores.runtime
    run_id = mirror.run.run_id
    runtime.write(run_rows(mirror))
    folder = RunFolder(stores.settings.runs_dir, run_id)
    write_run_tables(
        folder, mirror, node.feed.units, market.benchmark_levels(), market.panel.sectors
    )
    folder.write_yaml("config.resolved.yaml", manifest["config"])
    folder.write_json("manifest.json", manifest)
    series = load_run_series(folder)
    metrics = compute_metrics(series)
    folder.write_json("statistics.json", metrics)
    findings = record_findings(stores, folder, series, market.panel)
    write_report(folder, series, metrics, findings)
    folder.write_text(INDEX, run_index(manifest, metrics, folder), "markdown")
    runtime.write([equity_rows(mirror)])
    runtime.write(outcome_rows(mirror))
    runtime.write([runner_decision(mirror, manifest, metrics)])
    runtime.write([artifact_rows(mirror.run.head, folder.written.values())])
    evaluate_run(stores, run_id, market.panel)
    stores.trials.complete(identity, series.returns)
    folder.point_latest_here()
    # The last thing of all: a completed run is not made again, so nothing of it may be missing.
    runtime.end_run(
        run_id, "COMPLETED", metrics=metrics, order_list_hash=manifest["order_list_hash"]
    )


def run_manifest(
    identity: RunIdentity,
    facts: dict[str, Any],
    market: RecordedMarket,
    stores: Stores,
    order_list_hash: str,
    book_notes: list[str],
) -> dict[str, Any]:
    """Return what a run was made of, and what a reader must know: `book_notes` of its members."""
    config = facts["config_json"]
    dataset = stores.historical.dataset(facts["dataset_id"])
    return {
        "run_id": identity.run_id,
        "strategy_id": identity.strategy_id,
        "sleeve_id": identity.sleeve_id,
        "mode": identity.mode.value,
        "start": facts["start_date"],
        "end": facts["end_date"],
        "starting_capital": config["sleeve"]["capital_usd"],
        "benchmark": config["data"]["benchmark"],
        "benchmark_hash": market.benchmark_hash,
        "dataset": facts["dataset_id"],
        "seed": identity.seed,
        "code_hash": identity.code_hash,
        "git_commit": git_commit(),
        "config_hash": identity.config_hash,
        "data_fingerprint": identity.data_fingerprint,
        "data_revision": market.revision,
        "order_list_hash": order_list_hash,
        "packages": package_versions(),
        "platform": platform_name(),
        "config": config,
        "metadata": market.metadata.document(),
        "notes": [
            *_notes(config, dataset, _benchmark_name(config["data"], stores)),
            *book_notes,
            *metadata_notes(market.metadata, market.panel, market.first, market.last),
        ],
    }


def order_list_hash(mirror: Mirror) -> str:
    """Return the hash of every order and fill: what, when, how much and at what price.

    Identifiers that Nautilus draws at random are left out.
    """
    orders = [
        (o.ts_ns, o.column, o.side, o.order_type, o.quantity, o.limit_price, o.stop_price, o.status)
        for o in mirror.orders.values()
    ]
    fills = [
        (f.ts_ns, f.order.column, f.order.side, f.quantity, f.price, f.commission)
        for f in mirror.fills
    ]
    return content_hash([mirror.ledger.instruments, orders, fills])


def _benchmark_name(data: dict[str, Any], stores: Stores) -> str | None:
    dataset = data["benchmark_dataset"] or data["dataset"]
    known = stores.historical.instruments(dataset)
    names = {row["instrument_id"]: row["name"] for row in known}
    return names.get(data["benchmark"])


def _benchmark_note(data: dict[str, Any], name: str | None) -> str:
    if name is None:
        return "Benchmark: none was configured."
    return (
        f"Benchmark: {data['benchmark']} ({name}), measured on its stored closes: a price index "
        "leaves out the dividends that the strategy's own returns contain."
    )


def _notes(
    config: dict[str, Any], dataset: dict[str, Any], benchmark_name: str | None
) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    execution = config["execution"]
    quotes, fees, financing = execution["quotes"], execution["fees"], execution["financing"]
    bars = (
        "Open, high and low are not observed: they repeat the close, so an order fills at the "
        "close of the session after its decision."
        if dataset["synthetic_bars"]
        else "Open, high, low, close and volume are as traded."
    )
    impact = (
        "no market impact is charged"
        if quotes["impact_coefficient"] == 0
        else f"market impact {quotes['impact_coefficient']} x volatility x sqrt(participation)"
    )
    return [
        f"Data: {dataset['dataset_id']}. {dataset['description']}",
        f"Survivorship: {dataset['survivorship'].removeprefix('Survivorship-')}",
        f"Bars: {bars}",
        "Timing: decided after a close, filled at the opening quotes of the next session.",
        f"Costs: half spread {quotes['half_spread_bps']} bps, {impact}, commission "
        f"{fees['per_share_usd']} USD per share with a minimum of {fees['minimum_usd']} USD and a "
        f"cap of {fees['cap_fraction']:.1%} of the trade.",
        f"Financing: short shares cost {financing['borrow_fee_annual']:.2%} a year of their value, "
        f"borrowed cash {financing['debit_rate_annual']:.2%}; free cash earns "
        f"{financing['credit_rate_annual']:.2%}, the proceeds of short sales nothing.",
        _benchmark_note(config["data"], benchmark_name),
    ]
