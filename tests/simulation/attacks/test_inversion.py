"""Drawing a patient from one update: it succeeds without privacy, and fails with it."""

import numpy as np
import pytest
import torch

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection, Sequence
from common.plan import Input, Model, Privacy
from simulation.attacks.inversion import invert, true_frames
from tests.helpers.plans import small_plan

CPU = torch.device("cpu")
PLAN = small_plan(
    input=Input(size=28, max_frames=1), model=Model(width=16, embedding=64, hidden=32, context=0, time_gap=False),
    privacy=Privacy(noise_multiplier=1.0, delta=1e-5),
)  # fmt: skip


def one_patient(tmp_path, plan):
    """A bright disc on a dark ground, once."""
    y, x = np.mgrid[:28, :28]
    picture = np.where((y - 10) ** 2 + (x - 17) ** 2 < 50, 0.9, 0.1).astype(np.float32)
    sequence = Sequence("p", (Frame(0.0, InMemory(picture)),), np.ones(1, np.float32))
    build_cohort(
        tmp_path / "one", Collection([sequence], Tally()), plan.input, plan.findings, b"key", "stamp"
    )
    return Cohort.open(tmp_path / "one")


@pytest.mark.slow
def test_a_patient_can_be_drawn_from_an_update_without_privacy_and_not_with_it(tmp_path):
    plan, cohort = PLAN, one_patient(tmp_path, PLAN)
    assert invert(plan, cohort, 0, None, 0, CPU).likeness > 0.6
    assert abs(invert(plan, cohort, 0, 1.0, 0, CPU).likeness) < 0.35


@pytest.mark.slow
def test_without_noise_the_private_step_hides_nothing_that_clipping_does_not(tmp_path):
    """Clipping alone keeps the direction: it is the noise that protects."""
    plan, cohort = PLAN, one_patient(tmp_path, PLAN)
    assert invert(plan, cohort, 0, 0.0, 0, CPU).likeness > 0.6


def test_true_frames_are_what_the_model_sees(tmp_path):
    frames = true_frames(one_patient(tmp_path, small_plan(input=Input(size=28, max_frames=1))), 0)
    assert frames.shape == (1, 28, 28)
    assert abs(frames.mean()) < 1e-5
    assert abs(frames.std() - 1.0) < 1e-2
