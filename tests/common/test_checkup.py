"""Self-tests: a failing line fails the command; what is fine is said to be."""

import json

import pytest
import typer

from common import checkup
from common.checkup import Finding, check_disk, check_mode, show


def test_a_folder_that_others_can_look_into_fails(tmp_path):
    tmp_path.chmod(0o750)
    (finding,) = check_mode(tmp_path)
    assert (finding.outcome, finding.what) == ("fails", "folder")
    assert f"its mode is 750, others can look inside; run: chmod 700 {tmp_path}" in finding.text
    tmp_path.chmod(0o700)
    assert list(check_mode(tmp_path)) == []


def test_little_room_is_noted(tmp_path, monkeypatch):
    assert check_disk(tmp_path).outcome == "ok"
    monkeypatch.setattr(checkup, "MIN_FREE_GB", 1e9)
    assert check_disk(tmp_path).outcome == "note"


@pytest.mark.parametrize("as_json", [False, True])
def test_one_failure_ends_with_two(capsys, as_json):
    fine, bad = Finding("ok", "disk", "room"), Finding("fails", "clock", "an hour behind")
    show([fine], as_json=as_json)
    with pytest.raises(typer.Exit) as ended:
        show(iter([fine, bad]), as_json=as_json)
    assert ended.value.exit_code == 2
    said = capsys.readouterr().out
    if as_json:
        assert json.loads(said[said.index("]") + 1 :])[1] == {
            "outcome": "fails",
            "what": "clock",
            "text": bad.text,
        }
    else:
        assert said.splitlines()[-1].split() == ["fails", "clock", "an", "hour", "behind"]
