"""Whoever opens one capture alone reads in its pixels what it says: by OCR, as a viewer shows them."""

import re
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pytest

from client.prediction.explain.captures import MAPS, legend, picture
from client.prediction.explain.case import short
from tests.helpers.known_model import explained
from tests.helpers.tools import require_tool


def read(image, folder):
    """The words in the legend, by tesseract."""
    large = cv2.resize(255 - image[520:], None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "legend.png"), large)
    tool = require_tool("tesseract")
    done = subprocess.run(
        [tool, str(folder / "legend.png"), "-", "--psm", "6"], capture_output=True, text=True
    )
    return re.sub(r"\s+", " ", done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("upside_down", [False, True], ids=["yes", "no"])
def test_the_pixels_say_what_is_shown(tmp_path, upside_down):
    known = explained(upside_down=upside_down)
    assert known.called != upside_down
    text = read(picture(known, MAPS[0], 1), tmp_path)
    assert f"pneumonia: probability {known.probability:.3f}" in text
    assert ("NO, no pneumonia" if upside_down else "YES, pneumonia") in text
    assert f"Bright: what {'OPPOSES' if upside_down else 'SUPPORTS'} pneumonia" in text
    assert "Image 2 of 4, day 2 of 6" in text
    assert "Research use, not a medical device" in text
    assert "integrated gradients" in text
    assert "most in this patient" in text
    assert known.model in text
    assert "Smith" not in text


@pytest.mark.parametrize("kind", MAPS, ids=lambda kind: kind.method)
def test_no_line_is_cut_off(kind):
    known = explained()
    shown = picture(known, kind, 3)
    assert shown.shape[1] == 512
    assert (shown[520:, -2:] == 0).all()  # black to the edge: every line ends before it
    assert all(line.isascii() for line in legend(known, kind, 3, "pneumonia"))


def test_a_map_of_all_images_is_drawn_once_and_each_image_s_own_on_it():
    known = explained()
    assert [kind.method for kind in MAPS if not kind.each] == ["occlusion"]
    own = [picture(known, MAPS[0], k)[:512] for k in range(4)]
    assert not np.array_equal(own[2], own[3])


@pytest.mark.slow
def test_a_finding_in_other_letters_is_drawn_as_its_code(tmp_path):
    known = replace(explained(), finding="肺炎")
    assert legend(known, MAPS[0], 1, "肺炎")[0].startswith("肺炎: probability")
    assert short("肺炎")[-8:-2] in read(picture(known, MAPS[0], 1), tmp_path).replace(" ", "")
