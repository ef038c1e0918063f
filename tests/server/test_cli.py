"""The coordinator's commands: bad input is one line, and what was done is said."""

import json

import pytest

from tests.helpers.command import refused
from tests.helpers.local_sites import make_site

NO_HOSTS = (
    "é.example.org",
    "a b",
    "https://fed.example.org",
    "fed.example.org:443",
    "-x",
    "a\x1b[31mb",
    "a..b",
)


@pytest.fixture
def site(coordinator, tmp_path):
    return make_site(tmp_path, "site-1", coordinator)


def test_bad_input_is_one_line(here, coordinator, site, tmp_path):
    server, request = str(coordinator.path), str(site.request)
    (tmp_path / "rubbish").write_text("rubbish")
    cases = {
        ("init", server, "--host", "x"): "is not empty",
        ("up", "--dir", str(tmp_path)): "not a server's folder",
        **{("init", "new", f"--host={host}"): "expected a host's name alone" for host in NO_HOSTS},
        ("admit", "Site One", request, "--dir", server): "site name 'Site One'",
        ("admit", "new", "rubbish", "--dir", server): "not a request",
        ("admit", "new", request, "--dir", server): "its key belongs to the site site-1",
        ("revoke", "nobody", "--dir", server): "admitted are: site-1",
        ("run", "rubbish", "--dir", server): "expected `key: value` lines",
        ("status", "--dir", server): "no server is running",
        ("stop", "--dir", server): "no server is running",
        ("cancel", "x", "--dir", server): "no server is running",
        ("runs", "--dir", str(tmp_path)): "not a server's folder",
        ("resume", "x", "--dir", server): "no server is running",
        ("export", "x", "--dir", server): "x",
    }
    for command, said in cases.items():
        refused(here("server", *command), said)
    assert not (tmp_path / "new").exists()
    coordinator.ca_key.chmod(0o640)
    refused(here("server", "up", "--dir", server), "others could read it")


def test_who_is_admitted_is_known_without_a_running_server(here, coordinator, site):
    server = str(coordinator.path)
    assert "site-1                   admitted" in here("server", "sites", "--dir", server).stdout
    assert "next request is refused" in here("server", "revoke", "site-1", "--dir", server).stdout
    (row,) = json.loads(here("server", "sites", "--dir", server, "--json").stdout)
    assert (row["site"], row["state"]) == ("site-1", "revoked")


def test_a_new_server_says_what_to_give_hospitals(here, tmp_path):
    said = here("server", "init", "s", "--host", "fed.example.org").stdout
    assert "ca.crt" in said
    fingerprint = next(line for line in said.splitlines() if line.count(":") == 31)
    assert "PRIVATE" not in said
    assert len(fingerprint.strip()) == 32 * 3 - 1
    assert "No site is admitted yet" in here("server", "sites", "--dir", "s").stdout
