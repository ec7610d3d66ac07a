"""Audit, readiness and repair of datasets, from the sample and from files that break."""

import dataclasses
import json
from collections import Counter
from datetime import UTC, date, datetime

import pytest

from adapters.gates import QualityParams
from adapters.gates.health import Health, HealthParams
from adapters.inference import DividendBasis
from adapters.sample import sample_ohlcv, sample_sp500
from adapters.source import DatasetInfo
from persistence.health import HealthStore
from persistence.historical import HistoricalStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import ConfigError, DataError, NonSession, StoreError
from prometheus_nt.jobs.data import (
    SourceSpec,
    gate_params,
    ingest_named,
    origin_of,
    spec_of,
)
from prometheus_nt.jobs.health import audit, check_dataset
from prometheus_nt.jobs.ingest import ingest
from prometheus_nt.jobs.instruments import import_instruments
from prometheus_nt.jobs.readiness import (
    IngestionState,
    ingestion_status,
    is_data_ready,
    recorded_ingestion,
)
from prometheus_nt.jobs.repair import repair
from prometheus_nt.jobs.stores import open_stores
from prometheus_nt.settings import Settings

HEADER = "Date,Open,High,Low,Close,Volume\n"
SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12)).tolist()
LAST = SESSIONS[-1]


@pytest.fixture
def settings(tmp_path):
    home = tmp_path / "home"
    urls = (f"sqlite:///{home / f'{name}.db'}" for name in ("historical", "runtime"))
    return Settings(home, *urls)


@pytest.fixture
def prices(tmp_path):
    """Return a function that writes the file of a symbol, without some of its sessions."""
    folder = tmp_path / "prices"
    folder.mkdir()

    def write(symbol, without=(), text=None):
        rows = [
            f"{day},10,11,9,{10 + place / 10},1000\n"
            for place, day in enumerate(SESSIONS)
            if place not in without
        ]
        (folder / f"{symbol}.csv").write_text(HEADER + "".join(rows) if text is None else text)
        return folder

    return write


@pytest.fixture
def filled(settings, prices):
    """Return the stores of a dataset with one healthy file and four that are not."""
    prices("GOOD")
    prices("STALE", without=[7, 8])
    prices("HOLED", without=[3, 4])
    prices("HALTED", without=[3])
    prices("EMPTY", text="")
    folder = prices("WRONG", text=HEADER + f"{SESSIONS[0]},10,11,9,-1,5\n")
    ingest_named(settings, SourceSpec("csv", folder, "mine"))
    with open_stores(settings) as stores:
        yield stores.historical


def health_of(result):
    return {each.instrument_id.removesuffix(".US"): str(each.health) for each in result.verdicts}


def test_each_instrument_has_a_verdict_and_a_reason(filled):
    result = audit(filled, "mine")

    assert health_of(result) == {
        "EMPTY": "DROPPED",
        "GOOD": "OK",
        "HALTED": "OK",
        "HOLED": "DEGRADED",
        "STALE": "STALE",
        "WRONG": "DROPPED",
    }
    reasons = {each.instrument_id: each.reason for each in result.verdicts}
    assert "2 sessions in a row are missing, 2024-01-05 to 2024-01-08" in reasons["HOLED.US"]
    assert "newest bar is 2 sessions old" in reasons["STALE.US"]
    assert (result.as_of, result.received, result.expected) == (LAST, 3, 6)


def test_only_strictness_fails_on_stale_and_degraded(settings, prices):
    prices("GOOD")
    prices("STALE", without=[8])
    ingest_named(settings, SourceSpec("csv", prices("HOLED", without=[3, 4]), "mine"))

    result, findings = check_dataset(settings, "mine", HealthParams())

    assert result.failures() == []
    assert result.failures(strict=True) == ["1 STALE", "1 DEGRADED"]
    assert sorted(finding["rule"] for finding in findings) == ["session_gap", "stale"]
    relaxed = HealthParams(max_age=1, tolerated_gap=2)
    assert check_dataset(settings, "mine", relaxed)[0].failures(strict=True) == []


def test_quarantined_rows_and_dropped_instruments_always_fail(filled):
    assert audit(filled, "mine").failures() == ["2 DROPPED", "3 findings of severity ERROR"]


def test_an_instrument_without_a_bar_is_missing_and_fails(filled):
    fact = {"instrument_id": "NEW.US", "symbol": "NEW", "issuer_id": "NEW", "name": "New"}
    unknown = {"sector": None, "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    filled.write_instruments("mine", [fact | unknown])

    result = audit(filled, "mine")

    assert health_of(result)["NEW"] == "MISSING"
    assert "1 MISSING" in result.failures()


def test_a_dataset_without_an_instrument_fails(settings):
    info = DatasetInfo("bare", "x", "US_EQ", "AS_TRADED", False, "d", "s")
    with open_stores(settings, upgrade=True) as stores:
        stores.historical.write_dataset(dataclasses.asdict(info))

        assert audit(stores.historical, "bare").failures() == ["bare has no instrument"]
        assert not is_data_ready(stores.historical, "bare", LAST)


def test_an_audit_sees_nothing_after_its_session(filled):
    result = audit(filled, "mine", as_of=SESSIONS[5])

    assert result.as_of == SESSIONS[5]
    assert health_of(result)["STALE"] == "OK"
    assert {each.bars for each in result.verdicts} == {6, 5, 4, 0}


def test_a_weekend_means_the_session_before_it_and_an_open_session_is_refused(filled):
    now = datetime(2024, 1, 12, 20, tzinfo=UTC)

    assert audit(filled, "mine", as_of=date(2024, 1, 7)).as_of == date(2024, 1, 5)
    with pytest.raises(DataError, match=r"2024-01-12: the session has not closed.*2024-01-11"):
        audit(filled, "mine", as_of=LAST, now=now)


def test_findings_of_an_audit_are_resolved_by_an_audit_that_no_longer_meets_them(settings, prices):
    spec = SourceSpec("csv", prices("A", without=[3, 4]), "mine")
    ingest_named(settings, spec)
    check_dataset(settings, "mine", HealthParams())
    prices("A")
    ingest_named(settings, spec)

    _, before = check_dataset(settings, "mine", HealthParams(), rule="session_gap")

    assert before == []
    with open_stores(settings) as stores:
        (event,) = stores.historical.quality_events("mine", resolved=True)
    assert (event["rule"], event["resolved_by"]) == ("session_gap", "audit")
    assert (event["trade_date"], event["value"]) == (SESSIONS[3], "2 sessions")


SPIKES = {"AAPL.US": 8, "FB.US": 1, "IBM.US": 5, "MSFT.US": 7, "SPX.INDX": 1}


def test_the_samples_hold_the_known_oddities_and_nothing_invented(sqlite_database):
    store = HistoricalStore(sqlite_database)
    for source in (sample_ohlcv(), sample_sp500()):
        ingest(source, store)

    ohlcv, sp500 = (store.quality_events(name) for name in ("sample_ohlcv", "sample_sp500"))

    # The splits of Apple (2000-06-21, 2005-02-28) and Microsoft (2003-02-18) are explained.
    moves = [(e["instrument_id"], str(e["trade_date"]), e["rule"]) for e in ohlcv]
    assert [each for each in moves if each[2] != "volume_spike"] == [
        ("AAPL.US", "2000-09-29", "large_return")
    ]
    assert Counter(name for name, _, rule in moves if rule == "volume_spike") == SPIKES
    found = {(e["instrument_id"], str(e["trade_date"]), e["rule"]) for e in sp500}
    assert {each for each in found if each[2] == "large_return"} == {
        ("AAPL.US", "2000-09-29", "large_return"),
        ("AMD.US", "2016-04-22", "large_return"),
        ("RRC.US", "1990-04-10", "large_return"),
        ("RRC.US", "1998-10-19", "large_return"),
    }
    stalls = sorted(day for _, day, rule in found if rule == "stalled_price")
    assert {name for name, _, rule in found if rule == "stalled_price"} == {"RRC.US"}
    assert (len(stalls), stalls[0], stalls[-1]) == (13, "1990-01-17", "1992-04-08")
    assert len(found) == 17
    assert audit(store, "sample_sp500").failures(strict=True) == []
    assert audit(store, "sample_ohlcv", as_of=date(2013, 3, 1)).failures(strict=True) == []
    assert audit(store, "sample_ohlcv").failures(strict=True) == ["5 STALE"]


@pytest.mark.integration
def test_two_real_sources_disagree_about_two_days_of_apple_only(settings):
    ingest_named(settings, SourceSpec("sample"))

    result, findings = check_dataset(
        settings, "sample_sp500", HealthParams(), against="sample_ohlcv", rule="source_disagreement"
    )

    assert (result.compared, result.differing) == (6538, 2)
    assert [(each["instrument_id"], str(each["trade_date"])) for each in findings] == [
        ("AAPL.US", "2003-01-29"),
        ("AAPL.US", "2003-01-30"),
    ]
    assert result.failures() == []
    assert result.failures(strict=True) == ["2 returns differ between the sources"]


def test_what_a_comparison_found_stays_open_until_it_is_compared_again(settings, prices, tmp_path):
    ingest_named(settings, SourceSpec("csv", prices("A"), "mine"))
    mended = (tmp_path / "prices" / "A.csv").read_text()
    header, *rows = mended.splitlines()
    wrong = rows[4].split(",")[0] + ",20,21,19,20,1000"
    for name, fifth in (("other", wrong), ("a_dataset_with_quite_a_long_name", rows[4])):
        (tmp_path / name).mkdir()
        content = "\n".join([header, *rows[:4], fifth, *rows[5:], ""])
        (tmp_path / name / "A.csv").write_text(content)
        ingest_named(settings, SourceSpec("csv", tmp_path / name, name))

    def open_after(**options):
        _, found = check_dataset(settings, "mine", HealthParams(), **options)
        return sorted({each["rule"] for each in found if each["found_by"] != "ingest"})

    assert open_after(against="other") == ["source_disagreement"]
    assert open_after() == ["source_disagreement"]
    assert open_after(against="a_dataset_with_quite_a_long_name") == ["source_disagreement"]
    (tmp_path / "other" / "A.csv").write_text(mended)
    ingest_named(settings, SourceSpec("csv", tmp_path / "other", "other"))
    assert open_after(against="other") == []


def test_datasets_without_a_common_name_cannot_be_compared(settings, prices, tmp_path):
    ingest_named(settings, SourceSpec("csv", prices("A"), "one"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "B.csv").write_text((tmp_path / "prices" / "A.csv").read_text())
    ingest_named(settings, SourceSpec("csv", other, "two"))

    with pytest.raises(DataError, match="no session of an equity in common"):
        check_dataset(settings, "one", HealthParams(), against="two")
    with pytest.raises(ConfigError, match="name another dataset"):
        check_dataset(settings, "one", HealthParams(), against="one")


def test_a_spec_survives_the_store_without_the_symbols_chosen_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gates = QualityParams(stall_rejected_after=5)
    where = ("csv", tmp_path / "p", "mine", "EU_EQ", ("A",))
    spec = SourceSpec(*where, True, DividendBasis.EX_CLOSE, gates=gates)

    document = json.loads(json.dumps(origin_of(spec)))

    again = spec_of({"dataset_id": "mine", "origin": document})
    assert again == dataclasses.replace(spec, symbols=None)
    relative = dataclasses.replace(spec, path=(tmp_path / "p").relative_to(tmp_path))
    assert origin_of(relative) == document


def test_a_spec_has_no_field_that_could_hold_a_secret():
    names = {field.name for field in dataclasses.fields(SourceSpec)}

    words = ("key", "token", "secret", "password", "credential")
    assert not [name for name in names if any(word in name for word in words)]


@pytest.mark.parametrize("origin", [None, {"kind": 3}, {"kind": "csv", "api_key": []}])
def test_an_origin_that_is_unknown_or_strange_is_named(origin):
    with pytest.raises(StoreError, match=r"mine: .*prometheus data ingest"):
        spec_of({"dataset_id": "mine", "origin": origin})


def test_thresholds_of_the_gates_are_read_and_named():
    assert gate_params(["stall_rejected_after=7", "large_return=0.3"]) == QualityParams(
        stall_rejected_after=7, large_return=0.3
    )
    assert gate_params(["stall_rejected_after=none"]).stall_rejected_after is None
    with pytest.raises(ConfigError, match=r"--gate spike_sigma.*thresholds are highest_return"):
        gate_params(["spike_sigma=-1"])


def test_a_repair_reads_the_broken_again_and_nobody_else(settings, prices, filled):
    prices("HOLED")
    prices("EMPTY")
    prices("GOOD", text="broken since")
    prices("HALTED", text="broken since")

    listed = repair(settings, "mine", dry_run=True)
    report = repair(settings, "mine")

    broken = ["EMPTY.US", "HOLED.US", "STALE.US", "WRONG.US"]
    assert [each.before.instrument_id for each in listed.repaired] == broken
    assert (listed.rows_written, listed.still_broken) == (0, 4)
    after = {each.before.instrument_id: each for each in report.repaired}
    assert list(after) == broken
    assert [str(each.after.health) for each in after.values()] == ["OK", "OK", "STALE", "DROPPED"]
    assert after["HOLED.US"].reason == "repaired"
    assert "sessions old" in after["STALE.US"].reason
    assert (report.rows_written, report.still_broken) == (9 + 2, 2)
    assert {each.last for each in audit(filled, "mine").verdicts if "GOOD" in each.instrument_id}


def test_a_share_class_with_a_dot_is_one_instrument_of_the_market(settings, prices):
    folder = prices("BRK.B")

    (report,) = ingest_named(settings, SourceSpec("csv", folder, "mine", symbols=("brk.b",)))

    assert report.loaded == ("BRK-B.US",)


def test_a_repair_says_what_the_source_has_lost(settings, prices, filled, tmp_path):
    (tmp_path / "prices" / "HOLED.csv").unlink()

    report = repair(settings, "mine")

    reasons = {each.before.instrument_id: each.reason for each in report.repaired}
    assert reasons["HOLED.US"] == "the source does not offer it any more"


def test_a_repair_of_what_stays_broken_is_an_answer_and_not_an_error(settings, prices):
    prices("GOOD")
    ingest_named(settings, SourceSpec("csv", prices("BAD", text=""), "mine"))

    report = repair(settings, "mine")

    (one,) = report.repaired
    assert one.after.health is Health.DROPPED
    assert "the file is empty" in one.reason
    assert report.still_broken == 1


def test_a_healthy_dataset_needs_no_repair_and_a_source_that_is_gone_is_named(
    settings, prices, tmp_path
):
    ingest_named(settings, SourceSpec("csv", prices("A"), "mine"))
    assert repair(settings, "mine").repaired == ()

    (tmp_path / "prices").rename(tmp_path / "moved")

    with pytest.raises(ConfigError, match="no such file or folder"):
        repair(settings, "mine", as_of=date(2024, 1, 16))


def test_a_repair_knows_the_sample_it_came_from(settings):
    ingest_named(settings, SourceSpec("sample", symbols=("AAPL", "SPX")))

    report = repair(settings, "sample_ohlcv")

    (one,) = report.repaired
    assert (one.before.instrument_id, str(one.after.health)) == ("AAPL.US", "STALE")


def test_a_session_is_ready_when_enough_instruments_have_their_bar(filled):
    day = SESSIONS[2]

    status = ingestion_status(filled, "mine", day, minimum=4 / 6)

    assert (status.status, status.instruments_received) == (IngestionState.COMPLETE, 4)
    assert (status.instruments_expected, status.share) == (6, 4 / 6)
    assert is_data_ready(filled, "mine", day, minimum=4 / 6)
    assert not is_data_ready(filled, "mine", day)
    short = ingestion_status(filled, "mine", day)
    assert short.status is IngestionState.IN_PROGRESS
    assert short.error_details["missing"] == ["EMPTY.US", "WRONG.US"]
    assert "4 of 6 instruments have their bar, 95% are needed" in short.error_message


def test_no_bar_is_expected_of_whose_listing_is_recorded_to_have_ended(settings, filled, tmp_path):
    ends = tmp_path / "ends.csv"
    ends.write_text(f"instrument_id,exchange,delisted_on\nSTALE.US,XNYS,{SESSIONS[7]}\n")
    before = ingestion_status(filled, "mine", LAST)

    import_instruments(settings, ends)

    after = ingestion_status(filled, "mine", LAST)
    assert (before.instruments_received, before.instruments_expected) == (3, 6)
    assert (after.instruments_received, after.instruments_expected) == (3, 5)
    assert "STALE.US" not in after.error_details["missing"]
    earlier = ingestion_status(filled, "mine", SESSIONS[6])
    assert earlier.instruments_expected == 6, "it was still listed"
    verdicts = {each.instrument_id: each for each in audit(filled, "mine").verdicts}
    assert str(verdicts["STALE.US"].health) == "OK"
    assert verdicts["STALE.US"].reason == "delisted"


def test_nothing_received_and_nothing_begun_is_pending(filled):
    status = ingestion_status(filled, "mine", date(2024, 1, 16))

    assert (status.status, status.last_price_timestamp) == (IngestionState.PENDING, None)
    with pytest.raises(NonSession):
        ingestion_status(filled, "mine", date(2024, 1, 13))


def test_an_ingest_is_followed_from_its_start_to_its_end(filled):
    day, health = date(2024, 1, 16), HealthStore(filled.database)

    with recorded_ingestion(filled, "mine", day):
        running = ingestion_status(filled, "mine", day).status
    failed = health.ingestion_status("mine", day)
    with recorded_ingestion(filled, "mine", SESSIONS[2], minimum=0.5):
        pass
    complete = health.ingestion_status("mine", SESSIONS[2])

    assert running is IngestionState.IN_PROGRESS
    assert failed["status"] == "FAILED"
    assert failed["started_at"] <= failed["completed_at"]
    assert (complete["status"], complete["error_message"]) == ("COMPLETE", None)


def test_an_ingest_that_raises_is_failed_with_its_reason(filled):
    day = date(2024, 1, 16)

    with (
        pytest.raises(DataError, match="vendor is down"),
        recorded_ingestion(filled, "mine", day),
    ):
        raise DataError("vendor is down")

    status = ingestion_status(filled, "mine", day)
    assert status.status is IngestionState.FAILED
    assert "vendor is down" in status.error_message
