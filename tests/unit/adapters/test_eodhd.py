"""What becomes of EODHD's answers: statements, sectors, news, members, holidays and actions."""

import json
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import httpx
import pytest

from adapters.eodhd import EodhdSource, Selection, eodhd
from adapters.http import Clock, KeyRefused, SchemaChanged, VendorClient
from adapters.reference import Frequency, StatementType
from adapters.source import ActionType
from prometheus_nt.domain.errors import ConfigError

NEW_YORK = ZoneInfo("America/New_York")
NOW = datetime(2024, 6, 3, 15, tzinfo=UTC)


@pytest.fixture
def asking():
    """Return a function that makes a source of fixed answers, and the requests it made."""
    clients = []

    def made(**answers):
        requests = []

        def answer(request):
            params = dict(request.url.params)
            assert params.pop("api_token") == "key"
            path = request.url.path.removeprefix("/api/")
            requests.append((path, params))
            found = answers[path.split("/")[0].replace("-", "_")]
            found = found(params) if callable(found) else found
            if isinstance(found, httpx.Response):
                return found
            return httpx.Response(200, text=json.dumps(found))

        clock = Clock(sleep=lambda seconds: None, now=lambda: NOW)
        client = VendorClient(eodhd("key"), clock=clock, transport=httpx.MockTransport(answer))
        clients.append(client)
        selection = Selection(symbols=("AAPL",))
        return EodhdSource(client, "d", "US_EQ", selection, clock), requests

    yield made
    for client in clients:
        client.close()


LISTED = [
    {
        "Code": "AAPL",
        "Name": "Apple",
        "Exchange": "NASDAQ",
        "Currency": "USD",
        "Type": "Common Stock",
    }
]


def income(period_end, filed, **figures):
    row = {"date": period_end, "filing_date": filed, "currency_symbol": "USD"}
    return {period_end: row | figures}


def financials(quarterly=(), yearly=(), name="Income_Statement"):
    empty = {"currency_symbol": "USD", "quarterly": [], "yearly": []}
    sheets = {sheet: empty for sheet in ("Income_Statement", "Balance_Sheet", "Cash_Flow")}
    sheets[name] = empty | {"quarterly": quarterly or [], "yearly": yearly or []}
    return {"General": {"Sector": "Technology", "Industry": "Phones"}, "Financials": sheets}


def test_a_statement_is_known_at_the_end_of_its_filing_day_under_our_names(asking):
    quarter = income(
        "2023-09-30",
        "2023-11-03",
        totalRevenue="89498000000.00",
        netIncome=22956000000,
        grossProfit=None,
        ebitda="",
        researchDevelopment="7307000000.00",
        operatingIncome="0.00",
    )
    source, _ = asking(fundamentals=financials(quarter))

    (statement,) = source.statements("AAPL.US")

    assert statement.issuer_id == "AAPL"
    assert statement.statement_type is StatementType.IS
    assert statement.frequency is Frequency.QUARTERLY
    assert statement.period_end == date(2023, 9, 30)
    assert statement.report_date == date(2023, 11, 3)
    assert statement.known_at == datetime(2023, 11, 3, 23, 59, 59, tzinfo=NEW_YORK)
    # Unknown figures are absent; a zero is how the vendor writes one of them.
    assert statement.values == {
        "revenue": 89498000000.0,
        "net_income": 22956000000.0,
        "researchDevelopment": 7307000000.0,
    }
    assert (statement.currency, statement.source) == ("USD", "eodhd")


@pytest.mark.parametrize(
    ("filed", "reason"),
    [
        (None, "no filing date"),
        ("0000-00-00", "no filing date"),
        ("2023-09-30", "filing date 2023-09-30 is not after it"),
        ("2023-08-01", "filing date 2023-08-01 is not after it"),
    ],
)
def test_without_a_plausible_filing_day_a_late_one_is_assumed_and_said(asking, filed, reason):
    row = income("2023-09-30", filed, totalRevenue=1)
    source, _ = asking(fundamentals=financials(row, row))

    quarter, year = source.statements("AAPL.US")

    assert quarter.known_at.date() == date(2023, 12, 29)
    assert quarter.source == f"eodhd: known 90 days after the period, {reason}"
    assert year.known_at.date() == date(2024, 1, 28)
    assert year.source == f"eodhd: known 120 days after the period, {reason}"
    assert (quarter.report_date, year.report_date) == (None, None)


def test_no_statement_is_known_before_its_period_has_ended(asking):
    rows = {}
    for month in range(1, 13):
        rows |= income(f"2022-{month:02d}-28", f"20{20 + month % 4}-06-15", totalRevenue=1)
    source, _ = asking(fundamentals=financials(rows))

    for statement in source.statements("AAPL.US"):
        assert statement.known_at.date() > statement.period_end


def test_balances_have_our_names_and_a_list_is_read_like_an_object(asking):
    row = income("2023-12-31", "2024-02-01", totalAssets=5, totalLiab=3, totalStockholderEquity=2)
    rows = list(row.values())
    source, _ = asking(fundamentals=financials(yearly=rows, name="Balance_Sheet"))

    (statement,) = source.statements("AAPL.US")

    assert statement.statement_type is StatementType.BS
    assert statement.frequency is Frequency.ANNUAL
    assert statement.values == {"total_assets": 5.0, "total_liabilities": 3.0, "equity": 2.0}


def test_a_fund_without_accounts_has_no_statements_and_no_sector(asking):
    source, _ = asking(fundamentals={"General": {"Type": "ETF"}, "Financials": []})

    assert source.statements("SPY.US") == []
    assert source.sectors("SPY.US") == []


def test_a_figure_that_is_no_number_names_its_place(asking):
    row = income("2023-09-30", "2023-11-03", totalRevenue="a lot")
    source, _ = asking(fundamentals=financials(row))

    with pytest.raises(SchemaChanged) as raised:
        source.statements("AAPL.US")

    assert str(raised.value).startswith(
        "EODHD /fundamentals/AAPL.US: field 'Financials.Income_Statement.quarterly.2023-09-30"
        ".totalRevenue': expected a number, found 'a lot'; the vendor may have changed"
    )


def test_a_sector_is_known_from_the_day_it_was_asked_for(asking):
    source, requests = asking(fundamentals=financials())

    (sector,) = source.sectors("AAPL.US")
    source.statements("AAPL.US")

    assert (sector.sector, sector.industry, sector.start) == ("Technology", "Phones", None)
    assert sector.known_at == NOW
    # One expensive request answers both questions.
    assert len(requests) == 1


def test_a_plan_without_accounts_is_an_error_and_not_an_empty_answer(asking):
    source, _ = asking(fundamentals=httpx.Response(403, text="Only EOD data allowed"))

    with pytest.raises(KeyRefused, match="whether your plan includes this endpoint"):
        source.statements("AAPL.US")


def article(number, **values):
    return {
        "date": "2024-02-09T17:09:51+00:00",
        "title": f"News {number}",
        "content": "Text",
        "link": f"https://news.example/{number}",
        "symbols": ["AAPL.US", "MSFT.US"],
        "tags": [],
    } | values


def pages(total):
    everything = [article(number) for number in range(total)]

    def answer(params):
        start = int(params["offset"])
        return everything[start : start + int(params["limit"])]

    return answer


@pytest.mark.parametrize(("total", "requests_made"), [(0, 1), (3, 1), (1000, 2), (2500, 3)])
def test_news_is_read_page_by_page_to_the_end(asking, total, requests_made):
    source, requests = asking(news=pages(total))

    found = list(source.news("AAPL.US", date(2024, 1, 1), date(2024, 2, 29)))

    assert [item.headline for item in found] == [f"News {number}" for number in range(total)]
    assert len(requests) == requests_made
    assert {(params["s"], params["from"], params["to"]) for _, params in requests} == {
        ("AAPL.US", "2024-01-01", "2024-02-29")
    }


def test_an_article_carries_its_time_its_instruments_and_its_link(asking):
    naive = article(1, date="2024-02-09T12:00:00")
    source, _ = asking(news=[article(0), naive])

    first, second = source.news("AAPL.US", date(2024, 1, 1), date(2024, 2, 29))

    assert first.known_at == datetime(2024, 2, 9, 17, 9, 51, tzinfo=UTC)
    assert second.known_at == datetime(2024, 2, 9, 12, tzinfo=UTC)
    assert first.instrument_ids == ("AAPL.US", "MSFT.US")
    assert first.metadata == {"link": "https://news.example/0"}


def test_news_that_moves_between_pages_counts_once(asking):
    everything = [article(number) for number in range(1500)]
    source, _ = asking(
        news=lambda params: everything[:1000] if params["offset"] == "0" else everything[990:]
    )

    found = list(source.news("AAPL.US", date(2024, 1, 1), date(2024, 2, 29)))

    assert len(found) == 1500


def test_a_vendor_that_repeats_its_first_page_for_ever_is_stopped(asking):
    source, requests = asking(news=[article(number) for number in range(1000)])

    with pytest.raises(SchemaChanged, match="expected a page of other articles"):
        list(source.news("AAPL.US", date(2024, 1, 1), date(2024, 2, 29)))

    assert len(requests) == 2


def member(code, start, end):
    return {"Code": code, "Name": code, "StartDate": start, "EndDate": end}


def test_a_membership_is_known_when_it_began_and_its_end_when_it_ended(asking):
    history = {
        "0": member("AAPL", "2010-01-04", None),
        "1": member("TWTR", "2018-06-07", "2022-11-01"),
    }
    source, _ = asking(fundamentals={"HistoricalTickerComponents": history})

    known = [
        (item.instrument_id, item.start, item.end, item.known_at)
        for item in source.memberships("GSPC.INDX")
    ]

    def evening(*day):
        return datetime(*day, 23, 59, 59, tzinfo=NEW_YORK)

    joined, left = date(2018, 6, 7), date(2022, 11, 1)
    assert known == [
        ("AAPL.US", date(2010, 1, 4), None, evening(2010, 1, 4)),
        # Nobody could know in 2018 that it would leave.
        ("TWTR.US", joined, None, evening(2018, 6, 7)),
        ("TWTR.US", joined, left, evening(2022, 11, 1)),
    ]
    assert {item.index_id for item in source.memberships("GSPC")} == {"GSPC"}


def test_a_stay_without_a_first_day_tells_nothing_about_the_past(asking):
    history = [member("OLD", None, "2005-03-01"), member("BRK-B", None, None)]
    source, _ = asking(fundamentals={"HistoricalTickerComponents": history})

    old, berkshire = source.memberships("GSPC")

    assert (old.start, old.end, old.known_at.date()) == (None, date(2005, 3, 1), date(2005, 3, 1))
    assert (berkshire.start, berkshire.end, berkshire.known_at) == (None, None, NOW)


def test_holidays_are_the_weekdays_without_trading(asking):
    days = {
        "0": {"Holiday": "Good Friday", "Date": "2024-03-29", "Type": "official"},
        "1": {"Holiday": "New Year", "Date": "2024-01-01", "Type": "official"},
        "2": {"Holiday": "Bank day", "Date": "2024-02-20", "Type": "bank"},
        "3": {"Holiday": "Saturday", "Date": "2022-01-01", "Type": "official"},
    }
    source, requests = asking(exchange_details={"ExchangeHolidays": days})

    found = [(item.market_id, item.day, item.name) for item in source.holidays("US_EQ")]

    assert found == [
        ("US_EQ", date(2024, 1, 1), "New Year"),
        ("US_EQ", date(2024, 3, 29), "Good Friday"),
    ]
    assert requests[0][1] == {"fmt": "json", "from": "2000-01-01", "to": "2025-12-31"}
    with pytest.raises(ConfigError, match="unknown market 'MARS'"):
        source.holidays("MARS")


def acting(asking, splits=(), dividends=()):
    source, _ = asking(
        exchange_symbol_list=LISTED, splits=list(splits), div=list(dividends), eod=[]
    )
    return [
        (str(item.ex_date), item.action_type, item.value) for item in source.actions("AAPL.US")
    ], source


def dividend(day, value, paid=None, **values):
    known = {} if paid is None else {"unadjustedValue": paid}
    return {"date": day, "value": value} | known | values


def test_dividends_are_the_cash_that_was_paid_per_share_of_their_day(asking):
    splits = [
        {"date": "2014-06-09", "split": "7.000000/1.000000"},
        {"date": "2020-08-31", "split": "4.000000/1.000000"},
        {"date": "2003-01-02", "split": "1.000000/10.000000"},
        {"date": "2004-01-02", "split": "1.000000/1.000000"},
    ]
    dividends = [
        dividend("2014-05-08", 0.1175, 3.29, currency="USD"),
        dividend("2014-08-07", "0.1175"),  # no amount as paid: 0.1175 x 4
        dividend("2020-08-31", 0.2, 0.8),  # on the day of a split: per share after it
        dividend("2021-02-05", 0.205, None, unadjustedValue=None),
        dividend("2021-05-07", 0.2, 0.2),
        dividend("2021-05-07", 1.0, 1.0),  # a special dividend of the same day
        dividend("2021-05-07", 1.0, 1.0),  # and the same row twice
        dividend("2021-08-06", 0, 0),
    ]

    found, _ = acting(asking, splits, dividends)

    split, cash = ActionType.SPLIT, ActionType.DIVIDEND
    assert found == [
        ("2003-01-02", split, 0.1),
        ("2014-05-08", cash, 3.29),
        ("2014-06-09", split, 7.0),
        ("2014-08-07", cash, 0.47),
        ("2020-08-31", cash, 0.2),
        ("2020-08-31", split, 4.0),
        ("2021-02-05", cash, 0.205),
        ("2021-05-07", cash, 1.2),
    ]


def test_an_action_that_is_only_announced_is_left_for_its_day(asking):
    found, _ = acting(
        asking,
        [{"date": "2024-06-04", "split": "2/1"}],
        [dividend("2024-06-03", 1, 1), dividend("2024-08-01", 1, 1)],
    )

    assert [day for day, _, _ in found] == ["2024-06-03"]


def test_a_dividend_in_another_currency_is_left_out_and_reported(asking):
    found, source = acting(asking, (), [dividend("2024-05-01", 1, 1, currency="EUR")])
    table = source.read_part("AAPL.US", None, None)

    assert found == []
    (issue,) = table.issues
    assert (issue.rule, issue.value, issue.trade_date) == (
        "foreign_dividend",
        "EUR",
        date(2024, 5, 1),
    )
    assert "but prices are in USD; the dividend was left out" in issue.message


@pytest.mark.parametrize(
    ("splits", "dividends", "words"),
    [
        ([{"date": "2024-02-01", "split": "0/1"}], [], "new shares/old shares"),
        ([{"date": "2024-02-01", "split": 4}], [], "expected a text, found 4"),
        ([{"date": "2024-02-30", "split": "4/1"}], [], "a day as YYYY-MM-DD"),
        (
            [{"date": "2024-02-01", "split": "4/1"}, {"date": "2024-02-01", "split": "2/1"}],
            [],
            "one split a day",
        ),
        ([], [dividend("2024-02-01", -1, -1)], "cash of at least 0"),
        ([], [dividend("2024-02-01", True)], "expected a number, found True"),
        ([], [dividend("2024-02-01", "NaN")], "expected a number"),
        ([], {"errors": []}, "expected a list"),
    ],
)
def test_an_action_that_makes_no_sense_is_an_error_and_no_guess(asking, splits, dividends, words):
    source, _ = asking(exchange_symbol_list=LISTED, splits=splits, div=dividends)

    with pytest.raises(SchemaChanged, match=words):
        source.actions("AAPL.US")
