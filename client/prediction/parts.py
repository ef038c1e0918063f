"""In which part of the plan's split a patient is: whether a model may have seen it in training."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from client.forgetting import Tombstones
from client.imaging.cohort import Cohort, is_cohort, pseudonym
from client.imaging.cohort.reading import part_of
from client.settings import SiteFolder
from common.credentials import common_name, read_certificate
from common.handover import Handed
from common.plan import Split

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Parts:
    """Tells `train`, `validation` or `test`; `unknown` of patients who are not the run's, so far as is
    known."""

    split: Split | None
    """None: they are not the run's."""
    key: bytes | None
    """Behind the pseudonyms; None of a cohort, which has them."""

    @classmethod
    def of(cls, handed: Handed, source: Path, site: SiteFolder | None) -> "Parts":
        """Of the patients in a place."""
        if not is_own(handed, source, site):
            return cls(None, None)
        return cls(handed.plan.split, None if is_cohort(source) else own_key(handed, site))

    def of_patient(self, patient: str, held_out: bool = False) -> str:
        """Of a Patient ID; `held_out` if it is of arrays that no run trains on."""
        if self.key is None or self.split is None:
            return UNKNOWN
        return "test" if held_out else part_of(pseudonym(patient.strip(), self.key), self.split)

    def of_pseudonym(self, name: str) -> str:
        """Of a cohort's patient."""
        return UNKNOWN if self.split is None else part_of(name, self.split)


def own_key(handed: Handed, site: SiteFolder | None) -> bytes:
    """The secret behind the pseudonyms of a site, or of a simulation: it follows from the seed."""
    return f"simulation:{handed.plan.seed}".encode() if site is None else Tombstones.read(site).key


def is_own(handed: Handed, path: Path, site: SiteFolder | None) -> bool:
    """Whether the patients are known to be those that the run split: a site's own, at a hospital that took
    part; those below the run's folder; a simulation's data by what they hold, or by their name where that was
    not kept. Nobody's of a model that others made."""
    if handed.foreign is not None:
        return False
    if handed.folder.resolve() in path.resolve().parents:
        return True
    if is_cohort(path):
        return _is_own_cohort(handed, path, site)
    if site is not None:
        return _took_part(handed, site)
    if handed.data_sha256:
        whole = path.resolve().parent  # if `path` is one hospital's folder
        within = bool(handed.data) and Path(handed.data).name == whole.name
        return handed.data_sha256 == content_sha256(path) or (
            within and handed.data_sha256 == content_sha256(whole)
        )
    return bool(handed.data) and Path(handed.data).name == path.name


def _is_own_cohort(handed: Handed, cohort: Path, site: SiteFolder | None) -> bool:
    """One in the folder of a hospital that took part, whose secret split its patients, whenever it was
    ingested; or the very one that a simulation was trained on. Every cohort can be split, and any other's
    `test` may hold whom the model was trained on."""
    place = cohort.resolve()
    if site is None or site.cohorts.resolve() not in place.parents:
        site = SiteFolder(place.parent.parent)
    return _took_part(handed, site) or (
        bool(handed.cohorts) and Cohort.open(cohort).fingerprint in handed.cohorts
    )


def _took_part(handed: Handed, site: SiteFolder) -> bool:
    """Whether it is known to have: the model says who did, or was trained there alone."""
    if handed.folder.resolve().parent == site.path.resolve() / "alone":
        return True
    if not handed.hospitals or not site.certificate.is_file():
        return False
    return common_name(read_certificate(site.certificate)) in handed.hospitals


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
