"""CT end to end: series as a department has them become sequences, train, and are judged."""

import csv
import json

import numpy as np
import pytest
from pydicom.uid import generate_uid

from common.config import dump_yaml
from common.plan import Input, Window
from simulation.scenario import DicomData
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_scenario

LUNG = Window(center=-600.0, width=1500.0)


def study(folder, patient, positive, rng):
    """A localiser, six axial slices and a thinner copy of two of them, in files whose names run against their
    positions."""
    series, study_uid = [generate_uid() for _ in range(3)], generate_uid()
    for k in range(6):
        hounsfield = rng.normal(-850, 30, (32, 32))
        if positive and k in (2, 3):
            hounsfield[10:20, 4:14] = -100
        slice_(
            folder / f"{patient}-{9 - k}.dcm",
            hounsfield,
            patient,
            study_uid,
            series[0],
            5.0 * k,
            ["ORIGINAL", "PRIMARY", "AXIAL"],
        )
    for k in range(2):
        slice_(
            folder / f"{patient}-thin{k}.dcm",
            np.full((32, 32), -850.0),
            patient,
            study_uid,
            series[1],
            1.0 * k,
            ["ORIGINAL", "PRIMARY", "AXIAL"],
        )
    slice_(
        folder / f"{patient}-scout.dcm",
        np.full((32, 32), 0.0),
        patient,
        study_uid,
        series[2],
        0.0,
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )


def slice_(path, hounsfield, patient, study_uid, series, position, kind):
    stored = np.rint(hounsfield + 1024).astype(np.uint16)
    ds = image(
        stored,
        PatientID=patient,
        Modality="CT",
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=series,
        ImageType=kind,
    )
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, position], [1, 0, 0, 0, 1, 0]
    save(ds, path)


@pytest.fixture
def hospitals(tmp_path):
    rng = np.random.default_rng(0)
    for site in ("east", "west"):
        folder = tmp_path / "ct" / site
        folder.mkdir(parents=True)
        with (folder / "labels.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["patient", "pneumonia"])
            for p in range(24):
                study(folder, f"{site}{p:02d}", p % 2, rng)
                rows.writerow([f"{site}{p:02d}", p % 2])
    return tmp_path / "ct"


@pytest.mark.slow
def test_ct_series_are_learned_from(hospitals, here, tmp_path):
    contract = Input(modality="ct", size=32, max_frames=6, window=LUNG)
    scenario = small_scenario(rounds=8, input=contract, data=DicomData(path=str(hospitals)))
    (tmp_path / "plan.yaml").write_text(dump_yaml(scenario))
    done = here("simulate", "plan.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["test"]["federated"]["auroc"] > 0.9
    assert found["sites"]["east"]["n_patients"] == 24
    # Each patient's scout and the two slices of the other series.
    assert found["skipped_files"] == 2 * 24 * 3
