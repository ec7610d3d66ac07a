"""Pure numpy: a panel and records in, one record out."""
