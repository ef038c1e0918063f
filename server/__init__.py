"""Orchestrates the rounds. Never imports client/ or pydicom: it cannot read an image even by accident."""
