"""`pneumofed client predict`: probabilities for the sequences of a cohort, or straight from DICOM, by a
handed-over model.

The preprocessing is the training's own: the same readers under the same input contract, which travels with
the model. What lies outside of the contract is refused, not guessed.
"""

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from client.imaging.cohort import Cohort
from client.imaging.dicom import Header
from client.imaging.outcome import Skipped, Tally
from client.imaging.pixels import DicomPixels, Pixels
from client.imaging.reader import frames_of
from client.imaging.sequence import choose, place
from client.imaging.sources import patients_in
from client.methods import personal_weights
from client.methods.memory import SiteMemory
from client.prediction.sequence import Seen, logits
from client.settings import SiteFolder
from client.training.evaluate import predict_logits, sigmoid
from common import wire
from common.calibration import calibrate
from common.errors import ConfigError, DataError, WireError
from common.files import without_nan, write_atomically
from common.handover import RESEARCH_USE, Handed
from common.models import CNNLSTM, build_model

AT_ONCE = 64
"""Sequences in one forward pass."""


@dataclass(frozen=True)
class Case:
    """One patient's sequence, decoded."""

    patient: str  # as in the files, or a cohort's pseudonym
    pixels: Pixels  # (T, size, size)
    positions: NDArray[np.float64]  # (T,) days or millimetres since the first
    headers: tuple[Header, ...]  # of the images; empty for a cohort

    def seen(self, device: torch.device) -> Seen:
        top = np.iinfo(self.pixels.dtype).max
        frames = torch.from_numpy(np.asarray(self.pixels, dtype=np.float32) / np.float32(top)).to(device)
        return Seen(frames, torch.from_numpy(self.positions.astype(np.float32)).to(device))


@dataclass(frozen=True)
class Refusal:
    """A patient whose images the model does not take, and why."""

    patient: str
    why: str


def load_model(handed: Handed, device: torch.device, site: SiteFolder | None = None) -> CNNLSTM:
    """The model, with the tensors that `site` keeps of its own under the run's method, if it took part in it.

    Raises:
        ConfigError: the tensors are not those of the plan's model.
    """
    model = build_model(handed.plan)
    weights = _require_fit(handed, model)
    if site is not None and handed.run:
        memory = SiteMemory(site.memory(handed.plan.sha256) / handed.run)
        weights = {**weights, **personal_weights(handed.plan, model, memory, handed.plan.rounds + 1)}
    wire.set_weights(model, weights)
    return model.to(device).eval()


def _require_fit(handed: Handed, model: CNNLSTM) -> wire.Weights:
    try:
        return wire.Schema.of(model).check(handed.weights)
    except WireError as e:
        raise ConfigError(f"{handed.folder}: the weights are not those of the plan's model: {e}") from None


def cases(handed: Handed, source: Path, tally: Tally) -> Iterator[Case | Refusal]:
    """Every sequence of a cohort's folder, or of DICOM files.

    Raises:
        DataError: the cohort was made for another input contract.
    """
    if (source / "cohort.json").is_file():
        yield from _of_cohort(handed, Cohort.open(source), source)
    elif source.exists():
        yield from _of_dicom(handed, source, tally)
    else:
        raise DataError(f"{source}: no such file or folder; expected DICOM files, or a cohort")


def _of_cohort(handed: Handed, cohort: Cohort, source: Path) -> Iterator[Case]:
    require_contract(handed, cohort, source)
    for i in range(len(cohort)):
        yield Case(str(cohort.patients[i]), cohort.frames(i), np.cumsum(cohort.gaps(i), dtype=np.float64), ())


def require_contract(handed: Handed, cohort: Cohort, source: Path) -> None:
    """Raises DataError unless the cohort was made for the model's input contract."""
    if cohort.contract != handed.plan.input:
        plan = handed.folder / "plan.yaml"
        raise DataError(
            f"{source}: was ingested for another input contract than the model's; ingest it with {plan}"
        )


def _of_dicom(handed: Handed, source: Path, tally: Tally) -> Iterator[Case | Refusal]:
    contract = handed.plan.input
    patients = patients_in(source, contract, tally)
    chosen = {
        p: [headers[i] for i in choose(len(headers), contract.max_frames, contract.modality)]
        for p, headers in patients.items()
    }
    wanted = [h for headers in chosen.values() for h in headers]
    pixels = frames_of([DicomPixels(h.path, contract.window, h.frame) for h in wanted], contract)
    for patient, headers in chosen.items():
        read: list[Header] = []
        frames: list[Pixels] = []
        for header in headers:
            frame = next(pixels)
            if isinstance(frame, Skipped):
                tally.add_files(frame.reason, [header.path])
            else:
                read.append(header)
                frames.append(frame)
        if len(read) < contract.min_frames:
            yield Refusal(
                patient, f"{len(read)} usable image(s), the model takes at least {contract.min_frames}"
            )
            continue
        places = np.array([place(header, contract.modality) for header in read])
        pixels_of: Pixels = np.stack(frames)  # type: ignore[assignment]  # all of one depth
        yield Case(patient, pixels_of, places - places[0], tuple(read))


def predict_source(
    handed: Handed, model: CNNLSTM, source: Path, device: torch.device, tally: Tally
) -> list[dict[str, Any]]:
    """One row a sequence, those that were refused included.

    Raises:
        DataError: there is no sequence that the model takes; says what there is instead.
    """
    if (source / "cohort.json").is_file():
        cohort = Cohort.open(source)
        require_contract(handed, cohort, source)
        found = predict_logits(model, cohort, np.arange(len(cohort)), device)
        about = [
            (str(patient), int(n), "") for patient, n in zip(cohort.patients, cohort.lengths, strict=True)
        ]
        return _rows(handed, about, found)
    rows: list[dict[str, Any]] = []
    waiting: list[Case] = []
    for case in cases(handed, source, tally):
        if isinstance(case, Refusal):
            rows.append({"patient": case.patient, "refused": case.why})
            continue
        waiting.append(case)
        if len(waiting) == AT_ONCE:
            rows += _predict(handed, model, waiting, device)
            waiting = []
    rows += _predict(handed, model, waiting, device)
    require_some(handed, source, rows, tally)
    return sorted(rows, key=lambda row: row["patient"])


def require_some(handed: Handed, source: Path, rows: list[dict[str, Any]], tally: Tally) -> None:
    """Raises DataError if every row is a refusal, or there is none."""
    if all("refused" in row for row in rows):
        contract = handed.plan.input
        there = [f"{n} {reason.replace('_', ' ')}" for reason, n in tally.as_dict().items()]
        there += sorted({row["refused"] for row in rows})
        kind = "frontal chest X-rays" if contract.modality == "xray" else "CT"
        takes = f"{kind}, {contract.min_frames} images or more"
        raise DataError(
            f"{source}: no sequence that the model takes ({takes}); found: {'; '.join(there) or 'no file'}"
        )


@torch.inference_mode()
def _predict(handed: Handed, model: CNNLSTM, some: list[Case], device: torch.device) -> list[dict[str, Any]]:
    if not some:
        return []
    found = logits(model, [case.seen(device) for case in some]).float().cpu().numpy()
    return _rows(
        handed, [(c.patient, len(c.pixels), c.headers[-1].study if c.headers else "") for c in some], found
    )


def _rows(handed: Handed, about: list[tuple[str, int, str]], z: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Per finding: the probability after temperature scaling, its uncertainty in bits (0 sure, 1 a coin), and
    the call.

    The call compares the probability before scaling with the threshold that was chosen on it; without a
    threshold there is none.

    Args:
        about: patient, number of images and study of each sequence.
        z: (N, K) logits.
    """
    before = sigmoid(z)
    p = calibrate(before, handed.temperature)
    bits = entropy_bits(p)
    rows = []
    for i, (patient, n_images, study) in enumerate(about):
        row: dict[str, Any] = {"patient": patient, "study": study, "images": n_images}
        for k, finding in enumerate(handed.plan.findings):
            row[f"probability_{finding}"] = round(float(p[i, k]), 6)
            row[f"uncertainty_{finding}"] = round(float(bits[i, k]), 6)
        if handed.threshold is not None:
            row[f"called_{handed.plan.findings[0]}"] = bool(before[i, 0] >= handed.threshold)
        rows.append(row)
    return rows


def entropy_bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of coins that fall with probability p."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bits: NDArray[np.float64] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(bits, nan=0.0)


def write_predictions(out: Path, handed: Handed, rows: list[dict[str, Any]], tally: Tally) -> None:
    """predictions.csv and predictions.json, which name patients: they stay at the site."""
    columns = [*dict.fromkeys(name for row in rows for name in row if name != "refused"), "refused"]
    text = io.StringIO()
    text.write(f"# {RESEARCH_USE}\r\n")
    table = csv.DictWriter(text, columns, restval="")
    table.writeheader()
    table.writerows(rows)
    write_atomically(out / "predictions.csv", text.getvalue().encode())
    about = {
        "use": RESEARCH_USE, "model": handed.plan.name, "plan_sha256": handed.plan.sha256, "run": handed.run,
        "calibrated": math.isfinite(handed.temperature), "predictions": rows, "left_out": tally.left_out(),
    }  # fmt: skip
    write_atomically(out / "predictions.json", (json.dumps(without_nan(about), indent=2) + "\n").encode())
