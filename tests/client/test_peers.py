"""`pneumofed client peers`: two hospitals on the telephone."""

import re

from client.governance.approval import Approvals
from tests.helpers.secure import secure_plan


def test_two_hospitals_confirm_each_other_and_approve(place, here):
    _, _, sites = place
    shown = {}
    for name, site in sites.items():
        said = here("client", "peers", "--dir", str(site.path))
        assert said.returncode == 0, said.stderr
        assert "No peer is confirmed" in said.stdout
        shown[name] = re.search(r"This hospital: ((?:[0-9A-F]{4} ?){8})", said.stdout)[1].strip()
        assert here("client", "peers", "--dir", str(site.path)).stdout == said.stdout  # the key stays
    assert shown["north"] != shown["south"]
    north, plan = sites["north"], secure_plan(2)
    Approvals(north.plans).propose(plan.model_dump(mode="json"), plan.sha256)
    early = here("client", "approve", plan.sha256[:12], "--dir", str(north.path))
    assert early.returncode == 2
    assert "its threshold is 2 hospitals, with this one 1 is confirmed here" in early.stderr
    done = here("client", "peers", "confirm", "south", shown["south"], "--dir", str(north.path))
    assert done.stdout == "south is confirmed.\n"
    assert f"  south: {shown['south']}" in here("client", "peers", "--dir", str(north.path)).stdout
    assert here("client", "approve", plan.sha256[:12], "--dir", str(north.path)).returncode == 0
    gone = here("client", "peers", "revoke", "south", "--dir", str(north.path))
    assert gone.returncode == 0
    assert here("client", "approve", plan.sha256[:12], "--dir", str(north.path)).returncode == 2


def test_rubbish_is_one_line(place, here):
    _, _, sites = place
    for arguments in (
        ("confirm", "south", "XY"),
        ("revoke", "south"),
        ("confirm", "", "A" * 32),
        ("confirm", "", "A" * 64),
    ):
        done = here("client", "peers", *arguments, "--dir", str(sites["north"].path))
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
    assert here("client", "peers", "--dir", "nowhere").returncode == 2
