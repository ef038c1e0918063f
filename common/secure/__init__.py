"""Secure aggregation: the server sees the sum of the sites' updates, and no update (docs/privacy.md)."""
