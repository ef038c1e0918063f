"""`pneumofed client explain`: a folder a patient, with a montage, a page, the numbers, and DICOM if it is
asked for."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from client.imaging.outcome import Tally
from client.prediction.cases import Refusal, cases
from client.prediction.explain.case import Explained, explain_case, numbers
from client.prediction.explain.dicom import write_dicom
from client.prediction.explain.page import render_page
from client.prediction.explain.pictures import montage
from client.prediction.predict import require_some
from common.errors import DataError, RunError
from common.files import without_nan, write_atomically
from common.handover import Handed
from common.models import CNNLSTM


@dataclass(frozen=True)
class Request:
    """What is to be explained."""

    finding: str
    patient: str | None = None  # this one alone
    most: int = 10  # patients
    dicom: bool = False  # also as DICOM objects


def explain_source(
    handed: Handed,
    model: CNNLSTM,
    source: Path,
    out: Path,
    device: torch.device,
    request: Request,
    *,
    tally: Tally,
) -> list[tuple[Path, Explained]]:
    """Explain sequences of `source`. Folders are numbered: no name is in a path. What is left out, and what
    should be looked at, is counted in `tally`.

    Raises:
        RunError: `out` is not empty.
        DataError: there is no sequence that the model takes, or no such patient.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: is not empty; choose another --out")
    refusals: list[Refusal] = []
    written: list[tuple[Path, Explained]] = []
    for case in cases(handed, source, tally):
        if isinstance(case, Refusal):
            refusals.append(case)
            if case.patient == request.patient:
                raise DataError(f"this patient: {case.why}")
        elif request.patient in (None, case.patient):
            folder = out / f"case-{len(written) + 1:03d}"
            explained = explain_case(handed, model, case, request.finding, device)
            _write(folder, explained, dicom=request.dicom)
            written.append((folder, explained))
            if len(written) == request.most:
                break
    if not written and request.patient is not None:
        raise DataError(f"{source}: no sequence of this patient; Patient IDs are compared letter by letter")
    if not written:
        require_some(handed, source, refusals, tally)
    return written


def _write(folder: Path, explained: Explained, *, dicom: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "montage.png", montage(explained))
    write_atomically(folder / "page.html", render_page(explained).encode())
    content = {**numbers(explained), "patient": explained.case.patient}
    write_atomically(
        folder / "explanation.json", (json.dumps(without_nan(content), indent=2) + "\n").encode()
    )
    if dicom:
        write_dicom(explained, folder)
