"""Definitions that several engines share, each written once."""
