"""Prometheus NT: event-driven backtesting and trading on NautilusTrader."""
