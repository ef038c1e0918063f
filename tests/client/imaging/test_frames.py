"""Where a frame's grey values come from: files of other kinds than DICOM, and memory."""

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from client.imaging.frames import Frame, ImageFile, InMemory, unit_range
from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import DicomPixels

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "image"), [("a.png", RAMP), ("b.png", RAMP.astype(np.uint16) * 257), ("c.tiff", RAMP)]
)
def test_a_lossless_file_gives_its_values_over_its_range(tmp_path, name, image):
    cv2.imwrite(str(tmp_path / name), image)
    np.testing.assert_allclose(ImageFile(tmp_path / name).read(), RAMP / np.float32(255), rtol=1e-6)


def test_a_colour_picture_becomes_grey(tmp_path):
    cv2.imwrite(
        str(tmp_path / "c.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8)
    )  # red, as OpenCV writes it
    grey = ImageFile(tmp_path / "c.png").read()
    assert grey.shape == (4, 4)
    assert grey == pytest.approx(0.299, abs=0.005)  # BT.601


def test_what_cannot_be_decoded_has_its_reason(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    cv2.imwrite(str(tmp_path / "float.tiff"), RAMP.astype(np.float32))
    for name in ("text.png", "absent.png", "float.tiff"):
        with pytest.raises(Skipped) as e:
            ImageFile(tmp_path / name).read()
        assert e.value.reason is Reason.BROKEN


@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16]), (3, 4)))
def test_the_unit_range_is_the_whole_range_of_the_type(image):
    unit = unit_range(image)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, image / np.float64(np.iinfo(image.dtype).max), rtol=1e-6)


def test_memory_gives_floats_as_they_are_and_bytes_over_their_range():
    floats = np.linspace(0, 1, 4, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(InMemory(floats).read(), floats)
    np.testing.assert_allclose(InMemory(RAMP).read(), RAMP / np.float32(255), rtol=1e-6)
    assert InMemory(RAMP) != InMemory(RAMP)  # equal to itself alone: two patients' images are never one


def test_a_frame_knows_its_file_if_it_has_one():
    assert Frame(0.0, ImageFile(Path("a.png"))).path == Path("a.png")
    assert Frame(0.0, DicomPixels(Path("b.dcm"))).path == Path("b.dcm")
    assert Frame(0.0, InMemory(RAMP)).path is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_whose_white_is_zero_is_turned_round_at_any_depth(tmp_path, dtype, white_is_zero):
    top = np.iinfo(dtype).max
    values = (RAMP.astype(np.uint32) * top // 255).astype(dtype)
    stored = top - values if white_is_zero else values
    written = values if dtype == np.uint8 else stored  # Pillow turns eight bits round by itself
    PIL.Image.fromarray(written).save(tmp_path / "a.tiff", tiffinfo={262: 0 if white_is_zero else 1})
    assert stored.astype(stored.dtype.newbyteorder("<")).tobytes() in (tmp_path / "a.tiff").read_bytes()
    np.testing.assert_allclose(ImageFile(tmp_path / "a.tiff").read(), RAMP / 255, atol=0.003)


def test_nothing_is_printed_of_a_file_that_is_not_there(tmp_path, capfd):
    with pytest.raises(Skipped) as caught:
        ImageFile(tmp_path / "Doe_Jane.png").read()
    assert caught.value.reason == Reason.BROKEN
    assert "Doe" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_a_file_of_several_images_is_not_its_first(tmp_path, kind):
    first, second = (PIL.Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in (0, 200))
    first.save(tmp_path / "many", kind, save_all=True, append_images=[second])
    with pytest.raises(Skipped) as e:
        ImageFile(tmp_path / "many").read()
    assert e.value.reason is Reason.SEVERAL_IMAGES
    first.save(tmp_path / "one", kind)
    assert ImageFile(tmp_path / "one").read().shape == (8, 8)
