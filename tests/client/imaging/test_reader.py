"""Reading in processes of its own: the same as in one's own, and a file that hangs or kills its decoder costs
itself alone."""

import faulthandler
import os
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from client.imaging import reader
from client.imaging.dicom import read_headers
from client.imaging.outcome import Reason, Skipped
from client.imaging.pixels import DicomPixels, fit
from client.imaging.reader import AHEAD, answers_to, frames_of, headers_of
from common.plan import Input, Window
from tests.helpers.dicom import enhanced, image, save

FUZZ = int(os.environ.get("PNEUMOFED_FUZZ", "2500"))
"""Broken files; 10,000 before a release."""

CONTRACT = Input(size=16, max_frames=8)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for k in range(150):
        path = tmp_path / f"{k:03d}.dcm"
        if k % 10 == 3:
            path.write_bytes(b"rubbish")
        else:
            save(image(rng.integers(0, 4000, (20, 24)).astype(np.uint16), PatientID=f"P{k}"), path)
        paths.append(path)
    return paths


def test_headers_come_in_order_and_are_those_of_reading_here(files):
    found = list(headers_of(files, "xray"))
    assert len(found) == 150 > 2 * AHEAD
    for k, (path, headers) in enumerate(zip(files, found, strict=True)):
        if k % 10 == 3:
            assert headers.reason == Reason.NOT_DICOM
        else:
            assert headers == read_headers(path, "xray")


def test_frames_come_in_order_and_are_those_of_reading_here(files, tmp_path):
    film = save(enhanced([3.0, 1.0], [1, 2]), tmp_path / "film.dcm")
    wanted = [DicomPixels(p, Window(center=2000, width=4000)) for p in files] + [
        DicomPixels(film, None, k) for k in (0, 1)
    ]
    for contract in (CONTRACT, Input(size=20, depth=16)):
        found = list(frames_of(wanted, contract))
        assert len(found) == 152
        for k, (want, pixels) in enumerate(zip(wanted, found, strict=True)):
            if isinstance(pixels, Skipped):
                assert k % 10 == 3
            else:
                np.testing.assert_array_equal(pixels, fit(want.read(), contract.size, contract.depth))


def odd_answer(job):
    """In place of reading: what decoders have been seen to do."""
    if job["path"] == "hang":
        time.sleep(60)
    if job["path"] == "crash":
        faulthandler.disable()  # its report of this very crash would fill the screen
        os.kill(os.getpid(), 11)
    if job["path"] == "eat":
        try:
            np.ones(10**11)
        except MemoryError:
            return b'-["TOO_LARGE"]'
    return b"+" + str(os.getpid()).encode()


READ = reader._read_for


def read_oddly(pipe):
    """A reading process with `odd_answer` for reading. Not forked from here: a fork of a process with threads may stand still."""
    reader._answer = odd_answer
    READ(pipe)


def read_with_little_memory(pipe):
    reader.MEMORY_LIMIT = 600 * 2**20
    READ(pipe)


@pytest.fixture
def odd(monkeypatch):
    monkeypatch.setattr(reader, "_read_for", read_oddly)
    monkeypatch.setattr(reader, "TIME_LIMIT_S", 1.0)


@pytest.mark.slow
def test_a_file_that_hangs_or_crashes_or_bloats_costs_itself_alone(odd):
    jobs = [{"path": "fine"} for _ in range(100)]
    jobs[20] = jobs[21] = {"path": "hang"}
    jobs[30] = jobs[31] = jobs[99] = {"path": "crash"}
    jobs[40] = {"path": "eat"}
    started = time.monotonic()
    found = list(answers_to(iter(jobs), 100))
    assert time.monotonic() - started < 50  # each of two that hang would take a minute
    for k, answer in enumerate(found):
        expected = {"hang": Reason.TOO_SLOW, "crash": Reason.DECODER_CRASHED, "eat": Reason.TOO_LARGE}.get(
            jobs[k]["path"]
        )
        if expected is None:
            assert int(answer) != os.getpid()
        else:
            assert answer.reason == expected


def test_jobs_are_taken_only_as_far_ahead_as_memory_allows(odd):
    taken = []

    def jobs():
        for k in range(1000):
            taken.append(k)
            yield {"path": "fine"}

    answers = answers_to(jobs(), 1000)
    for k in range(200):
        next(answers)
        assert len(taken) <= k + 1 + AHEAD
    answers.close()


@pytest.mark.slow
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    """A megabyte that inflates to a gigabyte, before any header says how large the image is."""
    monkeypatch.setattr(reader, "_read_for", read_with_little_memory)
    monkeypatch.setattr(reader, "TIME_LIMIT_S", 20.0)
    path = tmp_path / "bomb.dcm"
    ds = image(np.zeros((4, 4), np.uint16))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dcmwrite(path, ds, enforce_file_format=True)
    data = path.read_bytes()
    meta = (
        128 + 4 + 12 + int.from_bytes(data[140:144], "little")
    )  # preamble, DICM, the group's length and what it says
    deflate = zlib.compressobj(1, wbits=-15)
    bomb = [
        deflate.compress(
            zlib.decompress(data[meta:], wbits=-15)
            + b"\x09\x00\x10\x10OB\0\0"
            + (2**30).to_bytes(4, "little")
        )
    ]
    bomb += [deflate.compress(bytes(2**24)) for _ in range(64)]
    path.write_bytes(data[:meta] + b"".join(bomb) + deflate.flush())
    assert path.stat().st_size < 8 * 2**20
    (answer,) = headers_of([path], "xray")
    assert answer.reason == Reason.TOO_LARGE


@pytest.mark.slow
def test_rubbish_is_no_dicom_whatever_its_bytes(tmp_path, monkeypatch):
    """Half of all random bytes, read as DICOM, tell of a value of more than two gigabytes."""
    monkeypatch.setattr(reader, "_read_for", read_with_little_memory)
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{k}.dcm" for k in range(40)]
    for path in paths:
        path.write_bytes(rng.bytes(1000))
    assert {answer.reason for answer in headers_of(paths, "xray")} == {Reason.NOT_DICOM}


@pytest.mark.slow
def test_mutated_files_end_in_an_outcome(tmp_path):
    """Bytes changed, cut off, doubled; headers and pixels; what the site's process keeps in memory does not
    grow."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 4000, (32, 32)).astype(np.uint16)
    seeds = []
    for name, syntax in (
        ("plain", None),
        ("rle", RLELossless),
        ("j2k", JPEG2000Lossless),
        ("jls", JPEGLSLossless),
    ):
        ds = image(pixels, WindowCenter=100, WindowWidth=50, NumberOfFrames=1)
        if syntax:
            ds.compress(syntax)
        seeds.append(save(ds, tmp_path / name).read_bytes())
    seeds.append(save(enhanced([1.0, 2.0], [1, 2]), tmp_path / "enhanced").read_bytes())
    paths = []
    for k in range(FUZZ):
        data = bytearray(seeds[k % len(seeds)])
        for _ in range(rng.integers(1, 9)):
            data[rng.integers(132, len(data))] = rng.integers(256)
        if k % 3 == 0:
            data = data[: rng.integers(1, len(data))]
        if k % 7 == 0:
            cut = rng.integers(132, len(data)) if len(data) > 140 else 0
            data = data[:cut] + data[max(0, cut - 40) : cut] * 3 + data[cut:]
        paths.append(tmp_path / f"m{k}.dcm")
        paths[-1].write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0}
    for modality in ("xray", "ct"):
        for answer in headers_of(paths, modality):
            outcomes[answer.reason if isinstance(answer, Skipped) else "read"] = 1
    for answer in frames_of([DicomPixels(p) for p in paths], CONTRACT):
        outcomes["pixels" if not isinstance(answer, Skipped) else answer.reason] = 1
    assert {"read", "pixels", Reason.BROKEN} <= {k for k, v in outcomes.items() if v}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


@pytest.mark.slow
def test_processes_that_cannot_begin_are_the_machine_s_fault_and_no_file_s(tmp_path):
    """As in a script without a guard: each would fail in starting, for ever, and every file be called broken."""
    script = "from pathlib import Path\nfrom client.imaging.reader import patients_of\nprint(list(patients_of([Path('a')] * 40)))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=script, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 1
    assert "end before they begin" in done.stderr.splitlines()[-1]
    assert done.stdout == ""
