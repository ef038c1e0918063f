"""Values against a computation by hand, and every kind of bad file ends in its reason."""

import random

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from client.imaging.dicom import acquisition_time, apply_window, read_header, read_pixels, slice_position, to_grey
from client.imaging.outcome import Reason, Skipped
from common.plan import Window
from tests.conftest import require_data


def image(pixels, **tags):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.PatientID, ds.Modality, ds.AcquisitionDate, ds.AcquisitionTime = "P1", "CR", "20200131", "101112"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def save(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path


RAMP = np.array([[0, 100, 200, 300]], dtype=np.uint16)


def test_modality_then_voi_then_inversion_by_hand(tmp_path):
    # stored 0 100 200 300 -> HU = 2 x - 200 = -200 0 200 400; window 100 / 401: (HU - 99.5) / 400 + 0.5, clipped:
    # -299.5/400+.5 = -0.249 -> 0; -99.5/400+.5 = 0.25125; 100.5/400+.5 = 0.75125; 300.5/400+.5 = 1.251 -> 1
    tags = {"RescaleSlope": 2, "RescaleIntercept": -200, "WindowCenter": 100, "WindowWidth": 401}
    expected = np.array([[0.0, 0.25125, 0.75125, 1.0]])
    path = save(image(RAMP, **tags), tmp_path / "a.dcm")
    np.testing.assert_allclose(read_pixels(path), expected, atol=1e-6)
    path = save(image(RAMP, **tags, PhotometricInterpretation="MONOCHROME1"), tmp_path / "b.dcm")
    np.testing.assert_allclose(read_pixels(path), 1 - expected, atol=1e-6)


def test_the_plan_s_window_replaces_the_file_s():
    ds = image(RAMP, WindowCenter=5, WindowWidth=5)
    np.testing.assert_allclose(to_grey(ds, Window(center=150.5, width=301.0)), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)


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
    np.testing.assert_allclose(apply_window(x, 40, 100, "LINEAR_EXACT"), [0, 0.5, 1])
    np.testing.assert_allclose(apply_window(x, 40, 100, "SIGMOID"), 1 / (1 + np.exp(-4 * (x - 40) / 100)), rtol=1e-6)
    np.testing.assert_allclose(apply_window(x, 40, 1, "LINEAR"), [0, 1, 1])


def test_a_voi_lut_is_looked_up():
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [4, 0, 16], [0, 65535, 13107, 26214]
    ds = image(np.array([[0, 1, 2, 3, 9]], np.uint16), VOILUTSequence=DicomSequence([lut]))
    np.testing.assert_allclose(to_grey(ds), [[0, 1, 0.2, 0.4, 0.4]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SamplesPerPixel": 3}, Reason.COLOUR),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, Reason.COLOUR),
        ({"NumberOfFrames": 2}, Reason.MULTI_FRAME),
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
        read_header(save(ds, tmp_path / "a.dcm"), "xray")
    assert e.value.reason == reason


def test_what_is_no_image_has_its_reason(tmp_path):
    (tmp_path / "text.dcm").write_text("not DICOM at all")
    (tmp_path / "empty.dcm").write_bytes(b"")
    for name in ("text.dcm", "empty.dcm"):
        with pytest.raises(Skipped) as e:
            read_header(tmp_path / name, "xray")
        assert e.value.reason in (Reason.NOT_DICOM, Reason.BROKEN)
    report = image(RAMP)
    del report.Rows
    with pytest.raises(Skipped) as e:
        read_header(save(report, tmp_path / "report.dcm"), "xray")
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


def test_time_falls_back_and_survives_oddities():
    ds = Dataset()
    ds.StudyDate, ds.StudyTime = "20210203", "040506"
    assert str(acquisition_time(ds)) == "2021-02-03 04:05:06"
    ds.ContentDate, ds.ContentTime = "20220203", "0405"
    assert str(acquisition_time(ds)) == "2022-02-03 04:05:00"
    ds.AcquisitionDateTime = "20230203040506.123456+0100"
    assert str(acquisition_time(ds)) == "2023-02-03 04:05:06"
    ds.AcquisitionDateTime, ds.ContentDate, ds.StudyDate = "", "", "2021.02.03"
    assert str(acquisition_time(ds)) == "2021-02-03 04:05:06"
    assert acquisition_time(Dataset()) is None


def test_position_is_along_the_normal():
    ds = Dataset()
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [10, 20, 30], [1, 0, 0, 0, 1, 0]
    assert slice_position(ds) == 30.0
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]  # sagittal: normal is x
    assert slice_position(ds) == 10.0
    assert slice_position(Dataset()) is None


def test_every_file_of_the_zoo_ends_in_an_outcome():
    files = sorted((require_data("dicom-zoo") / "files").iterdir())
    outcomes = []
    for path in files:
        for modality in ("xray", "ct"):
            try:
                header = read_header(path, modality)
                grey = read_pixels(header.path)
                assert grey.shape == header.shape
                assert 0.0 <= grey.min() <= grey.max() <= 1.0
                outcomes.append("read")
            except Skipped as skipped:
                outcomes.append(skipped.reason)
    assert outcomes.count("read") >= 10
    assert len(set(outcomes)) >= 6


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
        for read in (lambda p: read_header(p, "xray"), read_pixels):
            try:
                read(path)
            except Skipped as skipped:
                assert isinstance(skipped.reason, Reason)
