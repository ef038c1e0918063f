import socket

import pytest

from client.check import check_site
from client.governance.approval import Approvals
from client.settings import SiteFolder
from server.provision import revoke
from tests.helpers.cohorts import make_cohort
from tests.helpers.local_sites import make_server, make_site
from tests.helpers.plans import small_plan


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, service = make_server(tmp_path_factory.mktemp("check"))
    yield folder
    service.stop()


@pytest.fixture
def site(server, tmp_path, request):
    return make_site(tmp_path, f"site-{abs(hash(request.node.name)) % 10**8}", server)


def findings(site):
    return {f.what: f for f in check_site(site)}


def test_a_site_in_order_has_no_complaint(site):
    plan = small_plan()
    approvals = Approvals(site.plans)
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    make_cohort(site.cohort(plan), 40, 0, plan)
    found = findings(site)
    assert {f.outcome for f in found.values()} <= {"ok", "note"}, found
    assert {
        "settings",
        "CA",
        "keys",
        "name",
        "server",
        "clock",
        "admission",
        "disk",
        "device",
        "policy",
        "cohort",
        "audit",
    } <= set(found)


def test_each_problem_is_named_with_its_cure(site, server, monkeypatch):
    def fails(what, text):
        finding = findings(site)[what]
        assert finding.outcome == "fails"
        assert text in finding.text

    plan = small_plan()
    approvals = Approvals(site.plans)
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    fails("cohort", "run: pneumofed client ingest")
    make_cohort(site.cohort(plan), 6, 0, plan)
    fails("cohort", "minimum")
    good = site.settings_file.read_text()
    site.settings_file.write_text(good.replace("- pneumonia", "- tuberculosis"))
    fails("policy", "finding pneumonia")
    site.settings_file.write_text(good.replace("device: auto", "device: cuda:7"))
    fails("device", "usable GPUs")
    site.settings_file.write_text("server: [1]\n")
    fails("settings", "server: found a list")
    site.settings_file.write_text(good)
    site.audit.write_text("rubbish\n")
    fails("audit", "line 1")
    site.audit.unlink()
    site.path.chmod(0o755)
    fails("folder", "chmod 700")
    site.path.chmod(0o700)
    from common.credentials import common_name, read_certificate

    revoke(server, common_name(read_certificate(site.certificate)))
    fails("admission", "revoked")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: (_ for _ in ()).throw(OSError()))
    fails("name", "cannot be resolved")
    monkeypatch.undo()
    site.key.chmod(0o644)
    fails("keys", "chmod 600")


def test_a_folder_that_is_no_site_says_how_to_make_one(tmp_path):
    (only,) = check_site(SiteFolder(tmp_path))
    assert only.outcome == "fails"
    assert "pneumofed client init" in only.text
