import csv
import subprocess
from collections import Counter

import numpy as np
import pytest
from pydicom import dcmread

from client.imaging.pixels import read_pixels
from simulation.course import COURSES, optima
from simulation.phantom import (
    DENSITY,
    RADIUS,
    SCANNERS,
    Kind,
    Opacity,
    Scanner,
    acquire,
    draw_chest,
    draw_kind,
    evolve,
    optima_of,
    site_name,
    to_dicom,
    write_phantom,
)
from tests.helpers.tools import require_tool


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom") / "p", 5, 6, seed=3)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_files_labels_and_truth_agree(hospitals):
    for folder in hospitals:
        labels = {r["patient"]: r["pneumonia"] for r in rows(folder / "labels.csv")}
        truth = rows(folder / "truth.csv")
        assert {r["file"] for r in truth} == {p.name for p in folder.glob("*.dcm")}
        assert len(labels) == 6
        for r in truth:
            assert labels[r["patient"]] == str(int(Kind(r["kind"]).positive))
            assert dcmread(folder / r["file"], stop_before_pixels=True).PatientID == r["patient"]


def test_dates_follow_the_truth_and_names_do_not_tell_the_order(hospitals):
    follows = []
    for folder in hospitals:
        by_patient = {}
        for r in rows(folder / "truth.csv"):
            ds = dcmread(folder / r["file"], stop_before_pixels=True)
            by_patient.setdefault(r["patient"], []).append(
                (float(r["day"]), ds.AcquisitionDate + ds.AcquisitionTime, r["file"])
            )
        for images in by_patient.values():
            images.sort()
            assert [i[1] for i in images] == sorted(i[1] for i in images)
            follows.append([i[2] for i in images] == sorted(i[2] for i in images))
    assert not all(follows)


@pytest.mark.slow
def test_the_same_seed_writes_the_same_bytes(hospitals, tmp_path):
    again = write_phantom(tmp_path / "p", 5, 6, seed=3)
    other = write_phantom(tmp_path / "q", 5, 6, seed=4)
    for one, two in zip(hospitals, again, strict=True):
        assert {p.name: p.read_bytes() for p in one.iterdir()} == {
            p.name: p.read_bytes() for p in two.iterdir()
        }
    assert {p.name for p in hospitals[0].iterdir()} != {p.name for p in other[0].iterdir()}


def test_every_scanner_s_file_is_valid_dicom(hospitals):
    dciodvfy = require_tool("dciodvfy")
    for folder in hospitals:
        path = next(folder.glob("*.dcm"))
        done = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert errors == []
        assert "CRImage" in done.stdout + done.stderr


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda s: s.model)
def test_what_is_read_is_what_was_drawn_in_any_photometry(scanner, tmp_path):
    from datetime import datetime

    image = draw_chest(scanner.side, np.random.default_rng(0))
    ds = to_dicom(image, scanner, "P", "name", datetime(2020, 1, 1))
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    np.testing.assert_allclose(read_pixels(tmp_path / "a.dcm"), image, atol=1.5 / 2**scanner.bits)


def evolution(kind, n=4000):
    """Radii at the first and last of three images, for many patients."""
    rng = np.random.default_rng(0)
    days = np.array([0.0, 3.0, 7.0])
    return np.array([[o.radius for o in evolve(kind, days, rng)] for _ in range(n)])


def auroc(positive, negative):
    order = np.argsort(np.r_[positive, negative])
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    n, m = len(positive), len(negative)
    return (ranks[:n].sum() - n * (n - 1) / 2) / (n * m)


def test_bounds_an_ambiguous_patient_needs_the_order_in_time():
    growing, stable, healing = (evolution(k) for k in (Kind.GROWING, Kind.STABLE, Kind.HEALING))
    n = len(growing)
    negative = np.concatenate([stable[: int(0.55 * n)], healing[: int(0.45 * n)]])
    assert auroc(growing[:, -1], negative[:, -1]) < 0.75  # the last image
    # Sizes without their order: the spread tells a scar, but growing and healing are alike.
    spread = [np.ptp(r, axis=1) for r in (growing, negative)]
    assert auroc(*spread) < 0.80
    assert abs(auroc(np.ptp(growing, axis=1), np.ptp(healing, axis=1)) - 0.5) < 0.02
    # The order tells all.
    assert auroc(growing[:, -1] - growing[:, 0], negative[:, -1] - negative[:, 0]) > 0.99


def test_shares_are_as_asked():
    rng = np.random.default_rng(0)
    counts = Counter(draw_kind(rng, 0.3, 0.6) for _ in range(20_000))
    assert sum(n for k, n in counts.items() if k.positive) / 20_000 == pytest.approx(0.3, abs=0.015)
    hard = [Kind.GROWING, Kind.STABLE, Kind.HEALING]
    assert sum(counts[k] for k in hard) / 20_000 == pytest.approx(0.6, abs=0.015)


def test_names():
    assert [site_name(i, 3) for i in range(3)] == ["hospital-a", "hospital-b", "hospital-c"]
    assert site_name(0, 100) == "hospital-001"


@pytest.mark.slow
@pytest.mark.parametrize(("evolution", "least"), [("trend", 3), ("relapse", 4)])
def test_what_is_written_follows_the_course(tmp_path, evolution, least):
    (folder,) = write_phantom(tmp_path / "p", 1, 60, seed=1, ambiguous=1.0, evolution=evolution)
    patients = {}
    for row in rows(folder / "truth.csv"):
        patients.setdefault((row["patient"], row["kind"]), []).append(row)
    changes = {"course-positive": [], "course-negative": []}
    for (_, kind), images in patients.items():
        images.sort(key=lambda r: float(r["day"]))
        x = np.log([float(r["radius"]) for r in images])
        assert len(images) >= least
        shape = COURSES[evolution].shape(len(images))
        changes[kind].append(float(shape @ x) / float(shape @ shape) / RADIUS[1])
    assert np.mean(changes["course-positive"]) == pytest.approx(COURSES[evolution].gain, rel=0.25)
    assert np.mean(changes["course-negative"]) == pytest.approx(-COURSES[evolution].gain, rel=0.25)


def test_the_pixels_tell_the_severity():
    """What an opacity adds to the image is its density times its area."""
    clear = Scanner("x", "y", 256, 12, False, 0.0, 1.0, 0.0, 0.5, (3, 3))
    chest = np.full((256, 256), 0.2, np.float32)
    without = acquire(chest, None, clear, np.random.default_rng(0))
    added = []
    for x in (-0.5, 0.0, 0.5):
        radius, density = (start * np.exp(power * x) for start, power in (RADIUS, DENSITY))
        opacity = Opacity(0.5, 0.5, float(radius), float(density))
        added.append((acquire(chest, opacity, clear, np.random.default_rng(0)) - without).sum())
    per_unit = 2 * RADIUS[1] + DENSITY[1]
    assert np.diff(np.log(added)) == pytest.approx([per_unit / 2] * 2, rel=0.02)


@pytest.mark.slow
def test_the_best_readers_are_those_of_the_patients_that_were_written(tmp_path):
    folders = write_phantom(tmp_path / "p", 2, 30, seed=2, evolution="relapse")
    found = optima_of(folders, "relapse")
    lengths = Counter((r["patient"], r["kind"]) for f in folders for r in rows(f / "truth.csv"))
    by_kind = [
        [n for (_, kind), n in lengths.items() if kind == f"course-{c}"] for c in ("positive", "negative")
    ]
    assert found == optima(COURSES["relapse"], *by_kind)
    assert optima_of(folders, "growth") is None


@pytest.mark.slow
def test_the_command_prints_the_best_readers(here):
    import json

    done = here("phantom", "--out", "p", "--kind", "relapse", "--patients", "20", "--sites", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["bayes"]
    assert list(found) == ["first", "last", "unordered", "difference", "ordered"]
    assert (
        "all images, in no order            0.500"
        in here("phantom", "--out", "q", "--kind", "trend", "--patients", "9").stdout
    )
    assert json.loads(here("phantom", "--out", "r", "--patients", "2", "--sites", "1", "--json").stdout) == {
        "bayes": None
    }
