"""The two commands over one log: the folder is asked whose it is first; what was changed ends with 2."""

import pytest
from typer.testing import CliRunner

from common.audit import AuditLog
from common.audit_commands import audit_commands
from common.errors import ConfigError, DataError


def log_of(folder):
    if not (folder / "audit.log").exists():
        raise ConfigError(f"{folder}: not ours")
    return folder / "audit.log"


@pytest.fixture
def run():
    app = audit_commands("What was done.", "A_FOLDER", log_of)
    return lambda *words, **env: CliRunner().invoke(app, list(map(str, words)), env=env)


@pytest.fixture
def folder(tmp_path):
    log = AuditLog(tmp_path / "audit.log")
    for k in range(3):
        log.add("sent", number=k)
    return tmp_path


def test_the_last_entries_are_shown_in_each_form(run, folder):
    assert run("--dir", folder).stdout.count("sent") == 3
    assert run("--dir", folder, "--last", 1).stdout.split()[0] == "3"
    assert (
        run("--format", "json", "--last", 0, A_FOLDER=str(folder)).stdout
        == (folder / "audit.log").read_text()
    )
    assert run("--dir", folder, "--format", "cef").stdout.count("CEF:0|") == 3


def test_a_whole_chain_is_said_and_a_changed_one_refused(run, folder):
    said = run("verify", "--dir", folder).stdout
    assert said.startswith("3 entries, the chain is whole")
    (folder / "audit.log").write_text(
        (folder / "audit.log").read_text().replace('"number": 1', '"number": 9')
    )
    assert isinstance(run("verify", "--dir", folder).exception, DataError)


def test_another_folder_is_refused(run, tmp_path):
    for words in ((), ("verify",)):
        assert isinstance(run(*words, "--dir", tmp_path / "no").exception, ConfigError)
