"""A vendor on this machine that answers like EODHD, and fails as it is told to."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
import pytest

from adapters.eodhd import EodhdSource, Selection, eodhd
from adapters.http import Clock, Limits, VendorClient
from prometheus_nt.domain.calendar import MarketCalendar

KEY = "s3cr3t k&y"
"""With characters that a URL spells differently."""

SESSIONS = MarketCalendar.of("US_EQ").between(date(2024, 1, 2), date(2024, 3, 28))
DIED = date(2024, 2, 15)
SPLIT, EX_DATE = date(2024, 2, 1), date(2024, 1, 16)


class Handler(BaseHTTPRequestHandler):
    """Plays the faults of a path first, then its answer."""

    server: "FakeVendor"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, params = unquote(url.path).lstrip("/"), dict(parse_qsl(url.query))
        key = params.pop("api_token", None)
        self.server.requests.append((path, params))
        faults = self.server.faults.get(path) or self.server.faults.get("*")
        if faults:
            faults.pop(0)(self)
        elif key != KEY:
            self.reply(f"Forbidden. Please contact us about {key}", 403)
        elif path not in self.server.answers:
            self.reply("Ticker Not Found.", 404)
        else:
            answer = self.server.answers[path]
            self.reply(json.dumps(answer(params) if callable(answer) else answer))

    def reply(self, body: str, status: int = 200, **headers: str) -> None:
        content = body.encode()
        headers = {"Content-Length": str(len(content)), **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = int(headers["Content-Length"]) != len(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class FakeVendor(ThreadingHTTPServer):
    """An exchange with a splitting AAA, a plain B&N and a DEAD company, and their index.

    Attributes
    ----------
    answers : path -> JSON document, or a function of the parameters that returns one
    faults : path (`*`: any) -> what to do instead of answering, once each
    requests : (path, parameters without the key) of every request
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = default_answers()
        self.faults: dict[str, list[Callable[[Handler], None]]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.released = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, start: str = "") -> list[tuple[str, dict[str, str]]]:
        return [request for request in self.requests if request[0].startswith(start)]

    def fail(self, path: str, *faults: Callable[[Handler], None]) -> None:
        self.faults[path] = list(faults)


def bars(code: str, sessions: np.ndarray, splits: dict[date, float]) -> list[dict[str, object]]:
    """Return bars as traded, except that volumes are divided by later splits."""
    rng = np.random.default_rng(len(code) + ord(code[0]))
    close = 80 * np.exp(np.cumsum(rng.normal(size=len(sessions)) * 0.01))
    rows = []
    for day, price in zip(sessions.astype(object), close, strict=True):
        shares = np.prod([ratio for at, ratio in splits.items() if at <= day])
        later = np.prod([ratio for at, ratio in splits.items() if at > day])
        traded = round(float(price / shares), 4)
        rows.append(
            {
                "date": str(day),
                "open": traded,
                "high": round(traded * 1.01, 4),
                "low": round(traded * 0.99, 4),
                "close": traded,
                "adjusted_close": round(traded / float(later), 4),
                "volume": int(1000 * later),
            }
        )
    return rows


def between(rows: list[dict[str, object]]) -> Callable[[dict[str, str]], object]:
    def chosen(params: dict[str, str]) -> object:
        first, last = params.get("from", ""), params.get("to", "9999")
        days = [str(row["date"]) for row in rows]
        return [row for row, day in zip(rows, days, strict=True) if first <= day <= last]

    return chosen


def default_answers() -> dict[str, object]:
    dead = SESSIONS[np.datetime64(DIED) >= SESSIONS]
    cash = {"date": str(EX_DATE), "value": 0.25, "unadjustedValue": 1.0, "currency": "USD"}
    ratio = {"date": str(SPLIT), "split": "4.000000/1.000000"}
    stocks = {
        "AAA.US": (bars("AAA", SESSIONS, {SPLIT: 4.0}), [ratio], [cash]),
        "B&N.US": (bars("B&N", SESSIONS, {}), [], []),
        "DEAD.US": (bars("DEAD", dead, {}), [], []),
        "GSPC.INDX": (bars("GSPC", SESSIONS, {}), [], []),
    }
    answers: dict[str, object] = {}
    for name, (rows, splits, dividends) in stocks.items():
        answers |= {f"eod/{name}": between(rows), f"splits/{name}": splits}
        answers[f"div/{name}"] = dividends
    active = [listed("AAA", "Triple A"), listed("B&N", "Books"), listed("FUND", "A Fund", "ETF")]
    gone = [listed("DEAD", "Dead Inc"), listed("AAA", "An older AAA")]
    answers["exchange-symbol-list/US"] = lambda params: gone if "delisted" in params else active
    answers["exchange-symbol-list/INDX"] = lambda params: (
        [] if "delisted" in params else [listed("GSPC", "S&P 500", "INDEX")]
    )
    answers["fundamentals/GSPC.INDX"] = {
        "General": {"Code": "GSPC"},
        "HistoricalTickerComponents": {
            "0": member("AAA", "Triple A", "2010-01-04", None),
            "1": member("DEAD", "Dead Inc", "2012-03-01", str(DIED)),
            "2": member("B&N", "Books", None, None),
        },
    }
    for name in ("AAA.US", "B&N.US", "DEAD.US"):
        answers[f"fundamentals/{name}"] = accounts_of(name)
    answers["news"] = lambda params: [ARTICLE] if params["s"] == "AAA.US" else []
    answers["exchange-details/US"] = {
        "ExchangeHolidays": {
            "0": {"Holiday": "New Year", "Date": "2024-01-01", "Type": "official"}
        },
    }
    return answers


ARTICLE = {
    "date": "2024-02-05T14:30:00+00:00",
    "title": "Triple A opens a shop",
    "content": "It did.",
    "link": "https://news.example/1",
    "symbols": ["AAA.US"],
    "tags": [],
}


def accounts_of(name: str) -> dict[str, object]:
    quarter = {"date": "2023-12-31", "filing_date": "2024-02-09", "currency_symbol": "USD"}
    income = quarter | {"totalRevenue": "1000", "netIncome": "100", "incomeBeforeTax": "125"}
    balance = quarter | {"totalAssets": "5000", "totalStockholderEquity": "2000"}
    sheets = {"Income_Statement": income, "Balance_Sheet": balance, "Cash_Flow": {}}
    return {
        "General": {"Code": name.partition(".")[0], "Sector": "Retail", "Industry": "Shops"},
        "Financials": {
            sheet: {"currency_symbol": "USD", "quarterly": {"0": row} if row else {}, "yearly": {}}
            for sheet, row in sheets.items()
        },
    }


def listed(code: str, name: str, kind: str = "Common Stock") -> dict[str, str]:
    return {
        "Code": code,
        "Name": name,
        "Country": "USA",
        "Exchange": "NYSE",
        "Currency": "USD",
        "Type": kind,
        "Isin": "",
    }


def member(code: str, name: str, start: str | None, end: str | None) -> dict[str, object]:
    flags = {"IsActiveNow": int(end is None), "IsDelisted": int(end is not None)}
    return {"Code": code, "Name": name, "StartDate": start, "EndDate": end, **flags}


@pytest.fixture
def vendor() -> Iterator[FakeVendor]:
    server = FakeVendor()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time, self.naps = 0.0, []
        self.clock = Clock(lambda: self.time, self.sleep, lambda: datetime(2024, 6, 3, tzinfo=UTC))

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def client(vendor: FakeVendor, clock: FakeClock) -> Iterator[VendorClient]:
    limits = Limits(
        requests_per_minute=60_000, attempts=3, read_seconds=1.0, failures_before_outage=3
    )
    with VendorClient(eodhd(KEY, vendor.url), limits, clock.clock) as opened:
        yield opened


@pytest.fixture
def source_of(client: VendorClient, clock: FakeClock) -> Callable[..., EodhdSource]:
    def made(**selection: object) -> EodhdSource:
        chosen = Selection(**(selection or {"symbols": ("AAA",)}))
        return EodhdSource(client, "vendor", "US_EQ", chosen, clock.clock)

    return made
