"""Grey values by the standard: worked out by hand, and against another reader (DCMTK's dcm2pnm)."""

import csv
import re
import subprocess

import cv2
import numpy as np
import pytest
from pydicom import Dataset, Sequence, dcmread, dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)  # fmt: skip

from client.imaging.dicom import open_dataset
from client.imaging.functional_groups import frame_attributes
from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import (
    apply_window,
    aspect_of,
    fit,
    read_pixels,
    rescaled,
    samples,
    square,
    to_grey,
)
from common.plan import Window
from tests.helpers.dicom import RAMP, enhanced, image, save
from tests.helpers.tools import require_data, require_tool

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


def test_shapes_are_kept_by_padding(tmp_path):
    wide = np.zeros((10, 30), np.float32)
    wide[:, 10:20] = 1.0
    square = fit(wide, 30, 8)
    assert square.shape == (30, 30)
    assert (square[10:20, 10:20] == 255).all()
    assert square.astype(int).sum() == 255 * 100


def test_sixteen_bits_hold_more():
    grey = np.full((4, 4), 0.12345, np.float32)
    assert fit(grey, 4, 16)[0, 0] == round(0.12345 * 65535)


def test_areas_are_averaged():
    grey = np.kron(np.array([[0.0, 1.0], [0.5, 0.25]]), np.ones((4, 4))).astype(np.float32)
    np.testing.assert_array_equal(fit(grey, 2, 8), [[0, 255], [128, 64]])


def test_modality_then_voi_then_inversion_by_hand(tmp_path):
    # stored 0 100 200 300 -> HU = 2 x - 200 = -200 0 200 400; window 100 / 401: (HU - 99.5) / 400 + 0.5,
    # clipped: -299.5/400+.5 = -0.249 -> 0; -99.5/400+.5 = 0.25125; 100.5/400+.5 = 0.75125; 300.5/400+.5 =
    # 1.251 -> 1
    tags = {"RescaleSlope": 2, "RescaleIntercept": -200, "WindowCenter": 100, "WindowWidth": 401}
    expected = np.array([[0.0, 0.25125, 0.75125, 1.0]])
    path = save(image(RAMP, **tags), tmp_path / "a.dcm")
    np.testing.assert_allclose(read_pixels(path), expected, atol=1e-6)
    path = save(image(RAMP, **tags, PhotometricInterpretation="MONOCHROME1"), tmp_path / "b.dcm")
    np.testing.assert_allclose(read_pixels(path), 1 - expected, atol=1e-6)


def test_the_plan_s_window_replaces_the_file_s():
    ds = image(RAMP, WindowCenter=5, WindowWidth=5)
    np.testing.assert_allclose(
        to_grey(ds, Window(center=150.5, width=301.0)), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6
    )


def test_the_first_of_several_windows_counts():
    ds = image(RAMP, WindowCenter=[150.5, 5], WindowWidth=[301, 5])
    np.testing.assert_allclose(to_grey(ds), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)


@pytest.mark.parametrize("broken", [{"WindowWidth": 0, "WindowCenter": 1}, {"WindowCenter": 1}, {}])
def test_without_a_usable_window_the_own_range_is_stretched(broken):
    np.testing.assert_allclose(to_grey(image(RAMP, **broken)), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)
    assert (to_grey(image(np.full((2, 2), 7, np.uint16))) == 0).all()


def test_signed_pixels():
    ds = image(np.array([[-1000, 0, 1000]], np.int16))
    np.testing.assert_allclose(to_grey(ds), [[0, 0.5, 1]])


def test_window_functions_by_their_formulas():
    x = np.array([-50, 40, 130], np.float32)
    np.testing.assert_allclose(apply_window(x.copy(), 40, 100, "LINEAR_EXACT"), [0, 0.5, 1])
    np.testing.assert_allclose(
        apply_window(x.copy(), 40, 100, "SIGMOID"), 1 / (1 + np.exp(-4 * (x - 40) / 100)), rtol=1e-6
    )
    np.testing.assert_allclose(apply_window(x.copy(), 40, 1, "LINEAR"), [0, 1, 1])


def test_a_voi_lut_is_looked_up():
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4, 0, 16], [0, 65535, 13107, 26214]
    ds = image(np.array([[0, 1, 2, 3, 9]], np.uint16), VOILUTSequence=DicomSequence([lut]))
    np.testing.assert_allclose(to_grey(ds), [[0, 1, 0.2, 0.4, 0.4]], atol=1e-6)


def test_pixels_that_do_not_decode_are_broken(tmp_path):
    ds = image(RAMP)
    ds.PixelData = b"\0\0"
    with pytest.raises(Skipped) as e:
        read_pixels(save(ds, tmp_path / "short.dcm"))
    assert e.value.reason == Reason.BROKEN
    ds = image(RAMP)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds["PixelData"].is_undefined_length = True
    from pydicom.encaps import encapsulate

    ds.PixelData = encapsulate([b"\xff\xd8 no jpeg"])
    with pytest.raises(Skipped) as e:
        read_pixels(save(ds, tmp_path / "jpeg.dcm"))
    assert e.value.reason == Reason.BROKEN


@pytest.mark.slow
def test_where_the_zoos_manifest_says_that_pixels_decode_ours_do():
    zoo = require_data("dicom-zoo")
    with (zoo / "manifest.csv").open() as file:
        decodable = {
            row["file"]: row["decode"] for row in csv.DictReader(file) if row["decode"].startswith("ok")
        }
    assert len(decodable) > 70
    for name, said in decodable.items():
        grey = read_pixels(zoo / "files" / name)
        shape = tuple(int(n) for n in re.findall(r"\d+", said.split(")")[0]))
        frames_first = len(shape) == 4 or (len(shape) == 3 and shape[-1] != 3)
        height, width = shape[1:3] if frames_first else shape[:2]
        aspect = aspect_of(frame_attributes(open_dataset(zoo / "files" / name, headers_only=True), 0))
        if abs(aspect - 1) >= 0.01:  # pixels that are not square are made so
            height, width = (round(height * aspect), width) if aspect > 1 else (height, round(width / aspect))
        assert grey.shape == (height, width), name
        assert np.isfinite(grey).all()


@pytest.mark.parametrize("mark", ["cswado__CTImage.dcm", "csparser__CT0012.", "csparser__CT1_UNC."])
def test_the_zoos_copies_of_one_slice_in_lossless_syntaxes_have_the_same_pixels(mark):
    zoo = require_data("dicom-zoo")
    with (zoo / "manifest.csv").open() as file:
        copies = [
            row["file"]
            for row in csv.DictReader(file)
            if row["file"].startswith(mark) and "2000" not in row["file"]
        ]
    copies = [zoo / "files" / name for name in copies if "Process1Transfer" not in name]  # 8 bits of 12
    assert len(copies) >= 3
    assert all(np.array_equal(read_pixels(path), read_pixels(copies[0])) for path in copies[1:])


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
        JPEGLossless,
        JPEGLosslessSV1,
    ],
)
def test_one_slice_in_every_lossless_transfer_syntax_has_the_same_pixels(tmp_path, syntax):
    pixels = np.random.default_rng(0).integers(-1000, 2000, (64, 48)).astype(np.int16)
    ds = image(pixels, RescaleSlope=1, RescaleIntercept=-24, WindowCenter=40, WindowWidth=1500)
    original = read_pixels(save(ds, tmp_path / "a.dcm"))
    path = tmp_path / "b.dcm"
    if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        ds.compress(syntax, generate_instance_uid=False)
        save(ds, path)
    elif syntax in (JPEGLossless, JPEGLosslessSV1):
        _by_gdcm(tmp_path / "a.dcm", path, syntax)
    else:
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = pixels.astype("<i2" if little else ">i2").tobytes()
        dcmwrite(path, ds, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_pixels(path), original)


def _by_gdcm(source, target, syntax):
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    names = {
        JPEGLossless: gdcm.TransferSyntax.JPEGLosslessProcess14,
        JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    }
    change.SetTransferSyntax(gdcm.TransferSyntax(names[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetFileName(str(target))
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_colour_becomes_its_luminance(tmp_path):
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    ds = image(
        RAMP,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=rgb.tobytes(),
    )
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    np.testing.assert_allclose(
        read_pixels(save(ds, tmp_path / "rgb.dcm")), [[0.299, 0.587, 0.114, 1.0]], atol=1e-6
    )


@pytest.mark.parametrize(
    "name",
    ["RLELossless", "JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEGLSNearLossless",
     "JPEG2000Lossless", "JPEG2000", "HTJ2KLossless", "HTJ2KLosslessRPCL", "HTJ2K"],
)  # fmt: skip
def test_a_plain_install_has_a_decoder_for(name):
    from pydicom import uid
    from pydicom.pixels import get_decoder

    assert get_decoder(getattr(uid, name)).is_available


@pytest.mark.slow
def test_where_both_read_a_grey_file_of_the_zoo_itk_has_the_same_values():
    """Before any window, of the first frame: lengths of samples, signs, high bits, compression, rescaling. ITK
    turns MONOCHROME1 over, which we do after the window."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    compared = 0
    for path in sorted((require_data("dicom-zoo") / "files").iterdir()):
        try:
            ds = frame_attributes(open_dataset(path), 0)
            ours = rescaled(samples(ds, 0), ds).astype(np.float64)
            theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(np.float64)
        except Exception:  # what one of the two does not read is no comparison
            continue
        theirs = theirs[0] if theirs.ndim == 3 else theirs
        if theirs.shape != ours.shape or ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
            continue
        versions = (
            [theirs, 2**ds.BitsStored - 1 - theirs]
            if ds.PhotometricInterpretation == "MONOCHROME1"
            else [theirs]
        )
        assert min(np.abs(ours - one).max() for one in versions) <= 1e-3 * max(1.0, np.abs(theirs).max()), (
            path.name
        )
        compared += 1
    assert compared >= 30


RGB12 = np.stack([RAMP12] * 3, axis=-1)


def test_a_colour_of_twelve_bits_in_sixteen_is_white_at_twelve():
    ds = image(
        RAMP12,
        BitsStored=12,
        HighBit=11,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    ds.PixelData = RGB12.astype("<u2").tobytes()
    np.testing.assert_allclose(to_grey(ds)[0], UNIT, atol=1e-3)


def test_run_lengths_keep_the_place_of_the_bits():
    ds = image(RAMP12 << 4, BitsStored=12, HighBit=15, **WHOLE)
    plain = to_grey(ds)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = 12, 15
    np.testing.assert_array_equal(to_grey(ds), plain)
    np.testing.assert_allclose(plain[0], UNIT, atol=1e-3)


def test_padding_that_the_samples_cannot_hold_is_found_in_the_words_and_nowhere_else():
    words = RAMP12.copy()
    words[0, :3] = 63536  # its low twelve bits are 2096, which is a grey value too
    words[1, 5] = 2096
    ds = image(words, BitsStored=12, HighBit=11, PixelPaddingValue=63536, **WHOLE)
    found = to_grey(ds)
    assert found[0, :3].tolist() == [0.0] * 3
    assert found[1, 5] == pytest.approx(2096 / 4095, abs=1e-3)


def test_negative_padding_that_the_samples_cannot_hold_is_found_too():
    words = np.tile(np.arange(-2048, 2048, 64, dtype=np.int16), (4, 1))
    words[0, :3] = -32768
    ds = image(words, BitsStored=12, HighBit=11, PixelPaddingValue=-32768, WindowCenter=0, WindowWidth=4096)
    found = to_grey(ds)
    assert found[0, :3].tolist() == [0.0] * 3
    assert found[1, 32] == pytest.approx(0.5, abs=1e-3)


def palette(entries, bits, form):
    ds = image(np.array([[0, 1, 2, 3]], np.uint16), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [len(entries), 0, bits])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.asarray(entries, form).tobytes())
    return ds


@pytest.mark.parametrize(
    ("entries", "bits", "form"),
    [
        ([0, 85, 170, 255], 8, np.uint8),
        ([0, 85, 170, 255], 8, np.uint16),
        ([0, 85, 170, 255], 16, np.uint16),
        ([0, 85, 170, 255], 16, np.uint8),
        ([0, 21845, 43690, 65535], 16, np.uint16),
        ([0, 21845, 43690, 65535], 8, np.uint16),
    ],
)
def test_a_palette_s_white_is_its_entries_however_wide_their_words_are(entries, bits, form):
    np.testing.assert_allclose(to_grey(palette(entries, bits, form))[0], [0, 1 / 3, 2 / 3, 1], atol=1e-3)
