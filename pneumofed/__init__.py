"""Federated learning across hospitals for pneumonia detection from sequences of chest images, from Python.

The `pneumofed` command stands beside it. Both import all rooms; no room imports them. What is public: api.py.
"""

import os

# Before Flower is imported anywhere: a hospital phones nobody.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
# And a model crosses in pieces of half Flower's size: of each site's, the server holds one three times.
os.environ["FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE"] = str(5 * 2**19)

from pneumofed.api import Model, PneumofedError, Predicted, Run, open_model, open_run, simulate

__all__ = ["Model", "PneumofedError", "Predicted", "Run", "open_model", "open_run", "simulate"]
