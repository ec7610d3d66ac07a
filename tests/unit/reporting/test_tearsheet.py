import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pytest

from prometheus_nt.domain.books import StressLoss, TailRisk
from prometheus_nt.meta.findings import RunFinding, Severity
from prometheus_nt.reporting.metrics import compute_metrics
from prometheus_nt.reporting.series import COST_KINDS, BookRisk, FillTable
from prometheus_nt.reporting.tables import METRIC_GROUPS
from prometheus_nt.reporting.tearsheet import render_tearsheet

MANIFEST = {"code_hash": "c0de", "versions": {"numpy": "2.4"}, "sleeves": ["a", "b"], "seed": None}
NOTES = ["Bars are real.", "Survivors only."]
HEADINGS = [
    "What these numbers rest on",
    "What stands against it",
    "Key figures",
    "Equity",
    "Drawdown",
    "Deepest drawdown periods",
    "Monthly returns",
    "By regime",
    "Yearly returns",
    "Rolling Sharpe ratio",
    "Exposure",
    "Turnover",
    "Costs",
    "Dividends and other cash flows",
    "Positions",
    "Sectors",
    "Fills",
    "Reproducibility",
]
HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """What a browser would see: elements, headings and visible text, scripts apart."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.headings, self.words, self.scripts, self.open = [], [], [], [], []
        self.feed(html)
        self.close()
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)
            if self.open[-1] == "h2":
                self.headings.append(data)

    @property
    def figures(self):
        return {figure["name"]: figure for figure in json.loads(self.scripts[0])["figures"]}

    @property
    def missing(self):
        return re.findall(r"Not available: ([^.]*)\.", self.text)


def page_of(series, manifest=MANIFEST, notes=NOTES, findings=()):
    return Page(render_tearsheet(series, compute_metrics(series), manifest, notes, findings))


def test_the_sections_come_in_the_order_readers_know(make_series):
    page = page_of(make_series())

    assert page.headings == HEADINGS
    assert page.open == []
    assert page.missing == []


def test_every_chart_has_its_box_and_every_box_its_chart(make_series):
    page = page_of(make_series())

    boxes = [attrs["id"] for _, attrs in page.elements if attrs.get("class") == "chart"]
    assert boxes == [f"chart-{name}" for name in page.figures]
    assert len(boxes) == 10


def test_the_page_loads_nothing_from_outside(make_series):
    html = render_tearsheet(make_series(), {}, MANIFEST, NOTES)

    for tag, attrs in Page(html).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed")
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith("#")
    assert "@import" not in html.split("<script")[0]
    assert "url(" not in html.split("<script")[0]
    assert "default-src 'none'" in html
    assert len(html) < 8_000_000


def test_names_from_outside_cannot_become_markup(make_series, fills):
    names = np.array([HOSTILE, "BBB.US"], dtype=object)
    series = make_series(
        run_id=HOSTILE,
        strategy_id=HOSTILE,
        sleeve_id=HOSTILE,
        benchmark_id=HOSTILE,
        instruments=(HOSTILE, "BBB.US", "CCC.US"),
        sectors=(HOSTILE, None, "Energy"),
        fills=replace(fills, instrument_id=names),
        other_cash_flows={HOSTILE: np.ones(300)},
    )

    html = render_tearsheet(series, compute_metrics(series), {HOSTILE: HOSTILE}, [HOSTILE])

    assert "<script>alert" not in html.lower()
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert page.headings == HEADINGS
    traces = page.figures["positions"]["traces"]
    assert traces[0]["name"].startswith("&lt;script&gt;")


def test_every_metric_has_a_row_with_its_benchmark_beside_it(make_series):
    series = make_series()
    metrics = compute_metrics(series)
    rows = {row.key for _, group in METRIC_GROUPS for row in group}

    shown_elsewhere = {key for key in metrics if key.startswith("benchmark_")} | {"sharpe_ratio"}
    assert rows == set(metrics) - shown_elsewhere
    text = page_of(series).text
    assert f"{metrics['annualised_sharpe']:.2f}".replace("-", "\u2212") in text
    assert f"{metrics['benchmark_annualised_sharpe']:.2f}".replace("-", "\u2212") in text


def test_notes_and_manifest_are_shown_once(make_series):
    page = page_of(make_series(), MANIFEST | {"notes": NOTES})

    assert page.text.count("Survivors only.") == 1
    for words in ("code_hash", "c0de", "versions.numpy", "2.4", "a, b", "not stated"):
        assert words in page.text


def test_a_run_that_states_nothing_is_told_so(make_series):
    page = page_of(make_series(), {}, [])

    assert page.missing == [
        "the run did not state its data set, survivorship, fill timing or costs",
        "the run has no manifest",
    ]


def test_without_a_benchmark_the_page_says_so_and_draws_the_strategy(make_series):
    page = page_of(make_series(benchmark=None, benchmark_id=None))

    assert page.missing == ["the run has no benchmark to compare with"]
    assert [trace["name"] for trace in page.figures["equity"]["traces"]] == ["Strategy"]
    assert "SPY.US" not in page.text


def test_a_benchmark_with_gaps_is_named_as_the_reason(make_series):
    page = page_of(make_series(benchmark=None, benchmark_id="SPY"))

    assert page.missing == ["SPY has no level on some session of the run"]


def test_a_run_that_never_traded_gives_reasons_instead_of_empty_charts(make_series):
    nothing = np.zeros(50)
    page = page_of(
        make_series(
            50,
            equity=np.full(50, 1000.0),
            fills=FillTable.empty(),
            costs=dict.fromkeys(COST_KINDS, nothing),
            turnover=nothing,
            dividends=nothing,
            weights=np.zeros((50, 3)),
            sectors=(),
        )
    )

    below = "equity never closed below an earlier high"
    assert page.missing == [
        below,
        below,
        "it needs 126 sessions with varying returns, the run has 50",
        "nothing was traded",
        "no cost was charged",
        "no dividend or other cash flow was booked",
        "nothing was ever held",
        "nothing was ever held",
        "no sector is known for these instruments",
        "the run has no fills",
    ]


def test_a_single_session_makes_a_page(make_series):
    assert page_of(make_series(1)).headings == HEADINGS


def test_a_ruined_run_is_called_ruined(make_series):
    equity = np.linspace(1000.0, -200.0, 300)
    weights = np.where((equity > 0.0)[:, None], [0.5, -0.3, 0.0], np.nan)

    page = page_of(make_series(equity=equity, weights=weights))

    assert "Equity was no longer positive at the close of" in page.text
    assert "Log scale" not in page.text
    assert page.headings == HEADINGS


def test_short_positions_are_lines_and_long_ones_areas(make_series):
    long_only = page_of(make_series())
    short = page_of(make_series(weights=np.tile([0.5, -0.3, 0.0], (300, 1))))

    assert all("stackgroup" in trace for trace in long_only.figures["positions"]["traces"])
    assert not any("stackgroup" in trace for trace in short.figures["positions"]["traces"])


def test_every_cost_that_was_charged_is_a_line_of_its_own(make_series):
    series = make_series()
    nights = np.full(300, 0.5)
    short = make_series(
        costs={**series.costs, "borrow_fees": nights, "interest_paid": 2.0 * nights},
        other_cash_flows={"interest_received": nights},
    )

    page = page_of(short)

    lines = page.figures["costs"]["traces"]
    assert [(line["name"], line["y"][-1]) for line in lines] == [
        ("Commission", 2.0),
        ("Spread", 3.0),
        ("Impact", 5.0),
        ("Borrow fees", 150.0),
        ("Interest paid", 300.0),
    ]
    assert len(page_of(series).figures["costs"]["traces"]) == 3
    assert "Borrow fees of short positions $150" in page.text
    assert "Interest paid on borrowed cash $300" in page.text
    income = page.figures["income"]["traces"]
    assert [line["name"] for line in income] == ["Dividends", "Interest received"]


def test_the_smaller_positions_are_added_up(make_series):
    weights = np.tile(np.arange(1.0, 16.0) / 200.0, (300, 1))
    names = tuple(f"N{number:02d}.US" for number in range(15))

    page = page_of(make_series(weights=weights, instruments=names, sectors=()))

    traces = page.figures["positions"]["traces"]
    assert [trace["name"] for trace in traces[:2]] == ["N14.US", "N13.US"]
    assert traces[10]["name"] == "All others"
    assert traces[10]["y"][0] == pytest.approx(sum(range(1, 6)) / 200.0)


def test_charts_hold_every_session_and_the_benchmark_starts_with_the_same_capital(make_series):
    series = make_series()

    page = page_of(series)

    data = json.loads(page.scripts[0])
    own, other = page.figures["equity"]["traces"]
    assert data["sessions"] == series.sessions.astype(str).tolist()
    np.testing.assert_allclose(own["y"], series.equity, atol=0.01)
    assert other["y"][0] == series.starting_capital


def test_fills_are_shown_as_traded_newest_first(make_series):
    text = page_of(make_series()).text

    # 400 venue shares at 25.25 were 100 shares at 101.00, decided at 100.00: 100 bps worse.
    assert text.index("2021-01-06 14:30:00") < text.index("2021-01-05 14:30:00")
    assert "AAA.US BUY 100 $101.00 $10,100 $2.00 $3.00 $4.00 $100.00 100.0" in text
    assert "BBB.US SELL 10 $50.00 $500 $1.00 $0.50 $0.25 n/a n/a" in text
    assert "All 2 fills of the run" in text


def test_only_the_last_fills_are_listed_and_the_total_is_told(make_series, fills):
    many = FillTable(**{name: np.repeat(getattr(fills, name), 150) for name in vars(fills)})

    page = page_of(make_series(fills=many))

    assert "The last 200 of 300 fills" in page.text
    assert page.text.count("2021-01-06 14:30:00") == 150
    assert page.text.count("2021-01-05 14:30:00") == 50


def test_monthly_cells_hold_the_month_and_the_year(make_series):
    sessions = np.array(["2021-01-29", "2021-02-26", "2022-03-31"], dtype="datetime64[D]")
    series = make_series(3, sessions=sessions, equity=np.array([1100.0, 990.0, 1485.0]))

    text = re.sub(r"\s+", " ", page_of(series).text)

    assert "2021 10.0% \u221210.0% \u22121.0%" in text
    assert "2022 50.0% 50.0%" in text


def test_the_risk_of_the_last_book_is_shown_where_it_was_recorded(make_series):
    tails = [
        TailRisk(method, 1, level, -level / 10, -level / 9)
        for method in ("historical", "bootstrap")
        for level in (0.95, 0.99)
    ]
    risk = BookRisk(
        as_of=date(2021, 3, 31),
        volatility=0.2,
        weights={HOSTILE: 0.6, "BBB.US": -0.1},
        component_risk={HOSTILE: 0.25, "BBB.US": -0.05},
        tails=tuple(tails),
        stress=(StressLoss("market_down_10", -0.07, 0.5),),
    )

    page = page_of(make_series(risk=risk))

    assert "The target after the close of 2021-03-31" in page.text
    between = page_of(make_series(risk=replace(risk, basis="held")))
    assert "What was held at the close of 2021-03-31" in between.text
    assert page.headings[-5:-2] == ["Tail risk of the last book", "Who carries the risk", "Stress"]
    for words in ("2021-03-31", "Historical, 1 session", "Market down 10", HOSTILE):
        assert words in page.text
    # The hedge takes a quarter of the volatility away, which the other adds on top of the whole.
    for figure in ("\u22129.50%", "\u221211.00%", "\u22127.00%", "125.0%", "\u221225.0%"):
        assert figure in page.text, figure


def test_a_last_book_without_history_gives_reasons(make_series):
    empty = BookRisk(
        as_of=date(2021, 3, 31), volatility=None, weights={}, component_risk={}, tails=(), stress=()
    )

    text = page_of(make_series(risk=empty)).text

    for reason in ("too little history", "no known volatility", "last book is empty"):
        assert reason in text


def test_what_stands_against_a_run_is_shown_with_its_evidence_and_escaped(make_series):
    found = RunFinding(
        "COST_SHARE", Severity.VETO, HOSTILE, ({"kind": HOSTILE, "usd": 12.5},), "trade less"
    )

    shown = render_tearsheet(make_series(), {}, MANIFEST, NOTES, [found])
    unknown = render_tearsheet(make_series(), {}, MANIFEST, NOTES)

    assert "veto" in shown
    assert "usd 12.5" in shown
    assert HOSTILE not in shown
    assert "recorded before anybody looked" in unknown
