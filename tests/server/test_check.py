"""`server check`: each thing that is wrong is said, with what to do."""

import json

import pytest

from common.credentials import make_key, write_key
from server import check
from server.check import check_server
from server.journal import SERVER, note
from server.provision import admit, init_server, revoke
from server.renewal import renew_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.deployment import free_port
from tests.helpers.local_sites import make_site


@pytest.fixture
def folder(tmp_path):
    folder = ServerFolder(tmp_path / "server")
    init_server(folder, ServerSettings(host="127.0.0.1", listen="127.0.0.1", port=free_port()))
    return folder


def said(folder, what):
    return [(f.outcome, f.text) for f in check_server(folder) if f.what == what]


def test_a_new_server_has_nothing_that_fails(folder):
    findings = list(check_server(folder))
    assert [f for f in findings if f.outcome == "fails"] == []
    assert said(folder, "server")[-1][1].endswith("start it with: pneumofed server up")
    assert "none is admitted" in said(folder, "sites")[0][1]


def test_what_ends_soon_is_noted_and_what_has_ended_fails(folder, tmp_path, monkeypatch):
    make_site(tmp_path, "north", folder)
    monkeypatch.setattr(check, "days_left", lambda certificate: 12.0)
    for what, command in (("CA", "ca"), ("server", "server"), ("signing", "signing"), ("north", "sites")):
        outcome, text = said(folder, what)[0]
        assert (outcome, text) == (
            "note",
            f"its certificate ends in 12 days; run: pneumofed server renew {command}",
        )
    monkeypatch.setattr(check, "days_left", lambda certificate: -3.0)
    assert said(folder, "server")[0] == (
        "fails",
        "its certificate ended 3 days ago; run: pneumofed server renew server",
    )


def test_half_of_a_renewal_is_named(folder):
    folder.key.unlink()
    write_key(folder.key, make_key())
    ((outcome, text),) = said(folder, "server key")
    assert outcome == "fails"
    assert "renew it again" in text


def test_a_name_that_the_certificate_lacks_is_named_until_it_is_renewed(folder):
    text = folder.settings_file.read_text()
    folder.settings_file.write_text(text.replace("host: 127.0.0.1", "host: fed.example.org"))
    ((outcome, said_),) = said(folder, "host")
    assert outcome == "fails"
    assert said_.startswith("fed.example.org: ")
    renew_server(folder, None)
    assert said(folder, "host") == []


def test_what_the_audit_log_knows_and_the_folder_has_forgotten_is_named(folder, tmp_path):
    make_site(tmp_path, "north", folder)
    note(folder, "admitted", site="north")
    backup = folder.sites.read_text()
    make_site(tmp_path, "south", folder)
    note(folder, "admitted", site="south")
    revoke(folder, "north")
    note(folder, "revoked", site="north")
    note(folder, "finished", by=SERVER, run="trial", problem="", model="")
    assert not [f for f in check_server(folder) if "older copy" in f.text and f.what != "run"]
    folder.sites.write_text(backup)
    ((outcome, text),) = (s for s in said(folder, "north") if "older copy" in s[1])
    assert outcome == "fails"
    assert text.endswith("run: pneumofed server revoke north")
    ((outcome, text),) = (s for s in said(folder, "south") if "older copy" in s[1])
    assert (outcome, text.split()[-3:]) == ("note", ["Admit", "it", "again"])
    assert "trial: was finished on" in said(folder, "run")[0][1]
    lines = folder.audit.read_text().splitlines()
    folder.audit.write_text("\n".join([*lines[:1], *lines[2:]]) + "\n")
    assert said(folder, "audit")[0][0] == "fails"


def test_an_offline_ca_key_is_in_order(folder):
    folder.ca_key.unlink()
    assert said(folder, "CA key") == [
        ("ok", "is not on this machine, as is best; bring it to admit and renew")
    ]


def test_a_site_that_came_back_is_named(folder, tmp_path):
    make_site(tmp_path, "north", folder)
    revoke(folder, "north")
    other = make_site(tmp_path, "other", folder, admitted=False)
    admit(folder, "north", other.request)
    ((outcome, text),) = said(folder, "north")
    assert outcome == "note"
    assert "came back with another key" in text


def test_what_cannot_be_read_is_said(folder):
    folder.sites.write_text("rubbish")
    assert said(folder, "sites")[0][0] == "fails"
    folder.signing.write_text("rubbish")
    assert said(folder, "signing")[0][0] == "fails"
    folder.path.chmod(0o755)
    assert "chmod 700" in said(folder, "folder")[0][1]
    folder.settings_file.unlink()
    ((outcome, text),) = said(folder, "settings")
    assert outcome == "fails"
    assert "not a server's folder" in text


def test_a_port_that_is_taken_is_named(folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", folder.settings().port))
        taken.listen()
        ((outcome, text),) = said(folder, "port")
    assert outcome == "fails"
    assert "change listen or port" in text


def test_the_command_says_it_to_people_and_programs(here, folder):
    done = here("server", "check", "--dir", str(folder.path))
    assert done.returncode == 0
    assert "ok     settings" in done.stdout
    folder.sites.write_text("rubbish")
    done = here("server", "check", "--dir", str(folder.path), "--json")
    assert done.returncode == 2
    assert {"outcome", "what", "text"} == set(json.loads(done.stdout)[0])
