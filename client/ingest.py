"""`pneumofed client ingest`: the hospital's images, brought to cohorts under the site's own secret."""

import logging
from dataclasses import replace
from pathlib import Path

from client.forgetting import Tombstones
from client.imaging.cohort import build_cohort, is_current, remove_patient, stamp_of
from client.imaging.sources import DicomFolder, fingerprint
from client.pieces import clear_pieces
from client.settings import SiteFolder
from common.errors import ConfigError
from common.files import held
from common.logs import log_to
from common.plan import Plan


def ingest_site(folder: SiteFolder, plan: Plan) -> Path:
    """Make the cohort for the plan's input contract, or keep the one that is there if nothing changed.

    Which files were left out, and why, is written to logs/ingest.log in the site's folder, and nowhere else.

    Raises:
        ConfigError: hospital.yaml does not say where the images are, or the secret can be read by others.
        DataError: the images or labels cannot be used.
        RunError: another command is writing cohorts.
    """
    busy = f"{folder.path}: another ingest, or a forget, is going on; try again when it is over"
    with held(folder.cohorts_lock, busy):
        return _ingest(folder, plan)


def _ingest(folder: SiteFolder, plan: Plan) -> Path:
    clear_pieces(folder)
    cohort, tombstones = folder.cohort(plan), Tombstones.read(folder)
    source = replace(images_of(folder), is_forgotten=tombstones.is_about)
    key, forgotten = tombstones.key, tombstones.pseudonyms
    stamp = stamp_of(fingerprint(source), plan.input, plan.findings, key.hex(), *sorted(forgotten))
    if not is_current(cohort, stamp):
        with log_to(folder.logs / "ingest.log", logging.getLogger("pneumofed.ingest")):
            collection = source.read(plan.input, plan.findings)
            build_cohort(cohort, collection, plan.input, plan.findings, key, stamp, forgotten=forgotten)
        for gone in Tombstones.read(folder).pseudonyms - forgotten:  # while the images were read
            remove_patient(cohort, gone)
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
