"""Ingestion against its floors.

`python benchmarks/ingest.py --json` -> {"ratio_to_decode", "scaling_2", "reopen_ms", "epoch_ratio"}:
ratio_to_decode: slices a second that one process reads, windows and resizes, over bare dcmread + pixel_array
+ rescale, 512 x 512 CT, explicit little endian, interleaved. scaling_2: an ingest's reading on two cores over
twice that on one. reopen_ms: opening a cohort of 10,000 sequences. epoch_ratio: an epoch of training from the
cohort over the same from tensors in memory. Medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from client.imaging.cohort import Cohort, build_cohort
from client.imaging.frames import Frame, InMemory
from client.imaging.outcome import Tally
from client.imaging.pixels import DicomPixels, fit, read_pixels
from client.imaging.reader import frames_of
from client.imaging.sequence import Collection, Sequence
from common.malloc import keep_memory
from common.plan import Input, Model, Window

SLICES, SIZE, SEQUENCES = 200, 64, 10_000
LUNG = Window(center=-600.0, width=1500.0)


def write_slices(folder: Path, n: int) -> list[Path]:
    """`n` CT slices of 512 x 512."""
    rng, paths = np.random.default_rng(0), []
    for k in range(n):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality, ds.PatientID = (
            CTImageStorage,
            generate_uid(),
            "CT",
            "P",
        )
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 512, 512
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit, ds.PixelRepresentation, ds.RescaleSlope, ds.RescaleIntercept = 15, 1, 1, -1024
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, k], [1, 0, 0, 0, 1, 0]
        ds.PixelData = rng.integers(0, 3000, (512, 512)).astype("<i2").tobytes()
        paths.append(folder / f"{k}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare(paths: list[Path]) -> None:
    """The floor: decoding alone."""
    for path in paths:
        ds = dcmread(path)
        apply_modality_lut(ds.pixel_array, ds)


def ours(paths: list[Path]) -> None:
    """What an ingest does with each slice."""
    for path in paths:
        fit(read_pixels(path, LUNG), SIZE, 8)


def ratio_to_decode(paths: list[Path], repeats: int) -> float:
    """Our rate over the floor's."""
    times = [(seconds(lambda: bare(paths)), seconds(lambda: ours(paths))) for _ in range(repeats + 1)][1:]
    return statistics.median(t for t, _ in times) / statistics.median(t for _, t in times)


def ingest_seconds(folder: Path, cores: int) -> float:
    """Reading all of `folder` in a process that may use so many cores, without its start."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        [sys.executable, __file__, "--read", str(folder), "--cores", ",".join(map(str, allowed))],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def read_all(folder: Path, cores: list[int]) -> float:
    """Seconds of the second of two readings: the first starts the reading processes' server."""
    os.sched_setaffinity(0, cores)
    wanted = [DicomPixels(path, LUNG) for path in sorted(folder.iterdir())]

    def read() -> None:
        for _ in frames_of(wanted * 12, Input(modality="ct", size=SIZE)):
            pass

    seconds(read)
    return seconds(read)


def many_sequences(folder: Path) -> Path:
    """A cohort of 10,000 sequences of four small frames."""
    frame = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    sequences = [
        Sequence(
            f"p{k}", tuple(Frame(float(d), InMemory(frame)) for d in range(4)), np.array([k % 2], np.float32)
        )
        for k in range(SEQUENCES)
    ]
    build_cohort(
        folder / "many",
        Collection(sequences, Tally()),
        Input(size=16, max_frames=4),
        ("pneumonia",),
        b"k",
        "s",
    )
    return folder / "many"


def epoch_ratio(folder: Path, repeats: int) -> float:
    """An epoch of SGD steps from the cohort over the same steps from tensors that are there already."""
    import torch  # not above: the processes that read import this module, and need no torch

    from client.compute.batches import collate, in_batches
    from client.compute.device import set_up_process
    from client.training.local import masked_loss
    from common.models.cnn_lstm import CNNLSTM

    set_up_process()
    rng = np.random.default_rng(0)
    pictures = [rng.random((4, SIZE, SIZE), dtype=np.float32) for _ in range(128)]
    sequences = [
        Sequence(
            f"p{k}",
            tuple(Frame(float(d), InMemory(f)) for d, f in enumerate(p)),
            np.array([k % 2], np.float32),
        )  # type: ignore[misc]
        for k, p in enumerate(pictures)
    ]
    build_cohort(
        folder / "epoch",
        Collection(sequences, Tally()),
        Input(size=SIZE, max_frames=4),
        ("pneumonia",),
        b"k",
        "s",
    )
    cohort, cpu = Cohort.open(folder / "epoch"), torch.device("cpu")
    model = CNNLSTM(Model(), 1)
    indices = np.arange(len(cohort))
    ready = [collate(cohort, indices[k : k + 16]).to(cpu) for k in range(0, len(indices), 16)]

    def epoch(batches: object) -> None:
        for batch in batches:  # type: ignore[attr-defined]
            loss = masked_loss(model(batch.frames, batch.gaps, batch.lengths), batch.labels, torch.ones(1))
            loss.backward()  # type: ignore[no-untyped-call]

    times = [
        (seconds(lambda: epoch(in_batches(cohort, indices, 16, cpu))), seconds(lambda: epoch(ready)))
        for _ in range(repeats + 1)
    ][1:]
    return statistics.median(t for t, _ in times) / statistics.median(t for _, t in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cores", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        print(read_all(args.read, [int(core) for core in args.cores.split(",")]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "ct").mkdir()
        paths = write_slices(folder / "ct", SLICES)
        keep_memory()  # for the floor as well
        cv2.setNumThreads(1)
        decode = ratio_to_decode(paths, args.repeats)
        pairs = [(ingest_seconds(folder / "ct", 1), ingest_seconds(folder / "ct", 2)) for _ in range(3)]
        scaling = statistics.median(t for t, _ in pairs) / statistics.median(t for _, t in pairs) / 2
        many = many_sequences(folder)
        reopen = statistics.median(seconds(lambda: Cohort.open(many)) for _ in range(args.repeats))
        found = {
            "ratio_to_decode": decode, "scaling_2": scaling, "reopen_ms": 1000 * reopen,
            "epoch_ratio": epoch_ratio(folder, args.repeats),
        }  # fmt: skip
    print(json.dumps(found, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
