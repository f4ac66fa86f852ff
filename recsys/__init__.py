"""Recommendations for a shop, from its tables back to its tables."""

__version__ = "0.1.0"
