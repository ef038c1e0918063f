import json

import pytest

from tests.helpers.command import refused
from tests.helpers.local_sites import make_site


@pytest.fixture
def site(coordinator, tmp_path):
    return make_site(tmp_path, "site-1", coordinator)


def test_bad_input_is_one_line(here, coordinator, site, tmp_path):
    server, request = str(coordinator.path), str(site.request)
    (tmp_path / "rubbish").write_text("rubbish")
    cases = {
        ("admit", "Site One", request): "site name 'Site One'",
        ("admit", "new", "rubbish"): "not a request",
        ("admit", "new", request): "its key belongs to the site site-1",
        ("revoke", "nobody"): "admitted are: site-1",
    }
    for command, said in cases.items():
        refused(here("server", *command, "--dir", server), said)


def test_who_is_admitted_is_known_without_a_running_server(here, coordinator, site):
    server = str(coordinator.path)
    assert "site-1                   admitted" in here("server", "sites", "--dir", server).stdout
    assert "next request is refused" in here("server", "revoke", "site-1", "--dir", server).stdout
    (row,) = json.loads(here("server", "sites", "--dir", server, "--json").stdout)
    assert (row["site"], row["state"]) == ("site-1", "revoked")
