"""The command as its user meets it."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess


def run_here(*args: str) -> CompletedProcess[str]:
    """As `subprocess.run` with captured text, in the folder that this process is in."""
    from tests.helpers.built import main

    out, err, argv, code = StringIO(), StringIO(), sys.argv, 0
    sys.argv = ["pneumofed", *args]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    finally:
        sys.argv = argv
    return CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def refused(done, *said):
    """One line, exit code 2, no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("pneumofed: ")]
    assert len(last) == 1
    for words in said:
        assert words in last[0]
