"""The audit's page: pictures in it, and what the plan has not is left out."""

import base64
import math

import cv2
import numpy as np
import pytest

from common.results.attacks import CanaryAttack, Inversion, PrivacyAudit
from simulation.attacks.inversion import Attempt
from simulation.attacks.page import SHOWN, SIDE, render_page, strip
from simulation.attacks.site import Drawing
from tests.helpers.browser import FINE, problems


def picture_in(address):
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize(("t", "shown"), [(1, 1), (3, 3), (12, SHOWN)])
def test_the_last_frames_stand_side_by_side(t, shown):
    frames = np.linspace(-2, 2, t)[:, None, None] * np.ones((t, 4, 4))
    picture = picture_in(strip(frames.astype(np.float32)))
    assert picture.shape == (SIDE + 4, shown * (SIDE + 4))
    middles = [picture[SIDE // 2, k * (SIDE + 4) + SIDE // 2] for k in range(shown)]
    expected = ((frames[-shown:, 0, 0] + 2) / 4 * 255).astype(np.uint8)
    assert middles == expected.tolist()


def test_values_beyond_the_range_are_black_and_white():
    picture = picture_in(strip(np.array([[[-9.0, 9.0]]], np.float32)))
    assert {0, 255} == set(np.unique(picture).tolist())


@pytest.mark.slow
def test_a_plan_without_privacy_has_no_row_of_it():
    frames = np.zeros((2, 4, 4), np.float32)
    attack = CanaryAttack(canaries=40, guesses=20, right=15, auroc=0.7, epsilon_at_least=0.3)
    attempt = Attempt(frames, 0.9)
    for private in (None, attempt):
        drawing = Drawing(frames, attempt, private)
        audit = PrivacyAudit(
            site="<b>north</b>", plan="p", plan_sha256="0" * 64, n_patients=9, delta=1e-5,
            epsilon_of_run=8.0 if private else math.nan, epsilon_in_ledger=8.0 if private else math.nan,
            private=attack if private else None, plain=attack, membership=None, inversion=drawing.likeness,
        )  # fmt: skip
        page = render_page(audit, drawing)
        assert page.count("data:image/png;base64,") == (3 if private else 2)
        assert "<b>north</b>" not in page
        assert isinstance(drawing.likeness, Inversion)
    assert problems(page) == FINE
