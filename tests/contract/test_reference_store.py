"""What the reference store promises, on either engine."""

from datetime import UTC, date, datetime

import numpy as np
import pytest
from sqlalchemy import text

from persistence.historical import HistoricalStore
from persistence.panel_cache import load_panel
from persistence.reference_store import ReferenceStore
from prometheus_nt.domain.calendar import MarketCalendar
from prometheus_nt.domain.errors import StoreError

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 1, 12))


def at(day, hour=12, month=1):
    return datetime(2024, month, day, hour, tzinfo=UTC)


NOW, LATER = at(1, month=6), at(2, month=6)


def statement(**facts):
    return {
        "issuer_id": "A",
        "statement_type": "IS",
        "frequency": "QUARTERLY",
        "period_end": date(2023, 12, 31),
        "report_date": date(2024, 1, 4),
        "known_at": at(4),
        "currency": "USD",
        "values": {"revenue": 100.0, "net_income": 10.0},
        "source": "test",
    } | facts


def article(**facts):
    about = {"known_at": at(5), "source": "wire", "headline": "A grows"}
    return (
        about
        | {
            "instrument_ids": ("A.US",),
            "body": None,
            "language": "en",
            "metadata": {},
        }
        | facts
    )


def stay(**facts):
    known = {"known_at": at(2), "source": "test"}
    return {"index_id": "IDX", "instrument_id": "A.US", "start": None, "end": None} | known | facts


def assignment(**facts):
    about = {"issuer_id": "A", "sector": "Tech", "industry": None, "start": None}
    return about | {"known_at": at(2), "source": "test"} | facts


@pytest.fixture
def store(database):
    return filled(database)


def filled(database):
    historical = HistoricalStore(database)
    facts = {"source": "test", "market_id": "US_EQ", "adjustment": "AS_TRADED"}
    facts |= {"synthetic_bars": False, "description": "", "survivorship": ""}
    for dataset_id in ("demo", "other"):
        historical.write_dataset({"dataset_id": dataset_id} | facts)
    company = {"sector": "Today's", "asset_class": "EQUITY", "exchange": None, "currency": "USD"}
    # Two classes of shares of one issuer.
    names = {"A.US": "A", "AB.US": "A", "C.US": "C"}
    historical.write_instruments(
        "demo",
        [
            {"instrument_id": name, "symbol": name, "issuer_id": issuer, "name": name} | company
            for name, issuer in names.items()
        ],
    )
    bars = dict.fromkeys(("open", "high", "low", "close", "adjusted_close"), np.full(9, 10.0))
    for name in names:
        own = bars | {"volume": np.ones(9), "trade_date": SESSIONS}
        historical.write_prices("demo", name, own, source="test")
    return ReferenceStore(database)


def test_writing_the_same_facts_again_writes_nothing(store):
    def write_all():
        return (
            store.write_statements("demo", [statement()], NOW),
            store.write_news("demo", [article(), article(headline="B", body="x")], NOW),
            store.write_memberships("demo", [stay()], NOW),
            store.write_sectors("demo", [assignment()], NOW),
            store.write_holidays([holiday], NOW),
        )

    holiday = {"market_id": "US_EQ", "day": date(2024, 7, 4), "name": "July", "source": "test"}

    assert write_all() == (1, 4, 1, 1, 1)
    assert write_all() == (0, 0, 0, 0, 0)


def test_a_changed_figure_is_a_version_known_from_the_time_we_were_told(store):
    store.write_statements("demo", [statement()], NOW)

    changed = statement(values={"revenue": 90.0})
    assert store.write_statements("demo", [changed], NOW) == 1
    assert store.write_statements("demo", [changed], LATER) == 0
    assert store.write_statements("demo", [statement()], LATER) == 1

    def revenue(as_of):
        return [row["values"]["revenue"] for row in store.statements("demo", as_of)]

    assert revenue(at(3)) == []
    assert revenue(at(4)) == [100.0]
    assert revenue(NOW) == [90.0]
    assert revenue(LATER) == [100.0]


def test_annual_and_quarter_original_and_restated_stand_side_by_side(store):
    written = [
        statement(),
        statement(frequency="ANNUAL", values={"revenue": 400.0}),
        statement(known_at=at(10), values={"revenue": 95.0}),
        statement(statement_type="BS", values={"equity": 5.0}),
    ]
    assert store.write_statements("demo", written, NOW) == 4

    def known(as_of):
        rows = store.statements("demo", as_of)
        return sorted((row["fiscal_period"], row["values"].get("revenue", 0.0)) for row in rows)

    assert known(at(9)) == [("2023A", 400.0), ("2023Q4", 0.0), ("2023Q4", 100.0)]
    assert known(at(10)) == [("2023A", 400.0), ("2023Q4", 0.0), ("2023Q4", 95.0)]
    assert len(store.statement_versions("demo")) == 4


def test_a_changed_first_report_does_not_unsay_its_restatement(store):
    restated = statement(known_at=at(10), values={"revenue": 95.0})
    store.write_statements("demo", [statement(), restated], NOW)

    store.write_statements("demo", [statement(values={"revenue": 99.0})], NOW)

    (row,) = store.statements("demo", LATER)
    assert row["values"] == {"revenue": 95.0}


def test_two_datasets_do_not_blend(store):
    store.write_statements("demo", [statement()], NOW)
    store.write_statements("other", [statement(values={"revenue": 1.0})], NOW)

    assert [row["values"]["revenue"] for row in store.statements("other", NOW)] == [1.0]
    with pytest.raises(StoreError, match="no dataset 'nope'"):
        store.write_statements("nope", [statement()], NOW)
    with pytest.raises(StoreError, match="no dataset 'nope'"):
        store.statements("nope", NOW)


def test_a_time_without_a_zone_is_refused(store):
    with pytest.raises(StoreError, match="without a timezone"):
        store.write_statements("demo", [statement(known_at=datetime(2024, 1, 4))], NOW)  # noqa: DTZ001


def test_figures_that_are_not_finite_are_left_out(store):
    store.write_statements("demo", [statement(values={"revenue": np.nan, "equity": 2.0})], NOW)

    assert store.statements("demo", NOW)[0]["values"] == {"equity": 2.0}


def test_members_are_those_of_the_day_as_known_then(store):
    store.write_memberships(
        "demo",
        [
            stay(),
            stay(end=date(2024, 1, 8), known_at=at(9)),
            stay(instrument_id="DEAD.US", start=date(2020, 1, 2), end=date(2024, 1, 5)),
            stay(instrument_id="C.US", start=date(2024, 1, 10)),
        ],
        NOW,
    )

    def members(day, as_of):
        return [row["instrument_id"] for row in store.memberships("demo", as_of, day)]

    assert members(date(2024, 1, 4), at(4)) == ["A.US", "DEAD.US"]
    assert members(date(2024, 1, 8), at(8)) == ["A.US"]
    assert members(date(2024, 1, 8), at(9)) == []
    assert members(date(2024, 1, 10), at(10)) == ["C.US"]
    assert store.indexes("demo") == ["IDX"]
    assert store.indexes("other") == []


def test_news_are_found_by_whom_they_are_about(store):
    store.write_news("demo", [article(), article(headline="C", instrument_ids=("C.US", "X.US"))])
    # The same article fetched for another instrument is one more link.
    assert store.write_news("demo", [article(instrument_ids=("C.US",))]) == 1

    def headlines(as_of, about=None):
        return sorted(row["headline"] for row in store.news("demo", as_of, about))

    assert headlines(at(4)) == []
    assert headlines(at(5)) == ["A grows", "C"]
    assert headlines(at(5), "A.US") == ["A grows"]
    assert headlines(at(5), "C.US") == ["A grows", "C"]
    assert len(store.news("demo", at(5), limit=1)) == 1


def test_a_text_changed_afterwards_is_read_as_it_was(store):
    store.write_news("demo", [article(body="up")], NOW)

    assert store.write_news("demo", [article(body="down")], NOW) == 2

    assert [row["body"] for row in store.news("demo", at(6), "A.US")] == ["up"]
    assert [row["body"] for row in store.news("demo", NOW, "A.US")] == ["down"]


def test_news_are_counted_by_issuer_and_day(store):
    store.write_news(
        "demo",
        [
            article(instrument_ids=("A.US", "AB.US")),
            article(headline="again", known_at=at(5, 23)),
            article(headline="later", known_at=at(9)),
            article(headline="of nobody we know", instrument_ids=("X.US",)),
        ],
        NOW,
    )
    store.write_news("demo", [article(instrument_ids=("A.US", "AB.US"), body="changed")], NOW)

    query = (
        "SELECT issuer_id, CAST(news_date AS TEXT), n_articles, days_since_prev_news,"
        " embedding_source_id FROM issuer_news_daily ORDER BY news_date"
    )
    with store.database.reader() as connection:
        rows = [tuple(row) for row in connection.execute(text(query))]

    assert rows == [
        ("A", "2024-01-05", 2, None, "A:2024-01-05"),
        ("A", "2024-01-09", 1, 4, "A:2024-01-09"),
    ]


def test_ratios_are_read_as_they_were_known(store):
    names = ("roe", "roic", "gross_margin", "op_margin", "net_margin", "leverage")
    names += ("interest_coverage", "revenue_growth", "eps_growth")
    about = {"issuer_id": "A", "frequency": "ANNUAL", "period_end": date(2023, 12, 31)}
    about |= {"period_start": date(2023, 1, 1)} | dict.fromkeys(names, np.nan)
    first = about | {"known_at": at(4), "roe": 0.1}
    second = about | {"known_at": at(9), "roe": 0.2}

    assert store.write_ratios("demo", [first, second], NOW) == 2
    assert store.write_ratios("demo", [first, second], LATER) == 0
    assert store.write_ratios("demo", [first, second | {"roic": 0.3}], LATER) == 1

    assert [row["roe"] for row in store.ratios("demo", at(8))] == [0.1]
    (known,) = store.ratios("demo", at(9), issuer_id="A")
    assert (known["roe"], known["roic"], known["leverage"]) == (0.2, 0.3, None)


def test_a_panel_holds_the_same_facts_on_either_engine(both_databases, tmp_path):
    panels = []
    for number, database in enumerate(both_databases):
        store = filled(database)
        store.write_statements("demo", [statement(), statement(known_at=at(10))], NOW)
        store.write_news("demo", [article()], NOW)
        store.write_memberships("demo", [stay()], NOW)
        store.write_sectors("demo", [assignment(), assignment(issuer_id="C", sector="Oil")], NOW)
        historical = HistoricalStore(database)
        panels.append(load_panel(historical, "demo", tmp_path / str(number), "IDX"))

    assert panels[0].fingerprint == panels[1].fingerprint
    assert panels[0].sectors == ("Tech", "Tech", "Oil")
    assert len(panels[0].facts) == len(panels[1].facts) == 9
