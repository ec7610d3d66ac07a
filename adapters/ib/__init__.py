"""Interactive Brokers: the link, instruments, market data and history, on `ib_async`'s wire."""
