"""Where in the world the books are: exposure, stability and fragility by country.

1. The newest books are summed by instrument, runs whose record ends earlier left out.
2. The country of an instrument is its issuer's, else its exchange's, else its market's (`_home`).
3. Stability and fragility are means over the instruments that the newest measures know.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from statistics import fmean
from typing import Annotated, Literal

from fastapi import APIRouter, Path

from persistence.countries import Home, homes_of
from persistence.desk_books import held_by, newest_runs
from persistence.listings import Filters
from persistence.standing import Standing, standing
from prometheus_nt.domain.calendar import MARKETS, REGIONS
from prometheus_nt.domain.countries import COUNTRY_OF_EXCHANGE, code_of, name_of
from prometheus_nt.domain.errors import DataError
from prometheus_nt.engines.fragility import FragilityParams
from prometheus_nt.monitoring.answers import Answer, AsOf, Part
from prometheus_nt.monitoring.desk import Desk, OurDesk
from prometheus_nt.monitoring.routes.common import NO_RUN, OfMode, Strategy, calm, reasons

router = APIRouter(prefix="/api/geo", tags=["geo"])

MOST_NAMES = 2_000
MOST_POSITIONS = 20
NO_BOOK = "no book has been recorded up to this session"
NOT_MEASURED = "no instrument of this country was measured up to this session"
MODERATE, HIGH = FragilityParams().class_thresholds[:2]
"""Mean fragility from which the risk of a country is moderate, and high: as of an instrument's
classes by default."""

Risk = Literal["LOW", "MODERATE", "HIGH"]
Code = Annotated[str, Path(pattern="^[A-Za-z]{2}$", description="ISO 3166 code of a country.")]


class Country(Part):
    """A country. Exposures : fractions of the books' equity; `exposure` is net.

    stability_index : 1 is calm. fragility_risk : from the mean score of its instruments.
    named_by : how often its instruments' country is the issuer's, the exchange's or the market's.
    """

    country_code: str
    country_name: str
    stability_index: float | None
    fragility_score: float | None
    fragility_risk: Risk | None
    exposure: float | None
    gross_exposure: float | None
    num_positions: int
    num_instruments: int
    named_by: dict[str, int]


class Countries(Answer):
    """The countries of all instruments that are held or measured, the largest exposure first.

    unplaced : instruments whose country nothing tells.
    """

    as_of_date: date | None
    measured_at: date | None
    equity: float | None
    rows: list[Country]
    unplaced: int


class PositionThere(Part):
    """What the books hold of an instrument. weight : of their equity."""

    instrument_id: str
    market_value: float
    weight: float | None


class CountryDetail(Answer):
    """A country in full. regime : of the region that its market is in."""

    country_code: str
    country_name: str
    as_of_date: date | None
    stability_index: float | None
    fragility_score: float | None
    fragility_risk: Risk | None
    regime: str | None
    exposure: float | None
    num_positions: int
    exposures: dict[str, float]
    top_positions: list[PositionThere]


@dataclass
class _World:
    """What is known of all instruments, by instrument."""

    session: date | None = None
    measured_at: date | None = None
    equity: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    stability: dict[str, float] = field(default_factory=dict)
    fragility: dict[str, float] = field(default_factory=dict)
    places: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        return {*self.values, *self.stability, *self.fragility}


@router.get("/countries")
def countries(
    desk: OurDesk, as_of: AsOf = None, mode: OfMode = None, strategy_id: Strategy = None
) -> Countries:
    """Return every country in which something is held or measured."""
    world = _world(desk, Filters(as_of=as_of, mode=mode, strategy_id=strategy_id))
    rows = [_country(world, code) for code in {code for code, _ in world.places.values()}]
    rows.sort(key=lambda row: (-(row.gross_exposure or 0.0), row.country_code))
    fields = {"as_of_date": world.session, "equity": world.equity}
    measured = {"measured_at": world.measured_at}
    return Countries(
        rows=rows,
        unplaced=len(world.names) - len(world.places),
        unknown=reasons(fields, NO_BOOK) | reasons(measured, NO_RUN),
        **fields,
        **measured,
    )


@router.get("/country/{country_code}")
def country(
    desk: OurDesk,
    country_code: Code,
    as_of: AsOf = None,
    mode: OfMode = None,
    strategy_id: Strategy = None,
) -> CountryDetail:
    """Return a country with what is held there and the regime of its region."""
    filters = Filters(as_of=as_of, mode=mode, strategy_id=strategy_id)
    world, code = _world(desk, filters), country_code.upper()
    if code not in {place for place, _ in world.places.values()}:
        raise DataError(f"{code}: nothing is held or measured there; /api/geo/countries lists all")
    row = _country(world, code)
    held = {name: world.values[name] for name in _of(world, code) if name in world.values}
    largest = sorted(held.items(), key=lambda item: (-abs(item[1]), item[0]))[:MOST_POSITIONS]
    measures = {
        "stability_index": row.stability_index,
        "fragility_score": row.fragility_score,
        "fragility_risk": row.fragility_risk,
    }
    book = {"as_of_date": world.session, "exposure": row.exposure}
    regime = {"regime": _regime(desk, code, filters)}
    return CountryDetail(
        country_code=code,
        country_name=row.country_name,
        num_positions=row.num_positions,
        exposures=_exposures(held.values(), world.equity),
        top_positions=[
            PositionThere(
                instrument_id=name, market_value=value, weight=_share(value, world.equity)
            )
            for name, value in largest
        ],
        unknown=reasons(measures, NOT_MEASURED) | reasons(book, NO_BOOK) | reasons(regime, NO_RUN),
        **measures,
        **book,
        **regime,
    )


def _world(desk: Desk, filters: Filters) -> _World:
    world = _World()
    _add_books(desk, filters, world)
    stable, world.stability = _measured(desk, "stability", "overall_score", filters)
    fragile, world.fragility = _measured(desk, "fragility", "fragility_score", filters)
    sessions = [found.session for found in (stable, fragile) if found is not None]
    world.measured_at = max(sessions, default=None)
    homes = homes_of(desk.stores.historical.database, world.names)
    found = {name: _home(home) for name, home in homes.items()}
    world.places = {name: place for name, place in found.items() if place is not None}
    return world


def _add_books(desk: Desk, filters: Filters, world: _World) -> None:
    database = desk.stores.runtime.database
    runs = newest_runs(database, filters)
    books = list(held_by(database, runs, filters.as_of).values())
    world.session = max((book.session for book in books), default=None)
    current = [book for book in books if book.session == world.session]
    if current:
        world.equity = sum(book.equity for book in current)
    for book in current:
        for row in book.rows:
            name = row["instrument_id"]
            world.values[name] = world.values.get(name, 0.0) + row["market_value"]


def _measured(
    desk: Desk, listing: str, column: str, filters: Filters
) -> tuple[Standing | None, dict[str, float]]:
    """Return whose measures stand, and those that are known by instrument."""
    limited = Filters(as_of=filters.as_of, strategy_id=filters.strategy_id, limit=MOST_NAMES)
    columns = ("entity_id", column)
    found, rows = standing(desk.stores.runtime.database, listing, limited, columns=columns)
    return found, {row["entity_id"]: row[column] for row in rows if row[column] is not None}


def _home(home: Home) -> tuple[str, str] | None:
    """Return the country of an instrument, and what tells it; None where nothing does."""
    if home.country:
        return code_of(home.country), "issuer"
    if home.exchange in COUNTRY_OF_EXCHANGE:
        return COUNTRY_OF_EXCHANGE[home.exchange], "exchange"
    market = MARKETS.get(home.market_id or "")
    return (COUNTRY_OF_EXCHANGE[market], "market") if market in COUNTRY_OF_EXCHANGE else None


def _of(world: _World, code: str) -> list[str]:
    return [name for name, (place, _) in world.places.items() if place == code]


def _country(world: _World, code: str) -> Country:
    names = _of(world, code)
    held = [world.values[name] for name in names if name in world.values]
    score = _mean(world.stability[name] for name in names if name in world.stability)
    fragile = _mean(world.fragility[name] for name in names if name in world.fragility)
    told: dict[str, int] = {}
    for name in names:
        told[world.places[name][1]] = told.get(world.places[name][1], 0) + 1
    return Country(
        country_code=code,
        country_name=name_of(code),
        stability_index=calm(score),
        fragility_score=fragile,
        fragility_risk=_risk(fragile),
        exposure=_share(sum(held), world.equity),
        gross_exposure=_share(sum(abs(value) for value in held), world.equity),
        num_positions=len(held),
        num_instruments=len(names),
        named_by=told,
    )


def _exposures(values: Iterable[float], equity: float | None) -> dict[str, float]:
    held = list(values)
    parts = {
        "long": sum(value for value in held if value > 0),
        "short": sum(value for value in held if value < 0),
        "net": sum(held),
        "gross": sum(abs(value) for value in held),
    }
    return {name: part / equity for name, part in parts.items()} if equity else {}


def _regime(desk: Desk, code: str, filters: Filters) -> str | None:
    """Return the regime of the region whose market keeps the sessions of a country's exchange."""
    homes: Mapping[str, str] = {
        COUNTRY_OF_EXCHANGE[MARKETS[market]]: region for region, market in REGIONS.items()
    }
    if code not in homes:
        return None
    wanted = Filters(
        as_of=filters.as_of, strategy_id=filters.strategy_id, region=homes[code], limit=1
    )
    _, rows = standing(desk.stores.runtime.database, "regimes", wanted)
    return rows[0]["regime_label"] if rows else None


def _risk(score: float | None) -> Risk | None:
    if score is None:
        return None
    return "HIGH" if score >= HIGH else "MODERATE" if score >= MODERATE else "LOW"


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None


def _share(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None
