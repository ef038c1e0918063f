"""The command's one way to say what is wrong, wherever it says it."""

import errno
import io
import sys

import pytest

from common.files import write_atomically
from pneumofed import cli


def test_a_terminal_that_lacks_a_letter_gets_its_escape(monkeypatch):
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, "latin-1", write_through=True))
    monkeypatch.setattr(cli, "app", lambda: print("ε 0.90 – 0.95, Höhe"))
    cli.main()
    assert terminal.getvalue() == b"\\u03b5 0.90 \\u2013 0.95, H\xf6he\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_names_the_file_and_what_to_do(capsys, monkeypatch, tmp_path, number):
    def full(_):
        raise OSError(number, "full")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(cli, "app", lambda: write_atomically(tmp_path / "run.json", b"x"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(
        f"pneumofed: {tmp_path / 'run.json'}: full; free some space, or"
    )
