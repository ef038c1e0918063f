"""The server's audit log: who did what, chained, however many write it."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.audit import read_entries, verify
from common.errors import DataError
from server.journal import note, who
from server.settings import ServerFolder
from tests.helpers.command import run_here


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "server").mkdir(mode=0o700)
    return ServerFolder(tmp_path / "server")


def test_each_line_says_who_and_follows_the_one_before(folder, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "anna")
    note(folder, "admitted", site="north")
    note(folder, "finished", by="server", run="small")
    entries = list(read_entries(folder.audit))
    assert [(e.event, e.facts["by"]) for e in entries] == [("admitted", "anna"), ("finished", "server")]
    assert verify(folder.audit)[0] == 2
    assert folder.audit.stat().st_mode & 0o077 == 0


def test_many_at_once_make_one_chain(folder):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: note(folder, "runs", run=str(k)), range(40)))
    assert verify(folder.audit)[0] == 40


def test_a_changed_log_is_not_written_on(folder):
    note(folder, "admitted", site="north")
    folder.audit.write_text(folder.audit.read_text().replace("north", "south"))
    with pytest.raises(DataError, match="was changed"):
        note(folder, "revoked", site="north")


def test_an_account_without_a_name_is_its_number(monkeypatch):
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid")))
    assert who().startswith("uid ")


def test_the_commands_of_a_coordinator_stand_in_it(place, tmp_path):
    server, *_ = place
    for name in ("north", "south"):
        done = run_here("server", "revoke", name, "--dir", str(server.path))
        assert done.returncode == 0, done.stderr
    shown = run_here("server", "audit", "--last", "1", "--dir", str(server.path)).stdout
    assert "revoked" in shown
    assert '"south"' in shown
    lines = run_here("server", "audit", "--format", "json", "--last", "0", "--dir", str(server.path)).stdout
    assert [json.loads(line)["site"] for line in lines.splitlines()] == ["north", "south"]
    assert (
        run_here("server", "audit", "--format", "cef", "--dir", str(server.path)).stdout.count("CEF:0|") == 2
    )
    assert (
        "2 entries, the chain is whole"
        in run_here("server", "audit", "verify", "--dir", str(server.path)).stdout
    )
    server.audit.write_text(server.audit.read_text().replace("north", "nord"))
    refused = run_here("server", "audit", "verify", "--dir", str(server.path))
    assert refused.returncode == 2
    assert "line 1: was changed" in refused.stderr
