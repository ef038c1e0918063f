"""The pixels' own word on what they show: few chests are noted, and most of what is none. Nothing is dropped."""

import cv2
import numpy as np
import pytest

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.decoding import decode
from client.imaging.facts.chest_like import SIDE, features, looks_like_chest
from client.imaging.frames import Frame, ImageFile
from client.imaging.outcome import NOTES, Reason, Tally
from client.imaging.pixels import fit
from client.imaging.sequence import Sequence
from client.imaging.sources import DicomFolder
from common.plan import Input
from simulation.phantom import write_phantom
from tests.helpers.dicom import image, save
from tests.helpers.tools import require_data

CONTRACT = Input(size=64)


def cohort_of(folder, out, contract=CONTRACT):
    build_cohort(out, DicomFolder(folder).read(contract, ("pneumonia",)), contract, ("pneumonia",), b"k", "s")
    return Cohort.open(out)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder / "dicom", 1, 40, seed=11)
    return folder, cohort_of(next((folder / "dicom").iterdir()), folder / "cohort")


def frames_of(cohort):
    return [frame for k in range(len(cohort)) for frame in cohort.frames(k)]


def hand():
    """Five fingers, a palm and a wrist: 200 x 200, 8 bits."""
    pixels = np.zeros((200, 200), np.float32)
    cv2.circle(pixels, (100, 130), 38, 90, -1)
    cv2.line(pixels, (100, 130), (100, 199), 90, 44)
    for tip in ((35, 75), (68, 35), (100, 22), (132, 35), (160, 80)):
        cv2.line(pixels, (100, 130), tip, 90, 17)
        cv2.line(pixels, (100, 130), tip, 190, 7)
    return cv2.GaussianBlur(pixels, (0, 0), 2).astype(np.uint8)


def share_noted(images):
    return np.mean([not looks_like_chest(np.ascontiguousarray(i)) for i in images])


@pytest.mark.slow
def test_chests_of_the_phantom_are_not_noted_and_what_was_made_of_them_is(phantom):
    frames = frames_of(phantom[1])
    assert share_noted(frames) == 0.0
    assert share_noted([np.rot90(f) for f in frames]) > 0.7
    assert share_noted([255 - f for f in frames]) > 0.9
    assert not looks_like_chest(fit(hand().astype(np.float32) / 255, 64, 8))


def test_it_does_not_depend_on_size_depth_or_brightness(phantom):
    frame = frames_of(phantom[1])[0]
    dark = (frame * 0.4 + 20).astype(np.uint8)
    deep = (frame.astype(np.uint16) * 257).astype(np.uint16)
    for one in (frame, dark, deep, cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)):
        np.testing.assert_allclose(
            features(one.astype(np.float32)), features(frame.astype(np.float32)), atol=0.05
        )
        assert looks_like_chest(one)
    assert not features(np.full((32, 32), 7.0, np.float32)).any()


def test_a_hand_among_chests_is_noted_by_its_pixels_and_stays(phantom, tmp_path):
    """No header says what it shows."""
    folder, before = phantom
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (site,) = (folder / "dicom").iterdir()
    for path in site.iterdir():
        (mixed / path.name).symlink_to(path)
    ds = image(hand().astype(np.uint16) * 16, PatientID="hand", Modality="DX")
    save(ds, mixed / "hand.dcm")
    labels = (mixed / "labels.csv").read_text()
    (mixed / "labels.csv").unlink()
    (mixed / "labels.csv").write_text(labels + f"hand{',0' * (labels.splitlines()[0].count(','))}\n")
    cohort = cohort_of(mixed, tmp_path / "cohort")
    assert cohort.tally.counts[Reason.UNLIKE_CHEST] == 1
    assert before.tally.counts[Reason.UNLIKE_CHEST] == 0
    assert len(cohort) == len(before) + 1
    assert Reason.UNLIKE_CHEST in NOTES


@pytest.mark.parametrize("contract", [Input(size=16), Input(size=64, modality="ct")])
def test_what_it_was_not_made_for_it_does_not_judge(tmp_path, contract):

    path = tmp_path / "hand.png"
    cv2.imwrite(str(path), hand())
    sequence = Sequence("p", (Frame(0.0, ImageFile(path)),), np.zeros(1, np.float32))
    tally = Tally()
    (decoded,) = decode([[sequence]], contract, tally)
    assert len(decoded.pixels) == 1
    assert tally.counts[Reason.UNLIKE_CHEST] == 0


def test_few_real_chests_are_noted():
    files = sorted((require_data("serial-cxr") / "images").glob("*.png"))
    adults = [fit(ImageFile(f).read(), 64, 8) for f in files]
    with np.load(require_data("kermany", "kermany64_train.npz")) as data:
        children = list(data["images"][::10])
    assert share_noted(adults) <= 0.01
    assert share_noted(children) <= 0.01
    assert share_noted([np.rot90(i) for i in adults]) > 0.8
    assert share_noted([255 - i for i in adults]) > 0.8
