"""Sleeves: from a target portfolio to orders."""
