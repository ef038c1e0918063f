"""The hospital's commands: bad input is one line."""

import pytest

from tests.helpers.command import refused
from tests.helpers.local_sites import make_site


@pytest.fixture
def site(coordinator, tmp_path):
    return make_site(tmp_path, "site-1", coordinator)


def test_bad_input_is_one_line(here, coordinator, site, tmp_path):
    folder, ca = str(site.path), str(coordinator.ca_certificate)
    (tmp_path / "rubbish").write_text("rubbish")
    cases = {
        ("init", folder, "--server", "x:1", "--ca", ca): "is not empty",
        ("init", "new", "--server", "nowhere", "--ca", ca): "expected HOST:PORT",
        ("init", "new", "--server", "x:1", "--ca", "rubbish"): "not a certificate",
        ("join", "rubbish", "--dir", folder): "not a certificate",
        ("join", str(coordinator.certificate), "--dir", folder): "is for another key",
        ("up", "--dir", str(tmp_path)): "not a hospital's folder",
    }
    for command, said in cases.items():
        refused(here("client", *command), said)
    site.key.chmod(0o644)
    refused(here("client", "up", "--dir", folder), "others could read it")
