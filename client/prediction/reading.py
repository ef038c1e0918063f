"""`pneumofed client read`: a study that arrived in the PACS is read, and the result filed beside it, with no
person between.

What is read is the patient's whole sequence, as the PACS has it; the result lies in the study that was judged
last, so that a study that is not the patient's latest gets none.
"""

import hashlib
import hmac
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from pydicom import dcmread

from client.forgetting import Tombstones
from client.imaging.dicom import MODALITIES
from client.imaging.outcome import Tally
from client.pacs.archive import Archive, Refused, Unreachable
from client.pacs.pull import PATTERN, Outcome, Pull, Wanted
from client.pacs.site import inbox_of
from client.prediction.cases import Case, Refusal, cases, doubts_of
from client.prediction.explain.case import Explained, explain_case
from client.prediction.explain.dicom import write_dicom
from client.settings import SiteFolder
from common.errors import DataError, LinkError, RunError
from common.files import waiting_for, write_atomically
from common.handover import Handed
from common.models import CNNLSTM
from common.signature import SIGNATURE, Authority, verify_folder

log = logging.getLogger("pneumofed.read")
"""The site's own log. Images do not stay by which `client forget` would know a patient's lines: studies are
written by a keyed hash."""
TRIES = 3
"""Of one study, whose images change while it is read."""


class End(StrEnum):
    """How the reading of a study ended."""

    FILED = "read and filed"
    ALREADY = "read before, with the same images"
    OLDER = "not the patient's latest: not filed"
    FORGOTTEN = "of patients who asked to be left out"
    NOT_READ = "could not be read"


@dataclass(frozen=True)
class Reading:
    """Of one study."""

    end: End
    why: str = ""
    probabilities: tuple[tuple[str, float], ...] = ()  # finding, calibrated probability


class NotWholeError(LinkError):
    """The PACS lists images that it does not give now: trying again later may help."""


class ChangedError(LinkError):
    """The study was given to another patient since its images were fetched."""


class FullError(LinkError):
    """The memory, the GPU's or the machine's, is taken by others now."""


@dataclass(frozen=True)
class Reader:
    """One model, one PACS."""

    site: SiteFolder
    archive: Archive
    images_per_second: float
    handed: Handed
    model: CNNLSTM
    device: torch.device

    def studies_of(self, accession: str) -> list[str]:
        """UIDs of the studies with an accession number.

        Raises:
            DataError: it is none: a pattern would ask for others' studies.
            LinkError: the PACS does not say.
        """
        if not accession.strip() or set(accession) & PATTERN:
            raise DataError(f"--accession {accession!r}: expected one accession number, without * or ?")
        try:
            return sorted({study for study, _ in self.archive.studies("accession", accession)})
        except (Unreachable, Refused) as e:
            raise LinkError(f"the PACS does not say which study this accession number has ({e})") from None

    def read(self, study: str, place: Path) -> Reading:
        """Fetch, judge, and file. `place` holds the images meanwhile, and is the caller's to remove.

        Raises:
            LinkError: the PACS does not answer, gives less than it lists, or does not take the result; or no
            memory is free.
            DataError: the headers of its images let no result be filed with them.
            ConfigError: the signature of the model counts no longer.
            RunError: the GPU failed.
            OSError: the disk is full.
        """
        self._require_signed()
        try:
            return self._read(study, place)
        except ChangedError:  # what is here, of this try or one before, is not what the PACS has
            shutil.rmtree(place / "images", ignore_errors=True)
            return self._read(study, place)

    def _require_signed(self) -> None:
        """The certificate that signed it may have been revoked since."""
        if (self.handed.folder / SIGNATURE).is_file():
            verify_folder(self.handed.folder, Authority.read(self.site.ca, self.site.revoked))

    def tag(self, study: str) -> str:
        """By which log and terminal speak of a study: 12 hex digits, the same at this site for ever."""
        return self._hidden(study)[:12]

    def _read(self, study: str, place: Path) -> Reading:
        if (kept := self._fetch(study, place)) is not None:
            return kept
        for _ in range(TRIES):
            files, tally = _files(place), Tally()
            case = self._case(study, place, tally)
            if isinstance(case, Reading):
                return case
            doubts = doubts_of(tally)
            if self._is_filed(study, files):
                return Reading(End.ALREADY)
            with tempfile.TemporaryDirectory(dir=place, prefix=".made-") as work:
                made, told = self._explain(case, Path(work), doubts)
                if (kept := self._fetch(study, place)) is not None:
                    return kept
                if _files(place) != files:
                    continue  # an image came while the others were judged
                self._require_patient(study, case)
                self._store(made)
            self._note_filed(study, files)
            return Reading(End.FILED, "; ".join(doubts), told)
        raise NotWholeError("its images still change")

    def _fetch(self, study: str, place: Path) -> Reading | None:
        """What the PACS has of the study's patient; a Reading if that cannot be read."""
        modality = self.handed.plan.input.modality
        wanted = Wanted("study", [study], MODALITIES[modality], history=modality == "xray")
        inbox = inbox_of(self.site, place / "images")
        pull = Pull(self.archive, inbox, self.images_per_second, asks_later=False, mirrors=True)
        for _ in pull.run(wanted):
            pass
        inbox.keep_studies(pull.studies)
        if pull.outcomes[Outcome.FORGOTTEN]:
            return Reading(End.FORGOTTEN)
        if lost := pull.outcomes[Outcome.FAILED] + pull.outcomes[Outcome.PARTIAL]:
            raise NotWholeError(f"{lost} of the patient's studies did not come whole")
        if pull.outcomes[Outcome.MISNAMED]:
            raise ChangedError("the PACS names another patient than its images do")
        if not pull.outcomes[Outcome.WHOLE] + pull.outcomes[Outcome.ALREADY]:
            return Reading(End.NOT_READ, f"the PACS has no image of it that is {modality}")
        return None

    def _require_patient(self, study: str, case: Case) -> None:
        """Just before a result is filed under a name. Raises NotWholeError."""
        try:
            named = {patient.strip() for _, patient in self.archive.studies("study", study)} - {""}
        except (Unreachable, Refused) as e:
            raise NotWholeError(f"the PACS does not say whose study it is ({e})") from None
        if named and case.patient not in named:
            raise ChangedError("the PACS names another patient than its images do")

    def _case(self, study: str, place: Path, tally: Tally) -> Case | Reading:
        found = list(cases(self.handed, place / "images", tally))
        if len(found) > 1:
            return Reading(End.NOT_READ, f"its images name {len(found)} patients")
        left_out = "; ".join(f"{n} {why.replace('_', ' ')}" for why, n in tally.left_out().items())
        (case,) = found or [Refusal("", "no image that the model takes")]
        if isinstance(case, Refusal):
            return Reading(End.NOT_READ, f"{case.why}{f'; left out: {left_out}' if left_out else ''}")
        if study not in {header.study for header in case.headers}:
            return Reading(End.NOT_READ, f"no image of it is one that the model takes; left out: {left_out}")
        return case if case.latest == study else Reading(End.OLDER)

    def _explain(
        self, case: Case, work: Path, doubts: Sequence[str]
    ) -> tuple[list[Path], tuple[tuple[str, float], ...]]:
        made: list[Path] = []
        told: list[tuple[str, float]] = []
        for k, finding in enumerate(self.handed.plan.findings):
            explained = self._explained(case, finding, doubts)
            (folder := work / str(k)).mkdir()
            made += write_dicom(explained, folder)
            told.append((finding, explained.probability))
        return made, tuple(told)

    def _explained(self, case: Case, finding: str, doubts: Sequence[str]) -> Explained:
        try:
            return explain_case(self.handed, self.model, case, finding, self.device, doubts)
        except (MemoryError, torch.OutOfMemoryError):
            raise FullError("no memory is free for it") from None
        except torch.AcceleratorError as e:  # it answers nothing that this process still asks
            what = str(e).splitlines()[0]
            raise RunError(f"the GPU failed ({what}); start this again: what waits is read then") from None

    def _store(self, made: list[Path]) -> None:
        try:
            self.archive.store([dcmread(path) for path in made])
        except (Unreachable, Refused) as e:
            raise LinkError(f"the PACS does not take the result ({e})") from None

    def _is_filed(self, study: str, files: frozenset[str]) -> bool:
        return self._filed().get(self._hidden(study)) == self._of(files)

    def _note_filed(self, study: str, files: frozenset[str]) -> None:
        with waiting_for(self.site.filed_lock):  # `read --accession` may run beside the reader on call
            filed = self._filed() | {self._hidden(study): self._of(files)}
            write_atomically(self.site.filed, json.dumps(filed).encode())

    def _of(self, files: frozenset[str]) -> str:
        """The images and the model that a result is of."""
        model = [self.handed.plan.sha256, self.handed.run, self.handed.sha256]
        cuts = [self.handed.thresholds.get(finding) for finding in self.handed.plan.findings]
        said_by = [repr(self.handed.temperature), *map(repr, cuts)]
        return self._hidden(" ".join([*model, *said_by, *sorted(files)]))

    def _filed(self) -> dict[str, str]:
        """Keyed hashes: of a study, and of the images and the model that its result is of."""
        try:
            told = json.loads(self.site.filed.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # then a result may be filed twice, which is seen
        return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}

    def _hidden(self, name: str) -> str:
        return hmac.new(Tombstones.read(self.site).key, name.encode(), hashlib.sha256).hexdigest()[:32]


def _files(place: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(place)) for path in (place / "images").glob("*/*.dcm"))
