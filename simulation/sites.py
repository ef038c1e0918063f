"""The hospitals of a simulation: their data brought to cohorts on disk, once."""

from dataclasses import dataclass
from pathlib import Path

from client.imaging.cohort import Cohort, build_cohort, is_current, require_trainable, stamp_of
from client.imaging.outcome import Tally
from client.imaging.sequence import Collection
from client.imaging.sources import DicomFolder, Source, fingerprint
from common.plan import canonical_json
from common.seeds import numpy_generator
from simulation.partition import deal_out
from simulation.phantom import site_name, write_phantom
from simulation.scenario import PhantomData, Scenario

COHORTS = "cohorts"


@dataclass(frozen=True)
class SiteData:
    """One hospital's name and cohort folders."""

    name: str
    folders: tuple[Path, ...]

    def open(self) -> Cohort:
        return Cohort.open(*self.folders)

    @classmethod
    def pooled(cls, sites: list["SiteData"]) -> "SiteData":
        """All hospitals' patients in one place: what federated learning avoids, and is measured against."""
        return cls("centralised", tuple(folder for site in sites for folder in site.folders))


def prepare_sites(scenario: Scenario, out: Path) -> list[SiteData]:
    """Make or reuse every hospital's cohort under `out`/cohorts.

    Raises:
        DataError: labels, classes or numbers of patients do not allow a federation.
    """
    # In a simulation the secret behind the pseudonyms follows from the seed, so that splits can be repeated.
    key = f"simulation:{scenario.seed}".encode()
    sources = (
        _phantom_sources(scenario, out) if isinstance(scenario.data, PhantomData) else scenario.sources()
    )
    folder = out / COHORTS
    if list(sources) == [""]:
        sites = _partitioned(scenario, sources[""], folder, key)
    else:
        sites = [_ingest(scenario, name, source, folder, key) for name, source in sources.items()]
    for site in sites:
        require_trainable(site.open(), scenario.split, scenario.min_patients, site.name)
    return sites


def _phantom_sources(scenario: Scenario, out: Path) -> dict[str, Source]:
    data = scenario.data
    assert isinstance(data, PhantomData)
    folder = out / "dicom"
    if not folder.is_dir():
        write_phantom(folder, data.sites, data.patients, scenario.seed, data.ambiguous, data.evolution)
    return {
        site_name(i, data.sites): DicomFolder(folder / site_name(i, data.sites)) for i in range(data.sites)
    }


def _ingest(scenario: Scenario, name: str, source: Source, folder: Path, key: bytes) -> SiteData:
    stamp = stamp_of(fingerprint(source), scenario.input, scenario.findings, key.hex())
    if not is_current(folder / name, stamp):
        build_cohort(
            folder / name,
            source.read(scenario.input, scenario.findings),
            scenario.input,
            scenario.findings,
            key,
            stamp,
        )
    return SiteData(name, (folder / name,))


def _partitioned(scenario: Scenario, source: Source, folder: Path, key: bytes) -> list[SiteData]:
    """Deal one data set out; its own losses (files without a patient, say) are counted at the first site."""
    partition = getattr(scenario.data, "partition", None)
    assert partition is not None  # Scenario.sources gives one unnamed source only with a partition
    deal = canonical_json([partition.model_dump(), scenario.seed, scenario.min_patients])
    stamp = stamp_of(fingerprint(source), scenario.input, scenario.findings, key.hex(), deal)
    names = [site_name(i, partition.sites) for i in range(partition.sites)]
    if not all(is_current(folder / name, stamp) for name in names):
        whole = source.read(scenario.input, scenario.findings)
        rng = numpy_generator(scenario.seed, "partition")
        parts = deal_out(
            whole.sequences, partition.sites, partition.alpha, rng, 2 * scenario.min_patients, partition.sizes
        )
        for i, (name, part) in enumerate(zip(names, parts, strict=True)):
            tally, removed = (whole.tally, whole.removed) if i == 0 else (Tally(), {})
            dealt = Collection(part, tally, removed, whole.identifiers)
            build_cohort(folder / name, dealt, scenario.input, scenario.findings, key, stamp)
    return [SiteData(name, (folder / name,)) for name in names]
