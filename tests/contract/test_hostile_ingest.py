"""Whatever a file holds, either engine can store what was found about it."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

from adapters.files import FileSource
from adapters.source import Adjustment, DatasetInfo
from persistence.historical import HistoricalStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.jobs.ingest import ingest

INFO = DatasetInfo("d", "csv", "US_EQ", Adjustment.AS_TRADED, False, "test", "unknown")
HEADER = "Date,Open,High,Low,Close,Volume\n"
GOOD = [
    f"{day},10,11,9,10.{place},1000"
    for place, day in enumerate(
        MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))
    )
]


def test_hostile_files_cost_themselves_only_and_are_recorded(database, tmp_path):
    hurt = {
        "NUL": HEADER + "\n".join([*GOOD[:3], GOOD[3].replace("1000", "1\x0000"), *GOOD[4:]]),
        "FORMULA": HEADER + "\n".join([*GOOD[:3], GOOD[3].replace("1000", '=X("1")'), *GOOD[4:]]),
        "NAME": HEADER.replace("Volume", "Volume\x00" + "!" * 900) + "\n".join(GOOD),
        "CONTROL": HEADER.replace("Volume", "Volume\x07" + "!" * 900)
        + "\n".join([*GOOD[:3], GOOD[3].replace("1000", "x" * 9000), *GOOD[4:]]),
        "BINARY": "\x00\x01\x02\n" * 50,
        "LONG": HEADER + "9" * 100_000,
    }
    for name, text in hurt.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "GOOD.csv").write_text(HEADER + "\n".join(GOOD))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe\xff.csv")).write_text("x")
    store = HistoricalStore(database)

    report = ingest(FileSource(tmp_path, INFO), store, now=datetime(2024, 6, 1, tzinfo=UTC))

    assert report.loaded == ("CONTROL.US", "FORMULA.US", "GOOD.US", "NUL.US")
    assert report.failed == ("BINARY.US", "LONG.US", "NAME.US")
    counts = {row["instrument_id"]: row["row_count"] for row in store.coverage("d")}
    assert (counts["GOOD.US"], counts["NUL.US"], counts["FORMULA.US"]) == (9, 8, 8)
    events = store.quality_events("d")
    assert sorted(event["rule"] for event in events) == [
        *["unreadable_file"],
        *["unreadable_number"] * 3,
        "unsafe_symbol",
        *["wrong_encoding"] * 2,
    ]
    assert len(events) == len(report.issues)
