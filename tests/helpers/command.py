"""The command as its user meets it."""


def refused(done, *said):
    """One line, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("pneumofed: ")]
    assert len(last) == 1
    for words in said:
        assert words in last[0]
