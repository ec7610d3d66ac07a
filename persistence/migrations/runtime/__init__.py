"""Schema revisions of the runtime database."""
