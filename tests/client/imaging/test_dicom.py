"""Values against a computation by hand, and every kind of bad file ends in its reason."""

import random

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite

from client.imaging.dicom import read_headers
from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import read_pixels
from tests.helpers.dicom import RAMP, image, save
from tests.helpers.tools import require_data


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


@pytest.mark.slow
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


def test_frames_of_a_film_are_apart_by_its_frame_time(tmp_path):
    path = save(
        image(RAMP, NumberOfFrames=3, FrameTime=500, PixelData=RAMP.tobytes() * 3), tmp_path / "film.dcm"
    )
    headers = read_headers(path, "xray").images
    assert [(h.time - headers[0].time).total_seconds() for h in headers] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("vector", "since"),
    [([0, 500, 1500], [0.0, 0.5, 2.0]), ([0, 500], [0.0, 0.1, 0.2]), (7, [0.0, 0.1, 0.2])],
)
def test_frames_whose_pauses_are_told_one_by_one(tmp_path, vector, since):
    film = image(RAMP, NumberOfFrames=3, FrameTime=100, FrameTimeVector=vector, PixelData=RAMP.tobytes() * 3)
    headers = read_headers(save(film, tmp_path / "film.dcm"), "xray").images
    assert [(h.time - headers[0].time).total_seconds() for h in headers] == since


def test_a_file_without_preamble_or_meta_is_read(tmp_path):
    ds = image(RAMP, WindowCenter=150.5, WindowWidth=301)
    path = tmp_path / "bare.dcm"
    del ds.file_meta
    dcmwrite(path, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    (header,) = read_headers(path, "xray").images
    assert header.patient == "P1"
    np.testing.assert_allclose(read_pixels(path), [[0, 1 / 3, 2 / 3, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "band"),
    [("045Y", "40-59"), ("018M", "0-19"), ("²4Y", "unknown"), ("Y", "unknown"), ("old", "unknown")],
)
def test_an_age_that_is_none_costs_no_image(tmp_path, stated, band):
    (header,) = read_headers(save(image(RAMP, PatientAge=stated), tmp_path / "a.dcm"), "xray").images
    assert header.age == band


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
