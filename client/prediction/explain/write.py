"""`pneumofed client explain`: a folder a patient, with a montage, a page, the numbers, and DICOM if it is
asked for."""

import json
from pathlib import Path

import torch

from client.imaging.outcome import Tally
from client.prediction.explain.case import Explained, explain_case, numbers
from client.prediction.explain.dicom import write_dicom
from client.prediction.explain.page import render_page
from client.prediction.explain.pictures import montage
from client.prediction.predict import Refusal, cases, require_some
from common.errors import DataError, RunError
from common.files import without_nan, write_atomically
from common.handover import Handed
from common.models import CNNLSTM


def explain_source(
    handed: Handed,
    model: CNNLSTM,
    source: Path,
    out: Path,
    device: torch.device,
    patient: str | None,
    finding: str,
    most: int,
    dicom: bool,
) -> list[tuple[Path, Explained]]:
    """Explain the sequences of `source`, or `patient`'s alone, `most` of them at most. Folders are numbered:
    no name is in a path.

    Raises:
        RunError: `out` is not empty.
        DataError: there is no sequence that the model takes, or no such patient.
    """
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out}: is not empty; choose another --out")
    tally, refused = Tally(), []
    written: list[tuple[Path, Explained]] = []
    for case in cases(handed, source, tally):
        if isinstance(case, Refusal):
            refused.append({"patient": case.patient, "refused": case.why})
            if case.patient == patient:
                raise DataError(f"this patient: {case.why}")
        elif patient in (None, case.patient):
            folder = out / f"case-{len(written) + 1:03d}"
            written.append(
                (folder, _write(folder, explain_case(handed, model, case, finding, device), handed, dicom))
            )
            if len(written) == most:
                break
    if not written and patient is not None:
        raise DataError(f"{source}: no sequence of this patient; Patient IDs are compared letter by letter")
    if not written:
        require_some(handed, source, refused, tally)
    return written


def _write(folder: Path, found: Explained, handed: Handed, dicom: bool) -> Explained:
    unit = "mm" if handed.plan.input.modality == "ct" else "day"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "montage.png", montage(found))
    write_atomically(folder / "page.html", render_page(found, unit).encode())
    about = {**numbers(found), "patient": found.case.patient}
    write_atomically(folder / "explanation.json", (json.dumps(without_nan(about), indent=2) + "\n").encode())
    if dicom:
        write_dicom(found, folder)
    return found
