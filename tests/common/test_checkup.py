"""Self-tests: a failing line fails the command; what is fine is said to be."""

import json

import pytest
import typer

from common import checkup
from common.checkup import Finding, check_disk, check_mode, each, show


def test_a_folder_that_others_can_look_into_fails(tmp_path):
    tmp_path.chmod(0o750)
    (finding,) = check_mode(tmp_path)
    assert (finding.outcome, finding.what) == ("fails", "folder")
    assert f"its mode is 750, others can look inside; run: chmod 700 {tmp_path}" in finding.text
    tmp_path.chmod(0o700)
    assert list(check_mode(tmp_path)) == []
    (spaced := tmp_path / "St Mary").mkdir(mode=0o755)
    (finding,) = check_mode(spaced)
    assert finding.text.endswith(f"chmod 700 '{spaced}'")


def test_little_room_is_noted(tmp_path, monkeypatch):
    assert [found.outcome for found in check_disk(tmp_path)] == ["ok"]
    monkeypatch.setattr(checkup, "MIN_FREE_GB", 1e9)
    assert [found.outcome for found in check_disk(tmp_path)] == ["note"]


def test_a_file_that_one_may_not_read_is_a_finding_and_the_next_check_runs(tmp_path):
    def unreadable():
        yield Finding("ok", "keys", "one")
        raise PermissionError(13, "Permission denied", str(tmp_path / "site.key"))

    first, second, third = each({"keys": unreadable, "disk": lambda: check_disk(tmp_path)})
    assert (first.text, second.outcome, second.what, third.what) == ("one", "fails", "keys", "disk")
    assert second.text.startswith(f"{tmp_path / 'site.key'}: cannot be read: Permission denied; run this as")


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
