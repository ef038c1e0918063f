"""Attacks on our own training: what a server that keeps every update can learn about a site's patients,
against what ε allows."""
