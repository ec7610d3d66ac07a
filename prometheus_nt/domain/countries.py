"""Countries by their ISO 3166 codes: what they are called, and where exchanges are."""

COUNTRY_OF_EXCHANGE = {
    **dict.fromkeys(("XNAS", "XNYS", "XASE", "ARCX", "BATS"), "US"),
    "XLON": "GB",
    "XTKS": "JP",
}
"""ISO 10383 code of an exchange -> the country that it is in."""

COUNTRY_NAMES = {
    **{"AR": "Argentina", "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BM": "Bermuda"},
    **{"BR": "Brazil", "CA": "Canada", "CH": "Switzerland", "CL": "Chile", "CN": "China"},
    **{"CZ": "Czechia", "DE": "Germany", "DK": "Denmark", "ES": "Spain", "FI": "Finland"},
    **{"FR": "France", "GB": "United Kingdom", "GR": "Greece", "HK": "Hong Kong"},
    **{"HU": "Hungary", "ID": "Indonesia", "IE": "Ireland", "IL": "Israel", "IN": "India"},
    **{"IT": "Italy", "JP": "Japan", "KR": "South Korea", "KY": "Cayman Islands"},
    **{"LU": "Luxembourg", "MX": "Mexico", "MY": "Malaysia", "NL": "Netherlands", "NO": "Norway"},
    **{"NZ": "New Zealand", "PH": "Philippines", "PL": "Poland", "PT": "Portugal"},
    **{"SE": "Sweden", "SG": "Singapore", "TH": "Thailand", "TR": "Turkey", "TW": "Taiwan"},
    **{"US": "United States", "ZA": "South Africa"},
}


def code_of(country: str) -> str:
    """Return the code of a country that is given by its code or its name; else what was given."""
    codes = {name.lower(): code for code, name in COUNTRY_NAMES.items()}
    return codes.get(country.strip().lower(), country.strip().upper())


def name_of(code: str) -> str:
    """Return what a country is called, in English; its code where that is not in our list."""
    return COUNTRY_NAMES.get(code, code)
