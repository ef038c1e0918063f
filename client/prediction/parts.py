"""In which part of the plan's split a patient is: whether a model may have seen it in training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from client.forgetting import Tombstones
from client.imaging.cohort import is_cohort, pseudonym
from client.imaging.cohort.reading import part_of
from client.settings import SiteFolder
from common.credentials import common_name, read_certificate
from common.handover import Handed
from common.plan import Split

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Parts:
    """Tells `train`, `validation` or `test`; `unknown` of patients whose split is not the plan's, so far as
    is known."""

    split: Split | None
    """None: nobody knows how the model's makers split."""
    key: bytes | None
    """Behind the pseudonyms; None if the patients are not those of the run."""

    @classmethod
    def of(cls, handed: Handed, source: Path, site: SiteFolder | None) -> "Parts":
        """Of the patients in a place."""
        if handed.foreign is not None or (is_cohort(source) and is_strangers(handed, source, site)):
            return cls(None, None)
        return cls(handed.plan.split, own_key(handed, site) if is_own(handed, source, site) else None)

    def of_patient(self, patient: str, held_out: bool = False) -> str:
        """Of a Patient ID; `held_out` if it is of arrays that no run trains on."""
        if self.key is None or self.split is None:
            return UNKNOWN
        return "test" if held_out else part_of(pseudonym(patient.strip(), self.key), self.split)

    def of_pseudonym(self, name: str) -> str:
        """Of a cohort's patient, who is the run's."""
        return UNKNOWN if self.split is None else part_of(name, self.split)


def is_strangers(handed: Handed, cohort: Path, site: SiteFolder | None) -> bool:
    """Whether a cohort is of a hospital that is known not to have taken part: whose patients no split of the
    run is about."""
    keeper = site or SiteFolder(cohort.resolve().parent.parent)
    return handed.foreign is not None or not _took_part(handed, keeper)


def _took_part(handed: Handed, site: SiteFolder) -> bool:
    """Whether it may have: a model that does not say who did, and a folder without a certificate, tell
    nothing."""
    if not handed.hospitals or not site.certificate.is_file():
        return True
    return common_name(read_certificate(site.certificate)) in handed.hospitals


def own_key(handed: Handed, site: SiteFolder | None) -> bytes:
    """The secret behind the pseudonyms of a site, or of a simulation: it follows from the seed."""
    return f"simulation:{handed.plan.seed}".encode() if site is None else Tombstones.read(site).key


def is_own(handed: Handed, path: Path, site: SiteFolder | None) -> bool:
    """Whether the patients are those that the run split: a site's own, those below the run's folder, or a
    simulation's data by what they hold, or by their name where that was not kept. Nobody's of a model that
    others made."""
    if handed.foreign is not None:
        return False
    if site is not None:
        return _took_part(handed, site)
    if handed.folder.resolve() in path.resolve().parents:
        return True
    if handed.data_sha256:
        whole = path.resolve().parent  # if `path` is one hospital's folder
        within = bool(handed.data) and Path(handed.data).name == whole.name
        return handed.data_sha256 == content_sha256(path) or (
            within and handed.data_sha256 == content_sha256(whole)
        )
    return bool(handed.data) and Path(handed.data).name == path.name


def content_sha256(path: Path) -> str:
    """Of the file that names a data set's patients: an .npz, an index, a table of labels; or of all these
    below a folder. Empty if there is none."""
    names = ("index.csv", "labels.csv", "labels.parquet")
    tables = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.name in names)
    if not tables:
        return ""
    digest = hashlib.sha256()
    for table in tables:
        with table.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
