"""Schema revisions of both databases, one folder per branch."""
