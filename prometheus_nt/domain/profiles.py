"""Profiles: what is known of each instrument's prices, accounts and news after a close.

Names of facts say what period a figure covers, so that a quarter never meets a year:

- `<flow>_quarterly` is the flow of the quarter that ends at `period_end`, `revenue_quarterly` for
  example; four of them in a row make `<flow>_ttm`, the trailing twelve months.
- `<flow>_annual` is the flow of a fiscal year. Profiles do not read it: no annual figure stands in
  for a missing quarter, or is added to one.
- a stock, `total_assets` for example, is the balance at `period_end`, whoever reports it.
- `news_articles` is the number of articles on the day `period_end`.
"""

from dataclasses import dataclass
from datetime import date

from prometheus_nt.domain.record import FloatArray, IntArray, content_hash

FLOWS = ("revenue", "gross_profit", "operating_income", "ebitda", "net_income")
STOCKS = ("total_assets", "total_liabilities", "equity", "cash")
QUARTERLY = "_quarterly"
ANNUAL = "_annual"
SHARES_ITEM = "shares_outstanding"
NEWS_ITEM = "news_articles"

PRICE_FEATURES = ("vol_63d", "dd_63d", "trend_63d")
ACCOUNT_FEATURES = (
    *(f"{flow}_ttm" for flow in FLOWS),
    *STOCKS,
    *("gross_margin", "operating_margin", "net_margin", "leverage"),
)
NEWS_FEATURES = ("news_articles", "days_since_news")
FEATURES = PRICE_FEATURES + ACCOUNT_FEATURES + NEWS_FEATURES
FLAGS = ("vol_flag", "dd_flag", "leverage_flag", "news_recency_flag")

SCHEMA_ID = f"PROFILE_V1-{content_hash([FEATURES, FLAGS])}"
"""Names the features and flags of a profile, and their order."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """Who the instruments are after a close, from what was known by then.

    Attributes
    ----------
    schema_id : str
        Which features and flags there are; profiles of two schemas do not compare.
    features : mapping of each of `FEATURES` to an (N,) array; NaN where unknown
        `vol_63d` is the standard deviation of log returns per session, `dd_63d` the deepest
        drawdown as a positive fraction, `trend_63d` the simple total return; accounts are in the
        currency they were reported in; margins are fractions of trailing revenue; `leverage` is
        total liabilities over equity, unknown where equity is not positive; `news_articles` is
        the count of the newest day with news.
    risk_flags : mapping of each of `FLAGS` to an (N,) array in [0, 1]; NaN where unknown
    weak_profile : (N,) int array
        1 if the known flags together say weak, 0 if not, -1 where too few are known.
    """

    as_of: date
    instruments: tuple[str, ...]
    schema_id: str
    features: dict[str, FloatArray]
    risk_flags: dict[str, FloatArray]
    weak_profile: IntArray

    @property
    def snapshot_id(self) -> str:
        """The content hash of everything above: equal profiles, equal ids."""
        return content_hash([self])
