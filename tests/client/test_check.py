import os
import socket

import pytest
import yaml

from client.check import check_site
from client.governance.approval import Approvals
from client.provision import new_key
from client.settings import SiteFolder
from server.provision import revoke
from tests.helpers.cohorts import make_cohort
from tests.helpers.denied import deny_access, deny_listing, deny_reading
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


@pytest.mark.parametrize(("patients", "told"), [(40, False), (400, True)])
def test_too_few_test_patients_for_final_scores_are_said_before_anything_is_trained(site, patients, told):
    plan = small_plan(evaluation={"final": True})
    approvals = Approvals(site.plans)
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    make_cohort(site.cohort(plan), patients, 0, plan)
    assert "final" not in findings(site)  # the policy tells none
    settings = yaml.safe_load(site.settings_file.read_text())
    settings["policy"]["final"] = True
    site.settings_file.write_text(yaml.safe_dump(settings))
    assert ("final" not in findings(site)) == told
    if not told:
        assert "test patients are without pneumonia, 10 are the least" in findings(site)["final"].text


def test_a_new_key_that_is_not_admitted_yet_is_said(site):
    new_key(site)
    found = [f for f in check_site(site) if f.what == "keys"]
    assert [f.outcome for f in found] == ["note", "ok"]
    assert "another key was made and is not admitted yet" in found[0].text


def test_a_request_of_the_old_key_is_not_to_be_sent(site):
    """`client rekey` was cut off between the new key and its request, or in the middle of the key."""
    old = site.request.read_bytes()
    new_key(site)
    whole = site.next_key.read_bytes()
    for key, request in ((whole, old), (b"", old), (whole[:90], site.request.read_bytes())):
        site.next_key.write_bytes(key)
        site.request.write_bytes(request)
        note, _ = (f for f in check_site(site) if f.what == "keys")
        assert "cut off; give it again: pneumofed client rekey" in note.text
        assert "send" not in note.text


def test_what_one_may_not_read_is_named_and_the_rest_is_checked(site, monkeypatch):
    deny_reading(monkeypatch, site.key)
    deny_listing(monkeypatch, site.plans)
    found = findings(site)
    for what, path in (("keys", site.key), ("plan", site.plans)):
        assert found[what].outcome == "fails"
        assert f"{path}: cannot be read: Permission denied; run this as" in found[what].text
    assert found["ledger"].outcome == "ok"


def test_what_another_account_made_by_a_command_is_named_with_the_cure(site, monkeypatch):
    """As with sudo and a umask of 077: tests may run as root, who may use everything."""
    plan = small_plan()
    approvals = Approvals(site.plans)
    approvals.propose(plan.model_dump(mode="json"), plan.sha256)
    approvals.approve(plan.sha256)
    site.logs.mkdir(exist_ok=True)
    log, decision = site.logs / "agent.log", approvals.plan_file(plan.sha256).parent / "decision.json"
    for file in (log, site.audit, site.lock):
        file.touch()
    assert "access" not in findings(site)
    deny_access(monkeypatch, {log: os.W_OK, site.audit: os.W_OK, site.lock: os.R_OK, decision: os.R_OK,
                              site.settings_file: os.W_OK})  # fmt: skip
    deny_reading(monkeypatch, decision)
    found = findings(site)
    assert found["access"].outcome == found["plan"].outcome == "fails"
    for name in ("logs/agent.log", "audit.log", ".lock", f"plans/{plan.sha256}/decision.json"):
        assert f" {name}" in found["access"].text
    assert "hospital.yaml" not in found["access"].text  # it need not be written to
    assert "as the account that the service runs as" in found["access"].text
    assert f"{decision}: cannot be read: Permission denied" in found["plan"].text


def test_the_check_of_an_admitted_site_is_no_warning_to_the_coordinator(site, server, caplog):
    assert findings(site)["admission"].outcome == "ok"
    assert not [r for r in caplog.records if r.name == "pneumofed.server" and r.levelname == "WARNING"]


def test_a_folder_that_is_no_site_says_how_to_make_one(tmp_path):
    (only,) = check_site(SiteFolder(tmp_path))
    assert only.outcome == "fails"
    assert "pneumofed client init" in only.text
