"""The index of a home folder: what was made in it, the newest first, with links that lead there."""

from pathlib import Path
from typing import Any

from persistence.artifacts import RunFolder
from persistence.flows import FlowLedger
from persistence.run_history import newest_completed
from prometheus_nt.domain.errors import StoreError
from prometheus_nt.jobs.meta_members import COMPLETENESS, META, meta_dir
from prometheus_nt.jobs.stores import Stores

MOST = 200
"""Rows of each kind; the rest is in the database."""

INDEX = "INDEX.md"


def write_home_index(stores: Stores) -> Path:
    """Write `INDEX.md` of the home folder; return where it is."""
    home = stores.settings.home
    text = "\n\n".join(
        ["# Runs, meta-portfolios and flows", _flows(stores), _metas(stores), _runs(stores)]
    )
    return Path(RunFolder(home.parent, home.name).write_text(INDEX, text + "\n", "markdown").path)


def _flows(stores: Stores) -> str:
    rows = []
    for name in FlowLedger(stores.runtime.database).known():
        path = Path("flows") / name / INDEX
        if (stores.settings.home / path).exists():
            rows.append((_changed(stores.settings.home / path), f"| [{name}]({path}) |"))
    return _section("Flows", ("Flow",), _newest(rows))


def _metas(stores: Stores) -> str:
    rows = []
    for folder in sorted(meta_dir(stores.settings).glob(f"{META}*")):
        try:
            told = RunFolder(folder.parent, folder.name).read_json(COMPLETENESS)
        except (StoreError, ValueError):
            continue  # half made: it is made again when it is asked for
        link = f"[{folder.name}](meta/{folder.name}/meta_portfolio_report.md)"
        line = f"| {link} | {told['verdict']} | {told['as_of']} | {', '.join(told['codes'])} |"
        rows.append((_changed(folder / COMPLETENESS), line))
    return _section("Meta-portfolios", ("Id", "Verdict", "As of", "Codes"), _newest(rows))


def _runs(stores: Stores) -> str:
    rows = [_run(row) for row in newest_completed(stores.runtime, MOST)]
    return _section("Runs", ("Run", "Strategy", "First", "Last", "Sharpe ratio"), rows)


def _run(row: dict[str, Any]) -> str:
    sharpe = (row["metrics_json"] or {}).get("annualised_sharpe")
    told = "n/a" if sharpe is None else f"{sharpe:.2f}"
    run_id = row["run_id"]
    link = f"[{run_id}](runs/{run_id}/{INDEX})"
    return f"| {link} | {row['strategy_id']} | {row['start_date']} | {row['end_date']} | {told} |"


def _newest(rows: list[tuple[int, str]]) -> list[str]:
    return [line for _, line in sorted(rows, reverse=True)[:MOST]]


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


def _section(title: str, head: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return f"## {title}\n\nNone yet."
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *rows]
    return f"## {title}\n\n" + "\n".join(lines)


def run_index(manifest: dict[str, Any], metrics: dict[str, Any], folder: RunFolder) -> str:
    """Return `INDEX.md` of a run: what it is, what came out, and its files with their hashes."""
    facts = ("strategy_id", "sleeve_id", "mode", "start", "end", "dataset", "data_revision")
    identity = ("config_hash", "data_fingerprint", "code_hash", "seed", "order_list_hash")
    lines = [f"# {manifest['run_id']}", "", "| What | |", "| --- | --- |"]
    lines += [f"| {name} | {manifest[name]} |" for name in (*facts, *identity)]
    figures = ("cumulative_return", "annualised_sharpe", "max_drawdown", "num_fills")
    lines += ["", "| Figure | |", "| --- | --- |"]
    lines += [f"| {name} | {metrics.get(name)} |" for name in figures]
    lines += ["", "| File | SHA-256 |", "| --- | --- |"]
    lines += [
        f"| [{name}]({name}) | `{one.sha256}` |" for name, one in sorted(folder.written.items())
    ]
    return "\n".join([*lines, ""])
