"""On call: what is tried again, what is not, and a study that arrives in a real PACS and is answered there."""

import json
import threading
import time

import pytest
from pydicom import dcmread

from client.pacs.arrivals import Arrivals
from client.prediction import on_call
from client.prediction.on_call import OnCall
from client.prediction.reading import End, Reading
from common.errors import DataError, LinkError
from tests.helpers import warm
from tests.helpers.pacs import DICOM, OURS, WEB, a_house


class Reader:
    """Ends as it is told to, study by study; an exception is raised."""

    def __init__(self, **ends):
        self.ends, self.read_studies = {name: list(some) for name, some in ends.items()}, []

    def tag(self, study):
        return f"tag-{study}"

    def read(self, study, place):
        assert place.is_dir()
        self.read_studies.append(study)
        end = self.ends[study].pop(0)
        if isinstance(end, Exception):
            raise end
        return end


@pytest.fixture
def arrivals(tmp_path):
    return Arrivals(tmp_path / "arrived")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(on_call, "FIRST_WAIT_S", 0.01)


READ = Reading(End.FILED, probabilities=(("pneumonia", 0.913),))


def served(reader, arrivals, n):
    """Lines said until `n` studies came to an end."""
    lines, ended = [], threading.Event()
    duty = OnCall(reader, arrivals, lines.append)
    thread = threading.Thread(target=duty.serve, args=(ended,))
    thread.start()
    until = time.monotonic() + 20
    while duty.ends.total() < n and time.monotonic() < until:
        time.sleep(0.01)
    ended.set()
    thread.join(10)
    assert duty.ends.total() == n
    return lines, duty


def test_what_could_not_be_fetched_is_tried_until_it_can(arrivals):
    reader = Reader(a=[LinkError("the PACS is away"), LinkError("still"), READ], b=[READ])
    arrivals.ring("a", 0.0)
    arrivals.ring("b", 0.0)
    lines, duty = served(reader, arrivals, 2)
    assert reader.read_studies.count("a") == 3
    assert duty.ends == {End.FILED: 2}
    assert "tag-a: not read yet: the PACS is away; it is tried again" in lines
    assert any(line.startswith("tag-a: read and filed: pneumonia 0.91 (") for line in lines)
    assert not arrivals.place("a").exists()


def test_a_study_that_breaks_the_reader_costs_itself_and_says_so_without_its_words(arrivals):
    reader = Reader(a=[ValueError("Jane Doe")], b=[READ])
    arrivals.ring("a", 0.0)
    arrivals.ring("b", 0.0)
    lines, duty = served(reader, arrivals, 2)
    assert duty.ends == {End.NOT_READ: 1, End.FILED: 1}
    assert any("could not be read: failed (ValueError)" in line for line in lines)
    assert not any("Jane" in line for line in lines)


def test_a_full_disk_ends_it_and_the_study_waits(tmp_path, arrivals):
    duty = OnCall(Reader(a=[OSError(28, "No space left on device")]), arrivals, print)
    arrivals.ring("a", 0.0)
    with pytest.raises(OSError, match="No space"):
        duty.serve(threading.Event())
    assert len(Arrivals(tmp_path / "arrived")) == 1


def test_read_now_reads_what_it_is_given_alone(arrivals):
    arrivals.ring("old", 0.0)
    reader = Reader(a=[READ], b=[LinkError("away")])
    duty = OnCall(reader, arrivals, lambda line: None)
    assert duty.read_now(["a", "b"]) == 1
    assert reader.read_studies == ["a", "b"]
    assert not arrivals.place("a").exists()
    assert arrivals.place("b").exists()


def name_a_study(images, accession):
    """Give a patient's latest study an accession number; returns its UID."""
    files = [
        (ds.PatientID, ds.AcquisitionDate, path) for path in images.glob("*.dcm") if (ds := dcmread(path))
    ]
    patient, _, path = max(files)
    latest = dcmread(path)
    for _, _, other in (one for one in files if one[0] == patient):
        ds = dcmread(other)
        if ds.StudyInstanceUID == latest.StudyInstanceUID:
            ds.AccessionNumber = accession
            ds.save_as(other)
    return str(latest.StudyInstanceUID)


@pytest.mark.slow
def test_a_study_that_arrives_in_the_pacs_is_answered_there(tmp_path, exported, images):
    numbered = name_a_study(images, "A-17")
    with a_house(tmp_path) as house:
        house.fill(images)
        n_images = house.count("instances")
        pacs = {"retrieve": "dicomweb", "url": f"http://127.0.0.1:{WEB}/dicom-web"}
        site = house.site("site", images, host="127.0.0.1", title="ORTHANC", own_port=OURS, **pacs)
        studies = json.loads(house.ask("studies?expand"))
        by_patient = {}
        for study in studies:
            by_patient.setdefault(study["PatientMainDicomTags"]["PatientID"], []).append(study)
        order = sorted(by_patient.values(), key=len)
        first, second = (
            sorted(some, key=lambda s: s["MainDicomTags"]["StudyDate"])[-1] for some in order[-2:]
        )

        duty = house.pneumofed("client", "read", "--model", exported, "--dir", site.path)
        assert "not signed" in duty.stdout.readline()
        assert "On call on 127.0.0.1:11112 as PNEUMOFED, for ORTHANC alone" in duty.stdout.readline()
        began = time.monotonic()
        house.push(first["ID"])
        assert ": read and filed: pneumonia 0." in duty.stdout.readline()
        assert time.monotonic() - began < 60
        kinds = sorted(one["Modality"] for one in house.series_of(first["ID"]))
        assert kinds[-1] == "SR"
        assert kinds.count("OT") >= 2
        n = house.count("instances")
        house.push(first["ID"])  # with the results, as a rule that routes everything would
        assert ": read before, with the same images" in duty.stdout.readline()
        assert house.count("instances") == n
        assert not list(site.arrived.iterdir())

        # Killed after it was told of a study: the next one reads it.
        house.push(second["ID"])
        house.wait_until("it is on the disk", lambda: list(site.arrived.glob("*/study")))
        warm.kill(duty)
        again = house.pneumofed("client", "read", "--model", exported, "--dir", site.path)
        lines = [again.stdout.readline() for _ in range(3)]
        assert ": read and filed" in lines[-1]
        again.terminate()
        out, err = again.communicate(timeout=30)
        assert again.returncode == 0, err
        assert "1 read and filed" in out
        assert house.count("instances") > n > n_images

        # By accession number, over C-GET.
        get = {"retrieve": "get", "host": "127.0.0.1", "port": DICOM, "title": "ORTHANC"}
        other = house.site("other", images, **get)
        command = ("client", "read", "--model", exported, "--dir", other.path, "--accession")
        said = house.pneumofed(*command, "A-17").communicate(timeout=60)
        assert ": read and filed" in said[0], said
        assert numbered not in said[0]
        missing = house.pneumofed(*command, "none")
        assert "1 of 1 accession numbers are not in the PACS" in missing.communicate(timeout=60)[1]
        assert missing.returncode == 2
        written = (site.logs / "read.log").read_text()
        assert not [patient for patient in by_patient if patient in written]


def test_what_could_not_be_filed_is_said_with_what_to_do(arrivals):
    duty = OnCall(Reader(a=[DataError("the headers do not let it be filed")]), arrivals, (lines := []).append)
    duty.read_now(["a"])
    assert lines[0].startswith("tag-a: could not be read: the headers do not let it be filed (")
