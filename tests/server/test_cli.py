"""The coordinator's commands: bad input is one line, and what was done is said."""

from tests.helpers.command import refused

NO_HOSTS = (
    "é.example.org",
    "a b",
    "https://fed.example.org",
    "fed.example.org:443",
    "-x",
    "a\x1b[31mb",
    "a..b",
)


def test_bad_input_is_one_line(here, coordinator, tmp_path):
    server = str(coordinator.path)
    cases = {
        ("init", server, "--host", "x"): "is not empty",
        ("up", "--dir", str(tmp_path)): "not a server's folder",
        **{("init", "new", f"--host={host}"): "expected a host's name alone" for host in NO_HOSTS},
    }
    for command, said in cases.items():
        refused(here("server", *command), said)
    assert not (tmp_path / "new").exists()
    coordinator.ca_key.chmod(0o640)
    refused(here("server", "up", "--dir", server), "others could read it")


def test_a_new_server_says_what_to_give_hospitals(here, tmp_path):
    said = here("server", "init", "s", "--host", "fed.example.org").stdout
    assert "ca.crt" in said
    fingerprint = next(line for line in said.splitlines() if line.count(":") == 31)
    assert "PRIVATE" not in said
    assert len(fingerprint.strip()) == 32 * 3 - 1
    assert "No site is admitted yet" in here("server", "sites", "--dir", "s").stdout
