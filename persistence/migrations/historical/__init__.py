"""Schema revisions of the historical database."""
