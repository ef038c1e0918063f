"""Tests that need a GPU: `pytest -m gpu`. On a machine without one they say so and are skipped."""

from contextlib import contextmanager

import pytest
import torch


@pytest.fixture(scope="session")
def gpu():
    """The first GPU; a CUDA context must exist before anything is timed or counted."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU that torch can use")
    device = torch.device("cuda:0")
    torch.zeros(1, device=device)
    return device


@pytest.fixture
def no_questions(gpu):
    """Within `with no_questions():`, whatever makes the host wait for the GPU is an error."""

    @contextmanager
    def watched():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return watched
