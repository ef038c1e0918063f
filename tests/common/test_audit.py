import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audit import AuditLog, read_entries, verify
from common.errors import DataError


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit.log"
    audit = AuditLog(path)
    for i in range(5):
        audit.add("received", kind="train", n_bytes=i, text="Zürich")
    return path


def test_the_chain_goes_on_over_restarts(log):
    AuditLog(log).add("sent")
    n, last = verify(log)
    assert n == 6
    assert [e.event for e in read_entries(log)] == ["received"] * 5 + ["sent"]
    assert list(read_entries(log))[-1].hash == last
    assert log.stat().st_mode & 0o077 == 0


def change(line, **new):
    return json.dumps({**json.loads(line), **new})


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda lines: [lines[0], change(lines[1], n_bytes=9), *lines[2:]], "line 2: was changed"),
        (lambda lines: [lines[0], *lines[2:]], "line 2: does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: does not follow"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "line 4: does not follow"),
        (lambda lines: [*lines[:2], "rubbish", *lines[2:]], "line 3: not an entry"),
        (lambda lines: [*lines[:4], "[]"], "line 5: not an entry"),
        (lambda lines: [change(lines[0], n=None), *lines[1:]], "line 1: not an entry"),
        (lambda lines: [change(lines[0], n=True), *lines[1:]], "line 1: not an entry"),
        (lambda lines: [lines[0], change(lines[1], time="x"), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], time=5), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], time="2026-01-01"), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], event=[]), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], previous=None), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], hash={}), *lines[2:]], "line 2: not an entry"),
        (lambda lines: [lines[0], change(lines[1], text="\ud800"), *lines[2:]], "line 2: not an entry"),
        (lambda lines: lines[1:], "line 1: does not follow"),
    ],
)
def test_every_tampering_is_found_with_its_line(log, damage, where):
    lines = log.read_text().splitlines()
    log.write_text("\n".join(damage(lines)) + "\n")
    with pytest.raises(DataError, match=where):
        verify(log)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed_unseen(data):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.log"
        audit = AuditLog(path)
        for i in range(3):
            audit.add("sent", value=i)
        raw = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(raw) - 2))  # the last newline is no part of an entry
        raw[place] = data.draw(st.integers(33, 126).filter(lambda b: b != raw[place]))
        path.write_bytes(bytes(raw))
        with pytest.raises(DataError):
            verify(path)


def test_a_line_torn_by_a_crash_is_cut_off_and_that_is_written_down(log):
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"n": 6, "event": "se')
    AuditLog(log).add("sent")
    assert [e.event for e in read_entries(log)][-2:] == ["recovered", "sent"]
    assert verify(log)[0] == 7
    assert log.read_bytes().startswith(whole)


def test_a_log_whose_end_was_changed_is_not_written_on(log):
    log.write_text(log.read_text().replace('"n_bytes": 4', '"n_bytes": 5'))
    with pytest.raises(DataError, match="audit verify"):
        AuditLog(log)


def test_a_full_disk_leaves_the_log_as_it_was(log, tmp_path):
    code = (
        "import resource, signal, sys; from pathlib import Path; from common.audit import AuditLog\n"
        "a = AuditLog(Path(sys.argv[1])); size = Path(sys.argv[1]).stat().st_size\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50))\n"
        "try: a.add('sent', text='x' * 100)\n"
        "except OSError as e: print('OSError', e.filename)\n"
    )
    before = log.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)], capture_output=True, text=True, env={**os.environ}
    )
    assert done.stdout.strip() == f"OSError {log}", done.stderr
    assert log.read_bytes() == before
