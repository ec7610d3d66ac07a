"""Every error the project raises on purpose.

::

    PrometheusError
    |-- ConfigError              a setting is missing, unknown or contradictory: the user can fix it
    |   |-- MissingExtra         an optional package is needed and not installed
    |   |-- UnknownInstrument    no instrument, or more than one, goes by a name on a day
    |   `-- MissingMetadata      what trading an instrument needs is not known
    |-- DataError                the data cannot support the question
    |   |-- NonSession           a date on which the market does not trade
    |   |-- InsufficientHistory  fewer sessions before `as_of` than a lookback needs
    |   |-- EmptyScan            not one instrument passes a scanner
    |   |-- MetaFailure          a gate of the meta-portfolio does not pass; it has a code
    |   |-- LookAheadError       something asked for a fact later than its `as_of`
    |   `-- SourceError          a file or vendor answer cannot be read at all
    |-- StrategyError            a user's strategy failed, or broke its contract
    |-- NoWeights                a method of weighting found none; the next one is tried
    |-- ProposalRefused          a change of settings is not allowed, or not any more
    |-- PhaseError               a day was asked to move where it cannot go
    |-- JobError                 a job was asked for a move that it cannot make
    |   |-- UnknownJob           no job, or more than one, has that name
    |   |-- JobLost              a worker no longer holds the job that it works on
    |   `-- JobBusy              what a job is about is being worked on; it goes on later
    |-- StoreError               a database or an artifact cannot be read or written
    |   `-- StoreUnavailable     a database does not answer now, and may later
    |-- TradingHalted            no more trades: positions stay, somebody has to look
    |   `-- RecordUnwritable     what happens can be kept nowhere, so nothing may happen
    |-- AccountingError          the books do not balance: our bug, never the user's
    |-- LimitBreach              weights left the risk stage above a limit: our bug as well
    |-- VendorRefusal            a vendor serves no request any more: key, plan, budget, outage
    |-- VenueError               the simulated or real venue did something that voids the run
    |-- GateRefusal              an order was refused before it reached a venue
    `-- DeterminismError         the same inputs gave different bytes
"""

from datetime import date, datetime


class PrometheusError(Exception):
    """Base of every error raised on purpose; a process boundary catches this, nothing wider."""


class ConfigError(PrometheusError):
    """A setting is missing, unknown or contradictory."""


class MissingExtra(ConfigError):
    """An optional package is needed and not installed; the message says how to install it."""

    def __init__(self, purpose: str, package: str, install: str) -> None:
        super().__init__(f"{purpose}: package {package} is not installed; {install}")
        self.purpose, self.package, self.install = purpose, package, install


class UnknownInstrument(ConfigError):
    """No instrument, or more than one, goes by a name on a day; the message has the nearest."""

    def __init__(self, name: str, problem: str, near: tuple[str, ...]) -> None:
        remedy = f"near it: {'; '.join(near)}" if near else "nothing near it is known"
        super().__init__(f"{name!r}: {problem}; {remedy}")
        self.name, self.problem, self.near = name, problem, near


class MissingMetadata(ConfigError):
    """What trading needs to know of some instruments is not known, so no sleeve may start."""

    def __init__(self, missing: dict[str, tuple[str, ...]], covered: int, wanted: int) -> None:
        listed = "; ".join(f"{name} lacks {', '.join(fields)}" for name, fields in missing.items())
        super().__init__(
            f"metadata: {covered} of {wanted} instruments have what trading needs: {listed}; give "
            "it in a CSV file of these columns and `prometheus instruments import FILE`"
        )
        self.missing, self.covered, self.wanted = missing, covered, wanted


class DataError(PrometheusError):
    """The data cannot support the question."""


class NonSession(DataError):
    """A date on which the market does not trade was used as a session."""

    def __init__(self, day: date, market_id: str, remedy: str) -> None:
        super().__init__(f"{day} is not a {market_id} session; {remedy}")
        self.day, self.market_id = day, market_id


class InsufficientHistory(DataError):
    """Fewer sessions exist before `as_of` than the engine's lookback needs."""

    def __init__(self, as_of: date, needed: int, available: int) -> None:
        super().__init__(f"{as_of}: needs {needed} sessions, has {available}")
        self.as_of, self.needed, self.available = as_of, needed, available


class LookAheadError(DataError):
    """Something asked for a fact that was not known at its `as_of`."""


class MetaFailure(DataError):
    """A gate of the meta-portfolio does not pass."""

    def __init__(self, code: str, subject: str, message: str) -> None:
        super().__init__(f"{code}: {subject}: {message}" if subject else f"{code}: {message}")
        self.code, self.subject, self.message = code, subject, message


class EmptyScan(DataError):
    """Not one instrument passes a scanner; the message counts who fails what."""

    def __init__(self, as_of: date, scanner_id: str, asked: int, failures: dict[str, int]) -> None:
        counts = "; ".join(f"{count} fail {name}" for name, count in failures.items() if count)
        super().__init__(
            f"{scanner_id}: none of {asked} instruments is selected at {as_of}: {counts}; "
            "nothing was stored, loosen a filter or choose another session"
        )
        self.as_of, self.scanner_id, self.failures = as_of, scanner_id, failures


class SourceError(DataError):
    """A file or a vendor's answer cannot be read; the message names it and the remedy."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.where, self.problem, self.remedy = where, problem, remedy


class VendorRefusal(PrometheusError):
    """A vendor serves none of our requests any more; going on would only fail for every name.

    It is no `DataError`: a job that outlives the failure of one instrument must stop here.
    """

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.where, self.problem, self.remedy = where, problem, remedy


class StrategyError(PrometheusError):
    """A strategy that a user handed in failed, or did not return what it has to."""


class NoWeights(PrometheusError):
    """A method of weighting found no weights that satisfy the limits."""


class ProposalRefused(PrometheusError):
    """A proposal may not be made or moved: a duplicate, another state, or overtaken by another."""


class PhaseError(PrometheusError):
    """A day's run was asked for a phase that it cannot move to, or that somebody else works on."""


class JobError(PrometheusError):
    """A job was asked for a move that it cannot make from where it stands."""


class UnknownJob(JobError):
    """No job, or more than one, goes by a name."""


class JobLost(JobError):
    """A worker no longer holds a job: somebody else has it now, and it may write nothing."""


class JobBusy(JobError):
    """Somebody else works on what a job is about, at the latest until `until`."""

    def __init__(self, subject: str, until: datetime) -> None:
        super().__init__(f"{subject} is being worked on until {until:%Y-%m-%d %H:%M:%S} UTC")
        self.until = until


class StoreError(PrometheusError):
    """A database or an artifact cannot be read or written."""


class StoreUnavailable(StoreError):
    """A database does not answer; the same request may succeed later."""


class TradingHalted(PrometheusError):
    """A node may not trade on; its positions stay as they are until somebody has looked."""


class RecordUnwritable(TradingHalted):
    """What a node does can be written nowhere: neither to the database nor to its spool."""


class AccountingError(PrometheusError):
    """The books do not balance."""


class LimitBreach(PrometheusError):
    """Weights that the risk stage is done with do not keep one of its limits."""

    def __init__(self, as_of: date, limit: str, value: float, excess: float) -> None:
        super().__init__(
            f"{as_of}: {limit} of {value:g} is exceeded by {excess:g} after all limits"
        )
        self.as_of, self.limit, self.value, self.excess = as_of, limit, value, excess


class VenueError(PrometheusError):
    """The venue did something that voids the run."""


class GateRefusal(PrometheusError):
    """An order was refused before it reached a venue."""

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(f"refused by {limit}: {detail}")
        self.limit, self.detail = limit, detail


class DeterminismError(PrometheusError):
    """The same inputs gave different bytes."""
