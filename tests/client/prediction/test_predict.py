"""Predictions and explanations as the hospital's commands make them: from DICOM and from cohorts, and refused
where they must be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from safetensors.numpy import load_file, save_file

from client.imaging.cohort import Cohort
from client.prediction.predict import _predictions
from client.training.evaluate import predict
from common import wire
from common.calibration import calibrate
from common.handover import RESEARCH_USE, Handed
from common.models import build_model
from tests.helpers.command import refused
from tests.helpers.dicom import image, save
from tests.helpers.handed import PLAN


def rows_of(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["use"] for row in rows} == {RESEARCH_USE}
    return {row["patient"]: row for row in rows}


def test_dicom_and_cohort_give_the_model_s_own_probabilities(here, tmp_path, exported, images):
    (tmp_path / "site").mkdir()
    from client.imaging.cohort import build_cohort, pseudonym
    from client.imaging.sources import DicomFolder

    cohort_folder = tmp_path / "cohort"
    build_cohort(
        cohort_folder,
        DicomFolder(images).read(PLAN.input, PLAN.findings),
        PLAN.input,
        PLAN.findings,
        b"key",
        "s",
    )
    done = here("client", "predict", "--model", "model", "--input", str(images), "--out", "a")
    assert done.returncode == 0, done.stderr
    assert RESEARCH_USE in done.stdout
    assert here("client", "predict", "--model", "model", "--input", "cohort", "--out", "b").returncode == 0
    straight, kept = rows_of(tmp_path / "a/predictions.csv"), rows_of(tmp_path / "b/predictions.csv")
    cohort, network = Cohort.open(cohort_folder), build_model(PLAN)
    wire.set_weights(network, load_file(exported / "model.safetensors"))
    import torch

    expected = calibrate(predict(network, cohort, np.arange(len(cohort)), torch.device("cpu")), 1.4)[:, 0]
    by_patient = dict(zip(cohort.patients.tolist(), expected, strict=True))
    assert len(straight) == len(kept) == 6
    for patient, row in straight.items():
        p = by_patient[pseudonym(patient, b"key")]
        assert float(row["probability_pneumonia"]) == pytest.approx(p, abs=2e-6)
        assert float(kept[pseudonym(patient, b"key")]["probability_pneumonia"]) == pytest.approx(p, abs=2e-6)
        assert float(row["uncertainty_pneumonia"]) == pytest.approx(
            -p * np.log2(p) - (1 - p) * np.log2(1 - p), abs=1e-5
        )
        assert (
            dcmread(next(f for f in images.glob("*.dcm") if dcmread(f).PatientID == patient)).PatientID
            == patient
        )
        assert row["study"]
    about = json.loads((tmp_path / "a/predictions.json").read_text())
    assert about["use"] == RESEARCH_USE
    assert about["calibrated"] is True
    assert len(about["predictions"]) == 6
    one = sorted(images.glob("*.dcm"))[0]
    refused(
        here("client", "predict", "--model", "model", "--input", str(one), "--out", "c"),
        "1 usable image(s), the model takes at least 2",
    )


def test_what_the_contract_does_not_allow_is_refused(here, tmp_path, exported, images):
    ct = tmp_path / "ct"
    ct.mkdir()
    for k in range(3):
        ds = image(np.zeros((32, 32), np.uint16), PatientID="P", Modality="CT")
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, k], [1, 0, 0, 0, 1, 0]
        save(ds, ct / f"{k}.dcm")
    refused(
        here("client", "predict", "--model", "model", "--input", "ct", "--out", "a"),
        "frontal chest X-rays",
        "3 other modality",
    )
    lateral = tmp_path / "lateral"
    lateral.mkdir()
    for k, path in enumerate(sorted(images.glob("*.dcm"))[:3]):
        ds = dcmread(path)
        ds.ViewPosition, ds.PatientID = "LL", "P"
        ds.PatientName, ds.PatientSex, ds.PatientBirthDate = "P", "", ""  # one person
        ds.save_as(lateral / f"{k}.dcm")
    refused(
        here("client", "predict", "--model", "model", "--input", "lateral", "--out", "a"), "3 not frontal"
    )
    # One patient with a single image among others: named in the table, the others are predicted.
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in images.glob("*.dcm"):
        (mixed / path.name).write_bytes(path.read_bytes())
    ds = dcmread(sorted(images.glob("*.dcm"))[0])
    ds.PatientID, ds.SOPInstanceUID = "ALONE", "1.2.3"
    ds.save_as(mixed / "alone.dcm")
    done = here("client", "predict", "--model", "model", "--input", "mixed", "--out", "m")
    assert "6 sequences" in done.stdout
    assert "1 refused" in done.stdout
    assert "at least 2" in rows_of(tmp_path / "m/predictions.csv")["ALONE"]["refused"]
    from tests.helpers.cohorts import make_cohort

    make_cohort(tmp_path / "other", 10)
    refused(
        here("client", "predict", "--model", "model", "--input", "other", "--out", "a"),
        "ingested for another input contract",
    )
    refused(
        here("client", "predict", "--model", "model", "--input", "absent", "--out", "a"),
        "no such file or folder",
    )
    refused(
        here("client", "predict", "--model", "phantom", "--input", "ct", "--out", "a"), "not a model's folder"
    )
    refused(here("client", "explain", "--model", "model", "--input", "ct", "--out", "a"), "3 other modality")
    refused(
        here("client", "explain", "--model", "model", "--input", "mixed", "--out", "e", "--patient", "ALONE"),
        "at least 2",
    )
    refused(
        here(
            "client", "explain", "--model", "model", "--input", "mixed", "--out", "e", "--patient", "NOBODY"
        ),
        "no sequence of this",
    )
    refused(
        here("client", "explain", "--model", "model", "--input", "mixed", "--out", "e", "--finding", "x"),
        "the model has pneumonia",
    )
    weights = load_file(exported / "model.safetensors")
    save_file({**weights, "head.3.bias": weights["head.3.bias"] + 1}, exported / "model.safetensors")
    refused(
        here("client", "predict", "--model", "model", "--input", "mixed", "--out", "a"),
        "is not the file that the card describes",
    )
    assert not (tmp_path / "a").exists()


def test_each_finding_is_called_by_its_own_threshold():
    plan = PLAN.model_copy(update={"findings": ("pneumonia", "effusion", "nodule")})
    handed = Handed(Path(), plan, {}, "", float("nan"), {"pneumonia": 0.7, "effusion": 0.2})
    z = np.log(np.array([[0.5, 0.5, 0.5], [0.8, 0.1, 0.9]], np.float32) ** -1 - 1) * -1
    rows = _predictions(handed, [("a", "test", 2, ""), ("b", "test", 2, "")], z)
    assert [row.calls for row in rows] == [(False, True, None), (True, False, None)]
    assert [row.called for row in rows] == [False, True]
    told = rows[0].columns(plan.findings)
    assert {name: told[name] for name in told if name.startswith("called")} == {
        "called_pneumonia": False,
        "called_effusion": True,
    }
