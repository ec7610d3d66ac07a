"""`prometheus data ...`: ingest, list, check, repair, compare, derive and export market data."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from adapters.inference import DividendBasis
from prometheus_nt.cli.arguments import JsonFlag, read_settings
from prometheus_nt.console import (
    err,
    print_audit,
    print_difference,
    print_fields,
    print_issues,
    print_json,
    print_rows,
    progress_bars,
    say,
)
from prometheus_nt.domain.errors import ConfigError

VendorStart = Annotated[
    datetime | None,
    typer.Option("--start", "--from", formats=["%Y-%m-%d"], help="First day to ask a vendor for."),
]
VendorEnd = Annotated[
    datetime | None,
    typer.Option("--end", "--to", formats=["%Y-%m-%d"], help="Last day to ask a vendor for."),
]

app = typer.Typer(
    no_args_is_help=True, help="Market data: ingest, list, check, repair, compare, derive, export."
)

DatasetArgument = Annotated[str, typer.Argument(help="Name of a dataset.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Session of the audit; default the newest stored."),
]
MaxAge = Annotated[int, typer.Option(min=0, help="Sessions that the newest bar may be behind.")]
ToleratedGap = Annotated[
    int, typer.Option(min=0, help="Missing sessions in a row that are forgiven.")
]


@app.command("ingest")
def data_ingest(
    source: Annotated[str, typer.Argument(help="sample, csv, parquet, eodhd, ib or yahoo")],
    path: Annotated[
        Path | None, typer.Argument(help="For csv and parquet: a folder, or one long file.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset to fill.")] = None,
    market: Annotated[str, typer.Option(help="Market whose sessions the data keep.")] = "US_EQ",
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default all.")] = None,
    index: Annotated[
        str | None,
        typer.Option(help="eodhd: every past and present member of an index, e.g. GSPC."),
    ] = None,
    exchange: Annotated[
        str | None, typer.Option(help="eodhd: every common stock of an exchange, e.g. US.")
    ] = None,
    delisted: Annotated[
        bool, typer.Option(help="With --exchange: those that no longer trade as well.")
    ] = True,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --exchange: at most so many.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="With --exchange: leave out the first.")] = 0,
    start: VendorStart = None,
    end: VendorEnd = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="eodhd, ib: read the whole history, not just what is new."),
    ] = False,
    split_adjusted: Annotated[
        bool, typer.Option(help="The files divide prices by later splits, as Yahoo's do.")
    ] = False,
    infer_actions: Annotated[
        DividendBasis | None,
        typer.Option(
            case_sensitive=False,
            help="Infer splits and dividends from the adjusted close: PRIOR_CLOSE where a vendor "
            "relates a dividend to the close before it (Yahoo, EODHD), EX_CLOSE to the one after.",
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="A threshold of the gates, e.g. --gate stall_rejected_after=10"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Instruments read at the same time; the result is the same.")
    ] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Read prices, check them, and store them under the name of a dataset.

    Bad rows are quarantined with file, row, column and remedy; good ones are kept.

    EODHD needs its key in EODHD_API_KEY; it is asked for new days only, and for everything where
    its past has changed. Yahoo needs the extra `yahoo`.

    Interactive Brokers (ib) needs its gateway logged in, and PROMETHEUS_IB_ACCOUNT; it is asked at
    the pace that a gateway bears, and not for what is stored up to the newest session: an ingest
    that was interrupted goes on.

    Example: [cyan]prometheus data ingest csv my_prices/ --dataset mine[/]

    Example: [cyan]prometheus data ingest eodhd --dataset sp500 --index GSPC --start 2005-01-01[/]
    """
    from prometheus_nt.jobs.data import SourceSpec, gate_params, ingest_named

    spec = SourceSpec(
        source,
        path,
        dataset,
        market,
        None if symbols is None else _names(symbols),
        split_adjusted,
        infer_actions,
        index=index,
        exchange=exchange,
        delisted=delisted,
        limit=limit,
        offset=offset,
        start=None if start is None else start.date(),
        end=None if end is None else end.date(),
        whole=full,
        gates=gate_params(gate or ()),
        workers=workers,
    )
    with progress_bars(one=True) as progress:
        reports = ingest_named(read_settings(), spec, progress)
    if as_json:
        print_json([asdict(item) for item in reports])
        return
    for item in reports:
        say(
            f"{item.dataset_id}: {len(item.loaded)} instruments loaded, {len(item.failed)} failed, "
            f"{item.rows_read:,} rows read, {item.rows_written:,} written, "
            f"{item.rows_quarantined:,} quarantined"
        )
        print_issues(item.issues)


@app.command("ingest-reference")
def data_ingest_reference(
    source: Annotated[str, typer.Argument(help="csv, parquet or eodhd")],
    dataset: Annotated[
        str, typer.Option(help="Name of the dataset they belong to; its prices come first.")
    ],
    path: Annotated[
        Path | None, typer.Argument(help="Of files: a folder with one for each kind of fact.")
    ] = None,
    index: Annotated[
        list[str] | None, typer.Option(help="Of a vendor: an index whose members to store.")
    ] = None,
    news_from: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of a vendor: first day of news.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Store facts besides prices: accounts, index members, sectors, news and holidays.

    EODHD is asked about every instrument of the dataset. Of a folder, any of these files:

    * statements: symbol, statement_type (IS, BS, CF), frequency (QUARTERLY, ANNUAL), period_end,
      known_at or report_date, currency; every other column is a figure (revenue, equity, ...)
    * membership: index_id, symbol, start, end, known_at
    * sectors: symbol, sector, industry, start, known_at
    * news: published_at, symbols (separated by spaces), source, headline, body, language
    * holidays: day, name, market_id

    A time is a day, known at its end, or an instant with its offset, 2024-02-01T16:30:00-05:00.
    Nothing is used before its known_at. Bad rows are reported with file, row, column and remedy;
    good ones are kept. What changed since the last ingest is known from now on, not before.

    Example: [cyan]prometheus data ingest-reference csv my_facts/ --dataset mine[/]

    Example: [cyan]prometheus data ingest-reference eodhd --dataset sp500 --index GSPC[/]
    """
    from prometheus_nt.jobs.reference import ReferenceSpec, ingest_reference_named

    since = None if news_from is None else news_from.date()
    spec = ReferenceSpec(source, dataset, path, tuple(index or ()), since)
    with progress_bars(one=True) as progress:
        report = ingest_reference_named(read_settings(), spec, progress)
    if as_json:
        print_json(asdict(report))
        return
    written = ", ".join(f"{rows:,} {kind}" for kind, rows in report.written.items())
    say(f"{report.dataset_id}: written {written}; {len(report.issues)} findings")
    print_issues(report.issues)


@app.command("list")
def data_list(as_json: JsonFlag = False) -> None:
    """List the datasets and what each of them covers.

    Example: [cyan]prometheus data list[/]
    """
    from prometheus_nt.jobs.data import list_datasets

    columns, rows = list_datasets(read_settings())
    print_rows(columns, rows, as_json)


@app.command("check")
def data_check(
    dataset: DatasetArgument,
    as_of: AsOf = None,
    max_age: MaxAge = 0,
    tolerated_gap: ToleratedGap = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stale and degraded instruments fail as well.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Another dataset whose total returns should agree.")
    ] = None,
    disagreement: Annotated[
        float, typer.Option(help="Relative difference of returns that is reported.")
    ] = 0.02,
    rule: Annotated[
        str | None, typer.Option(help="List the findings of one rule, with values and rows.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Audit a dataset, instrument by instrument; exit code 1 if it fails.

    MISSING: no bar. DROPPED: every bar was quarantined. STALE: the newest bar is too old.
    DEGRADED: sessions in a row are missing. Missing and dropped instruments, and rows that were
    quarantined, fail the audit; with --strict so do stale and degraded ones, and returns that
    another source contradicts. What is found is stored, and resolved when it is met no more.

    Example: [cyan]prometheus data check sample_ohlcv --as-of 2013-03-01 --strict[/]
    """
    from adapters.gates.health import HealthParams
    from prometheus_nt.jobs.health import FINDING_COLUMNS, check_dataset
    from prometheus_nt.yaml_models import validated

    asked = {"max_age": max_age, "tolerated_gap": tolerated_gap, "disagreement": disagreement}
    params = validated(HealthParams, asked, "data check")
    day = None if as_of is None else as_of.date()
    audit, findings = check_dataset(
        read_settings(), dataset, params, as_of=day, against=against, rule=rule
    )
    failures = audit.failures(strict=strict)
    if as_json:
        print_json(audit.document() | {"failures": failures, "findings": findings})
    elif rule is not None:
        rows = [tuple(finding[name] for name in FINDING_COLUMNS) for finding in findings]
        print_rows(FINDING_COLUMNS, rows, as_json=False)
    else:
        print_audit(audit, findings)
    if failures:
        err.print(f"{dataset} fails: {'; '.join(failures)}", highlight=False)
        raise typer.Exit(1)


@app.command("status")
def data_status(
    dataset: DatasetArgument,
    as_of: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="Session that is asked for.")
    ],
    minimum: Annotated[
        float, typer.Option(min=0, max=1, help="Share of instruments that must be there.")
    ] = 0.95,
    as_json: JsonFlag = False,
) -> None:
    """Tell how much of a session's data is stored; exit code 1 unless it is COMPLETE.

    Example: [cyan]prometheus data status sample_sp500 --as-of 2022-12-28[/]
    """
    from prometheus_nt.jobs.readiness import IngestionState, dataset_status

    status = dataset_status(read_settings(), dataset, as_of.date(), minimum)
    print_fields(asdict(status) | {"share": status.share}, as_json)
    if status.status is not IngestionState.COMPLETE:
        raise typer.Exit(1)


@app.command("repair")
def data_repair(
    dataset: DatasetArgument,
    as_of: AsOf = None,
    max_age: MaxAge = 0,
    tolerated_gap: ToleratedGap = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be read again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read broken instruments again from the dataset's source; exit code 1 if any stays broken.

    Example: [cyan]prometheus data repair mine --dry-run[/]
    """
    from adapters.gates.health import HealthParams
    from prometheus_nt.jobs.repair import REPAIR_COLUMNS, repair

    params = HealthParams(max_age=max_age, tolerated_gap=tolerated_gap)
    day = None if as_of is None else as_of.date()
    with progress_bars() as progress:
        report = repair(
            read_settings(), dataset, params, as_of=day, dry_run=dry_run, progress=progress
        )
    if as_json:
        print_json(asdict(report))
    elif report.repaired:
        print_rows(REPAIR_COLUMNS, [each.row() for each in report.repaired], as_json=False)
    say(f"{dataset}: {report.summary()}")
    if report.still_broken and not dry_run:
        raise typer.Exit(1)


@app.command("export")
def data_export(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder, or an earlier export.")],
    to: Annotated[str, typer.Option(help="parquet (one table, for pandas) or nautilus.")] = (
        "parquet"
    ),
    symbols: Annotated[str | None, typer.Option(help="Comma-separated; default all.")] = None,
    start: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"])] = None,
    end: Annotated[datetime | None, typer.Option("--until", formats=["%Y-%m-%d"])] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a dataset for other tools: a Parquet table, or a Nautilus ParquetDataCatalog.

    Parquet has prices as traded; the catalog has them adjusted for splits, as its venue needs.

    Example: [cyan]prometheus data export sample_ohlcv out/ --to nautilus[/]
    """
    from prometheus_nt.jobs.export import export_named
    from prometheus_nt.jobs.selection import Selection

    chosen = None if symbols is None else _names(symbols)
    first, last = (None if day is None else day.date() for day in (start, end))
    wanted = Selection(dataset, first, last, chosen)
    with progress_bars() as progress:
        report = export_named(read_settings(), wanted, to, folder, progress)
    print_fields(asdict(report), as_json)


@app.command("derive")
def data_derive(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    features: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: returns, volatility, factors, exposures, features, "
            "correlations; default all."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help="First session to have rows in SQL: last (the default), all, none, or a date. "
            "Files hold every session in any case."
        ),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The same as --rows with a date."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="Last session to use."),
    ] = None,
    correlations: Annotated[
        str,
        typer.Option(
            help="After which sessions: last, none, or the first of each session, week, month or "
            "quarter."
        ),
    ] = "last",
    window_days: Annotated[int, typer.Option(min=4, help="Sessions of a correlation.")] = 63,
    as_json: JsonFlag = False,
) -> None:
    """Compute returns, volatility, factors, exposures, features and correlations once.

    Rows of every session cost about a million a table and ten years of 500 names: ask for them
    with --rows all. Done twice, nothing is written; new prices add the rows of their sessions.

    Example: [cyan]prometheus data derive sample_ohlcv --rows 2012-01-03[/]
    """
    from prometheus_nt.jobs.derive import KNOWN, LAST, DeriveRequest, derive
    from prometheus_nt.jobs.stores import open_stores

    if rows is not None and start is not None:
        raise ConfigError("--rows and --from both say where rows begin; leave one of them out")
    request = DeriveRequest(
        dataset_id=dataset,
        features=KNOWN if features is None else _names(features, "--features"),
        until=None if until is None else until.date(),
        rows=rows or (LAST if start is None else start.date().isoformat()),
        correlations=correlations,
        lookback=window_days,
    )
    with open_stores(read_settings(), upgrade=True) as stores, progress_bars() as progress:
        saved = derive(stores, request, progress)
    columns = ("name", "rows_written", "rows_deleted", "rows_since", "sessions", "path")
    lines = [[getattr(item, column) for column in columns] for item in saved]
    print_rows(columns, lines, as_json)


@app.command("embed")
def data_embed(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A session; the dataset's last by default."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Store the vectors of instruments' windows and profiles, and of the news known by a close.

    News are read by the text model, where it is installed. Done twice, nothing is written.

    Example: [cyan]prometheus data embed sample_ohlcv --as-of 2012-12-31[/]
    """
    from prometheus_nt.jobs.embed import embed
    from prometheus_nt.jobs.stores import open_stores

    with open_stores(read_settings(), upgrade=True) as stores:
        done = embed(stores, dataset, None if as_of is None else as_of.date())
    columns = ("kind", "model_id", "written", "left_out")
    print_rows(columns, [[getattr(item, name) for name in columns] for item in done], as_json)


@app.command("revisions")
def data_revisions(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    limit: Annotated[int, typer.Option(min=1, help="Newest revisions to list.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the revisions of a dataset: when, from where, how much changed, and its fingerprint.

    Example: [cyan]prometheus data revisions sample_ohlcv[/]
    """
    from prometheus_nt.jobs.data import list_revisions

    columns, rows = list_revisions(read_settings(), dataset, limit)
    print_rows(columns, rows, as_json)


@app.command("diff")
def data_diff(
    dataset: Annotated[str, typer.Argument(help="Name of a dataset.")],
    before: Annotated[str, typer.Argument(help="A revision, or the fingerprint of a panel.")],
    after: Annotated[
        str | None, typer.Argument(help="Another one; the newest revision by default.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Changes to list; more are counted per instrument.")
    ] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List what changed in a dataset between two of its revisions.

    Example: [cyan]prometheus data diff sample_ohlcv 1 2[/]
    """
    from prometheus_nt.jobs.data import compare_revisions

    found = compare_revisions(read_settings(), dataset, before, after, limit)
    print_difference(found, as_json)


def _names(symbols: str, option: str = "--symbols") -> tuple[str, ...]:
    names = tuple(item.strip() for item in symbols.split(","))
    if not all(names):
        raise ConfigError(
            f"{option}: {symbols!r} has an empty name; separate names by single commas, "
            "or leave it out for all"
        )
    return names
