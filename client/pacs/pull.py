"""Fetch what the labels are about: resumable, at a pace, trying again, at once and at the end; one study that
cannot be had costs itself alone."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import TypeVar

from client.pacs.archive import Archive, Refused, Series, Unreachable
from client.pacs.inbox import Inbox, LeftOut
from common.errors import LinkError
from common.progress import follow

log = logging.getLogger("pneumofed.pull")
"""The site's own log: the only place where a study's UID is written."""

T = TypeVar("T")
Question = tuple[str, str]
"""A key and its value."""
PATTERN = frozenset("*?\\")
"""What a PACS takes for a pattern, or for a list (PS3.4 C.2.2.2)."""
TRIES = 3
PATIENCE_S = 300.0
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
LATER_S = 10.0
"""Before what was refused is asked for once more: a busy PACS refuses for seconds."""


class Outcome(StrEnum):
    """What became of a study."""

    WHOLE = "fetched"
    PARTIAL = "come in part: the rest could not be had"
    ALREADY = "already here"
    FORGOTTEN = "of patients who asked to be left out"
    UNKNOWN = "labels of which the PACS has no study"
    EMPTY = "without an image of the plan's modality"
    FAILED = "could not be fetched"
    MISNAMED = "of another patient by their files than by the PACS: not kept"
    WITHDRAWN = "here still, with images that the PACS has no more"


TO_LOOK_AT = (Outcome.UNKNOWN, Outcome.PARTIAL, Outcome.FAILED, Outcome.MISNAMED, Outcome.WITHDRAWN)
"""What is here is not what the PACS has."""


@dataclass(frozen=True)
class Wanted:
    """What to fetch: the studies behind these labels."""

    key: str  # "patient", "study" or "accession"
    values: Sequence[str]
    owners: Mapping[str, Set[str]] = field(default_factory=dict, kw_only=True)
    """Value -> the patients whose it is, where the table says so: others may have the same number."""
    modalities: tuple[str, ...]
    history: bool  # also all other studies of the same patients


@dataclass
class Pull:
    """One pull.

    Args:
        images_per_second: at most so many are asked for.
        patience_s: how long a PACS may stay away before the pull ends; default PATIENCE_S.
        asks_later: whether what was refused is asked for once more when all else is here.
        mirrors: whether an image that is here and that the PACS does not list any more goes.
    """

    archive: Archive
    inbox: Inbox
    images_per_second: float
    patience_s: float = field(default_factory=lambda: PATIENCE_S)
    asks_later: bool = True
    mirrors: bool = False
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    studies: set[str] = field(default_factory=set)
    """Those that the PACS told of."""
    _answered: set[Question] = field(default_factory=set)
    _told: dict[str, set[str]] = field(default_factory=dict)
    """Every study of the answers, also those that are not fetched -> whose it is."""
    _listed: dict[str, Set[str]] = field(default_factory=dict)
    """Study -> its images, by the PACS."""

    def run(self, wanted: Wanted) -> Iterator[Outcome]:
        """Fetch every study, and say of each what became of it.

        Raises:
            LinkError: the PACS did not answer for `patience_s`; what is there stays, and the next pull goes
            on from it.
            OSError: the disk is full.
        """
        lacking: dict[str, None] = {}
        for study in self._studies(wanted):
            outcome = self._study(study, wanted.modalities)
            if self.asks_later and outcome in (Outcome.PARTIAL, Outcome.FAILED):
                lacking[study] = None
            else:
                yield self._noted(study, outcome)
        for study in _later(lacking):
            yield self._noted(study, self._study(study, wanted.modalities))
        if not self.mirrors:
            self._note_withdrawn(wanted.modalities)

    def _noted(self, study: str, outcome: Outcome) -> Outcome:
        self.outcomes[outcome] += 1
        log.info("%s: %s", outcome.name.lower(), study)
        return outcome

    def _note_withdrawn(self, modalities: tuple[str, ...]) -> None:
        """They stay: a PACS that has moved what is old elsewhere lists it no more, too. A person decides."""
        studies = set[str]()
        for held in self.inbox.others(set[str]().union(*self._listed.values())):
            owned = (("patient", held.patient), ("study", held.study), ("accession", held.accession))
            gone = held.study not in self._told and not self._answered.isdisjoint(owned)
            if held.modality in modalities and (gone or held.study in self._listed):
                log.info("withdrawn: the PACS has %s of %s no more", held.path, held.study)
                studies.add(held.study)
        self.outcomes.update(Outcome.WITHDRAWN for _ in studies)

    def _studies(self, wanted: Wanted) -> Iterator[str]:
        """Each study once, in the order of the labels."""
        labels = [(wanted.key, value) for value in wanted.values]
        refused = dict[Question, None]()

        def answers(questions: Iterable[Question]) -> Iterator[tuple[str, str]]:
            for question in questions:
                if question in self._answered or question in refused:
                    continue
                if _is_pattern(question):
                    log.info("failed: a %s that is a pattern, and would ask for others' studies", question[0])
                    self.outcomes[Outcome.FAILED] += 1
                    continue
                try:
                    answer = self._find(*question, wanted.owners)
                except Refused as why:
                    log.info("refused: a question for a %s: %s", question[0], why)
                    refused[question] = None
                    continue
                self._answered.add(question)
                if not answer and question[0] == wanted.key:
                    log.info("unknown: the PACS has no study of the %s %s", *question)
                    self.outcomes[Outcome.UNKNOWN] += 1
                yield from answer
                if wanted.history:
                    yield from answers([("patient", patient) for _, patient in answer if patient])

        turns = [answers(follow(labels, f"labels ({wanted.key})", len(labels)))]
        turns += [answers(_later(refused))] if self.asks_later else []
        for study, patient in chain.from_iterable(turns):
            if study in self.studies:
                continue
            self.studies.add(study)
            if self.inbox.is_forgotten(patient):
                self.inbox.drop(study)  # what is here is another's only by its files
                self.outcomes[Outcome.FORGOTTEN] += 1
            else:
                yield study
        self.outcomes.update(Outcome.FAILED for _ in refused)

    def _find(self, key: str, value: str, owners: Mapping[str, Set[str]]) -> list[tuple[str, str]]:
        """Raises Refused."""
        answer = self._settled(lambda: sorted(self.archive.studies(key, value)))
        for study, patient in answer:
            self._told.setdefault(study, set()).add(patient)
        whose = {value} if key == "patient" else owners.get(value)  # no wildcards, nobody else's number
        return [(study, patient) for study, patient in answer if not whose or patient in {"", *whose}]

    def _study(self, study: str, modalities: tuple[str, ...]) -> Outcome:
        """Fetch what is missing of a study, and all of it where what is here is of another patient: the PACS
        has corrected it. It gets its place when the images are here that the PACS lists and announces; after
        TRIES also without those that cannot be had, which is said."""
        if self._is_misnamed(study):
            log.info("fetched anew: %s is no more of the patient that is named here", study)
            self.inbox.drop(study)
        series: list[Series] = []
        for attempt in range(1, TRIES + 1):
            try:
                series = []
                listed = self._settled(lambda: self.archive.series(study, modalities))
                for one in listed:
                    one.require_whole()
                series = listed
                self._listed[study] = {image for one in series for image in one.images}
                if self.mirrors:
                    self.inbox.keep(study, self._listed[study])
                if not any(one.images for one in series):
                    return Outcome.EMPTY
                if study in self.inbox and not self._lost(series):
                    return Outcome.ALREADY
                for one in series:
                    self._fetch_patiently(one)
                if lost := self._lost(series):
                    raise Refused(f"{len(lost)} of {_count(series)} images did not come")
                return self._finished(study, Outcome.WHOLE)
            except Refused as refused:
                log.info("try %d of %d: %s: %s", attempt, TRIES, study, refused)
            except LeftOut:
                self.inbox.drop(study)
                return Outcome.FORGOTTEN
        lost = self._lost(series)
        if len(lost) == _count(series):
            return Outcome.FAILED
        for image in lost:
            log.info("missing: %s of %s", image, study)
        return self._finished(study, Outcome.PARTIAL)

    def _is_misnamed(self, study: str) -> bool:
        """Whether what is here of a study names another patient than the PACS does."""
        named = self._told[study] - {""}
        return bool(named and self.inbox.patients(study) - named)

    def _finished(self, study: str, outcome: Outcome) -> Outcome:
        """What has come gets its place; not under a name that the PACS has taken from it, in its database
        alone."""
        if self._is_misnamed(study):
            self.inbox.drop(study)
            return Outcome.MISNAMED
        self.inbox.finish(study)
        return outcome

    def _fetch_patiently(self, series: Series) -> None:
        try:
            self._patiently(lambda: self._fetch(series))
        except Refused as refused:  # the other series of the study may come
            log.info("not fetched: a series of %s: %s", series.study, refused)

    def _settled(self, ask: Callable[[], T]) -> T:
        """What the PACS answers twice in a row. Orthanc, asked while it files something, leaves things out of
        a list now and then; taken at its word, a patient would miss an image and nobody would know. Raises
        Refused where it answers otherwise each time, as two machines behind one name may."""
        answer = self._patiently(ask)
        for _ in range(TRIES):
            before, answer = answer, self._patiently(ask)
            if answer == before:
                return answer
        raise Refused("it does not answer the same twice")

    def _lost(self, series: list[Series]) -> list[str]:
        """The images of a study that are not here."""
        return [image for one in series for image in sorted(self._missing(one))]

    def _missing(self, series: Series) -> frozenset[str]:
        return frozenset(image for image in series.images if not self.inbox.holds(series.study, image))

    def _fetch(self, series: Series) -> None:
        """What is missing of a series, as far as it comes."""
        broken: list[OSError | LeftOut] = []
        last = time.monotonic()

        def store(image: str, file: bytes) -> None:
            nonlocal last
            if image not in series.images:
                return  # what was not announced is not taken
            try:
                self.inbox.put(series.study, image, file)
            except (OSError, LeftOut) as e:
                broken.append(e)  # it may be raised in a thread of the receiver's
                raise
            time.sleep(max(0.0, last + 1.0 / self.images_per_second - time.monotonic()))
            last = time.monotonic()

        missing = self._missing(series)
        if missing:
            try:
                self.archive.fetch(series, missing, store)
            finally:
                if broken:
                    raise broken[0]

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` answers; while the PACS cannot be reached, ask again, less and less often."""
        began, wait = time.monotonic(), FIRST_WAIT_S
        while True:
            try:
                return ask()
            except Unreachable as e:
                if (waited := time.monotonic() - began) >= self.patience_s:
                    raise LinkError(
                        f"the PACS has not answered for {waited:.0f} s ({e}); what was fetched is kept. Pull "
                        "again when it is back"
                    ) from None
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT_S)


def _is_pattern(question: Question) -> bool:
    key, value = question
    return not value or (key != "patient" and bool(set(value) & PATTERN))  # a patient's answers are compared


def _later(refused: dict[T, None]) -> Iterator[T]:
    """What was refused, after a while; the list begins anew."""
    again = list(refused)
    refused.clear()
    if again:
        time.sleep(LATER_S)
    yield from again


def _count(series: list[Series]) -> int:
    return sum(len(one.images) for one in series)
