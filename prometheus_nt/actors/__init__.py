"""Thin shells that run pure engines on the Nautilus bus."""
