"""Values against a computation by hand, and every kind of bad file ends in its reason."""

import csv
import random
import re

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
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

from client.imaging.dicom import open_dataset, read_headers
from client.imaging.functional_groups import frame_attributes
from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import apply_window, aspect_of, read_pixels, to_grey
from common.plan import Window
from tests.helpers.dicom import RAMP, enhanced, image, save
from tests.helpers.tools import require_data


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"NumberOfFrames": 20_000}, Reason.TOO_LARGE),
        ({"Rows": 60000, "Columns": 60000}, Reason.TOO_LARGE),
        ({"Modality": "MR"}, Reason.OTHER_MODALITY),
        ({"PatientID": ""}, Reason.NO_PATIENT),
        ({"AcquisitionDate": ""}, Reason.NO_TIME),
        ({"AcquisitionDate": "20201332"}, Reason.NO_TIME),
    ],
)
def test_what_cannot_be_used_has_its_reason(tmp_path, change, reason):
    ds = image(RAMP)
    for name, value in change.items():
        ds.add_new(name, ds[name].VR if name in ds else "IS", value)
    with pytest.raises(Skipped) as e:
        read_headers(save(ds, tmp_path / "a.dcm"), "xray")
    assert e.value.reason == reason


def test_what_is_no_image_has_its_reason(tmp_path):
    (tmp_path / "text.dcm").write_text("not DICOM at all")
    (tmp_path / "empty.dcm").write_bytes(b"")
    for name in ("text.dcm", "empty.dcm"):
        with pytest.raises(Skipped) as e:
            read_headers(tmp_path / name, "xray")
        assert e.value.reason in (Reason.NOT_DICOM, Reason.BROKEN)
    report = image(RAMP)
    del report.Rows
    with pytest.raises(Skipped) as e:
        read_headers(save(report, tmp_path / "report.dcm"), "xray")
    assert e.value.reason == Reason.NO_PIXELS
    headless = image(RAMP)
    del headless.PixelData
    with pytest.raises(Skipped) as e:
        read_pixels(save(headless, tmp_path / "headless.dcm"))
    assert e.value.reason == Reason.NO_PIXELS


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


def test_every_file_of_the_zoo_ends_in_an_outcome():
    files = sorted((require_data("dicom-zoo") / "files").iterdir())
    outcomes = []
    for path in files:
        for modality in ("xray", "ct"):
            try:
                for header in read_headers(path, modality).images:
                    grey = read_pixels(header.path, frame=header.frame)
                    assert grey.shape == header.shape
                    assert 0.0 <= grey.min() <= grey.max() <= 1.0
                outcomes.append("read")
            except Skipped as skipped:
                outcomes.append(skipped.reason)
    assert outcomes.count("read") >= 10
    assert len(set(outcomes)) >= 6


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


def test_every_frame_of_an_enhanced_ct_has_its_own_place_and_values(tmp_path):
    path = save(enhanced([30.0, 10.0, 20.0], [1, 2, 3]), tmp_path / "e.dcm")
    headers = read_headers(path, "ct").images
    assert [(h.frame, h.position) for h in headers] == [(0, 30.0), (1, 10.0), (2, 20.0)]
    assert len({h.uid for h in headers}) == 3
    window = Window(center=50.5, width=101.0)  # (x - 50) / 100 + 0.5
    for k, slope in enumerate([1, 2, 3]):
        expected = np.clip(np.arange(8 * k, 8 * k + 8).reshape(2, 4) * slope / 100, 0, 1)
        np.testing.assert_allclose(read_pixels(path, window, k), expected, atol=1e-6)


def test_frames_of_a_film_are_apart_by_its_frame_time(tmp_path):
    path = save(
        image(RAMP, NumberOfFrames=3, FrameTime=500, PixelData=RAMP.tobytes() * 3), tmp_path / "film.dcm"
    )
    headers = read_headers(path, "xray").images
    assert [(h.time - headers[0].time).total_seconds() for h in headers] == [0.0, 0.5, 1.0]


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


def test_a_file_without_preamble_or_meta_is_read(tmp_path):
    ds = image(RAMP, WindowCenter=150.5, WindowWidth=301)
    path = tmp_path / "bare.dcm"
    del ds.file_meta
    dcmwrite(path, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    (header,) = read_headers(path, "xray").images
    assert header.patient == "P1"
    np.testing.assert_allclose(read_pixels(path), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)


def test_text_drawn_into_an_image_is_noted(tmp_path):
    assert not read_headers(save(image(RAMP), tmp_path / "a.dcm"), "xray").images[0].burnt_in
    assert (
        read_headers(save(image(RAMP, BurnedInAnnotation="YES"), tmp_path / "b.dcm"), "xray")
        .images[0]
        .burnt_in
    )


def test_mutated_files_end_in_an_outcome(tmp_path):
    original = save(image(RAMP, WindowCenter=100, WindowWidth=50), tmp_path / "a.dcm").read_bytes()
    assert dcmread(tmp_path / "a.dcm").Rows == 1
    rng = random.Random(0)
    for i in range(300):
        data = bytearray(original)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / "m.dcm"
        path.write_bytes(bytes(data[: rng.randint(0, len(data))] if i % 3 == 0 else data))
        for read in (lambda p: read_headers(p, "xray"), read_pixels):
            try:
                read(path)
            except Skipped as skipped:
                assert isinstance(skipped.reason, Reason)


@pytest.mark.parametrize(
    "name",
    ["RLELossless", "JPEGBaseline8Bit", "JPEGExtended12Bit", "JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEGLSNearLossless",
     "JPEG2000Lossless", "JPEG2000", "HTJ2KLossless", "HTJ2KLosslessRPCL", "HTJ2K"],
)  # fmt: skip
def test_a_plain_install_has_a_decoder_for(name):
    from pydicom import uid
    from pydicom.pixels import get_decoder

    assert get_decoder(getattr(uid, name)).is_available
