"""docs/procedures.md, followed block by block with real servers, agents and runs; test_rehearsal.py follows the rest."""

import re

import pytest

from common.plan import Federation as Quorum
from tests.helpers.deployment import wait_for
from tests.helpers.faults import slow_plan
from tests.helpers.federation import PROCEDURES

pytestmark = pytest.mark.slow
PLAN = slow_plan(rounds=8, federation=Quorum(quorum=1.0, deadline_s=60.0))
SITES = ("st-mary", "st-john")


@pytest.fixture
def federation(machines):
    return machines(PLAN, *SITES)


def test_keys_names_and_people_change_and_what_is_a_site_s_own_stays(federation):
    f = federation
    f.connected(*SITES)
    run = f.begin()
    f.round(1)
    f.stop()
    pseudonyms = (f.site("st-mary").path / "pseudonym.key").read_bytes()
    f.follow("Another key for a site")
    f.connected(*SITES)
    f["the server"].run(f"pneumofed server resume {run}")
    history = f.finished(run)
    assert sorted(history[-1]["sites"]) == sorted(SITES)
    assert (f.site("st-mary").path / "pseudonym.key").read_bytes() == pseudonyms
    # Renamed: as above, with the blocks of that section.
    first, _, last = PROCEDURES["Another key for a site"]
    assert first[0] == last[0] == "st-mary"
    f["st-mary"].run(first[1])
    assert "another key was made and is not admitted yet" in f["st-mary"].run("pneumofed client check")
    f["st-mary"].bring(f["the server"], "request.pem")
    f.follow("Rename a site")
    f["the server"].bring(f["st-mary"], "st-mary-north.crt")
    f["st-mary"].run(last[1].replace("st-mary.crt", "st-mary-north.crt"))
    f.connected("st-john", "st-mary-north")
    for name in SITES:
        f.approve(name, PLAN)
    history = f.finished(f.begin())
    assert sorted(history[-1]["sites"]) == ["st-john", "st-mary-north"]
    # Removed: a run waits for nobody, and the site is told why.
    f["the server"].run(
        "pneumofed server revoke st-mary-north\npneumofed server admit st-mary request.pem || true"
    )
    ((_, script),) = PROCEDURES["Remove a site, and take it back"]
    with pytest.raises(AssertionError, match="no such site is admitted"):
        f["the server"].run(script)
    f.approve("st-john", PLAN)
    history = f.finished(f.begin())
    assert sorted(history[-1]["sites"]) == ["st-john"]
    wait_for("the word", lambda: "does not admit this site" in f["st-mary"].log(), 60)


def test_a_restored_server_goes_on_or_says_what_it_has_forgotten(federation):
    f = federation
    f.connected(*SITES)
    backup, restore = (script for _, script in PROCEDURES["Back up and restore the server"])
    server = f["the server"]
    server.run(backup)
    run = f.begin()
    f.finished(run)
    server.run("pneumofed server revoke st-john\ncp /var/lib/pneumofed/server/audit.log .")
    said = server.run(restore)
    assert "st-john" in said  # admitted again: the folder knows no better
    server.run("cp audit.log /var/lib/pneumofed/server/audit.log")  # the log was kept elsewhere, and knows
    said = server.run("pneumofed server check || true")
    assert "st-john" in said
    assert "was an older copy of the folder put back?" in said
    assert "run: pneumofed server revoke st-john" in said
    assert f"{run}: was finished on" in said
    server.run("tar -C /var/lib/pneumofed -xpf backup.tar server/audit.log")
    # In the middle of a run: the backup is some rounds old.
    for name in SITES:
        f.approve(name, PLAN)
    f.connected(*SITES)
    second = f.begin()
    f.round(1)
    server.run(backup)
    f.round(6)
    server.run(restore)
    server.run(f"pneumofed server resume {second}")
    state = wait_for("the refusal", lambda: (s := f.status()["runs"][second])["state"] == "failed" and s, 60)
    assert re.search(r"round \d was trained already at this site, which is at round \d", state["problem"])
    server.run(f"pneumofed server cancel {second}")
    # A site from its backup; it is let in within a minute.
    mary = f["st-mary"]
    mary.run("tar -C /var/lib/pneumofed -cf backup.tar site")
    ((_, script),) = PROCEDURES["Restore a site from a backup"]
    mary.run(script)
    assert " fails " not in mary.run("pneumofed client check")
