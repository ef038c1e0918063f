"""`pneumofed client ingest`: the hospital's images, brought to a cohort on disk under the site's own secret."""

from pathlib import Path

from client.imaging.cohort import build_cohort, is_current, stamp_of
from client.imaging.sources import DicomFolder, fingerprint
from client.settings import SiteFolder
from common.credentials import require_private
from common.errors import ConfigError
from common.plan import Plan


def ingest_site(folder: SiteFolder, plan: Plan) -> Path:
    """Make the cohort for the plan's input contract, or keep the one that is there if nothing changed.

    Raises:
        ConfigError: hospital.yaml does not say where the images are, or the secret can be read by others.
        DataError: the images or labels cannot be used.
    """
    settings = folder.settings()
    if settings.data.dicom is None:
        raise ConfigError(f"{folder.settings_file}: data.dicom: expected the folder with the DICOM files and labels.csv")
    path = Path(settings.data.dicom).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{folder.settings_file}: data.dicom: {path}: no such folder")
    require_private(folder.secret)
    key = folder.secret.read_bytes()
    source, cohort = DicomFolder(path), folder.cohort(plan)
    stamp = stamp_of(fingerprint(source), plan.input, plan.findings, key.hex())
    if not is_current(cohort, stamp):
        build_cohort(cohort, source.read(plan.input, plan.findings), plan.input, plan.findings, key, stamp)
    return cohort
