"""The round trip through a real PACS: pushed, pulled three ways, killed in the middle; one cohort."""

import signal
import time

import numpy as np
import pytest
from pydicom import dcmread

from client.imaging.cohort import Cohort
from tests.helpers import warm
from tests.helpers.command import run_here
from tests.helpers.pacs import DICOM, OURS, STORESCU, WEB

pytestmark = pytest.mark.slow

WAYS = {
    "dicomweb": {"retrieve": "dicomweb", "url": f"http://127.0.0.1:{WEB}/dicom-web"},
    "get": {"retrieve": "get", "host": "127.0.0.1", "port": DICOM, "title": "ORTHANC"},
    "move": {"retrieve": "move", "host": "127.0.0.1", "port": DICOM, "title": "ORTHANC", "own_port": OURS},
}


def files_in(folder):
    return len(list(folder.glob("[!.]*/*.dcm")))


def ended(process, code=0):
    out, err = process.communicate(timeout=200)
    assert process.returncode == code, out + err
    return out


def ingest(house, site):
    done = run_here("client", "ingest", str(house.path / "plan.yaml"), "--dir", str(site.path))
    assert done.returncode == 0, done.stderr
    (cohort,) = (path.parent for path in site.cohorts.glob("*/cohort.json"))
    return Cohort.open(cohort)


def test_a_hundred_studies_pushed_and_pulled_are_one_cohort_whatever_the_way(house, images):
    house.fill(images)
    n = len(list(images.glob("*.dcm")))
    check = house.pneumofed("client", "check", "--dir", house.site("asked", images, **WAYS["move"]).path)
    assert "ORTHANC at 127.0.0.1:4242 answers questions" in check.communicate(timeout=60)[0]
    prints = {"folder": ingest(house, house.site("folder", images)).fingerprint}
    for way, pacs in WAYS.items():
        site = house.site(way, images, **pacs)
        said = ended(house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path))
        assert f"{n} fetched" in said
        assert files_in(site.images) == n
        prints[way] = ingest(house, site).fingerprint
    pushed = house.site("pushed", images, **WAYS["move"])
    receiver = house.pneumofed("client", "receive", "--dir", pushed.path)
    assert "Listening on 127.0.0.1:11112 as PNEUMOFED, for ORTHANC alone" in receiver.stdout.readline()
    house.run(
        STORESCU,
        "-aet",
        "ORTHANC",
        "-aec",
        "PNEUMOFED",
        "+sd",
        "+r",
        "127.0.0.1",
        OURS,
        images,
        "--scan-pattern",
        "*.dcm",
    )
    receiver.send_signal(signal.SIGTERM)
    assert f"{n} images came." in ended(receiver)
    prints["pushed"] = ingest(house, pushed).fingerprint
    assert n >= 100
    assert len(set(prints.values())) == 1, prints


@pytest.mark.parametrize("way", ["dicomweb", "move"])
def test_orthanc_killed_in_the_middle_costs_nothing(house, images, way):
    house.fill(images)
    site = house.site("site", images, **{**WAYS[way], "images_per_second": 25.0})
    pull = house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path)
    house.wait_until("a third is there", lambda: files_in(site.images) > 30)
    house.end_orthanc(signal.SIGKILL)
    time.sleep(2.0)
    assert pull.poll() is None
    assert files_in(site.images) < 100
    house.start_orthanc()
    n = len(list(images.glob("*.dcm")))
    assert f"{n} fetched" in ended(pull)
    assert ingest(house, site).fingerprint == ingest(house, house.site("folder", images)).fingerprint


def test_a_pull_killed_in_the_middle_is_gone_on_with(house, images):
    house.fill(images)
    site = house.site("site", images, **{**WAYS["dicomweb"], "images_per_second": 25.0})
    pull = house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path)
    house.wait_until("a third is there", lambda: files_in(site.images) > 30)
    warm.kill(pull)
    kept = files_in(site.images)
    said = ended(house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path))
    n = len(list(images.glob("*.dcm")))
    assert f"{n - kept} fetched" in said
    assert f"{kept} already here" in said
    assert ingest(house, site).fingerprint == ingest(house, house.site("folder", images)).fingerprint


def test_a_study_that_cannot_be_had_costs_itself_alone_and_stands_in_the_site_s_log_only(house, images):
    house.fill(images)
    lost = dcmread(sorted(images.glob("*.dcm"))[7])
    for path in (house.path / "orthanc").rglob("*"):
        if (
            path.is_file()
            and path.parent.name != "orthanc"
            and lost.SOPInstanceUID.encode() in path.read_bytes()
        ):
            path.unlink()
    house.end_orthanc()  # it has it in memory still
    house.start_orthanc()
    site = house.site("site", images, **WAYS["get"])
    said = ended(house.pneumofed("client", "pull", "plan.yaml", "--dir", site.path), 1)
    n = len(list(images.glob("*.dcm")))
    assert f"{n - 1} fetched" in said
    assert "1 could not be fetched" in said
    assert files_in(site.images) == n - 1
    assert lost.StudyInstanceUID not in said
    assert f"failed: {lost.StudyInstanceUID}" in (site.logs / "pull.log").read_text()


def test_only_the_pacs_may_push(house, images):
    site = house.site("site", images, **WAYS["move"])
    receiver = house.pneumofed("client", "receive", "--dir", site.path)
    receiver.stdout.readline()
    one = sorted(images.glob("*.dcm"))[0]
    with pytest.raises(AssertionError, match="Association Rejected"):
        house.run(STORESCU, "-aet", "STRANGER", "-aec", "PNEUMOFED", "127.0.0.1", OURS, one)
    with pytest.raises(AssertionError, match="Association Rejected"):
        house.run(STORESCU, "-aet", "ORTHANC", "-aec", "ANYBODY", "127.0.0.1", OURS, one)
    assert files_in(site.images) == 0
    house.run(STORESCU, "-aet", "ORTHANC", "-aec", "PNEUMOFED", "127.0.0.1", OURS, one)
    (file,) = site.images.rglob("*.dcm")
    assert dcmread(file).pixel_array.tobytes() == dcmread(one).pixel_array.tobytes()
    second = house.pneumofed("client", "receive", "--dir", site.path)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "cannot listen on 127.0.0.1:11112: Address already in use" in said


@pytest.mark.parametrize("way", ["dicomweb", "get"])
def test_an_explanation_is_filed_in_the_pacs_and_comes_back_whole(house, images, tmp_path, way):
    from server.export import export_run
    from tests.helpers.runs import deployed_run

    house.fill(images)
    before = house.count("instances")
    export_run(deployed_run(tmp_path / "run"), tmp_path / "model", None)
    site = house.site("site", images, **WAYS[way])
    explain = [
        "client",
        "explain",
        "--model",
        "model",
        "--input",
        images,
        "--out",
        "why",
        "--most",
        "1",
        "--store",
        "--dir",
        site.path,
    ]
    said = ended(house.pneumofed(*explain))
    ours = {ds.SOPInstanceUID: ds for ds in map(dcmread, (tmp_path / "why/case-001").glob("*.dcm"))}
    assert f"{len(ours)} DICOM objects are stored in the PACS" in said
    assert house.count("instances") == before + len(ours)
    for uid, made in ours.items():
        back = house.instance(uid)
        assert back.SOPClassUID == made.SOPClassUID
        if "PixelData" in made:
            assert np.array_equal(back.pixel_array, made.pixel_array)
        else:
            assert back.ContentSequence == made.ContentSequence
