"""`pneumofed client ingest` and `client forget`: the hospital's images, brought to cohorts under the site's
own secret."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from client.imaging.cohort import build_cohort, is_current, pseudonym, remove_patient, stamp_of
from client.imaging.sources import DicomFolder, fingerprint
from client.settings import SiteFolder
from common.credentials import require_private
from common.errors import ConfigError
from common.files import write_atomically
from common.logs import log_to
from common.plan import Plan


def ingest_site(folder: SiteFolder, plan: Plan) -> Path:
    """Make the cohort for the plan's input contract, or keep the one that is there if nothing changed.

    Which files were left out, and why, is written to logs/ingest.log in the site's folder, and nowhere else.

    Raises:
        ConfigError: hospital.yaml does not say where the images are, or the secret can be read by others.
        DataError: the images or labels cannot be used.
    """
    source, cohort, key = images_of(folder), folder.cohort(plan), _secret(folder)
    forgotten = _forgotten(folder)
    stamp = stamp_of(fingerprint(source), plan.input, plan.findings, key.hex(), *sorted(forgotten))
    if not is_current(cohort, stamp):
        with log_to(folder.logs / "ingest.log", logging.getLogger("pneumofed.ingest")):
            found = source.read(plan.input, plan.findings)
            build_cohort(cohort, found, plan.input, plan.findings, key, stamp, forgotten=forgotten)
    return cohort


def images_of(folder: SiteFolder) -> DicomFolder:
    """The site's images: the folder that hospital.yaml names, else where its PACS's images arrive. Raises
    ConfigError."""
    data = folder.settings().data
    if data.dicom is None and data.pacs is None:
        raise ConfigError(
            f"{folder.settings_file}: data.dicom: expected the folder with the DICOM files and labels.csv"
        )
    path = Path(data.dicom).expanduser() if data.dicom else folder.images
    if not path.is_dir():
        advice = "" if data.dicom else "; fetch them first: pneumofed client pull, or client receive"
        raise ConfigError(
            f"{folder.settings_file}: data.{'dicom' if data.dicom else 'pacs'}: {path}: no such "
            f"folder{advice}"
        )
    return DicomFolder(path, Path(data.labels).expanduser() if data.labels else None)


def _secret(folder: SiteFolder) -> bytes:
    require_private(folder.secret)
    return folder.secret.read_bytes()


@dataclass(frozen=True)
class Forgotten:
    """What was removed of one patient."""

    sequences: int
    frames: int
    cohorts: int
    files: list[Path]  # in the site's own folder, deleted
    elsewhere: list[Path]  # in a folder that is not ours: still there


def forget_patient(folder: SiteFolder, patient: str) -> Forgotten:
    """Remove a patient from every cohort, with the pages that show them, and from images that were fetched;
    for ever.

    The patient's pseudonym is kept, so that no later ingest takes the patient in again.
    """
    from client.imaging.sources import files_of_patient

    hidden = pseudonym(patient, _secret(folder))
    write_atomically(folder.forgotten, json.dumps(sorted(_forgotten(folder) | {hidden})).encode())
    folder.forgotten.chmod(0o600)
    removed = [remove_patient(cohort, hidden) for cohort in _cohorts(folder)]
    for page in folder.cohorts.glob("*.html"):
        page.unlink()
    found = files_of_patient(folder.images, patient) if folder.images.is_dir() else []
    for path in found:
        path.unlink()
    data = folder.settings().data
    elsewhere = files_of_patient(Path(data.dicom).expanduser(), patient) if data.dicom else []
    touched = [counts for counts in removed if counts[0]]
    return Forgotten(sum(s for s, _ in touched), sum(f for _, f in touched), len(touched), found, elsewhere)


def _cohorts(folder: SiteFolder) -> list[Path]:
    return sorted(path.parent for path in folder.cohorts.glob("*/cohort.json"))


def _forgotten(folder: SiteFolder) -> frozenset[str]:
    if not folder.forgotten.is_file():
        return frozenset()
    try:
        return frozenset(json.loads(folder.forgotten.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise ConfigError(
            f"{folder.forgotten}: not readable: who asked to be left out is not known; restore it"
        ) from None
