"""Predictions and explanations as the hospital's commands make them: from DICOM and from cohorts, and refused
where they must be."""

import csv
import json
import subprocess

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from safetensors.numpy import load_file, save_file

from client.imaging.cohort import Cohort
from client.methods.memory import SiteMemory
from client.training.evaluate import predict
from common import wire
from common.calibration import calibrate
from common.config import dump_yaml
from common.errors import ConfigError
from common.handover import RESEARCH_USE
from common.models import build_model
from common.plan import Input, Model, Strategy
from server.export import export_run
from simulation.phantom import write_phantom
from tests.helpers.command import refused
from tests.helpers.dicom import image, save
from tests.helpers.plans import small_plan
from tests.helpers.runs import deployed_run
from tests.helpers.tools import require_tool

PLAN = small_plan(
    input=Input(size=32, min_frames=2, max_frames=4), model=Model(width=4, embedding=8, hidden=8)
)


@pytest.fixture
def model(tmp_path):
    return export_run(deployed_run(tmp_path / "run", PLAN), tmp_path / "model", None)


@pytest.fixture
def images(tmp_path):
    (folder,) = write_phantom(tmp_path / "phantom", 1, 6, 1)
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        assert file.readline().startswith(f"# {RESEARCH_USE}")
        return {row["patient"]: row for row in csv.DictReader(file)}


def test_dicom_and_cohort_give_the_model_s_own_probabilities(here, tmp_path, model, images):
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
    wire.set_weights(network, load_file(model / "model.safetensors"))
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


def test_what_the_contract_does_not_allow_is_refused(here, tmp_path, model, images):
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
    weights = load_file(model / "model.safetensors")
    save_file({**weights, "head.3.bias": weights["head.3.bias"] + 1}, model / "model.safetensors")
    refused(
        here("client", "predict", "--model", "model", "--input", "mixed", "--out", "a"),
        "is not the file that the card describes",
    )
    assert not (tmp_path / "a").exists()


def test_a_hospital_s_own_tensors_are_used_where_it_took_part(tmp_path):
    from client.prediction.model import load_model
    from client.settings import SiteFolder
    from common.handover import read_model

    plan = PLAN.model_copy(update={"strategy": Strategy(name="FedPer")})
    handed = read_model(export_run(deployed_run(tmp_path / "run", plan), tmp_path / "m", None))
    import torch

    site, cpu = SiteFolder(tmp_path / "site"), torch.device("cpu")
    own = {n: np.full_like(w, 0.5) for n, w in handed.weights.items() if n.startswith("head.")}
    SiteMemory(site.memory(plan.sha256) / "abc123").keep(plan.rounds, own)
    with_own, without = load_model(handed, cpu, site), load_model(handed, cpu)
    assert all((p == 0.5).all() for n, p in with_own.named_parameters() if n.startswith("head."))
    assert not any((p == 0.5).all() for n, p in without.named_parameters() if n.startswith("head."))
    (handed.folder / "plan.yaml").write_text(
        dump_yaml(plan.model_copy(update={"model": Model(width=8, embedding=8, hidden=8)}))
    )
    (handed.folder / "card.json").unlink()
    with pytest.raises(ConfigError, match="not those of the plan's model: tensor"):
        load_model(read_model(handed.folder), cpu)


def test_an_explanation_is_written_as_pictures_numbers_and_dicom(here, tmp_path, model, images):
    done = here(
        "client",
        "explain",
        "--model",
        "model",
        "--input",
        str(images),
        "--out",
        "why",
        "--most",
        "2",
        "--dicom",
    )
    assert done.returncode == 0, done.stderr
    assert RESEARCH_USE in done.stdout
    folder = tmp_path / "why/case-001"
    about = json.loads((folder / "explanation.json").read_text())
    n = len(about["visits"])
    assert sum(v["attention"] for v in about["visits"]) == pytest.approx(1, abs=1e-4)
    assert set(about["trust"]) >= {"same_with_random_weights", "deletion_area", "insertion_area"}
    montage = cv2.imread(str(folder / "montage.png"))
    assert montage.shape[1] == n * 230 + 6
    assert about["patient"] not in (folder / "page.html").read_text()
    assert RESEARCH_USE in (folder / "page.html").read_text()
    assert len(list(folder.glob("heat-*.dcm"))) == n
    refused(
        here("client", "explain", "--model", "model", "--input", str(images), "--out", "why"), "is not empty"
    )
    refused(
        here("client", "explain", "--model", "model", "--input", str(images), "--out", "x", "--store"),
        "expected --dir",
    )
    from client.imaging.cohort import build_cohort
    from client.imaging.sources import DicomFolder

    build_cohort(
        tmp_path / "c",
        DicomFolder(images).read(PLAN.input, PLAN.findings),
        PLAN.input,
        PLAN.findings,
        b"key",
        "s",
    )
    refused(
        here("client", "explain", "--model", "model", "--input", "c", "--out", "y", "--dicom"),
        "a cohort holds no identifiers",
    )
    assert (
        here("client", "explain", "--model", "model", "--input", "c", "--out", "z", "--most", "1").returncode
        == 0
    )


def test_the_dicom_objects_are_valid_and_refer_to_what_was_looked_at(here, tmp_path, model, images):
    import highdicom as hd

    here(
        "client",
        "explain",
        "--model",
        "model",
        "--input",
        str(images),
        "--out",
        "why",
        "--most",
        "1",
        "--dicom",
    )
    folder = tmp_path / "why/case-001"
    patient = json.loads((folder / "explanation.json").read_text())["patient"]
    sources = {ds.SOPInstanceUID: ds for ds in map(dcmread, images.glob("*.dcm")) if ds.PatientID == patient}
    report = hd.sr.srread(folder / "sr.dcm")
    assert report.PatientID == patient
    assert report.StudyInstanceUID in {ds.StudyInstanceUID for ds in sources.values()}
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 1 + len(sources)
    (probability,) = groups[0].get_measurements()
    about = json.loads((folder / "explanation.json").read_text())
    assert probability.value == pytest.approx(about["probability"], abs=1e-6)
    for group, visit in zip(groups[1:], about["visits"], strict=True):
        found = {m.name.value: m.value for m in group.get_measurements()}
        assert found["attention"] == pytest.approx(visit["attention"], abs=1e-6)
        assert found["score-after"] == pytest.approx(visit["score_after"], abs=1e-6)
    named = {item.ReferencedSOPInstanceUID for study in report.CurrentRequestedProcedureEvidenceSequence
             for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}  # fmt: skip
    others = {item.ReferencedSOPInstanceUID for study in report.get("PertinentOtherEvidenceSequence", [])
              for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}  # fmt: skip
    assert named | others == set(sources)
    heat = [dcmread(p) for p in sorted(folder.glob("heat-*.dcm"))]
    assert [ds.InstanceNumber for ds in heat] == list(range(1, len(sources) + 1))
    assert len({ds.SeriesInstanceUID for ds in heat}) == 1
    assert heat[0].pixel_array.shape == (512, 512, 3)
    assert RESEARCH_USE in heat[0].ImageComments
    tool = require_tool("dciodvfy")
    for path in [folder / "sr.dcm", *folder.glob("heat-*.dcm")]:
        said = subprocess.run([tool, str(path)], capture_output=True, text=True)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], path.name


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_works_in_a_browser(here, tmp_path, model, images, width):
    """The slider moves, the pictures load, nothing is logged as an error, and nothing is wider than the
    screen."""
    chromium = require_tool("chromium")
    here("client", "explain", "--model", "model", "--input", str(images), "--out", "why", "--most", "1")
    page = tmp_path / "why/case-001/page.html"
    probe = """
    <script>
      window.errors = []; window.onerror = (m) => { window.errors.push(m); };
      window.addEventListener("load", () => {
        const slider = document.getElementById("visit"), images = [...document.querySelectorAll("img[data-method]")];
        const before = images.map(i => i.src);
        slider.value = 1; slider.dispatchEvent(new Event("input"));
        setTimeout(() => {
          const moved = images.every((img, k) => img.dataset.method === "occlusion" || img.src !== before[k]);
          document.title = JSON.stringify({
            loaded: images.every(i => i.complete && i.naturalWidth > 0), moved, which: document.getElementById("which").textContent,
            on: document.querySelectorAll("#visits tr.on").length, errors: window.errors,
            wide: document.documentElement.scrollWidth > window.innerWidth,
          });
        }, 300);
      });
    </script>"""
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text().replace("<head>", "<head>" + probe, 1))
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1400", "--virtual-time-budget=3000",
        f"--screenshot={tmp_path / 'page.png'}", f"file://{page}",
    ]  # fmt: skip
    shot = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in shot.stderr
    assert cv2.imread(str(tmp_path / "page.png")).std() > 10
    dump = [c for c in command if not c.startswith("--screenshot") and not c.startswith("file:")]
    done = subprocess.run(
        [*dump, "--dump-dom", f"file://{probed}"], capture_output=True, text=True, timeout=120
    )
    found = json.loads(done.stdout.split("<title>")[1].split("</title>")[0].replace("&quot;", '"'))
    assert found == {"loaded": True, "moved": True, "which": "1", "on": 1, "errors": [], "wide": False}
