"""A folder of DICOM files with a table of labels, and without one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from client.imaging.deidentify import without_identifiers
from client.imaging.dicom import Header, HeadersOfFile
from client.imaging.facts.person import are_several
from client.imaging.labels import Forgotten, Known, Labels, nobody, read_labels, require_images
from client.imaging.outcome import Reason, Skipped, Tally, log_files
from client.imaging.reader import headers_of, patients_of
from client.imaging.sequence import Collection, Sequence, episodes, order_headers, sequence_of
from client.imaging.sources.walk import is_beside, walk
from common.plan import Input
from common.progress import follow


@dataclass(frozen=True)
class DicomFolder:
    """A folder with DICOM files at any depth, and a table of labels (default: `labels.csv` or
    `labels.parquet` in it), which may name people who asked to be left out."""

    path: Path
    labels: Path | None = None
    is_forgotten: Forgotten = nobody

    @property
    def labels_path(self) -> Path:
        beside = (self.path / f"labels{suffix}" for suffix in (".csv", ".parquet"))
        return self.labels or next((p for p in beside if p.is_file()), self.path / "labels.csv")

    def files(self) -> list[Path]:
        return [*walk(self.path), *([self.labels] if self.labels else [])]

    def read(self, contract: Input, findings: tuple[str, ...]) -> Collection:
        labels = read_labels(self.labels_path, findings, contract.label)
        tally, removed, identifiers = Tally(), Counter[str](), set[str]()
        patients: dict[str, list[Header]] = defaultdict(list)
        unusable: list[str] = []
        for file in _headers_in(self.path, contract, tally):
            if isinstance(file, Skipped):
                if file.reason != Reason.NOT_DICOM:
                    unusable.append(getattr(file.owner, labels.key))
                continue
            patients[file.images[0].patient] += file.images
            removed.update(file.removed)
            identifiers |= file.identifiers
        images = [h for headers in patients.values() for h in headers]
        seen = {(h.patient, str(getattr(h, labels.key))) for h in images}
        require_images(labels, seen, unusable, tally, self.is_forgotten)
        shared = _shared_keys(images, labels, tally)
        sequences = [
            s
            for patient, headers in _single_people(patients, tally).items()
            for s in _sequences(headers, labels.of(patient, shared), labels.key, contract, tally)
        ]
        scanners = {text: without_identifiers(text, identifiers) for text in {s.scanner for s in sequences}}
        sequences = [replace(s, scanner=scanners[s.scanner]) for s in sequences]
        return Collection(sequences, tally, removed, frozenset(identifiers))


def _headers_in(path: Path, contract: Input, tally: Tally) -> Iterator[HeadersOfFile | Skipped]:
    """What the DICOM files of a folder (or one file) say, those of the contract's modality; the others are
    counted, too."""
    paths = [path] if path.is_file() else [p for p in walk(path) if not is_beside(p)]
    read = follow(headers_of(paths, contract.modality), "reading headers", len(paths))
    for file, found in zip(paths, read, strict=True):
        if isinstance(found, Skipped):
            tally.add_files(found.reason, [file])
        else:
            tally.add_files(Reason.BURNT_IN, [file] * found.images[0].burnt_in)
        yield found


def patients_in(path: Path, contract: Input, tally: Tally) -> dict[str, list[Header]]:
    """Each patient's images in order, of a folder of DICOM files or one file, without labels: what a
    prediction is about. Patients without an image that belongs are left out, and their files counted."""
    patients: dict[str, list[Header]] = defaultdict(list)
    for file in _headers_in(path, contract, tally):
        if not isinstance(file, Skipped):
            patients[file.images[0].patient] += file.images
    return {
        patient: order_headers(headers, contract.modality, tally)
        for patient, headers in _single_people(patients, tally).items()
    }


def _single_people(patients: Mapping[str, list[Header]], tally: Tally) -> dict[str, list[Header]]:
    """Patient ID -> its images, without IDs that stand for two people: nobody can say whose label it is."""
    single = {}
    for patient in sorted(patients):
        if are_several(h.person for h in patients[patient]):
            tally.add(Reason.TWO_PEOPLE)
            log_files(Reason.TWO_PEOPLE, (h.path for h in patients[patient]))
        else:
            single[patient] = patients[patient]
    return single


def _shared_keys(images: Iterable[Header], labels: Labels, tally: Tally) -> Set[str]:
    """Studies or accession numbers that several patients have, where the table does not say whose it means:
    numbers start anew with each issuer, and some each year."""
    if labels.key == "patient":
        return set()
    owners: dict[str, set[str]] = defaultdict(set)
    files: dict[str, list[Path]] = defaultdict(list)
    for h in images:
        owners[str(getattr(h, labels.key))].add(h.patient)
        files[str(getattr(h, labels.key))].append(h.path)
    shared = {key for key, patients in owners.items() if len(patients) > 1 and not labels.names_owner(key)}
    for key in sorted(shared):
        tally.add(Reason.KEY_SHARED, len(owners[key]))
        log_files(Reason.KEY_SHARED, files[key])
    return shared


def _sequences(
    headers: list[Header], labels: Mapping[str, Known], by: str, contract: Input, tally: Tally
) -> Iterator[Sequence]:
    """One patient's sequences: one for each of the patient's `labels` that has an image; `by` is what they
    are about."""
    known = {name for h in headers if (name := str(getattr(h, by))) in labels}
    if not known:
        tally.add(Reason.UNLABELLED)
        return
    sequences = episodes(headers, by, known, contract.modality, tally)
    for key in sorted(known - sequences.keys()):
        tally.add(Reason.NO_FRAMES)
        log_files(Reason.NO_FRAMES, [next(h.path for h in headers if str(getattr(h, by)) == key)])
    for key, ordered in sequences.items():
        if ordered:
            yield sequence_of(ordered, labels[key], contract, by)
        else:
            tally.add(Reason.NO_FRAMES)


def files_of_patient(folder: Path, patient: str, hidden: bool = False) -> tuple[list[Path], list[Path]]:
    """The DICOM files below `folder` with this Patient ID, of whatever modality, also `hidden` ones; and
    those of which nobody can read whose they are."""
    paths = [p for p in walk(folder, hidden) if not is_beside(p)]
    owners = follow(patients_of(paths), "looking for the patient", len(paths))
    files, unread = list[Path](), list[Path]()
    for path, found in zip(paths, owners, strict=True):
        if found == patient:
            files.append(path)
        elif isinstance(found, Skipped) and found.reason != Reason.NOT_DICOM:
            unread.append(path)
    return files, unread
