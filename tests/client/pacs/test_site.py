"""What a hospital engineer is told when hospital.yaml is not ready for a PACS."""

import json

import pytest

from client.settings import SiteFolder
from common.config import dump_yaml
from tests.helpers.plans import small_plan


@pytest.fixture
def site(tmp_path):
    folder = SiteFolder(tmp_path / "site")
    folder.path.mkdir(mode=0o700)
    folder.secret.write_bytes(b"k" * 64)
    folder.secret.chmod(0o600)
    (tmp_path / "plan.yaml").write_text(dump_yaml(small_plan()))
    (tmp_path / "labels.csv").write_text("patient,pneumonia\nSECRET1,1\n")

    def settings(**data):
        folder.settings_file.write_text(json.dumps({"server": "localhost:443", "data": data}))
        return folder

    return settings


NOWHERE = {"retrieve": "get", "host": "127.0.0.1", "port": 9, "title": "PACS"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "data.pacs: expected the PACS to fetch images from"),
        ({"pacs": NOWHERE}, "data.labels: expected the table that says which images to fetch"),
        ({"pacs": {"retrieve": "dicomweb"}}, "found the url None, expected http(s)://"),
        ({"pacs": {"retrieve": "move", "title": "PACS"}}, "expected host and title of the PACS"),
        ({"pacs": {**NOWHERE, "portt": 1}}, "portt"),
        ({"pacs": NOWHERE, "labels": "absent.csv"}, "absent.csv: no such file"),
        (
            {"pacs": {"url": "http://127.0.0.1:9", "token": "absent"}, "labels": "labels.csv"},
            "expects the file with the token",
        ),
        (
            {"pacs": {"url": "http://127.0.0.1:9", "token": "labels.csv"}, "labels": "labels.csv"},
            "labels.csv",
        ),
    ],
)
def test_what_is_missing_is_said(site, here, data, said):
    folder = site(**data)
    done = here("client", "pull", "plan.yaml", "--dir", str(folder.path))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("pacs", [NOWHERE, {"url": "http://127.0.0.1:9/dicom-web"}])
def test_a_pacs_that_does_not_answer_is_said(site, here, monkeypatch, pacs):
    from client.pacs import pull

    monkeypatch.setattr(pull, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(pull, "LATER_S", 0.0)
    monkeypatch.setattr(pull, "PATIENCE_S", 0.02)
    folder = site(pacs=pacs, labels="labels.csv")
    done = here("client", "pull", "plan.yaml", "--dir", str(folder.path))
    assert done.returncode == 2
    assert "the PACS has not answered" in done.stderr
    assert "SECRET1" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "pacs", [NOWHERE, {"url": "http://127.0.0.1:9/dicom-web"}, {**NOWHERE, "retrieve": "move"}]
)
def test_the_self_test_says_that_the_pacs_does_not_answer(site, pacs):
    from client.check import _check_pacs

    folder = site(pacs=pacs)
    (found,) = _check_pacs(folder.settings().data.pacs)
    assert found.outcome == "fails"
    assert "does not answer" in found.text


def test_a_receiver_needs_to_know_who_may_send(site, here):
    folder = site(pacs={"url": "http://127.0.0.1:9/dicom-web"})
    done = here("client", "receive", "--dir", str(folder.path))
    assert done.returncode == 2
    assert "expected the title of the only PACS that may send" in done.stderr


def test_before_anything_was_fetched_an_ingest_says_how(site, here):
    folder = site(pacs=NOWHERE)
    done = here("client", "ingest", "plan.yaml", "--dir", str(folder.path))
    assert done.returncode == 2
    assert "fetch them first: pneumofed client pull, or client receive" in done.stderr
