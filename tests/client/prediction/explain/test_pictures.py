"""Heat over frames: scaled over the whole sequence, clear where it is low, and of the stated sizes."""

import base64

import cv2
import numpy as np
import pytest

from client.prediction.explain.pictures import (
    METHODS,
    TILE,
    data_address,
    drawn,
    grey,
    heat_of,
    montage,
    overlay,
)
from tests.helpers.known_model import explained


@pytest.fixture(scope="module")
def known():
    return explained()


def decoded(png):
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.parametrize("method", METHODS[:2])  # the known model has no gradient for Grad-CAM
def test_heat_is_relative_to_the_hottest_place_of_the_whole_sequence(known, method):
    heat = np.stack([heat_of(known, method, t) for t in range(len(known.case.pixels))])
    assert heat.shape == known.case.pixels.shape
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1.0)


def test_a_frame_without_heat_is_shown_as_it_is(known):
    cold = [t for t in range(len(known.case.pixels)) if not heat_of(known, "integrated gradients", t).any()]
    for t in cold:
        np.testing.assert_allclose(overlay(known, "integrated gradients", t), grey(known, t), atol=1)
    hot = int(np.argmax([heat_of(known, "integrated gradients", t).max() for t in range(4)]))
    assert np.abs(overlay(known, "integrated gradients", hot).astype(int) - grey(known, hot)).max() > 30


def test_the_montage_has_a_column_a_visit_and_frames_the_turning_one(known):
    picture = decoded(montage(known))
    n = len(known.case.pixels)
    assert picture.shape[1] == n * (TILE + 6) + 6
    assert picture.shape[0] == 30 + (1 + len(METHODS)) * (TILE + 6) + 44
    blue = (picture == (153, 110, 11)).all(2)
    columns = {int(x) // (TILE + 6) for x in np.flatnonzero(blue.sum(0) > 100)}
    assert known.turning in columns


def test_a_data_address_holds_the_very_picture(known):
    start, _, data = data_address(grey(known, 0, 50)).partition(",")
    assert start == "data:image/png;base64"
    np.testing.assert_array_equal(decoded(base64.b64decode(data)), grey(known, 0, 50))


def test_what_the_font_cannot_draw_is_drawn_as_its_code():
    assert [drawn("pneumonia"), drawn("肺炎")[:8]] == ["pneumonia", "finding-"]
    assert drawn("肺炎") != drawn("肺癌")
