"""The tables of both databases, one metadata per database."""
