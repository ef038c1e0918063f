"""What did we gain, from the PACS to the answer: two hospitals whose images lie in Orthanc."""

import csv
import json
from collections import Counter

import pytest

from simulation.phantom import write_phantom
from tests.helpers.pacs import WEB, a_house
from tests.helpers.plans import deployed_plan

pytestmark = pytest.mark.slow

PLAN = deployed_plan(
    rounds=2,
    split={"validation": 0.2, "test": 0.4},
    evaluation={"final": True, "alone": True, "bootstrap": 100},
)
PACS = {"retrieve": "dicomweb", "url": f"http://127.0.0.1:{WEB}/dicom-web", "images_per_second": 10_000.0}


def test_from_the_pacs_to_what_each_hospital_gained(deployment, tmp_path):
    names = ["site-1", "site-2"]
    folders = dict(zip(names, write_phantom(tmp_path / "phantom", 2, 60, 3), strict=True))
    d = deployment(0, PLAN)
    for name in names:
        d.make_site(name, n_patients=0, data={"labels": str(folders[name] / "labels.csv"), "pacs": PACS})
        d.set(name, policy={"final": True, "min_patients": 5})
        d.site(name).secret.write_text("5" * 64)  # whose split has five test patients of each class
    with a_house(tmp_path) as house:
        house.fill(*folders.values())
        plan = str(d.write_plan())
        for name in names:
            d.prefix[name] = house.prefix
            n = len(list(folders[name].glob("*.dcm")))
            assert f"{n} fetched" in d.must(
                "client", "pull", plan, "--dir", str(d.site(name).path), prefix=house.prefix
            )
            d.at(name, "ingest", plan)
        d.prefix["server"] = house.prefix
        d.approve(*names)
        d.up(*names)
        run = d.run()
        d.wait_finished(run)

        told = json.loads(d.ask("report", run, "--json"))
        assert sorted(told["sites"]) == names, told["silent"]
        d.ask("export", run, "--out", str(tmp_path / "model"))
        for name in names:
            out = tmp_path / f"gain-{name}"
            d.at(name, "gain", str(tmp_path / "model"), "--out", str(out))
            own = json.loads((out / "evaluation.json").read_text())
            federations = told["sites"][name]
            assert own["findings"]["pneumonia"]["auroc"] == federations["federated"]["auroc"]
            assert own["n_patients"] == federations["federated"]["n_patients"] >= 15
            gained = own["findings"]["pneumonia"]["against"]["value"]
            assert gained == pytest.approx(federations["gain"]["value"], abs=1e-12)
            where = ("--input", str(d.site(name).images), "--out", str(tmp_path / name))
            d.at(name, "predict", "--model", str(tmp_path / "model"), *where)
            with (tmp_path / name / "predictions.csv").open(newline="") as file:
                splits = Counter(row["split"] for row in csv.DictReader(file))
            assert splits.total() == 60
            assert splits["test"] == own["n_patients"]
