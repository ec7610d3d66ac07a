"""Books and measures by country."""

import pytest
import sqlalchemy as sa

from persistence.countries import MOST_AT_ONCE, homes_of
from persistence.tables import historical
from tests.integration.monitoring.world import World, fill, put

pytestmark = pytest.mark.integration

WORLD = World()


def read(client, path, **parameters):
    answer = client.get(path, params=parameters or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def place(database, **homes):
    """Store instruments: name without its suffix -> country of the issuer, exchange, market."""
    with database.writer() as connection:
        known = set(connection.execute(sa.select(historical.markets.c.market_id)).scalars())
    markets = {market for _, _, market in homes.values() if market} - known
    put(database, historical.markets, [{"market_id": name} for name in markets])
    for name, (country, exchange, market) in homes.items():
        put(database, historical.issuers, [{"issuer_id": name, "country": country}])
        row = {"instrument_id": f"{name}.US", "issuer_id": name, "exchange": exchange}
        put(database, historical.instruments, [row | {"market_id": market}])


def test_nothing_is_anywhere(client):
    found = read(client, "/api/geo/countries")

    assert found["rows"] == [] and found["unplaced"] == 0
    assert set(found["unknown"]) == {"as_of_date", "equity", "measured_at"}
    assert client.get("/api/geo/country/US").status_code == 404
    assert client.get("/api/geo/country/USA").status_code == 422


def test_a_country_sums_its_positions_and_averages_its_measures(client, database):
    fill(database, WORLD)
    place(database, A=(None, "XNYS", None), B=("Japan", "XNYS", "US_EQ"))

    us, jp = read(client, "/api/geo/countries")["rows"]

    # Two books of 120 and 300 each hold 60 of A and -12 of B.
    assert (us["country_code"], us["country_name"]) == ("US", "United States")
    assert (us["exposure"], us["gross_exposure"]) == pytest.approx((120 / 420, 120 / 420))
    assert (jp["country_code"], jp["exposure"]) == ("JP", pytest.approx(-24 / 420))
    assert jp["gross_exposure"] == pytest.approx(24 / 420)
    # Scores of stability are 10 and 11 of 100, of fragility 0.1 and 0.2.
    assert (us["stability_index"], jp["stability_index"]) == pytest.approx((0.9, 0.89))
    assert (us["fragility_score"], jp["fragility_score"]) == pytest.approx((0.1, 0.2))
    assert (us["num_positions"], us["num_instruments"]) == (1, 1)
    assert (us["named_by"], jp["named_by"]) == ({"exchange": 1}, {"issuer": 1})


def test_the_market_places_what_nothing_else_does(client, database):
    fill(database, WORLD)
    place(database, A=(None, None, "ASIA_EQ"), B=(None, "XXXX", None))

    found = read(client, "/api/geo/countries")

    (jp,) = found["rows"]
    assert (jp["country_code"], jp["named_by"], found["unplaced"]) == ("JP", {"market": 1}, 1)
    assert (found["as_of_date"], found["equity"]) == ("2024-02-02", 420.0)


def test_the_risk_of_a_country_follows_the_scores_of_its_instruments(client, database):
    risks = []
    for size in (1.0, 3.0, 9.0):
        fill(database, World(size=size))
        place(database, A=("US", None, None), B=("US", None, None))
        risks.append(read(client, "/api/geo/countries")["rows"][0]["fragility_risk"])

    assert risks == ["LOW", "MODERATE", "HIGH"]


def test_a_country_in_full_has_its_positions_and_its_regime(client, database):
    fill(database, WORLD)
    place(database, A=("US", None, None), B=("US", None, None))

    found = read(client, "/api/geo/country/us")

    assert found["regime"] == "ONE" and found["num_positions"] == 2
    assert found["exposures"] == pytest.approx(
        {"long": 120 / 420, "short": -24 / 420, "net": 96 / 420, "gross": 144 / 420}
    )
    assert [row["instrument_id"] for row in found["top_positions"]] == ["A.US", "B.US"]
    assert found["top_positions"][1]["market_value"] == -24.0
    before = read(client, "/api/geo/country/US", as_of="2024-02-01")
    assert before["as_of_date"] == "2024-02-01"
    assert client.get("/api/geo/country/JP").status_code == 404


def test_a_country_without_a_market_of_ours_has_no_regime(client, database):
    fill(database, WORLD)
    place(database, A=("DE", None, None), B=("US", None, None))

    found = read(client, "/api/geo/country/DE")

    assert found["regime"] is None and "regime" in found["unknown"]


def test_more_names_than_a_statement_takes_are_found(database):
    names = [f"N{number}" for number in range(MOST_AT_ONCE + 3)]
    put(database, historical.issuers, [{"issuer_id": name, "country": "FR"} for name in names])
    rows = [{"instrument_id": name, "issuer_id": name, "market_id": None} for name in names]
    put(database, historical.instruments, rows)

    found = homes_of(database, names)

    assert len(found) == MOST_AT_ONCE + 3
    assert {home.country for home in found.values()} == {"FR"}
