"""The round trip through a real PACS: pushed, pulled three ways, killed in the middle; one cohort."""

import json
import os
import shutil
import signal

import pytest

from client.imaging.cohort import Cohort
from tests.client.pacs.conftest import DICOM, OURS, STORESCU, WEB

pytestmark = pytest.mark.slow

WAYS = {
    "dicomweb": {"retrieve": "dicomweb", "url": f"http://127.0.0.1:{WEB}/dicom-web"},
    "get": {"retrieve": "get", "host": "127.0.0.1", "port": DICOM, "title": "ORTHANC"},
    "move": {"retrieve": "move", "host": "127.0.0.1", "port": DICOM, "title": "ORTHANC", "own_port": OURS},
}


def files_in(folder):
    return sum(1 for path in folder.rglob("*.dcm") if not any(p.startswith(".") for p in path.parts))


def fill(house, images):
    house.start_orthanc()
    house.run(STORESCU, "-aec", "ORTHANC", "+sd", "+r", "127.0.0.1", DICOM, images, "--scan-pattern", "*.dcm")
    house.wait_until("all is stored", lambda: house.studies() >= 100)


def ended(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out


def ingest(house, site):
    ended(house.pneumofed("client", "ingest", "plan.yaml", "--dir", site.path))
    (cohort,) = (path.parent for path in site.cohorts.glob("*/cohort.json"))
    return Cohort.open(cohort)


def test_a_hundred_studies_pushed_and_pulled_are_one_cohort_whatever_the_way(house, images):
    fill(house, images)
    n = len(list(images.glob("*.dcm")))
    prints = {"folder": ingest(house, house.site("folder", images)).fingerprint}
    for way, pacs in WAYS.items():
        site = house.site(way, images, **pacs)
        said = ended(house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path))
        assert f"{n} fetched" in said
        assert files_in(site.images) == n
        prints[way] = ingest(house, site).fingerprint
        again = ended(house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path))
        assert f"{n} already here" in again
    pushed = house.site("pushed", images, **WAYS["move"])
    receiver = house.pneumofed("client", "receive", "--dir", pushed.path)
    assert "Listening on 127.0.0.1:11112 as PNEUMOFED, for ORTHANC alone" in receiver.stdout.readline()
    house.run(STORESCU, "-aet", "ORTHANC", "-aec", "PNEUMOFED", "+sd", "+r", "127.0.0.1", OURS, images, "--scan-pattern", "*.dcm")
    receiver.send_signal(signal.SIGTERM)
    ended(receiver)
    prints["pushed"] = ingest(house, pushed).fingerprint
    assert n >= 100
    assert len(set(prints.values())) == 1, prints
