"""`pneumofed client predict`: probabilities for the sequences of a cohort, or straight from DICOM, by a
handed-over model.

The preprocessing is the training's own: the same readers under the same input contract, which travels with
the model. What lies outside of the contract is refused, not guessed.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from client.compute.forward import numbers_of
from client.imaging.cohort import is_cohort
from client.imaging.outcome import Tally
from client.prediction.cases import Case, Refusal, cases, open_cohort
from client.prediction.parts import Parts
from client.prediction.sequence import logits
from client.settings import SiteFolder
from client.training.evaluate import predict_logits, sigmoid
from common import metrics
from common.calibration import calibrated
from common.errors import DataError
from common.files import without_nan, write_atomically
from common.handover import RESEARCH_USE, Handed

NEWEST = "the newest visit of each sequence, given those before"
"""What a model speaks of that learnt labels of visits."""
AT_ONCE = 64
"""Sequences in one forward pass."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one sequence."""

    patient: str
    study: str
    part: str  # train, validation or test in the model's plan, or unknown
    images: int
    probabilities: tuple[float, ...]  # a finding each, after temperature scaling
    uncertainties: tuple[float, ...]  # in bits: 0 sure, 1 a coin
    calls: tuple[bool | None, ...]
    """A finding each: whether the probability before scaling reaches the threshold that was chosen on it;
    None without a threshold."""
    prevalences: tuple[float | None, ...] = ()
    """A finding each: for which prevalence the probability is; None: the model's own. Empty: of all."""

    @property
    def called(self) -> bool | None:
        """Of the first finding."""
        return self.calls[0]

    def columns(self, findings: Sequence[str]) -> dict[str, str | int | float | bool]:
        """As predictions.csv and predictions.json have it."""
        row: dict[str, str | int | float | bool] = {
            "patient": self.patient, "study": self.study, "split": self.part, "images": self.images,
        }  # fmt: skip
        for finding, p, bits in zip(findings, self.probabilities, self.uncertainties, strict=True):
            row |= {f"probability_{finding}": p, f"uncertainty_{finding}": bits}
        shifted = zip(findings, self.prevalences, strict=False)
        row |= {f"prevalence_{finding}": now for finding, now in shifted if now is not None}
        told = zip(findings, self.calls, strict=True)
        return row | {f"called_{finding}": called for finding, called in told if called is not None}


def predict_source(
    handed: Handed,
    model: nn.Module,
    source: Path,
    device: torch.device,
    tally: Tally,
    site: SiteFolder | None = None,
) -> list[Prediction | Refusal]:
    """One row a sequence, those that were refused included.

    Raises:
        DataError: there is no sequence that the model takes; says what there is instead.
    """
    parts = Parts.of(handed, source, site)
    if is_cohort(source):
        cohort = open_cohort(handed, source)
        z = predict_logits(model, cohort, np.arange(len(cohort)), device)
        pairs = zip(cohort.patients, cohort.lengths, strict=True)
        found = [(str(patient), parts.of_pseudonym(str(patient)), int(n), "") for patient, n in pairs]
        return list(_predictions(handed, found, z))
    rows: list[Prediction | Refusal] = []
    waiting: list[Case] = []
    for case in cases(handed, source, tally):
        if isinstance(case, Refusal):
            rows.append(case)
            continue
        waiting.append(case)
        if len(waiting) == AT_ONCE:
            rows += _predict(handed, model, waiting, device, parts)
            waiting = []
    rows += _predict(handed, model, waiting, device, parts)
    require_some(handed, source, rows, tally)
    return sorted(rows, key=lambda row: row.patient)


def require_some(handed: Handed, source: Path, rows: Sequence[Prediction | Refusal], tally: Tally) -> None:
    """Raises DataError if every row is a refusal, or there is none."""
    refusals = [row for row in rows if isinstance(row, Refusal)]
    if len(refusals) == len(rows):
        contract = handed.plan.input
        there = [f"{n} {reason.replace('_', ' ')}" for reason, n in tally.as_dict().items()]
        there += sorted({refusal.why for refusal in refusals})
        kind = "frontal chest X-rays" if contract.modality == "xray" else "CT"
        takes = f"{kind}, {contract.min_frames} images or more"
        raise DataError(
            f"{source}: no sequence that the model takes ({takes}); found: {'; '.join(there) or 'no file'}"
        )


@torch.inference_mode()
def _predict(
    handed: Handed, model: nn.Module, some: list[Case], device: torch.device, parts: Parts
) -> list[Prediction]:
    if not some:
        return []
    z = numbers_of(logits(model, [case.seen(device) for case in some]))
    studies = [c.headers[-1].study if c.headers else "" for c in some]
    found = [
        (c.patient, parts.of_patient(c.patient, c.held_out), len(c.pixels), study)
        for c, study in zip(some, studies, strict=True)
    ]
    return _predictions(handed, found, z)


def _predictions(
    handed: Handed, sequences: list[tuple[str, str, int, str]], z: NDArray[np.float32]
) -> list[Prediction]:
    """Of each sequence's (patient, part, number of images, study) and its logits, (N, K)."""
    before = sigmoid(z)
    p = calibrated(z, handed.temperature)
    bits = entropy_bits(p)
    cuts = [handed.thresholds.get(finding) for finding in handed.plan.findings]
    return [
        Prediction(patient, study, part, n, rounded(p[i]), rounded(bits[i]), _calls(before[i], cuts))
        for i, (patient, part, n, study) in enumerate(sequences)
    ]


def _calls(before: NDArray[np.float64], cuts: Sequence[float | None]) -> tuple[bool | None, ...]:
    called = metrics.called(before, np.array(cuts, np.float64))  # nothing reaches NaN
    return tuple(None if cut is None else bool(one) for cut, one in zip(cuts, called, strict=True))


def rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    """As they are written: six digits behind the point."""
    return tuple(round(value, 6) for value in values.tolist())


def entropy_bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of coins that fall with probability p."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bits: NDArray[np.float64] = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(bits, nan=0.0)


def _inert(value: object) -> object:
    """A text that a spreadsheet would work out as a formula gets the mark of a plain text before it (OWASP,
    "CSV Injection")."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FORMULA else value


FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_predictions(
    out: Path,
    handed: Handed,
    rows: Sequence[Prediction | Refusal],
    tally: Tally,
    prevalence: Mapping[str, object] | None = None,
) -> None:
    """predictions.csv and predictions.json, which name patients: they stay at the site. `prevalence`: finding
    -> what its probabilities were corrected for, if they were."""
    findings = handed.plan.findings
    table = [
        {"patient": r.patient, "refused": r.why} if isinstance(r, Refusal) else r.columns(findings)
        for r in rows
    ]
    names = [*dict.fromkeys(name for row in table for name in row if name != "refused"), "refused", "use"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows({**{k: _inert(value) for k, value in row.items()}, "use": RESEARCH_USE} for row in table)
    write_atomically(out / "predictions.csv", text.getvalue().encode())
    content = {
        "use": RESEARCH_USE, "model": handed.plan.name, "plan_sha256": handed.plan.sha256, "run": handed.run,
        "calibrated": math.isfinite(handed.temperature), "predictions": table, "left_out": tally.left_out(),
    }  # fmt: skip
    if handed.plan.input.label == "visit":
        content["about"] = NEWEST
    if prevalence:
        content["prevalence"] = dict(prevalence)
    write_atomically(out / "predictions.json", (json.dumps(without_nan(content), indent=2) + "\n").encode())
