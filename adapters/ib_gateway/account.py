"""The account: cash, positions and the figures that the gateway derives from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_nt.domain.errors import ConfigError

INITIAL_MARGIN, MAINTENANCE_MARGIN = 0.50, 0.25
"""Of the value of a stock position, long or short: Regulation T, and FINRA rule 4210 for longs."""

PAPER_PREFIXES = ("DU", "DF")

PriceOf = Callable[[int], float]


def require_paper(account_id: str) -> str:
    """Return the account's id, or raise ConfigError: the simulator never plays a live account."""
    if not account_id.startswith(PAPER_PREFIXES) or not account_id[2:].isdigit():
        raise ConfigError(
            f"gateway: account {account_id!r} is no paper account; expected DU and digits"
        )
    return account_id


@dataclass
class Position:
    """Shares, and what each cost with its commission."""

    shares: int = 0
    average_cost: float = 0.0

    def trade(self, shares: int, price: float, fee: float) -> float | None:
        """Take a fill of signed `shares`; return its realised profit, None if it only opens."""
        closing = 0
        if self.shares * shares < 0:
            closing = min(abs(shares), abs(self.shares))
        opening = abs(shares) - closing
        side = 1 if shares > 0 else -1
        close_fee = fee * closing / abs(shares)
        realised = None
        if closing:
            realised = -side * (price - self.average_cost) * closing - close_fee
            self.shares += side * closing
        if opening:
            paid = price + side * (fee - close_fee) / opening
            held = abs(self.shares)
            self.average_cost = (self.average_cost * held + paid * opening) / (held + opening)
            self.shares += side * opening
        if not self.shares:
            self.average_cost = 0.0
        return realised


@dataclass
class Account:
    """One paper account in one currency.

    Attributes
    ----------
    account_id : str
    cash : float
    positions : dict of price column to Position
    realised : float
        Since the session began.
    opening_equity : float or None
        At the last close; None before the first.
    """

    account_id: str
    cash: float
    positions: dict[int, Position] = field(default_factory=dict)
    realised: float = 0.0
    opening_equity: float | None = None
    currency: str = "USD"

    def trade(self, column: int, shares: int, price: float, fee: float) -> float | None:
        """Book a fill of signed `shares`; return its realised profit, None if it only opens."""
        realised = self.positions.setdefault(column, Position()).trade(shares, price, fee)
        self.cash -= shares * price + fee
        self.realised += realised or 0.0
        return realised

    def held(self) -> dict[int, Position]:
        """Return the positions that are not flat, by column."""
        return {column: item for column, item in sorted(self.positions.items()) if item.shares}

    def split(self, column: int, ratio: float, price: float) -> None:
        """Multiply a position by a split; a fraction of a share is paid out at `price`."""
        position = self.positions[column]
        exact = position.shares * ratio
        position.shares = int(exact)
        position.average_cost /= ratio
        self.cash += (exact - position.shares) * price

    def equity(self, price_of: PriceOf) -> float:
        """Return cash and positions at market."""
        return self.cash + sum(item.shares * price_of(c) for c, item in self.held().items())

    def figures(self, price_of: PriceOf) -> dict[str, float]:
        """Return the account's figures by the broker's names, in its currency."""
        held = self.held()
        values = {column: item.shares * price_of(column) for column, item in held.items()}
        costs = {column: item.shares * item.average_cost for column, item in held.items()}
        gross, equity = sum(map(abs, values.values())), self.cash + sum(values.values())
        initial, maintenance = INITIAL_MARGIN * gross, MAINTENANCE_MARGIN * gross
        return {
            "NetLiquidation": equity,
            "TotalCashValue": self.cash,
            "SettledCash": self.cash,
            "AccruedCash": 0.0,
            "BuyingPower": max(equity - initial, 0.0) / INITIAL_MARGIN,
            "EquityWithLoanValue": equity,
            "PreviousDayEquityWithLoanValue": self.opening_equity or equity,
            "GrossPositionValue": gross,
            "InitMarginReq": initial,
            "MaintMarginReq": maintenance,
            "AvailableFunds": equity - initial,
            "ExcessLiquidity": equity - maintenance,
            "UnrealizedPnL": sum(values.values()) - sum(costs.values()),
            "RealizedPnL": self.realised,
            "FullInitMarginReq": initial,
            "FullMaintMarginReq": maintenance,
            "FullAvailableFunds": equity - initial,
            "FullExcessLiquidity": equity - maintenance,
        }

    def row(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        positions = {str(c): [p.shares, p.average_cost] for c, p in self.positions.items()}
        return {
            "account_id": self.account_id,
            "cash": self.cash,
            "positions": positions,
            "realised": self.realised,
            "opening_equity": self.opening_equity,
        }

    def restore(self, row: Mapping[str, Any]) -> None:
        """Become what the journal kept."""
        self.cash, self.realised = row["cash"], row["realised"]
        self.opening_equity = row["opening_equity"]
        self.positions = {int(c): Position(*kept) for c, kept in row["positions"].items()}
