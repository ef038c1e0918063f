"""A cohort of forty patients, and a site to which a plan was proposed."""

import pytest

from client.governance.approval import Approvals
from client.imaging.cohort import Cohort
from tests.helpers.cohorts import make_cohort
from tests.helpers.local_sites import make_site
from tests.helpers.plans import small_plan


@pytest.fixture
def cohort(tmp_path):
    return Cohort.open(make_cohort(tmp_path / "c", 40))


@pytest.fixture
def asked(coordinator, tmp_path):
    """A site to which `small_plan()` was proposed."""
    site, plan = make_site(tmp_path, "site-1", coordinator), small_plan()
    Approvals(site.plans).propose(plan.model_dump(mode="json"), plan.sha256)
    return site
