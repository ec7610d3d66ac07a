"""Figures and pages made from a finished run."""
