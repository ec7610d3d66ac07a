"""The account as the broker tells it: its values in Nautilus's words."""

from dataclasses import dataclass, field

from nautilus_trader.model.currencies import USD
from nautilus_trader.model.objects import AccountBalance, Currency, MarginBalance, Money

from prometheus_nt.domain.errors import DataError

TOTAL, FREE = "NetLiquidation", "AvailableFunds"
INITIAL, MAINTENANCE = "InitMarginReq", "MaintMarginReq"

KEPT = frozenset(
    {
        TOTAL,
        FREE,
        INITIAL,
        MAINTENANCE,
        "TotalCashValue",
        "SettledCash",
        "BuyingPower",
        "ExcessLiquidity",
        "GrossPositionValue",
        "Cushion",
        "DayTradesRemaining",
        "CashBalance",
        "StockMarketValue",
        "ExchangeRate",
        "UnrealizedPnL",
        "RealizedPnL",
    }
)
"""Values that go into the account's event; all others are dropped."""


@dataclass(frozen=True)
class AccountPicture:
    """The account at one moment.

    Attributes
    ----------
    info : mapping of the broker's name, and currency after a blank if there is one, to its text
    """

    balances: list[AccountBalance]
    margins: list[MarginBalance]
    info: dict[str, str]


@dataclass
class AccountValues:
    """Collects account values; a picture is due when nothing has come for a moment.

    Attributes
    ----------
    account : str
        Values of any other are not taken.
    quiet_seconds : float
        For which no value must have come: a gateway says where a batch ends, but not always.
    """

    account: str
    quiet_seconds: float = 1.0
    _values: dict[tuple[str, str], str] = field(default_factory=dict)
    _changed: float | None = None

    def take(self, key: str, value: str, currency: str, account: str, now: float) -> None:
        """Take a value at `now`, seconds of a monotonic clock."""
        if account == self.account and key in KEPT:
            self._values[key, currency] = value
            self._changed = now

    def is_due(self, now: float) -> bool:
        """Return whether values have changed since the last picture, and have come to rest."""
        return self._changed is not None and now - self._changed >= self.quiet_seconds

    def end(self, now: float) -> None:
        """Take note that a batch is whole."""
        if self._changed is not None:
            self._changed = now - self.quiet_seconds

    def picture(self) -> AccountPicture | None:
        """Return the account; None while its total or what is free of it is not known."""
        self._changed = None
        currency = self._base()
        if currency is None:
            return None
        total, free = (self._money(name, currency) for name in (TOTAL, FREE))
        if total is None or free is None:
            return None
        locked = Money(total.as_decimal() - free.as_decimal(), total.currency)
        initial, maintenance = (self._money(name, currency) for name in (INITIAL, MAINTENANCE))
        margins = []
        # Nautilus compares money with nothing but money.
        if initial is not None and maintenance is not None:
            margins.append(MarginBalance(initial, maintenance))
        info = {" ".join(filter(None, key)): text for key, text in self._values.items()}
        return AccountPicture(
            [AccountBalance(total, locked, free)],
            margins,
            info,
        )

    def _base(self) -> str | None:
        """Return the currency in which the total is told."""
        found = (currency for key, currency in self._values if key == TOTAL and currency)
        return next((currency for currency in found if currency != "BASE"), None)

    def _money(self, name: str, currency: str) -> Money | None:
        text = self._values.get((name, currency))
        if text is None:
            return None
        try:
            return Money(float(text), currency_of(currency))
        except ValueError as unreadable:
            raise DataError(f"ib account value {name}: {text!r} is no amount") from unreadable


def currency_of(code: str) -> Currency:
    """Return a currency by its code; dollars for a code that is not said."""
    return Currency.from_str(code) if code else USD
