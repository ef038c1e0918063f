"""Grey values by the standard: worked out by hand, and against another reader (DCMTK's dcm2pnm)."""

import subprocess

import cv2
import numpy as np
import pytest
from pydicom import Dataset, Sequence

from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import aspect_of, read_pixels, square, to_grey
from tests.helpers.dicom import enhanced, image, save
from tests.helpers.tools import require_tool

RAMP12 = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (4, 1))
WHOLE = {"WindowCenter": 2048, "WindowWidth": 4096}
UNIT = RAMP12[0] / 4095


def lut(entries, bits, first=0, data=None):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes() if data is None else data)
    return item


def grey(pixels=RAMP12, **tags):
    return to_grey(image(pixels, **tags))[0]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_luts_entries_may_be_wider_or_narrower_than_it_says(bits):
    np.testing.assert_allclose(grey(VOILUTSequence=Sequence([lut(np.arange(4096), bits)])), UNIT, atol=1e-6)


def test_a_lut_of_bytes():
    table = (np.arange(4096) // 16).astype(np.uint8)
    found = grey(VOILUTSequence=Sequence([lut(table, 8, data=table.tobytes())]))
    np.testing.assert_allclose(found, (RAMP12[0] // 16) / 255, atol=1e-6)


def test_a_lut_starts_where_it_says_also_below_zero():
    signed = RAMP12.astype(np.int16) - 2048
    item = lut(np.arange(4096), 12)
    del item["LUTDescriptor"]
    item.add_new("LUTDescriptor", "SS", [4096, -2048, 12])
    np.testing.assert_allclose(grey(signed, VOILUTSequence=Sequence([item])), UNIT, atol=1e-6)
    written_unsigned = lut(np.arange(4096), 12, first=65536 - 2048)
    np.testing.assert_allclose(grey(signed, VOILUTSequence=Sequence([written_unsigned])), UNIT, atol=1e-6)


@pytest.mark.parametrize("broken", [lut(np.arange(4096), 12, data=b"\0\0"), Dataset()])
def test_a_broken_lut_is_no_reason_to_ignore_the_window_beside_it(broken):
    np.testing.assert_allclose(grey(VOILUTSequence=Sequence([broken]), **WHOLE), UNIT, atol=1e-3)


@pytest.mark.parametrize(
    ("modality", "applies"), [("CR", True), ("DX", True), ("CT", True), ("RF", False), ("XA", False)]
)
def test_a_modality_lut_of_fluoroscopy_is_not_for_showing(modality, applies):
    item = lut(4095 - np.arange(4096), 12)
    item.ModalityLUTType = "US"
    found = grey(Modality=modality, ModalityLUTSequence=Sequence([item]), **WHOLE)
    np.testing.assert_allclose(found, UNIT[::-1] if applies else UNIT, atol=0.02)


@pytest.mark.parametrize(
    ("tags", "values"),
    [
        ({"RescaleIntercept": 10}, RAMP12[0] + 10),
        ({"RescaleSlope": 2}, RAMP12[0] * 2.0),
        ({"RescaleSlope": 2, "RescaleIntercept": 10}, RAMP12[0] * 2.0 + 10),
    ],
)
def test_a_slope_or_an_intercept_alone_counts(tags, values):
    found = grey(**tags, WindowCenter=4096, WindowWidth=8192)
    np.testing.assert_allclose(found, np.clip((values - 4095.5) / 8191 + 0.5, 0, 1), atol=1e-5)


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15)])
@pytest.mark.parametrize("signed", [False, True])
def test_samples_end_at_the_high_bit(bits, high, signed):
    values = np.arange(0, 2**bits, 2**bits // 64) - signed * 2 ** (bits - 1)
    words = (values.astype(np.int64) << (high + 1 - bits)) & 0xFFFF
    ds = image(
        np.tile(words.astype(np.uint16), (2, 1)),
        BitsStored=bits,
        HighBit=high,
        PixelRepresentation=int(signed),
    )
    np.testing.assert_allclose(to_grey(ds)[0], np.linspace(0, 1, 64), atol=1e-5)


def test_impossible_bits_are_broken():
    for tags in ({"BitsStored": 0}, {"BitsStored": 17}, {"BitsStored": 12, "HighBit": 16}):
        with pytest.raises(Skipped) as e:
            grey(**tags)
        assert e.value.reason == Reason.BROKEN


def test_what_lies_above_the_bits_is_none_of_the_image():
    overlay = RAMP12 | np.uint16(0x1000)  # an overlay of the old kind
    np.testing.assert_allclose(grey(overlay, BitsStored=12, HighBit=11, **WHOLE), UNIT, atol=1e-3)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_out_of_the_range(photometric):
    signed = RAMP12.astype(np.int16) // 8 + 100
    signed[:, :3] = -2000
    found = grey(signed, PixelPaddingValue=-2000, PhotometricInterpretation=photometric)
    assert (found[:3] == 0).all()
    inside = (signed[0, 3:] - signed[0, 3]) / (signed[0, -1] - signed[0, 3])
    np.testing.assert_allclose(found[3:], inside if photometric == "MONOCHROME2" else 1 - inside, atol=1e-5)
    signed[:, 1] = -1990
    ranged = grey(signed, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980)
    assert (ranged[:3] == 0).all()
    written_unsigned = grey(signed, PixelPaddingValue=65536 - 2000, PixelPaddingRangeLimit=65536 - 1980)
    np.testing.assert_array_equal(ranged, written_unsigned)


def test_an_image_of_nothing_but_padding_is_no_image_less():
    assert grey(np.full((2, 2), 7, np.uint16), PixelPaddingValue=7).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("tags", "aspect"),
    [
        ({"PixelSpacing": [2, 1]}, 2), ({"ImagerPixelSpacing": [0.1, 0.2]}, 0.5), ({"PixelAspectRatio": [4, 3]}, 4 / 3),
        ({"PixelSpacing": [0, 1], "PixelAspectRatio": [1, 2]}, 0.5), ({"PixelSpacing": [1000, 1]}, 1), ({}, 1),
    ],
)  # fmt: skip
def test_a_pixels_height_over_its_width(tags, aspect):
    ds = Dataset()
    for name, value in tags.items():
        setattr(ds, name, value)
    assert aspect_of(ds) == pytest.approx(aspect)


@pytest.mark.parametrize("aspect", [0.5, 2.0, 1.25])
def test_a_disc_stays_round(aspect):
    side = 200
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    disc = (x**2 + y**2 < 60**2).astype(np.float32)
    seen = cv2.resize(
        disc,
        (side, round(side / aspect)) if aspect > 1 else (round(side * aspect), side),
        interpolation=cv2.INTER_AREA,
    )
    back = square(seen, aspect)
    heights, widths = (back > 0.5).sum(0).max(), (back > 0.5).sum(1).max()
    assert abs(heights - 120) <= 2
    assert abs(widths - 120) <= 2


def test_a_window_counts_wherever_a_file_of_frames_has_it():
    top = enhanced([0.0, 1.0], [1, 1])
    top.WindowCenter, top.WindowWidth = 8, 16
    np.testing.assert_allclose(to_grey(top, frame=1)[0], (np.arange(8, 12) - 7.5) / 15 + 0.5, atol=1e-6)
    own = Dataset()
    own.WindowCenter, own.WindowWidth = 16, 32
    top.PerFrameFunctionalGroupsSequence[1].FrameVOILUTSequence = Sequence([own])
    np.testing.assert_allclose(to_grey(top, frame=1)[0], (np.arange(8, 12) - 15.5) / 31 + 0.5, atol=1e-6)
    np.testing.assert_allclose(to_grey(top, frame=0)[0], (np.arange(4) - 7.5) / 15 + 0.5, atol=1e-6)


@pytest.mark.parametrize(
    "tags",
    [
        WHOLE,
        {"WindowCenter": 1000, "WindowWidth": 500},
        {**WHOLE, "PhotometricInterpretation": "MONOCHROME1"},
        {"WindowCenter": 0, "WindowWidth": 4096, "RescaleSlope": 1, "RescaleIntercept": -2048},
        {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "SIGMOID"},
        {"BitsStored": 12, "HighBit": 15, "WindowCenter": 2048, "WindowWidth": 4096},
        {"VOILUTSequence": Sequence([lut(4095 - np.arange(4096), 12)])},
    ],
    ids=str,
)
def test_another_reader_sees_the_same(tmp_path, tags):
    show = require_tool("dcm2pnm")
    pixels = RAMP12 << 4 if tags.get("HighBit") == 15 else RAMP12
    ds = image(pixels, **{"BitsStored": 12, "HighBit": 11, **tags})
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.3"
    path = save(ds, tmp_path / "a.dcm")
    voi = "+Wl" if "VOILUTSequence" in tags else "+Wi"
    subprocess.run(
        [show, voi, "1", "+Sxv", "64", str(path), str(tmp_path / "a.pgm")], check=True, capture_output=True
    )
    other = cv2.imread(str(tmp_path / "a.pgm"), cv2.IMREAD_UNCHANGED) / 255.0
    np.testing.assert_allclose(read_pixels(path), other, atol=1.5 / 255)
