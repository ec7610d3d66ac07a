"""A sleeve's cash, shares, average cost, cash flows and marks: the one source of equity.

Money is counted in whole micro-dollars and shares in whole units, so that the accounting identity
holds exactly, not to a tolerance:

    cash = capital - sum(signed shares * price) - sum(commission) + sum(cash flows)
"""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

import numpy as np

from prometheus_nt.domain.errors import AccountingError
from prometheus_nt.domain.record import FloatArray, IntArray
from prometheus_nt.domain.sessions import OvernightFinancing

MICROS = 1_000_000
"""Micro-dollars per dollar; also the finest price step the venue quotes."""

MOST_PARTS = 100_000
"""Largest denominator of a split ratio: makes 1/3 of its float, and dividends in shares exact."""


def split_shares(shares: int, ratio: float) -> tuple[int, Fraction]:
    """Return what `shares` become in a split: whole shares, and the fraction left over.

    Both have the sign of `shares`; no broker gives out fractions.
    """
    after = shares * Fraction(ratio).limit_denominator(MOST_PARTS)
    whole = int(after)
    return whole, after - whole


def micros(usd: float | Decimal) -> int:
    """Return `usd` in whole micro-dollars, rounded half to even; exact for a Decimal."""
    return round(usd * MICROS)


class CashFlowKind(StrEnum):
    """Money that moves without a trade."""

    DIVIDEND = "DIVIDEND"
    SPLIT = "SPLIT"
    DELISTING = "DELISTING"
    BORROW_FEE = "BORROW_FEE"
    INTEREST = "INTEREST"


@dataclass(frozen=True)
class CashFlow:
    """One movement of cash or shares without a trade; `amount_micros` > 0 is received.

    shares : those it was paid for; of a DELISTING those that went, of a SPLIT those that came.
    """

    session: date
    kind: CashFlowKind
    instrument_id: str | None
    shares: int
    amount_micros: int


@dataclass(frozen=True, eq=False)
class BookState:
    """A sleeve's books after a close.

    Attributes
    ----------
    cash, equity : float, USD
    shares : (N,) int array
        Signed, in the venue's share unit.
    average_cost, marks : (N,) float arrays, USD per venue share; NaN where flat or never marked
    unmarked_sessions : (N,) int array
        Sessions since the mark was a real close: 0 is fresh.
    realized_pnl, commissions, dividends : float, USD since the sleeve's start
        Commissions are >= 0; dividends paid on short shares count as negative.
    borrow_fees : float, USD since the sleeve's start, >= 0
    interest : float, USD since the sleeve's start
        Received less paid.
    drawdown : float, <= 0
        Equity over its highest close so far, less one; the first high is the starting capital.
    follows_target : bool
        The sleeve's schedule has it follow the target of this session. If not, the book stays.
    """

    as_of: date
    book_id: str
    instruments: tuple[str, ...]
    cash: float
    equity: float
    shares: IntArray
    average_cost: FloatArray
    marks: FloatArray
    unmarked_sessions: IntArray
    realized_pnl: float
    commissions: float
    dividends: float
    borrow_fees: float
    interest: float
    drawdown: float
    follows_target: bool = True

    @property
    def weights(self) -> FloatArray | None:
        """What is held at its marks, (N,) signed fractions of equity; None without equity."""
        if not self.equity > 0.0:
            return None
        return np.where(self.shares != 0, self.shares * self.marks, 0.0) / self.equity


class Ledger:
    """The books of one sleeve over a fixed tuple of instruments.

    Parameters
    ----------
    instruments : tuple of N instrument ids
    capital_usd : float
        Cash at the start.
    """

    def __init__(self, instruments: tuple[str, ...], capital_usd: float) -> None:
        count = len(instruments)
        self.instruments = instruments
        self.capital_micros = micros(capital_usd)
        self.cash_micros = self.capital_micros
        self.shares: IntArray = np.zeros(count, dtype=np.int64)
        self.average_cost: FloatArray = np.full(count, np.nan)
        self.marks: FloatArray = np.full(count, np.nan)
        self.unmarked_sessions: IntArray = np.zeros(count, dtype=np.int64)
        self.cash_flows: list[CashFlow] = []
        self.flow_micros = dict.fromkeys(CashFlowKind, 0)
        self.commission_micros = 0
        self.traded_micros = 0
        self.realized_pnl = 0.0
        self.peak_equity = self.cash

    @property
    def cash(self) -> float:
        """Cash in USD."""
        return self.cash_micros / MICROS

    @property
    def equity(self) -> float:
        """Cash plus shares at their marks, USD.

        Raises
        ------
        AccountingError
            If a held instrument was never marked: its value is unknown, not zero.
        """
        held = self.shares.nonzero()[0]
        value = self.shares[held] @ self.marks[held]
        if np.isnan(value):
            names = [self.instruments[row] for row in held if np.isnan(self.marks[row])]
            raise AccountingError(f"held but never marked: {', '.join(names)}")
        return self.cash + float(value)

    def fill(self, row: int, quantity: int, price_micros: int, commission_micros: int) -> float:
        """Book a fill of `quantity` shares (negative is a sale); return the P&L it realised, USD.

        Raises
        ------
        AccountingError
            If the quantity is zero, the price is not positive, or the commission negative.
        """
        if quantity == 0 or price_micros <= 0 or commission_micros < 0:
            raise AccountingError(
                f"{self.instruments[row]}: impossible fill of {quantity} shares at "
                f"{price_micros / MICROS} with commission {commission_micros / MICROS}"
            )
        price = price_micros / MICROS
        held = int(self.shares[row])
        realized = self._book_cost(row, held, quantity, price)
        self.shares[row] = held + quantity
        self.traded_micros += quantity * price_micros
        self.commission_micros += commission_micros
        self.cash_micros -= quantity * price_micros + commission_micros
        if np.isnan(self.marks[row]):
            self.marks[row] = price
        return realized

    def finance(self, overnight: OvernightFinancing) -> None:
        """Charge and pay for the nights since the last close; nothing where it comes to 0.

        Short shares cost a borrow fee on their value at the last mark, one flow an instrument.
        Interest is on free cash: cash less the value of all short shares. A broker keeps that
        value as collateral for the lent shares, whatever they were sold for, so it earns nothing
        and pays for nothing. Free cash is therefore also equity less the long positions: a book
        of 130 long and 30 short on 100 has borrowed 30, and one of 100 and 100 nothing.

        Raises
        ------
        AccountingError
            If short shares were never marked: what they cost to borrow is unknown, not zero.
        """
        # Of the cash held overnight: before this session's fees.
        cash = self.cash_micros
        free = cash - self._charge_borrowing(overnight)
        interest = round(free * (overnight.debit_rate if free < 0 else overnight.credit_rate))
        if interest:
            self._flow(overnight.session, CashFlowKind.INTEREST, None, 0, interest)

    def split(self, session: date, ratios: FloatArray) -> None:
        """Turn every share held into `ratios` shares, (N,); a fraction left over is paid in cash.

        Raises
        ------
        AccountingError
            If a ratio is not positive.
        """
        if not (ratios > 0.0).all():
            names = ", ".join(self.instruments[row] for row in np.flatnonzero(~(ratios > 0.0)))
            raise AccountingError(f"{session}: the split ratio of {names} is not positive")
        for row in np.flatnonzero(ratios != 1.0).tolist():
            ratio = float(ratios[row])
            self.marks[row] /= ratio
            self.average_cost[row] /= ratio
            held = int(self.shares[row])
            if held:
                self._exchange(session, row, held, ratio)

    def _exchange(self, session: date, row: int, held: int, ratio: float) -> None:
        whole, fraction = split_shares(held, ratio)
        self.shares[row] = whole
        if not whole:
            self.average_cost[row] = np.nan
        in_lieu = micros(float(fraction) * float(self.marks[row]))
        self._flow(session, CashFlowKind.SPLIT, row, whole - held, in_lieu)

    def pay_dividends(self, session: date, per_share: FloatArray) -> None:
        """Credit holders, debit short sellers: `per_share` is (N,), USD per venue share.

        Raises
        ------
        AccountingError
            If what a held instrument pays is not a number.
        """
        unknown = ((self.shares != 0) & ~np.isfinite(per_share)).nonzero()[0]
        if len(unknown):
            names = ", ".join(self.instruments[row] for row in unknown)
            raise AccountingError(f"{session}: the dividend of {names} is not a number")
        for row in np.flatnonzero((self.shares != 0) & (per_share != 0.0)):
            shares = int(self.shares[row])
            amount = micros(shares * float(per_share[row]))
            self._flow(session, CashFlowKind.DIVIDEND, int(row), shares, amount)

    def close_delisted(
        self, session: date, rows: IntArray, returns: FloatArray | None = None
    ) -> None:
        """Turn the shares of delisted instruments into cash.

        Parameters
        ----------
        rows : (D,) int array
        returns : (D,) array, optional
            What is paid beyond the last mark, as a fraction of it, >= -1; the last mark itself
            where it is NaN.

        Raises
        ------
        AccountingError
            If a return is below -1: a share cannot be worth less than nothing.
        """
        gains = np.zeros(len(rows)) if returns is None else np.nan_to_num(returns, nan=0.0)
        if not (gains >= -1.0).all():
            names = ", ".join(self.instruments[row] for row in rows[~(gains >= -1.0)])
            raise AccountingError(f"{session}: the delisting return of {names} is below -1")
        held = self.shares[rows] != 0
        for row, gain in zip(rows[held].tolist(), gains[held].tolist(), strict=True):
            shares, paid = int(self.shares[row]), float(self.marks[row]) * (1.0 + gain)
            self._book_cost(row, shares, -shares, paid)
            self.shares[row] = 0
            self._flow(session, CashFlowKind.DELISTING, row, shares, shares * micros(paid))

    def mark(self, closes: FloatArray) -> None:
        """Mark every instrument at its close, (N,); where it did not trade the old mark stays."""
        fresh = ~np.isnan(closes)
        self.marks[fresh] = closes[fresh]
        self.unmarked_sessions[fresh] = 0
        self.unmarked_sessions[~fresh] += 1
        self.peak_equity = max(self.peak_equity, self.equity)

    def state(self, as_of: date, book_id: str, *, follows_target: bool = True) -> BookState:
        """Return the books as a record; its arrays are copies."""
        equity = self.equity
        return BookState(
            as_of=as_of,
            book_id=book_id,
            instruments=self.instruments,
            cash=self.cash,
            equity=equity,
            shares=self.shares.copy(),
            average_cost=self.average_cost.copy(),
            marks=self.marks.copy(),
            unmarked_sessions=self.unmarked_sessions.copy(),
            realized_pnl=self.realized_pnl,
            commissions=self.commission_micros / MICROS,
            dividends=self.flow_micros[CashFlowKind.DIVIDEND] / MICROS,
            borrow_fees=-self.flow_micros[CashFlowKind.BORROW_FEE] / MICROS,
            interest=self.flow_micros[CashFlowKind.INTEREST] / MICROS,
            drawdown=equity / max(self.peak_equity, equity) - 1.0,
            follows_target=follows_target,
        )

    def check(self) -> None:
        """Raise `AccountingError` unless the accounting identity holds exactly."""
        flows = sum(flow.amount_micros for flow in self.cash_flows)
        expected = self.capital_micros - self.traded_micros - self.commission_micros + flows
        if expected != self.cash_micros:
            raise AccountingError(
                f"cash is {self.cash_micros} micro-dollars, the flows explain {expected}"
            )

    def _charge_borrowing(self, overnight: OvernightFinancing) -> int:
        """Book the borrow fees; return the value of all short shares, micro-dollars."""
        short: IntArray = (self.shares < 0).nonzero()[0]
        if not len(short):
            return 0
        marks = self.marks[short]
        if np.isnan(marks).any():
            names = ", ".join(self.instruments[row] for row in short[np.isnan(marks)])
            raise AccountingError(f"{overnight.session}: short but never marked: {names}")
        value = -self.shares[short] * np.rint(marks * MICROS).astype(np.int64)
        fees = np.rint(value * overnight.borrow_rate).astype(np.int64)
        for row, fee in zip(short[fees > 0].tolist(), fees[fees > 0].tolist(), strict=True):
            shares = int(self.shares[row])
            self._flow(overnight.session, CashFlowKind.BORROW_FEE, row, shares, -fee)
        return int(value.sum())

    def _book_cost(self, row: int, held: int, quantity: int, price: float) -> float:
        same_side = held == 0 or (held > 0) == (quantity > 0)
        if same_side:
            cost = 0.0 if held == 0 else held * self.average_cost[row]
            self.average_cost[row] = (cost + quantity * price) / (held + quantity)
            return 0.0
        closed = min(abs(quantity), abs(held)) * (1 if held > 0 else -1)
        realized = closed * (price - float(self.average_cost[row]))
        self.realized_pnl += realized
        left = held + quantity
        if left == 0:
            self.average_cost[row] = np.nan
        elif (left > 0) != (held > 0):
            self.average_cost[row] = price
        return realized

    def _flow(
        self, session: date, kind: CashFlowKind, row: int | None, shares: int, amount: int
    ) -> None:
        name = None if row is None else self.instruments[row]
        self.cash_micros += amount
        self.flow_micros[kind] += amount
        self.cash_flows.append(CashFlow(session, kind, name, shares, amount))
