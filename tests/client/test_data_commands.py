import pytest

from client.governance.approval import Approvals
from tests.helpers.command import refused
from tests.helpers.local_sites import make_site
from tests.helpers.plans import small_plan

PLAN = small_plan()


@pytest.fixture
def site(coordinator, tmp_path):
    site = make_site(tmp_path, "site-1", coordinator)
    Approvals(site.plans).propose(PLAN.model_dump(mode="json"), PLAN.sha256)
    return site


def test_bad_input_is_one_line(here, site):
    folder = str(site.path)
    cases = {
        ("ingest", "feed"): "no such plan",
        ("ingest", PLAN.sha256[:8]): "data.dicom: expected the folder",
        ("pull", PLAN.sha256[:8]): "data.pacs",
        ("receive",): "data.pacs",
        ("forget", "P1"): "nothing of this patient was found here",
    }
    for command, said in cases.items():
        refused(here("client", *command, "--dir", folder), said)
